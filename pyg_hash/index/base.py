"""Codes under ids: what every store takes, checks and promises."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Any, NamedTuple, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.codes import (
    LEVELS,
    check_packed,
    check_relaxed,
    check_signs,
    exact_queries,
    pack_bits,
    quantize,
    unpack_bits,
)
from pyg_hash.index.columns import FIELD_TYPES, checked_values, plain
from pyg_hash.index.lookup import NOTHING, Bytes, Hits
from pyg_hash.index.where import Tree, Where, parse
from pyg_hash.typing import PathLike
from pyg_hash.utils.checks import check_mapping, check_positive_int, check_size
from pyg_hash.utils.oddities import check_unmasked
from pyg_hash.utils.provenance import MIXED, check_model

Codes = Tensor | NDArray[Any]
Ids = Tensor | NDArray[Any] | Sequence[int] | Sequence[str]
Metadata = Mapping[str, Sequence[Any]]  # values of fields, one an item; None is a missing one
Columns = dict[str, list[Any]]  # the same of all fields, checked
_PAIRS = 1 << 24  # matches that may be in hand at a time
_ROWS = 1 << 14  # items that are rescored at a time
_SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1  # of each byte
_KINDS = {kind.__name__: kind for kind in FIELD_TYPES}


class New(NamedTuple):
    """New items, checked; ``relaxed`` as :func:`pyg_hash.codes.quantize` makes it."""

    packed: Bytes
    ids: NDArray[Any]
    metadata: Columns
    relaxed: NDArray[np.int8] | None = None


class Rescored(NamedTuple):
    """What a search with ``rescore`` found, best first."""

    distances: Tensor  #: Hamming distances, int32 ``[q, k]``; -1 where there are fewer items
    ids: Any  #: int64 ``[q, k]``, or an array of ``str``
    scores: Tensor  #: products of real-valued codes, float64 ``[q, k]``; -inf: there is none


class CodeStore(ABC):
    """Codes of ``num_bits`` bits under ids, with fields beside them, searched by Hamming distance.

    All stores take the same calls and promise the same: distances are exact, a radius includes its
    border, an id is there at most once. ``create`` makes one (``FileExistsError``: there is one),
    ``open`` finds it again (``FileNotFoundError``: there is none; ``CorruptFileError``: it is
    damaged or something else); both raise ``ImportError`` if FAISS or the database's package is
    needed and not installed. **Codes** are tensors or arrays of NumPy, as relaxed codes are: int8
    ±1 ``[n, num_bits]``, or as :func:`pyg_hash.codes.pack_bits` makes them, uint8
    ``[n, ceil(num_bits / 8)]``. **Filters** are texts such as
    ``"year >= 2005 and label in ('cat', 'dog')"`` (see :doc:`/stores`), or the allowed value or
    values of each field, ``{"label": ["cat", "dog"], "year": 2020}``, all of which hold. What is
    wrong is a ``TypeError`` or ``ValueError``, and the store is then unchanged.

    Args:
        num_bits: bits of a code; need not be a multiple of 8 (the rest of a byte is zero).
        ids: ``int`` (int64) or ``str``.
        fields: name and type of what is kept beside a code, for example ``{"label": str,
            "year": int}``: ``str``, ``int``, ``float``, ``bool``, or ``list`` for lists of ``str``.
        model: digest of the model whose codes it will hold (:meth:`HashModel.digest
            <pyg_hash.models.HashModel.digest>`), if known.

    The arguments are attributes, ``ids`` as ``id_type``; ``model`` is ``'mixed'`` once
    :meth:`replace` was told of another model and left items of the first.
    """

    id_field = "id"  #: what a filter calls ``id``: the ids, or the field of this name
    hidden: Collection[str] = ()  #: fields that no filter knows

    _kind = "store"  # in messages
    _field_name = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
    _keeps_relaxed = False  # whether it can keep relaxed codes of its items
    _renames_model = False  # whether it can keep another model's name than it was made with
    _most: int | None = None  # items that it gives to one query at most

    def __init__(
        self, num_bits: int, ids: type[Any], fields: Mapping[str, type] | None, model: str | None
    ) -> None:
        check_size(num_bits, "num_bits")
        if ids is not int and ids is not str:
            raise ValueError(f"ids: {ids!r} is not known; use int or str, the types themselves")
        fields = {} if fields is None else fields
        check_mapping(fields, "fields")
        for name, kind in fields.items():
            fits = isinstance(name, str) and self._field_name.fullmatch(name)
            if not fits or name in ("id", "code"):
                raise ValueError(
                    f"fields: {name!r} cannot be a name, which is not 'id' or 'code' and matches "
                    f"{self._field_name.pattern!r}"
                )
            if kind not in FIELD_TYPES:
                raise ValueError(
                    f"fields: {name} has type {kind!r}; use str, int, float, bool or list (of str)"
                )
        self.num_bits, self.id_type = int(num_bits), ids  # a file does not take NumPy's
        self.fields, self.model = dict(fields), model
        self._id_dtype = np.int64 if ids is int else np.object_

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @property
    def has_relaxed(self) -> bool:
        """Whether relaxed codes are kept beside the codes, which rescoring then uses."""
        return False

    def __repr__(self) -> str:
        kind, ids = type(self).__name__, self.id_type.__name__
        return f"{kind}(num_bits={self.num_bits}, ids={ids}, items={len(self)})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Close; what was not saved is not saved."""
        self.close()

    def add(
        self,
        codes: Codes,
        ids: Ids | None = None,
        metadata: Metadata | None = None,
        *,
        relaxed: Codes | None = None,
        model: str | None = None,
    ) -> None:
        """Add items.

        Args:
            codes: n codes.
            ids: n different ids, none of them in the store. A ``HammingIndex`` with int ids numbers
                items by itself: from the highest id that it ever had, or 0.
            metadata: n values for each field, by name or as columns of a frame; None, and all of a
                field that is left out, are missing values.
            relaxed: for a ``HammingIndex``: the same items before their signs were taken, float
                ``[n, num_bits]`` in [-1, 1], of all items or of none: kept as int8 in steps of
                1 / 127, ``num_bits`` bytes an item, for :meth:`search` to rescore by.
            model: digest of the model of these codes; those of ``read_codes`` know theirs.

        ``ValueError``: ids are given twice or present; relaxed codes cannot be kept, are of some
        items only, or of other signs than the codes; the codes are of another model.
        """
        self._insert(codes, ids, metadata, relaxed, model, replace=False, force=False)

    def replace(
        self,
        codes: Codes,
        ids: Ids,
        metadata: Metadata | None = None,
        *,
        relaxed: Codes | None = None,
        model: str | None = None,
        force: bool = False,
    ) -> int:
        """Add items, in the place of those that have one of the ids already; how many these were.

        These keep the fields that ``metadata`` does not name, and are there at every moment, as
        they were or as they are to be. Arguments and errors are those of :meth:`add`, but ids may
        be present, and ``force`` takes codes of another ``model``: the store is then ``'mixed'``
        (``ValueError``: a database cannot note that).
        """
        return self._insert(codes, ids, metadata, relaxed, model, replace=True, force=force)

    def _insert(
        self,
        codes: Codes,
        ids: Ids | None,
        metadata: Metadata | None,
        relaxed: Codes | None,
        model: str | None,
        *,
        replace: bool,
        force: bool,
    ) -> int:
        packed = self._packed_codes(codes, model, force)
        model = model or _model_of(codes)
        other = model is not None and self.model not in (None, model)
        if other and not self._renames_model:
            raise ValueError(
                f"model: this {self._kind} was made for codes of another, and cannot note that it "
                "holds those of two; put them into a new one"
            )
        metadata = _mapping({} if metadata is None else metadata)
        kept = self._columns(metadata, [*self.fields], len(packed))
        steps = None
        if relaxed is not None:
            if not self._keeps_relaxed:
                raise ValueError(
                    f"relaxed: {type(self).__name__} keeps codes alone; leave it out, or use a "
                    "HammingIndex"
                )
            real = _tensor(relaxed, "relaxed")
            check_relaxed(real, "relaxed", (len(packed), self.num_bits))
            signs = unpack_bits(torch.from_numpy(packed), self.num_bits)
            steps = quantize(real.cpu(), signs).numpy()
        with self._changing():
            new = self._numbered(len(packed)) if ids is None else self._unique(ids)
            if len(new) != len(packed):
                raise ValueError(f"ids: {len(new)} ids for {len(packed)} codes; give one a code")
            if len(new) == 0:
                return 0
            there = self._present(new)
            present = new[there]
            if len(present) and not replace:
                raise ValueError(
                    f"ids: {len(present)} are in the {self._kind} already (first: "
                    f"{present.tolist()[0]!r}); remove them first or choose others"
                )
            stay = self.fields.keys() - metadata
            if len(present) and stay:
                old, places = self._metadata(present), there.nonzero()[0].tolist()
                for name in stay:
                    for place, stays in zip(places, old[name], strict=True):
                        kept[name][place] = stays
            self._put(New(packed, new, kept, steps), there)
            if model is not None and len(self) == len(new):  # no other item is left
                self.model = model
            elif other:
                self.model = MIXED
            return len(present)

    def update(self, ids: Ids, metadata: Metadata) -> None:
        """Change fields of items, those that ``metadata`` names; arguments as of :meth:`add`.

        ``ValueError``: an id is given twice, or not there.
        """
        names, metadata = self._unique(ids), _mapping(metadata)
        kept = self._columns(metadata, [*metadata], len(names))
        with self._changing():
            self._there(names)
            if kept and len(names):
                self._update(names, kept)

    def remove(self, ids: Ids) -> None:
        """Remove items, all or, with a ``ValueError``, none; also by a set, or an id twice."""
        gone = np.unique(self._id_array(ids, in_order=False))
        with self._changing():
            if len(self._there(gone)):
                self._remove(gone)

    def contains(self, ids: Ids) -> list[bool]:
        """Whether each id is there."""
        return [*self._present(self._id_array(ids, in_order=False)).tolist()]

    def metadata(self, ids: Ids) -> Columns:
        """Values of all fields of items, in the order of ``ids``; ``ValueError``: not there."""
        return self._metadata(self._there(self._id_array(ids)))

    def search(
        self,
        codes: Codes,
        k: int,
        *,
        where: Where | None = None,
        rescore: Codes | None = None,
        oversample: int = 4,
        model: str | None = None,
    ) -> Any:
        """The ``k`` nearest items of each query, or with ``rescore`` the best of the nearest.

        Rescoring takes the ``oversample * k`` nearest items and **all** that are as far as the
        last of these, and orders them by the inner product of the query's real-valued code with
        their relaxed codes if :meth:`add` was given them, else with their bits. It prefers long
        relaxed codes, so that an item at distance 0, the query itself, need not come first.

        Args:
            codes: q codes.
            k: at least 1.
            where: a filter; only items that pass.
            rescore: real-valued codes of the queries, float ``[q, num_bits]``, as
                ``model.relax_text(x)`` gives them (``ValueError``: of other signs than ``codes``,
                where they are not all but 0). ``IVF`` and ``HNSW`` rescore what they find,
                without all that are tied, and databases what they give (Milvus: 16,384 items).
            oversample: how many items to rescore, times ``k``.
            model: digest of the model of ``codes`` (``ValueError``: the store is of another).

        Returns:
            ``(distances, ids)`` ``[q, k]``, on the CPU: int32, and int64 or an array of ``str``;
            nearest first. Where there are fewer than ``k`` items, the rest of a row has distance
            -1 and id -1 (``None`` among strings). With ``rescore`` a named tuple of ``distances``,
            ``ids`` and ``scores``, highest first; equal scores by distance, then as below.

            **Equal distances** are ordered in a ``HammingIndex`` by lower id, strings by when an
            item was added, also where ``k`` cuts through them (but for ``IVF`` and ``HNSW``); in
            databases by id.
        """
        scope, packed = self._scope(self._tree(where)), self._packed_codes(codes, model)
        check_positive_int(k, "k")
        if rescore is not None or oversample is not None:
            check_positive_int(oversample, "oversample")
        k = int(k)  # FAISS does not take NumPy's
        distances = np.full((len(packed), k), -1, np.int32)
        ids = np.full((len(packed), k), -1 if self.id_type is int else None, self._id_dtype)
        if rescore is None:
            # an approximate index may find many more than k: all that have one code
            step = max(1, len(packed) if self._ties(scope) else _PAIRS // max(1, len(self)))
            for start in range(0, len(packed), step):
                query, far, names = self._found(scope, packed[start : start + step], k, None)
                column = np.arange(len(query)) - np.searchsorted(query, query)
                some = column < k
                distances[start + query[some], column[some]] = far[some]
                ids[start + query[some], column[some]] = self._ids_of(names[some])
            return torch.from_numpy(distances), self._public(ids)
        real = _tensor(rescore, "rescore")
        check_relaxed(real, "rescore", (len(packed), self.num_bits))
        check_signs(real.cpu(), unpack_bits(torch.from_numpy(packed), self.num_bits), "rescore")
        asked = exact_queries(real.cpu()).numpy()
        scores = np.full((len(packed), k), -np.inf)
        count = min(int(oversample) * k, len(self) or 1)
        for row, far, names in self._shortlists(scope, packed, count):
            places, score = best(asked[row], far, *self._codes_of(names), k)
            distances[row, : len(places)] = far[places]
            ids[row, : len(places)] = self._ids_of(names[places])
            scores[row, : len(places)] = score
        return Rescored(torch.from_numpy(distances), self._public(ids), torch.from_numpy(scores))

    def _shortlists(
        self, scope: Any, packed: Bytes, count: int
    ) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
        """Rows of queries; distances and names of their ``count`` nearest and all ties."""
        step = max(1, _PAIRS // max(1, len(self)))
        count = min(count, self._most or count)
        for start in range(0, len(packed), step):
            asked = packed[start : start + step]
            near = self._found(scope, asked, count, None)
            bounds = np.searchsorted(near.query, np.arange(len(asked) + 1))
            last = bounds[:-1] + count - 1
            full = last < bounds[1:]
            edge = np.full(len(asked), self.num_bits)
            edge[full] = near.distances[last[full]]
            near = near.some(near.distances <= edge[near.query])
            for radius in np.unique(edge).tolist() if self._ties(scope) else [None]:
                rows = np.arange(len(asked)) if radius is None else (edge == radius).nonzero()[0]
                hits = near if radius is None else self._found(scope, asked[rows], None, radius)
                ends = np.searchsorted(hits.query, np.arange(1, len(rows)))
                far, names = (np.split(column, ends) for column in hits[1:])
                yield from zip((start + rows).tolist(), far, names, strict=True)

    def range_search(
        self, codes: Codes, radius: int, *, where: Where | None = None
    ) -> tuple[Tensor, Tensor, Any]:
        """All items within a Hamming radius, **distance <= radius**, ordered as by :meth:`search`.

        Returns:
            ``(limits, distances, ids)``: int64 ``[q + 1]``, int32 ``[m]``, and int64 or ``str``
            ``[m]``. The matches of query i are ``limits[i]:limits[i + 1]``, nearest first.
        """
        scope, packed = self._scope(self._tree(where)), self._packed_codes(codes)
        radius = _whole(radius, "radius")
        query, far, names = self._found(scope, packed, None, min(radius, self.num_bits))
        counts = np.bincount(query, minlength=len(packed))
        if self._most is not None and counts.max(initial=0) >= self._most:
            raise ValueError(
                f"radius: {radius} takes in {self._most} items or more, and the database gives no "
                "more; use a smaller radius"
            )
        limits = torch.from_numpy(np.concatenate([[0], counts.cumsum()]))
        return limits, torch.from_numpy(far.astype(np.int32)), self._public(self._ids_of(names))

    def count_at(self, codes: Codes, distances: Tensor, *, where: Where | None = None) -> Tensor:
        """How many items are exactly as far from each query as ``distances``: int64 ``[q]``.

        ``TypeError``: these are not one integer a query; ``ValueError``: one is negative.
        """
        scope, packed = self._scope(self._tree(where)), self._packed_codes(codes)
        each = plain(distances)
        if not isinstance(each, list | tuple) or len(each) != len(packed):
            what = f"distances: expected {len(packed)} integers, one a query"
            raise TypeError(f"{what}, got {distances!r:.80}")
        counts = torch.zeros(len(packed), dtype=torch.int64, device="cpu")
        for row, radius in enumerate(each):
            most = min(_whole(radius, "distances"), self.num_bits)
            far = self._found(scope, packed[row : row + 1], None, most)[1]
            counts[row] = int((far == radius).sum())
        return counts

    def list(self, where: Where | None = None, start: int = 0, limit: int | None = 100) -> Any:
        """Ids of items, as :meth:`search` gives them: those that pass a filter, some at a time.

        They come in the order of equal distances, in databases in an order of their own: those from
        ``start`` on, ``limit`` at most (both from 0; None: all).
        """
        scope, start = self._scope(self._tree(where)), _whole(start, "start")
        limit = len(self) if limit is None else _whole(limit, "limit")
        names = self._listed(scope, start, limit) if limit else NOTHING.names
        return self._public(self._ids_of(names))

    def export(self, path: PathLike, *, to: str | None = None) -> None:
        """Write codes, ids and fields to one file; see :func:`pyg_hash.stores.export_codes`."""
        from pyg_hash.index.export import export_codes

        more: Any = {"fields": self.fields, "metadata": self.metadata, "to": to}
        export_codes(path, self.items(), self.num_bits, self.id_type, model=self.model, **more)

    @abstractmethod
    def items(self, batch_size: int = 1 << 16) -> Iterator[tuple[Bytes, NDArray[Any]]]:
        """All items, as ``(packed codes, ids)`` of up to ``batch_size`` at a time."""

    @abstractmethod
    def save(self) -> None:
        """Make sure that all that was added or removed survives the end of the process."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; the store cannot be used afterwards."""

    # what a store implements; arguments are checked --------------------------------------------

    @abstractmethod
    def _put(self, new: New, there: NDArray[np.bool_]) -> None:
        """Add items, some in the place of those that are there, whole or not at all."""

    @abstractmethod
    def _update(self, ids: NDArray[Any], metadata: Columns) -> None: ...

    @abstractmethod
    def _metadata(self, ids: NDArray[Any]) -> Columns: ...

    @abstractmethod
    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]: ...

    @abstractmethod
    def _remove(self, ids: NDArray[Any]) -> None: ...

    @abstractmethod
    def _scope(self, where: Tree | None) -> Any:
        """What passes a filter, for the searches of one call."""

    @abstractmethod
    def _hits(self, scope: Any, packed: Bytes, k: int | None, radius: int | None) -> Hits:
        """The k nearest items of each query, or more, or all within the radius.

        By query, then distance, then as equal distances are ordered.
        """

    @abstractmethod
    def _codes_of(self, names: NDArray[Any]) -> tuple[Bytes, NDArray[np.int8] | None]:
        """Packed codes, and relaxed ones where there are, of what a search names."""

    @abstractmethod
    def _listed(self, scope: Any, start: int, limit: int) -> NDArray[Any]:
        """Names of items that pass."""

    def _ties(self, scope: Any) -> bool:
        """Whether to look for the items that are tied with the last of the nearest."""
        return True

    def _ids_of(self, names: NDArray[Any]) -> NDArray[Any]:
        """Ids of what a search names."""
        return names

    def _numbered(self, count: int) -> NDArray[Any]:
        """Ids for new items, if none are given."""
        raise ValueError("ids: are missing; give one a code")

    def _changing(self) -> AbstractContextManager[object]:
        """What is held from the look at the ids to the end of a change."""
        return nullcontext()

    # checks ------------------------------------------------------------------------------------

    def _tree(self, where: Where | None) -> Tree | None:
        known = {name: kind for name, kind in self.fields.items() if name not in self.hidden}
        return parse(where, {**known, "id": self.fields.get(self.id_field, self.id_type)})

    def _found(self, scope: Any, packed: Bytes, k: int | None, radius: int | None) -> Hits:
        return self._hits(scope, packed, k, radius) if len(packed) and len(self) else NOTHING

    def _there(self, ids: NDArray[Any]) -> NDArray[Any]:
        """These ids; ``ValueError`` unless all are there."""
        if absent := ids[~self._present(ids)].tolist():
            first = f"(first: {absent[0]!r})"
            raise ValueError(f"ids: {len(absent)} are not in the {self._kind} {first}")
        return ids

    def _columns(self, metadata: Metadata, names: Sequence[str], n: int) -> Columns:
        """Values of these fields, ``n`` each."""
        if others := {*metadata} - {*self.fields}:
            raise ValueError(
                f"metadata: got {sorted(others)}, this store keeps "
                f"{sorted(self.fields) or 'nothing'} beside a code; give some of that"
            )
        found = {}
        for name in names:
            values = metadata.get(name, [None] * n)
            _check_in_order(values, f"metadata: {name}")
            values = plain(values)
            if len(values) != n:
                raise ValueError(f"metadata: {name} has {len(values)} values for {n} items")
            found[name] = checked_values(values, self.fields[name], f"metadata: {name}")
        return found

    def _public(self, ids: NDArray[Any]) -> Tensor | NDArray[Any]:
        ids = ids.astype(self._id_dtype, copy=False)
        return torch.from_numpy(ids) if self.id_type is int else ids

    def _packed_codes(
        self, codes: Codes, model: str | None = None, force: bool | None = None
    ) -> Bytes:
        """Codes, int8 ±1 or packed already, as rows of bytes; ``ValueError``: another model's."""
        if not isinstance(model, str | None):
            raise TypeError(f"model: expected the digest of a model, got {model!r:.99}")
        known = model or _model_of(codes)
        if known is not None and self.model is not None:
            # what read_codes gave knows whose it is until it is copied
            otherwise = "leave model out" if model else "use codes.clone()"
            if force is not None:
                otherwise = "replace() them with force=True"
            check_model(self.model, known, self._kind, force=bool(force), otherwise=otherwise)
        given = _tensor(codes, "codes")
        if isinstance(given, Tensor) and given.dtype == torch.uint8:
            check_packed(given, self.num_bits, "codes")
        else:
            given = pack_bits(given, num_bits=self.num_bits)
        return np.ascontiguousarray(given.cpu().numpy())

    def _id_array(self, ids: Any, *, in_order: bool = True) -> NDArray[Any]:
        """Ids as int64 ``[n]``, or as an object array of ``str``."""
        if not in_order and isinstance(ids, set | frozenset):
            ids = [*ids]
        _check_in_order(ids, "ids")
        check_unmasked(ids, "ids")
        if self.id_type is int:
            try:
                numbers = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
            except (ValueError, OverflowError) as error:
                raise TypeError(f"ids: expected integers that fit int64 ({error})") from error
            if numbers.shape == (0,):
                return np.empty(0, np.int64)
            if numbers.dtype.kind not in "iu" or int(numbers.max()) > np.iinfo(np.int64).max:
                raise TypeError(
                    f"ids: expected integers, got {numbers.dtype}; this {self._kind} has integer "
                    "ids that fit int64, and takes them in a list or array"
                )
            if numbers.ndim != 1:
                raise ValueError(f"ids: expected shape [n], got {list(numbers.shape)}")
            return numbers.astype(np.int64)
        values = [*plain(ids)]
        if wrong := [type(value).__name__ for value in values if not isinstance(value, str)]:
            raise TypeError(f"ids: this {self._kind} has string ids, got {wrong[0]}")
        array = np.empty(len(values), np.object_)
        array[:] = checked_values([*map(str, values)], str, "ids")
        return array

    def _unique(self, ids: Ids) -> NDArray[Any]:
        names = self._id_array(ids)
        rising = self.id_type is int and bool((names[1:] > names[:-1]).all())
        if not rising and len({*names.tolist()}) < len(names):
            values, counts = np.unique(names, return_counts=True)
            twice = values[counts > 1].tolist()[0]
            raise ValueError(f"ids: {twice!r} is given more than once; ids must be unique")
        return names

    # what a file or database is told ----------------------------------------------------------

    def _described(self) -> dict[str, Any]:
        """The arguments, as JSON values."""
        fields = {name: kind.__name__ for name, kind in self.fields.items()}
        about = {"num_bits": self.num_bits, "ids": self.id_type.__name__, "fields": fields}
        return {**about, "model": self.model}


def _mapping(metadata: Any) -> Metadata:
    """Values by field, also of a frame or table; ``TypeError``: it is something else."""
    if not (hasattr(metadata, "keys") and hasattr(metadata, "get")):  # as those of pandas have
        names = getattr(metadata, "column_names", getattr(metadata, "columns", None))
        metadata = metadata if names is None else {name: metadata[name] for name in names}
        check_mapping(metadata, "metadata")
    return cast(Metadata, metadata)


def _check_in_order(values: Any, name: str) -> None:
    """Raise ``TypeError`` for one text, and for what has no order, or no place for each item."""
    if isinstance(values, str | bytes | Mapping | set | frozenset):
        one = "one string" if isinstance(values, str) else type(values).__name__
        raise TypeError(f"{name}: expected a list, one an item in their order, got {one}")


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if value < 0:
        raise ValueError(f"{name}: expected 0 or more, got {value}")
    return int(value)


def _tensor(codes: Any, name: str) -> Any:
    """An array of numbers of NumPy as a tensor; others as they are, for the checks to refuse."""
    check_unmasked(codes, name)
    if not isinstance(codes, np.ndarray) or codes.dtype.char not in "?bBhHiIlLqQefd":
        return codes  # torch has no longdouble
    return torch.from_numpy(np.require(codes, codes.dtype.newbyteorder("="), ["C", "W"]))


def _model_of(codes: Any) -> str | None:
    """The digest that ``read_codes`` gave codes."""
    found: str | None = getattr(codes, "__dict__", {}).get("model")
    return found


def arguments(about: Any) -> dict[str, Any]:
    """Undo ``_described``; ``LookupError`` or ``TypeError`` if it is something else."""
    fields = {name: _KINDS[kind] for name, kind in dict(about["fields"]).items()}
    ids, model = _KINDS[about["ids"]], about.get("model")
    return {"num_bits": about["num_bits"], "ids": ids, "fields": fields, "model": model}


def best(
    query: NDArray[np.float64],
    distances: NDArray[Any],
    packed: NDArray[np.uint8],
    relaxed: NDArray[np.int8] | None,
    k: int,
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Places and scores of the k best: by score, then by distance, then as they come."""
    if relaxed is None:
        padded = np.zeros(8 * packed.shape[1])
        padded[: len(query)] = query
        scores = np.zeros(len(packed))
        for table, column in zip(padded.reshape(-1, 8) @ _SIGNS.T, packed.T, strict=True):
            scores += table[column]  # of each byte
    else:
        parts = np.split(relaxed, range(_ROWS, len(relaxed), _ROWS))
        scores = np.concatenate([part.astype(np.float64) @ query for part in parts]) / LEVELS
    order = np.lexsort((distances, -scores))[:k]
    return order, scores[order]
