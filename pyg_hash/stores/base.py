"""What every store of codes can do."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from pyg_hash.codes import check_codes, check_packed, pack_bits
from pyg_hash.index import checks
from pyg_hash.stores.export import Bytes, export_codes
from pyg_hash.stores.fields import check_text, checked_fields, columns, conditions
from pyg_hash.utils.checks import check_positive_int

Ids = Tensor | NDArray[Any] | Sequence[int] | Sequence[str]
Where = Mapping[str, Any]
Columns = dict[str, list[Any]]
"""Values of each field, one an item."""
Allowed = dict[str, list[Any]]
"""Values that a filter allows, of each field that it names."""
Table = tuple[NDArray[np.int32], NDArray[Any]]
"""Distances and ids ``[q, k]``."""
Ranges = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]
"""Limits ``[q + 1]``, distances and ids ``[m]``."""
Hits = list[tuple[int, Any]]
"""``(distance, id)`` of one query, as databases answer."""


class CodeStore(ABC):
    """Codes under ids, kept where they outlive the process, searched by Hamming distance.

    All stores take the same calls and keep the same promises: distances are exact, a radius
    includes its border, an id is there at most once. Stores are made with ``create`` and found
    again with ``open``. **Codes** are int8 ±1 ``[n, num_bits]``, or packed already: uint8
    ``[n, ceil(num_bits / 8)]`` as :func:`pyg_hash.codes.pack_bits` makes them.

    Attributes:
        num_bits: bits of a code.
        id_type: ``int`` (int64) or ``str``.
        fields: name and type of what is kept beside a code, for filters; empty where the store
            knows no filters.
    """

    def __init__(
        self, num_bits: int, id_type: type[int] | type[str], fields: Mapping[str, type]
    ) -> None:
        check_positive_int(num_bits, "num_bits")
        if id_type not in (int, str):
            raise ValueError(f"ids: {id_type!r} is not known; use int or str, the types themselves")
        self.num_bits = num_bits
        self.id_type = id_type
        self.fields = checked_fields(fields)

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

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
        self, codes: Tensor, ids: Ids, metadata: Mapping[str, Sequence[Any]] | None = None
    ) -> None:
        """Add items.

        Args:
            codes: n codes.
            ids: n different ids of the store's type, none of them in the store.
            metadata: n values for each of the store's fields.

        Raises:
            TypeError, ValueError: wrong types, shapes or values; ids given twice or present
                already. The store is then unchanged.
        """
        packed, new = self._packed_codes(codes), self._id_array(ids)
        checks.check_new_ids(new, len(packed))
        values = columns(metadata, self.fields, len(new))
        if len(new) == 0:
            return
        checks.check_absent(new, self._present(new), "store")
        self._add(packed, new, values)

    def contains(self, ids: Ids) -> list[bool]:
        """Whether each id is in the store.

        Raises:
            TypeError: ids of another type.
        """
        names = self._id_array(ids)
        return self._present(names).tolist() if len(names) else []

    def search(
        self, codes: Tensor, k: int, *, where: Where | None = None
    ) -> tuple[Tensor, Tensor | NDArray[Any]]:
        """The ``k`` nearest items of each query.

        Args:
            codes: q codes.
            k: at least 1.
            where: only items with these values, for example ``{"label": "cat"}`` or
                ``{"label": ["cat", "dog"], "year": 2020}``; all conditions hold at once.

        Returns:
            ``(distances, ids)`` ``[q, k]``: int32, and int64 or an array of ``str``; nearest
            first. Where there are fewer than ``k`` items, the rest of a row has distance -1
            and id -1 (``None`` among strings).

        Raises:
            TypeError, ValueError: wrong types, shapes or values, or an unknown field.
        """
        packed = self._packed_codes(codes)
        check_positive_int(k, "k")
        wanted = conditions(where, self.fields)
        if len(packed) == 0:
            distances, ids = np.empty((0, k), np.int32), np.empty((0, k), self._id_dtype)
        else:
            distances, ids = self._search(packed, k, wanted)
        return torch.from_numpy(distances), self._public(ids)

    def range_search(
        self, codes: Tensor, radius: int, *, where: Where | None = None
    ) -> tuple[Tensor, Tensor, Tensor | NDArray[Any]]:
        """All items within a Hamming radius, **distance <= radius**.

        Args:
            codes: q codes.
            radius: 0 or more.
            where: as in :meth:`search`.

        Returns:
            ``(limits, distances, ids)``: int64 ``[q + 1]``, int32 ``[m]``, and int64 or ``str``
            ``[m]``. The matches of query i are ``limits[i]:limits[i + 1]``, nearest first.

        Raises:
            TypeError, ValueError: wrong types, shapes or values, or an unknown field.
        """
        packed = self._packed_codes(codes)
        checks.check_radius(radius)
        wanted = conditions(where, self.fields)
        if len(packed) and len(self):
            limits, distances, ids = self._range_search(packed, min(radius, self.num_bits), wanted)
        else:
            limits = np.zeros(len(packed) + 1, np.int64)
            distances, ids = np.empty(0, np.int32), np.empty(0, self._id_dtype)
        return torch.from_numpy(limits), torch.from_numpy(distances), self._public(ids)

    def remove(self, ids: Ids) -> None:
        """Remove items.

        Args:
            ids: ids in the store; one given twice is removed once.

        Raises:
            TypeError: ids of another type.
            ValueError: ids that are not in the store, which is then unchanged.
        """
        gone = np.unique(self._id_array(ids))
        if len(gone) == 0:
            return
        checks.check_present(gone, self._present(gone), "store")
        self._remove(gone)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write all codes and ids to one file; see :func:`pyg_hash.stores.export_codes`."""
        export_codes(path, self.items(), self.num_bits, self.id_type)

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
    def _add(self, packed: Bytes, ids: NDArray[Any], metadata: Columns) -> None: ...

    @abstractmethod
    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]: ...

    @abstractmethod
    def _remove(self, ids: NDArray[Any]) -> None: ...

    @abstractmethod
    def _search(self, packed: Bytes, k: int, where: Allowed) -> Table: ...

    @abstractmethod
    def _range_search(self, packed: Bytes, radius: int, where: Allowed) -> Ranges: ...

    @property
    def _id_dtype(self) -> type[np.int64] | type[np.object_]:
        return np.int64 if self.id_type is int else np.object_

    @property
    def _no_id(self) -> int | None:
        return -1 if self.id_type is int else None

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
            return checks.int_ids(ids, "store")
        if isinstance(ids, str):
            raise TypeError("ids: expected a list of strings, got one string")
        array = np.empty(len(ids), np.object_)
        for i, value in enumerate(ids):
            if not isinstance(value, str):
                raise TypeError(f"ids: this store has string ids, got {type(value).__name__}")
            check_text(value, "ids")
            array[i] = str(value)
        return array

    def _table(self, hits: Sequence[Hits], k: int) -> Table:
        """Answers as ``[q, k]``, sorted by distance, the rest filled up with "no item"."""
        distances = np.full((len(hits), k), -1, np.int32)
        ids = np.full((len(hits), k), self._no_id, self._id_dtype)
        for row, found in enumerate(hits):
            for column, (distance, name) in enumerate(sorted(found, key=_distance)):
                distances[row, column], ids[row, column] = distance, name
        return distances, ids

    def _ranges(self, hits: Sequence[Hits]) -> Ranges:
        """Answers one after the other, sorted by distance, and where each query's begin."""
        limits = np.cumsum([0, *map(len, hits)], dtype=np.int64)
        flat = [hit for found in hits for hit in sorted(found, key=_distance)]
        ids = np.empty(len(flat), self._id_dtype)
        ids[:] = [name for _, name in flat]
        return limits, np.array([distance for distance, _ in flat], np.int32), ids


_distance = itemgetter(0)
