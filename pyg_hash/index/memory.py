"""Codes in one array, in memory or mapped from a file, with their ids."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.codes import num_bytes
from pyg_hash.index.arrays import StoredArrays
from pyg_hash.index.base import Bytes, CodeSet, Columns, Ranges, Table
from pyg_hash.index.rescore import Relaxed, Shortlist
from pyg_hash.index.scan import Scan


class InMemory(CodeSet):
    """Codes at positions 0, 1, ... in the order they were added; equal distances come so too."""

    _keeps_relaxed = True

    def __init__(self, num_bits: int, id_type: type[Any], scanner: Callable[[], Scan]) -> None:
        super().__init__(num_bits, id_type)
        self._scanner = scanner  # of codes that it has not seen yet
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._packed = _Rows(np.empty((0, num_bytes(self.num_bits)), np.uint8))
        self._relaxed: _Rows | None = None  # of all items or of none
        self._stored = StoredArrays({}, {}, None)  # checked when they are used
        self._names = (_IntIds if self.id_type is int else _StrIds).of(np.empty(0, self._id_dtype))
        self._scan = self._scanner()

    @property
    def _ids(self) -> _IntIds | _StrIds:
        self._stored.check("ids", "id_text", "id_ends")
        return self._names

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What goes into a file."""
        self._stored.check(*self._stored)  # damage is not to get a new checksum
        packed, scan = self._ready()
        kept = {"codes": packed, **self._ids.arrays(), **(scan.arrays() if len(packed) else {})}
        return kept if self._relaxed is None else {**kept, "relaxed": self._relaxed.joined()}

    def _restore(self, arrays: StoredArrays) -> None:
        """Undo :meth:`_arrays`; ``KeyError`` or ``ValueError`` if they do not fit."""
        packed = arrays["codes"]
        self._names = type(self._names).read(arrays)
        if packed.dtype != np.uint8 or packed.shape != (len(self._names), num_bytes(self.num_bits)):
            raise ValueError("codes and ids do not fit")
        self._packed = _Rows(packed)
        if "relaxed" in arrays:
            relaxed = arrays["relaxed"]
            if relaxed.dtype != np.int8 or relaxed.shape != (len(packed), self.num_bits):
                raise ValueError("codes and relaxed codes do not fit")
            self._relaxed = _Rows(relaxed)
        if len(packed):
            self._scan.restore(arrays, packed)
        self._stored = arrays

    def __len__(self) -> int:
        """Number of items."""
        return len(self._names)

    @property
    def has_relaxed(self) -> bool:
        """Whether relaxed codes are kept beside the codes, which rescoring then uses."""
        return self._relaxed is not None

    def _ready(self) -> tuple[Bytes, Scan]:
        """All codes, and a searcher that knows them."""
        with self._lock:  # of several threads that search, one prepares
            self._stored.check("codes")
            packed = self._packed.joined()
            if len(packed):
                self._scan.update(packed)
            return packed, self._scan

    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        return self._ids.find(ids) >= 0

    def _add(
        self, packed: Bytes, ids: NDArray[Any], metadata: Columns, relaxed: Relaxed | None
    ) -> None:
        if len(self) == 0:
            self._relaxed = None if relaxed is None else _Rows(relaxed[:0])
        self._check_kept(relaxed)
        self._packed.append(packed)
        if relaxed is not None and self._relaxed is not None:
            self._relaxed.append(relaxed)
        self._names = self._ids.extended(ids)

    def _check_kept(self, relaxed: Relaxed | None) -> None:
        if (relaxed is None) != (self._relaxed is None):
            raise ValueError(
                f"relaxed: the {self._kind} has relaxed codes of its other items; give these too"
                if relaxed is None
                else f"relaxed: the {self._kind} has other items without; leave it out, or add all "
                "items anew"
            )

    def _replace(
        self,
        packed: Bytes,
        ids: NDArray[Any],
        present: NDArray[np.bool_],
        metadata: Columns,
        relaxed: Relaxed | None,
    ) -> None:
        self._check_kept(relaxed)
        self._remove(ids[present])
        self._add(packed, ids, metadata, relaxed)

    def _reorder(self, rows: NDArray[Any]) -> None:
        """Keep these rows alone, in this order."""
        self._stored.check(*self._stored)
        self._packed = _Rows(self._packed.joined()[rows])
        if self._relaxed is not None:
            self._relaxed = _Rows(self._relaxed.joined()[rows])
        self._names = self._ids.of(self._ids.at(rows))

    def _remove(self, ids: NDArray[Any]) -> None:
        keep = np.ones(len(self), bool)
        keep[self._ids.find(ids)] = False
        self._reorder(keep)
        self._scan = self._scanner()

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

    def _shortlists(self, packed: Bytes, count: int, where: Columns) -> Iterator[Shortlist]:
        database, scan = self._ready()
        self._stored.check("relaxed")
        relaxed = None if self._relaxed is None else self._relaxed.joined()
        for distances, rows in scan.shortlist(database, packed, count):
            own = None if relaxed is None else relaxed[rows]
            yield Shortlist(distances, rows, database[rows], own)

    def _ids_of(self, names: NDArray[Any]) -> NDArray[Any]:
        return self._ids.at(names)


class _Rows:
    """Rows of an array; those that are added are joined to it when they are needed."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self._parts = [rows]

    def append(self, rows: NDArray[Any]) -> None:
        self._parts.append(rows.copy())

    def joined(self) -> NDArray[Any]:
        """All rows in one array."""
        if len(self._parts) > 1:
            parts = [part for part in self._parts if len(part)] or self._parts[:1]
            self._parts = [parts[0] if len(parts) == 1 else np.concatenate(parts)]
        return self._parts[0]


class _IntIds:
    """int64 ids ``[n]`` by position, and the way back, as arrays that can be mapped from a file."""

    def __init__(self, values: NDArray[np.int64]) -> None:
        self.values = values

    @classmethod
    def of(cls, ids: NDArray[Any]) -> _IntIds:
        return cls(ids)

    @classmethod
    def read(cls, arrays: StoredArrays) -> _IntIds:
        values = arrays["ids"]
        if values.dtype != np.int64 or values.ndim != 1:
            raise ValueError("ids are not int64")
        return cls(values)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"ids": self.values}

    def __len__(self) -> int:
        return len(self.values)

    def at(self, positions: NDArray[Any] | slice) -> NDArray[np.int64]:
        return self.values[positions]

    @cached_property
    def _sorter(self) -> NDArray[np.int64] | None:
        """Positions by rising id; None where they rise already."""
        rising = bool((self.values[1:] > self.values[:-1]).all())
        return None if rising else np.argsort(self.values, kind="stable")

    def find(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """Positions of ids, -1 where there is no such id."""
        if len(self) == 0:
            return np.full(len(ids), -1, np.int64)
        place = np.searchsorted(self.values, ids, sorter=self._sorter).clip(max=len(self) - 1)
        position = place if self._sorter is None else self._sorter[place]
        return np.where(self.values[position] == ids, position, -1)

    def extended(self, ids: NDArray[Any]) -> _IntIds:
        return _IntIds(np.concatenate([self.values, ids]))


class _StrIds:
    """String ids: their UTF-8 one after the other, ``[bytes]``, and where each ends, ``[n]``."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, ids: NDArray[Any]) -> _StrIds:
        encoded = [value.encode() for value in ids]
        ends = np.cumsum([len(value) for value in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    @classmethod
    def read(cls, arrays: StoredArrays) -> _StrIds:
        text, ends = arrays["id_text"], arrays["id_ends"]
        if text.dtype != np.uint8 or ends.dtype != np.int64 or ends.ndim != 1:
            raise ValueError("ids are not text")
        if (int(ends[-1]) if len(ends) else 0) != text.size:
            raise ValueError("the text of the ids is not complete")
        return cls(text, ends)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"id_text": self.text, "id_ends": self.ends}

    def __len__(self) -> int:
        return len(self.ends)

    def at(self, positions: NDArray[Any] | slice) -> NDArray[np.object_]:
        chosen = np.arange(len(self))[positions]
        ends = self.ends[chosen]
        starts = np.where(chosen > 0, self.ends[chosen - 1], 0)
        result = np.empty(chosen.shape, np.object_)
        for i, (start, end) in enumerate(zip(starts.flat, ends.flat, strict=True)):
            result.flat[i] = self.text[start:end].tobytes().decode()
        return result

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {value: i for i, value in enumerate(self.at(slice(None)))}

    def find(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        return np.array([self._positions.get(value, -1) for value in ids], np.int64)

    def extended(self, ids: NDArray[Any]) -> _StrIds:
        more = _StrIds.of(ids)
        text = np.concatenate([self.text, more.text])
        result = _StrIds(text, np.concatenate([self.ends, more.ends + self.text.size]))
        known = self.__dict__.pop("_positions", None)
        if known is not None:  # handed on: only the newest owner ever grows it
            known.update(zip(ids, range(len(self), len(result)), strict=True))
            result._positions = known
        return result
