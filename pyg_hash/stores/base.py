"""What every store of codes can do, and what those in a database have in common."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import itemgetter
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from pyg_hash.codes import num_bytes
from pyg_hash.index.base import Bytes, CodeSet, Columns, Ids, Ranges, Table, check_text
from pyg_hash.index.rescore import Rescored, Shortlist
from pyg_hash.stores.export import export_codes

Where = Mapping[str, Any]
Hits = list[tuple[int, Any, bytes]]
"""``(distance, id, packed code)`` of one query, as databases answer; codes only if asked for."""
FIELD_TYPES: tuple[type, ...] = (str, int, float, bool)


class CodeStore(CodeSet):
    """Codes under ids, kept where they outlive the process, searched by Hamming distance.

    All stores take the same calls and keep the same promises: distances are exact, a radius
    includes its border, an id is there at most once. Stores are made with ``create`` and found
    again with ``open``. **Codes** are int8 ±1 ``[n, num_bits]``, or packed already: uint8
    ``[n, ceil(num_bits / 8)]`` as :func:`pyg_hash.codes.pack_bits` makes them.

    Attributes:
        num_bits: bits of a code.
        id_type: ``int`` (int64) or ``str``.
        model: digest of the model whose codes these are, given to ``create``; None: not known.
        fields: name and type of what is kept beside a code, for filters; empty where the store
            knows no filters.
    """

    fields: Mapping[str, type] = {}

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close; what was not saved is not saved."""
        self.close()

    def add(
        self,
        codes: Tensor,
        ids: Ids,
        metadata: Mapping[str, Sequence[Any]] | None = None,
        *,
        relaxed: Tensor | None = None,
    ) -> None:
        """Add items.

        Args:
            codes: n codes.
            ids: n different ids of the store's type, none of them in the store.
            metadata: n values for each of the store's fields.
            relaxed: in a :class:`FaissStore`, relaxed codes of the items to rescore by, as in
                :meth:`HammingIndex.add <pyg_hash.index.HammingIndex.add>`.

        Raises:
            TypeError, ValueError: wrong types, shapes or values; ids given twice or present
                already; relaxed codes where they cannot be kept, or of some items only. The
                store is then unchanged.
        """
        packed = self._packed_codes(codes)
        self._insert(packed, ids, columns(metadata, self.fields, len(packed)), relaxed)

    def replace(
        self,
        codes: Tensor,
        ids: Ids,
        metadata: Mapping[str, Sequence[Any]] | None = None,
        *,
        relaxed: Tensor | None = None,
    ) -> int:
        """Add items, in the place of those that have one of the ids already.

        Whatever happens meanwhile, each item is there, as it was or as it is to be: there is no
        moment without it. Arguments and errors are those of :meth:`add`, but ids may be present.

        Returns:
            how many were replaced.
        """
        packed = self._packed_codes(codes)
        kept = columns(metadata, self.fields, len(packed))
        return self._insert(packed, ids, kept, relaxed, replace=True)

    @overload
    def search(
        self,
        codes: Tensor,
        k: int,
        *,
        where: Where | None = None,
        rescore: None = None,
        oversample: int = 4,
    ) -> tuple[Tensor, Tensor | NDArray[Any]]: ...

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
    ) -> tuple[Tensor, Tensor | NDArray[Any]] | Rescored:
        """The ``k`` nearest items of each query, or with ``rescore`` the best of the nearest.

        Args:
            codes: q codes.
            k: at least 1.
            where: only items with these values, for example ``{"label": "cat"}`` or
                ``{"label": ["cat", "dog"], "year": 2020}``; all conditions hold at once.
            rescore: real-valued codes of the queries, float ``[q, num_bits]``; see
                :meth:`HammingIndex.search <pyg_hash.index.HammingIndex.search>`. Items at the
                distance of the last one are all rescored too, but for ``IVF`` and ``HNSW``, which
                find what they find, and beyond what a database gives (Milvus: 16,384 items).
            oversample: how many items to rescore, times ``k``.

        Returns:
            ``(distances, ids)`` ``[q, k]``: int32, and int64 or an array of ``str``; nearest
            first. Where there are fewer than ``k`` items, the rest of a row has distance -1
            and id -1 (``None`` among strings). With ``rescore`` also ``scores``, float64, highest
            first; equal scores by distance, then by when an item was added (``FaissStore``) or
            by id.

        Raises:
            TypeError, ValueError: wrong types, shapes or values, or an unknown field.
        """
        allowed = conditions(where, self.fields)
        if rescore is None:
            return self._nearest(codes, k, allowed)
        return self._rescored(codes, k, rescore, oversample, allowed)

    def range_search(
        self, codes: Tensor, radius: int, *, where: Where | None = None
    ) -> tuple[Tensor, Tensor, Tensor | NDArray[Any]]:
        """All items within a Hamming radius, **distance <= radius**.

        ``codes`` and ``where`` are as in :meth:`search`.

        Returns:
            ``(limits, distances, ids)``: int64 ``[q + 1]``, int32 ``[m]``, and int64 or ``str``
            ``[m]``. The matches of query i are ``limits[i]:limits[i + 1]``, nearest first.

        Raises:
            TypeError, ValueError: wrong types, shapes or values, or an unknown field.
        """
        return self._within(codes, radius, conditions(where, self.fields))

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write all codes and ids to one file; see :func:`pyg_hash.stores.export_codes`."""
        export_codes(path, self.items(), self.num_bits, self.id_type, model=self.model)

    @abstractmethod
    def items(self, batch_size: int = 1 << 16) -> Iterator[tuple[Bytes, NDArray[Any]]]:
        """All items, as ``(packed codes, ids)`` of up to ``batch_size`` at a time."""

    @abstractmethod
    def save(self) -> None:
        """Make sure that all that was added or removed survives the end of the process."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; the store cannot be used afterwards."""


def _value(value: Any, kind: type, name: str) -> Any:
    """One value of a field as ``kind``."""
    if hasattr(value, "item"):
        value = value.item()  # numpy's and torch's numbers
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise TypeError(f"{name}: expected {kind.__name__}, got {value!r}")
    if isinstance(value, str):
        check_text(value, name)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name}: {value} does not fit int64")
    if kind is float and value != value:
        raise ValueError(f"{name}: NaN cannot be kept")
    return value


def columns(
    metadata: Mapping[str, Sequence[Any]] | None, fields: Mapping[str, type], n: int
) -> dict[str, list[Any]]:
    """Values of all fields, ``n`` each; ``TypeError`` or ``ValueError`` if they are others."""
    metadata = {} if metadata is None else metadata
    if set(metadata) != set(fields):
        raise ValueError(
            f"metadata: got {sorted(metadata) or 'nothing'}, this store keeps "
            f"{sorted(fields) or 'nothing'} beside a code; give exactly that"
        )
    for name, values in metadata.items():
        if len(values) != n:
            raise ValueError(f"metadata: {name} has {len(values)} values for {n} codes")
    return {
        name: [_value(value, fields[name], f"metadata: {name}") for value in values]
        for name, values in metadata.items()
    }


def conditions(where: Where | None, fields: Mapping[str, type]) -> dict[str, list[Any]]:
    """A filter as the allowed values of each field; ``TypeError`` or ``ValueError`` if wrong."""
    result = {}
    for name, wanted in ({} if where is None else where).items():
        if name not in fields:
            raise ValueError(
                f"where: {name!r} is not known; this store keeps {sorted(fields) or 'no fields'}"
            )
        values = [wanted] if isinstance(wanted, FIELD_TYPES) else list(wanted)
        if not values:
            raise ValueError(f"where: {name} has no value to look for")
        result[name] = [_value(value, fields[name], f"where: {name}") for value in values]
    return result


class DatabaseStore(CodeStore):
    """A store that asks a database for ids and for nearest items."""

    _most: int | None = None
    """Items that the database gives to one query at most."""

    def __init__(
        self,
        num_bits: int,
        id_type: type[Any],
        fields: Mapping[str, type],
        model: str | None = None,
    ) -> None:
        super().__init__(num_bits, id_type)
        self.model = model
        for name, kind in fields.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) or name in ("id", "code"):
                raise ValueError(
                    f"fields: {name!r} cannot be a name; use letters, digits and _, "
                    "not 'id' or 'code'"
                )
            if kind not in FIELD_TYPES:
                raise ValueError(f"fields: {name} has type {kind!r}; use str, int, float or bool")
        self.fields = dict(fields)

    @abstractmethod
    def _known(self, ids: NDArray[Any]) -> set[Any]:
        """Those of the ids that are there, and perhaps others."""

    @abstractmethod
    def _hits(
        self,
        packed: Bytes,
        k: int | None,
        radius: int | None,
        where: Columns,
        codes: bool = False,
    ) -> list[Hits]:
        """The k nearest items of each query, or all within the radius; with their codes, or not."""

    def _changing(self) -> AbstractContextManager[object]:
        """What is held from the look at the ids to the end of a change."""
        return nullcontext()

    def _insert(self, *items: Any, **options: Any) -> int:
        with self._changing():
            return super()._insert(*items, **options)

    def remove(self, ids: Ids) -> None:
        """As of every store."""
        with self._changing():
            super().remove(ids)

    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        known = self._known(ids)
        return np.array([name in known for name in ids.tolist()], bool)

    def _search(self, packed: Bytes, k: int, where: Columns) -> Table:
        distances = np.full((len(packed), k), -1, np.int32)
        ids = np.full((len(packed), k), self._no_id, self._id_dtype)
        for row, found in enumerate(self._hits(packed, k, None, where)):
            for column, (distance, name, _) in enumerate(sorted(found, key=itemgetter(0))):
                distances[row, column], ids[row, column] = distance, name
        return distances, ids

    def _range_search(self, packed: Bytes, radius: int, where: Columns) -> Ranges:
        hits = self._hits(packed, None, radius, where)
        limits = np.cumsum([0, *map(len, hits)], dtype=np.int64)
        flat = [hit for found in hits for hit in sorted(found, key=itemgetter(0))]
        ids = np.empty(len(flat), self._id_dtype)
        ids[:] = [name for _, name, _ in flat]
        return limits, np.array([distance for distance, _, _ in flat], np.int32), ids

    def _shortlists(self, packed: Bytes, count: int, where: Columns) -> Iterator[Shortlist]:
        count = min(count, len(self), self._most or count)
        for query in np.split(packed, len(packed)):
            (hits,) = self._hits(query, count, None, where, codes=True)
            if len(hits) == count:  # more may be as far as the last
                edge = max(map(itemgetter(0), hits))
                (hits,) = self._hits(query, None, edge, where, codes=True)
            hits.sort(key=itemgetter(1))
            names = np.empty(len(hits), self._id_dtype)
            names[:] = [name for _, name, _ in hits]
            codes = np.frombuffer(b"".join(code for _, _, code in hits), np.uint8)
            distances = np.array([distance for distance, _, _ in hits], np.int32)
            yield Shortlist(distances, names, codes.reshape(-1, num_bytes(self.num_bits)), None)


def settings_of(store: DatabaseStore) -> dict[str, Any]:
    """What a database is to know about a store, as JSON values."""
    types = {name: kind.__name__ for name, kind in store.fields.items()}
    about = {"num_bits": store.num_bits, "ids": store.id_type.__name__, "fields": types}
    return about if store.model is None else {**about, "model": store.model}


def read_settings(settings: Any) -> tuple[int, type[Any], dict[str, type], str | None]:
    """Undo :func:`settings_of`; ``KeyError`` or ``TypeError`` if it is something else."""
    kinds = {kind.__name__: kind for kind in FIELD_TYPES}
    fields = {name: kinds[kind] for name, kind in settings["fields"].items()}
    return settings["num_bits"], kinds[settings["ids"]], fields, settings.get("model")


def condition(
    column: str,
    values: Sequence[Any],
    quoted: Callable[[str], str],
    members: str = "{} IN ({})",
    either: str = " OR ",
) -> str:
    """Condition in a database's language, by default SQL: the column has one of the values."""
    lowest = -(2**63)  # parsers read the digits before the sign, and they do not fit int64
    rest = [value for value in values if not isinstance(value, int) or value != lowest]
    literals = [quoted(v) if isinstance(v, str) else str(v).lower() for v in rest]
    parts = [members.format(column, ", ".join(literals))] if rest else []
    if len(rest) < len(values):
        parts.append(f"{column} < {lowest + 1}")
    return f"({either.join(parts)})"
