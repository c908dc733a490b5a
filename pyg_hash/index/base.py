"""Codes under ids: what every store takes, checks and promises."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from pyg_hash.codes import (
    check_codes,
    check_packed,
    check_relaxed,
    exact_queries,
    pack_bits,
    quantize,
    unpack_bits,
)
from pyg_hash.index.columns import all_text, check_text, field_value
from pyg_hash.index.rescore import Relaxed, Rescored, Shortlist
from pyg_hash.index.where import Tree, Where, parse
from pyg_hash.utils.checks import check_positive_int

Bytes = NDArray[np.uint8]
Ids = Tensor | NDArray[Any] | Sequence[int] | Sequence[str]
Metadata = Mapping[str, Sequence[Any]]
"""Values of fields, one an item; None is a missing one."""
Columns = Mapping[str, list[Any]]
"""The same of all fields, checked."""
Table = tuple[NDArray[np.int32], NDArray[Any]]
"""Distances and ids ``[q, k]``."""
Ranges = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]
"""Limits ``[q + 1]``, distances and ids ``[m]``."""
Found = tuple[Tensor, Tensor | NDArray[Any]]
_Values = list[Any]


class CodeStore(ABC):
    """Codes of ``num_bits`` bits under ids, with fields beside them, searched by Hamming distance.

    All stores take the same calls and keep the same promises: distances are exact, a radius
    includes its border, an id is there at most once. Stores are made with ``create`` and found
    again with ``open``. **Codes** are int8 ±1 ``[n, num_bits]``, or packed already: uint8
    ``[n, ceil(num_bits / 8)]`` as :func:`pyg_hash.codes.pack_bits` makes them. **Filters** are
    texts such as ``"year >= 2005 and label in ('cat', 'dog')"`` (see :doc:`/stores`), or the
    allowed value or values of each field, ``{"label": ["cat", "dog"], "year": 2020}``, all of
    which hold.

    Attributes:
        num_bits: bits of a code.
        id_type: ``int`` (int64) or ``str``.
        fields: name and type of what is kept beside a code.
        model: digest of the model whose codes these are (:meth:`HashModel.digest
            <pyg_hash.models.HashModel.digest>`), given to ``create``; None: not known.
    """

    model: str | None = None
    fields: Mapping[str, type] = {}

    _kind = "store"
    """What it is called in messages."""
    _keeps_relaxed = False
    """Whether it can keep relaxed codes of its items."""

    def __init__(self, num_bits: int, id_type: type[Any]) -> None:
        check_positive_int(num_bits, "num_bits")
        if id_type not in (int, str):
            raise ValueError(f"ids: {id_type!r} is not known; use int or str, the types themselves")
        self.num_bits = num_bits
        self.id_type = id_type
        self._id_dtype = np.int64 if id_type is int else np.object_
        self._no_id = -1 if id_type is int else None

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @property
    def has_relaxed(self) -> bool:
        """Whether relaxed codes are kept beside the codes, which rescoring then uses."""
        return False

    def __repr__(self) -> str:
        """Bits, kind of ids and items."""
        return (
            f"{type(self).__name__}(num_bits={self.num_bits}, ids={self.id_type.__name__}, "
            f"items={len(self)})"
        )

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close; what was not saved is not saved."""
        self.close()

    def add(
        self,
        codes: Tensor,
        ids: Ids | None = None,
        metadata: Metadata | None = None,
        *,
        relaxed: Tensor | None = None,
    ) -> None:
        """Add items.

        Args:
            codes: n codes.
            ids: n different ids of the store's type, none of them in the store. A
                :class:`HammingIndex <pyg_hash.index.HammingIndex>` with int ids numbers items by
                itself: from the highest id that it ever had, or 0.
            metadata: n values for each of the store's fields; None, and all of a field that is
                left out, are missing values.
            relaxed: for a ``HammingIndex``: the same items before their signs were taken, float
                ``[n, num_bits]`` in [-1, 1], of all items or of none: kept as int8 in steps of
                1 / 127, ``num_bits`` bytes an item, for :meth:`search` to rescore by.

        Raises:
            TypeError, ValueError: wrong types, shapes or values; ids given twice or present
                already; relaxed codes where they cannot be kept, of some items only, or of other
                signs than the codes. The store is then unchanged.
        """
        packed = self._packed_codes(codes)
        kept = columns(metadata, self.fields, len(packed))
        self._insert(packed, self._numbered(ids, len(packed)), kept, relaxed)

    def replace(
        self,
        codes: Tensor,
        ids: Ids,
        metadata: Metadata | None = None,
        *,
        relaxed: Tensor | None = None,
    ) -> int:
        """Add items, in the place of those that have one of the ids already.

        Nothing of these stays: without ``metadata``, and of a field that is left out, their values
        are missing from then on. :meth:`update` changes fields alone.
        Whatever happens meanwhile, each item is there, as it was or as it is to be: there is no
        moment without it. Arguments and errors are those of :meth:`add`, but ids may be present.

        Returns:
            how many were replaced.
        """
        packed = self._packed_codes(codes)
        kept = columns(metadata, self.fields, len(packed))
        return self._insert(packed, ids, kept, relaxed, replace=True)

    def update(self, ids: Ids, metadata: Metadata) -> None:
        """Change fields of items; those that are not named stay.

        Args:
            ids: n different ids of items.
            metadata: n values for each field that changes.

        Raises:
            TypeError, ValueError: wrong types or values, unknown fields, ids given twice or not
                there. The store is then unchanged.
        """
        names = self._id_array(ids)
        self._check_unique(names)
        every = columns(metadata, self.fields, len(names))
        kept = {name: values for name, values in every.items() if name in metadata}
        self._check_present(names)
        if kept and len(names):
            self._update(names, kept)

    def remove(self, ids: Ids) -> None:
        """Remove items; an id given twice is removed once.

        Raises:
            TypeError: ids of another type.
            ValueError: ids that are not there; nothing is then removed.
        """
        gone = np.unique(self._id_array(ids))
        if len(gone):
            self._check_present(gone)
            self._remove(gone)

    def contains(self, ids: Ids) -> list[bool]:
        """Whether each id is there; ``TypeError``: ids of another type."""
        names = self._id_array(ids)
        return self._present(names).tolist() if len(names) else []

    def metadata(self, ids: Ids) -> dict[str, _Values]:
        """Values of all fields of items, in the order of ``ids``; ``ValueError``: not there."""
        names = self._id_array(ids)
        self._check_present(names)
        return self._metadata(names) if len(names) else {name: [] for name in self.fields}

    @overload
    def search(
        self,
        codes: Tensor,
        k: int,
        *,
        where: Where | None = None,
        rescore: None = None,
        oversample: int = 4,
    ) -> tuple[Tensor, Any]: ...

    @overload
    def search(
        self,
        codes: Tensor,
        k: int,
        *,
        where: Where | None = None,
        rescore: Tensor,
        oversample: int = 4,
    ) -> Rescored: ...

    def search(
        self,
        codes: Tensor,
        k: int,
        *,
        where: Where | None = None,
        rescore: Tensor | None = None,
        oversample: int = 4,
    ) -> tuple[Tensor, Any] | Rescored:
        """The ``k`` nearest items of each query, or with ``rescore`` the best of the nearest.

        Rescoring takes the ``oversample * k`` nearest items and **all** that are as far as the
        last of these, and orders them by the inner product of the query's real-valued code with
        the items' relaxed codes if :meth:`add` was given them, else with the items' bits.

        Args:
            codes: q codes.
            k: at least 1.
            where: a filter; only items that pass.
            rescore: real-valued codes of the queries, float ``[q, num_bits]``, as
                ``model.relax_text(x)`` gives them. ``IVF`` and ``HNSW`` rescore what they find,
                without all that are tied, and databases what they give (Milvus: 16,384 items).
            oversample: how many items to rescore, times ``k``.

        Returns:
            ``(distances, ids)`` ``[q, k]``, on the CPU: int32, and int64 or an array of ``str``;
            nearest first. Where there are fewer than ``k`` items, the rest of a row has distance
            -1 and id -1 (``None`` among strings). With ``rescore`` also ``scores``, float64,
            highest first; equal scores by distance, then as equal distances.

            **Equal distances** are ordered in a ``HammingIndex`` by lower id, or, with ids of
            ``str``, by when an item was added, also where ``k`` cuts through them (but for ``IVF``
            and ``HNSW``); equal scores in databases by id.

        Raises:
            TypeError, ValueError: wrong types, shapes or values, or a filter that is none.
        """
        allowed = parse(where, self.fields)
        if rescore is None:
            return self._nearest(codes, k, allowed)
        return self._rescored(codes, k, rescore, oversample, allowed)

    def range_search(
        self, codes: Tensor, radius: int, *, where: Where | None = None
    ) -> tuple[Tensor, Tensor, Any]:
        """All items within a Hamming radius, **distance <= radius**.

        ``codes``, ``where`` and the order are as in :meth:`search`.

        Returns:
            ``(limits, distances, ids)``: int64 ``[q + 1]``, int32 ``[m]``, and int64 or ``str``
            ``[m]``. The matches of query i are ``limits[i]:limits[i + 1]``, nearest first.

        Raises:
            TypeError, ValueError: wrong types, shapes or values, or a filter that is none.
        """
        return self._within(codes, radius, parse(where, self.fields))

    def count_at(self, codes: Tensor, distances: Tensor, *, where: Where | None = None) -> Tensor:
        """How many items are exactly as far from each query as ``distances`` says: int64 ``[q]``.

        With the distance of the last answer: how many are tied there.

        Raises:
            TypeError, ValueError: wrong types, shapes or values, as :meth:`range_search`.
        """
        counts, allowed = torch.zeros(len(codes), dtype=torch.int64), parse(where, self.fields)
        for row, radius in enumerate(distances.tolist()):
            near = self._within(codes[row : row + 1], radius, allowed)[1]
            counts[row] = (near == radius).sum()
        return counts

    def export(self, path: str | os.PathLike[str], *, to: str | None = None) -> None:
        """Write codes, ids and fields to one file; see :func:`pyg_hash.stores.export_codes`."""
        from pyg_hash.stores.export import export_codes

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

    @abstractmethod
    def _add(
        self, packed: Bytes, ids: NDArray[Any], metadata: Columns, relaxed: Relaxed | None
    ) -> None: ...

    @abstractmethod
    def _update(self, ids: NDArray[Any], metadata: Columns) -> None: ...

    @abstractmethod
    def _metadata(self, ids: NDArray[Any]) -> dict[str, _Values]: ...

    @abstractmethod
    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]: ...

    @abstractmethod
    def _remove(self, ids: NDArray[Any]) -> None: ...

    @abstractmethod
    def _search(self, packed: Bytes, k: int, where: Tree | None) -> Table: ...

    @abstractmethod
    def _range_search(self, packed: Bytes, radius: int, where: Tree | None) -> Ranges: ...

    @abstractmethod
    def _shortlists(self, packed: Bytes, count: int, where: Tree | None) -> Iterator[Shortlist]:
        """For each query the ``count`` nearest items, and all at the distance of the last."""

    @abstractmethod
    def list(self, where: Where | None = None, start: int = 0, limit: int = 100) -> Any:
        """Ids of items, as :meth:`search` gives them: those that pass a filter, some at a time.

        Args:
            where: a filter.
            start: how many to leave out.
            limit: how many to give at most.

        Raises:
            TypeError, ValueError: wrong types or values, or a filter that is none.
        """

    def _numbered(self, ids: Ids | None, count: int) -> Ids:
        """Ids for new items, if none are given."""
        if ids is None:
            raise ValueError("ids: are missing; give one a code")
        return ids

    def _ids_of(self, names: NDArray[Any]) -> NDArray[Any]:
        """Ids of what a shortlist names."""
        return names

    def _check_present(self, ids: NDArray[Any]) -> None:
        """Raise ``ValueError`` unless all ids are there."""
        absent = ids[~self._present(ids)].tolist()
        if absent:
            raise ValueError(
                f"ids: {len(absent)} are not in the {self._kind} (first: {absent[0]!r})"
            )

    def _replace(
        self,
        packed: Bytes,
        ids: NDArray[Any],
        present: NDArray[np.bool_],
        metadata: Columns,
        relaxed: Relaxed | None,
    ) -> None:
        """Add items, some in the place of those that are present, whole or not at all."""
        raise NotImplementedError

    def _insert(
        self,
        packed: Bytes,
        ids: Ids,
        metadata: Columns,
        relaxed: Tensor | None = None,
        *,
        replace: bool = False,
    ) -> int:
        """Add items whose ids are new, or raise and leave all as it was; how many were there."""
        new = self._id_array(ids)
        steps = None
        if relaxed is not None:
            if not self._keeps_relaxed:
                raise ValueError(
                    f"relaxed: {type(self).__name__} keeps codes alone; leave it out, or use a "
                    "HammingIndex"
                )
            self._check_relaxed(relaxed, "relaxed", len(packed))
            codes = unpack_bits(torch.from_numpy(packed), self.num_bits)
            steps = quantize(relaxed.cpu(), codes).numpy()
        if len(new) != len(packed):
            raise ValueError(f"ids: {len(new)} ids for {len(packed)} codes; give one a code")
        self._check_unique(new)
        if len(new) == 0:
            return 0
        there = self._present(new)
        if replace and there.any():
            self._replace(packed, new, there, metadata, steps)
            return int(there.sum())
        present = new[there].tolist()
        if present:
            raise ValueError(
                f"ids: {len(present)} are in the {self._kind} already (first: {present[0]!r}); "
                "remove them first or choose others"
            )
        self._add(packed, new, metadata, steps)
        return 0

    def _nearest(self, codes: Tensor, k: int, where: Tree | None) -> tuple[Tensor, Any]:
        """Distances and ids ``[q, k]`` of checked queries."""
        packed = self._packed_codes(codes)
        check_positive_int(k, "k")
        if len(packed):
            distances, ids = self._search(packed, k, where)
        else:
            distances, ids = np.empty((0, k), np.int32), np.empty((0, k), self._id_dtype)
        return torch.from_numpy(distances), self._public(ids)

    def _rescored(
        self, codes: Tensor, k: int, relaxed: Tensor, oversample: int, where: Tree | None
    ) -> Rescored:
        """The best by score of the nearest ``oversample * k`` and all as far as the last."""
        packed = self._packed_codes(codes)
        check_positive_int(k, "k")
        check_positive_int(oversample, "oversample")
        self._check_relaxed(relaxed, "rescore", len(packed))
        queries = exact_queries(relaxed.cpu()).numpy()
        distances = np.full((len(packed), k), -1, np.int32)
        ids = np.full((len(packed), k), self._no_id, self._id_dtype)
        scores = np.full((len(packed), k), -np.inf)
        if len(packed) and len(self):
            found = self._shortlists(packed, oversample * k, where)
            for row, (query, some) in enumerate(zip(queries, found, strict=True)):
                best, score = some.best(query, k)
                distances[row, : len(best)] = some.distances[best]
                ids[row, : len(best)] = self._ids_of(some.names[best])
                scores[row, : len(best)] = score
        return Rescored(torch.from_numpy(distances), self._public(ids), torch.from_numpy(scores))

    def _check_relaxed(self, relaxed: Tensor, name: str, rows: int) -> None:
        check_relaxed(relaxed, name)
        if relaxed.shape != (rows, self.num_bits):
            raise ValueError(
                f"{name}: expected shape [{rows}, {self.num_bits}], a row a code, got "
                f"{list(relaxed.shape)}"
            )

    def _within(self, codes: Tensor, radius: int, where: Tree | None) -> tuple[Tensor, Tensor, Any]:
        """Limits, distances and ids of what lies within the radius of checked queries."""
        packed = self._packed_codes(codes)
        if isinstance(radius, bool) or not isinstance(radius, int):
            raise TypeError(f"radius: expected an integer, got {radius!r}")
        if radius < 0:
            raise ValueError(f"radius: expected 0 or more, got {radius}")
        if len(packed) and len(self):
            limits, distances, ids = self._range_search(packed, min(radius, self.num_bits), where)
        else:
            limits = np.zeros(len(packed) + 1, np.int64)
            distances, ids = np.empty(0, np.int32), np.empty(0, self._id_dtype)
        return torch.from_numpy(limits), torch.from_numpy(distances), self._public(ids)

    def _public(self, ids: NDArray[Any]) -> Tensor | NDArray[Any]:
        return torch.from_numpy(ids) if self.id_type is int else ids

    def _packed_codes(self, codes: Tensor) -> Bytes:
        """Codes, int8 ±1 or packed already, as rows of bytes."""
        if isinstance(codes, Tensor) and codes.dtype == torch.uint8:
            check_packed(codes, self.num_bits, "codes")
            packed: Bytes = np.ascontiguousarray(codes.cpu().numpy())
            return packed
        check_codes(codes, "codes", num_bits=self.num_bits)
        packed = pack_bits(codes.cpu()).numpy()
        return packed

    def _id_array(self, ids: Any) -> NDArray[Any]:
        """Ids as int64 ``[n]``, or as an object array of ``str``."""
        if self.id_type is int:
            return self._int_ids(ids)
        if isinstance(ids, str):
            raise TypeError("ids: expected a list of strings, got one string")
        array = np.empty(len(ids), np.object_)
        values = ids.tolist() if isinstance(ids, np.ndarray) else [*ids]
        if not all_text(values) or None in values:
            for i, value in enumerate(values):
                if not isinstance(value, str):
                    raise TypeError(
                        f"ids: this {self._kind} has string ids, got {type(value).__name__}"
                    )
                check_text(value, "ids")
                values[i] = str(value)
        array[:] = values
        return array

    def _check_unique(self, new: NDArray[Any]) -> None:
        """Raise ``ValueError`` if an id is given twice."""
        rising = self.id_type is int and bool((new[1:] > new[:-1]).all())
        if not rising and len({*new.tolist()}) < len(new):
            values, counts = np.unique(new, return_counts=True)
            twice = values[counts > 1].tolist()[0]
            raise ValueError(f"ids: {twice!r} is given more than once; ids must be unique")

    def _int_ids(self, ids: Any) -> NDArray[np.int64]:
        try:
            array = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
        except (ValueError, OverflowError) as error:
            raise TypeError(f"ids: expected integers that fit int64 ({error})") from error
        if array.shape == (0,):
            return np.empty(0, np.int64)
        if array.dtype.kind not in "iu" or int(array.max()) > np.iinfo(np.int64).max:
            raise TypeError(
                f"ids: expected integers, got {array.dtype}; this {self._kind} has integer ids "
                "that fit int64"
            )
        if array.ndim != 1:
            raise ValueError(f"ids: expected shape [n], got {list(array.shape)}")
        return array.astype(np.int64)


def columns(metadata: Metadata | None, fields: Mapping[str, type], n: int) -> dict[str, list[Any]]:
    """Values of all fields, ``n`` each; ``TypeError`` or ``ValueError`` if they are others."""
    metadata = {} if metadata is None else metadata
    if not set(metadata) <= set(fields):
        raise ValueError(
            f"metadata: got {sorted(set(metadata) - set(fields))}, this store keeps "
            f"{sorted(fields) or 'nothing'} beside a code; give some of that"
        )
    found = {}
    for name, kind in fields.items():
        values = metadata.get(name, [None] * n)
        if len(values) != n:
            raise ValueError(f"metadata: {name} has {len(values)} values for {n} items")
        if kind in (int, bool) and {*map(type, values)} <= {kind}:
            found[name] = [*values]
            if kind is bool or not n or -(2**63) <= min(values) <= max(values) < 2**63:
                continue
        if kind is str and all_text(values):
            found[name] = [*values]
            continue
        where = f"metadata: {name}"
        found[name] = [None if v is None else field_value(v, kind, where) for v in values]
    return found
