"""Codes in one array, in memory or mapped from a file, with their ids."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.codes import num_bytes
from pyg_hash.index.base import Bytes, CodeSet, Columns, Ranges, Table
from pyg_hash.index.ids import IntIds, StrIds
from pyg_hash.index.scan import Arrays, Scan


class InMemory(CodeSet):
    """Codes at positions 0, 1, ... in the order they were added; equal distances come so too."""

    def __init__(self, num_bits: int, id_type: type[Any], scanner: Callable[[], Scan]) -> None:
        super().__init__(num_bits, id_type)
        self._scanner = scanner  # of codes that it has not seen yet
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._packed: Bytes = np.empty((0, num_bytes(self.num_bits)), np.uint8)
        self._waiting: list[Bytes] = []  # added since; joined when they are needed
        self._ids = (IntIds if self.id_type is int else StrIds).of(np.empty(0, self._id_dtype))
        self._scan = self._scanner()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What goes into a file."""
        packed, scan = self._ready()
        return {"codes": packed, **self._ids.arrays(), **(scan.arrays() if len(packed) else {})}

    def _restore(self, arrays: Arrays) -> None:
        """Undo :meth:`_arrays`; ``KeyError`` or ``ValueError`` if they do not fit."""
        packed = arrays["codes"]
        self._ids = type(self._ids).read(arrays)
        if packed.dtype != np.uint8 or packed.shape != (len(self._ids), num_bytes(self.num_bits)):
            raise ValueError("codes and ids do not fit")
        self._packed = packed
        if len(packed):
            self._scan.restore(arrays, packed)

    def __len__(self) -> int:
        """Number of items."""
        return len(self._ids)

    def _joined(self) -> Bytes:
        """All codes in one array."""
        if self._waiting:
            parts = [*([self._packed] if len(self._packed) else []), *self._waiting]
            self._packed = parts[0] if len(parts) == 1 else np.concatenate(parts)
            self._waiting = []
        return self._packed

    def _ready(self) -> tuple[Bytes, Scan]:
        """All codes, and a searcher that knows them."""
        with self._lock:  # of several threads that search, one prepares
            packed = self._joined()
            if len(packed):
                self._scan.update(packed)
            return packed, self._scan

    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        return self._ids.find(ids) >= 0

    def _add(self, packed: Bytes, ids: NDArray[Any], metadata: Columns) -> None:
        self._waiting.append(packed.copy())
        self._ids = self._ids.extended(ids)

    def _remove(self, ids: NDArray[Any]) -> None:
        packed = self._joined()
        keep = np.ones(len(packed), bool)
        keep[self._ids.find(ids)] = False
        self._packed, self._ids, self._scan = packed[keep], self._ids.kept(keep), self._scanner()

    def _search(self, packed: Bytes, k: int, where: Columns) -> Table:
        database, scan = self._ready()
        distances = np.full((len(packed), k), -1, np.int32)
        ids = np.full((len(packed), k), self._no_id, self._id_dtype)
        if len(database):
            some = min(k, len(database))
            found, positions = scan.search(database, packed, some)
            there = positions >= 0
            distances[:, :some] = np.where(there, found, -1)
            ids[:, :some][there] = self._ids.at(positions[there])
        return distances, ids

    def _range_search(self, packed: Bytes, radius: int, where: Columns) -> Ranges:
        database, scan = self._ready()
        query, distances, positions = scan.range_search(database, packed, radius)
        order = np.lexsort((positions, distances, query))
        limits = np.bincount(query + 1, minlength=len(packed) + 1).cumsum()
        return limits, distances[order].astype(np.int32), self._ids.at(positions[order])
