"""What every store of codes can do."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from pyg_hash.index.base import Bytes, CodeSet, Ids
from pyg_hash.stores.export import export_codes
from pyg_hash.stores.fields import columns, conditions

Where = Mapping[str, Any]


class CodeStore(CodeSet):
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

    fields: Mapping[str, type] = {}

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
        packed = self._packed_codes(codes)
        self._insert(packed, ids, columns(metadata, self.fields, len(packed)))

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
        return self._nearest(codes, k, conditions(where, self.fields))

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
        return self._within(codes, radius, conditions(where, self.fields))

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
