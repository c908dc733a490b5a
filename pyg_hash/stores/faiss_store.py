"""The embedded store: one file, mapped into memory, searched by FAISS."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from pyg_hash.stores import _checks
from pyg_hash.stores._ids import IntIds, StrIds
from pyg_hash.stores._mapped import read_arrays, write_arrays
from pyg_hash.stores.base import Bytes, CodeStore
from pyg_hash.stores.indexes import Flat, Index, Scan, from_settings, scan
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.files import CorruptFileError, check_writable

_FORMAT = "pyg_hash.FaissStore"
_VERSION = 1


class FaissStore(CodeStore):
    """Codes in one file on disk, searched in place by FAISS.

    Changes are in memory until :meth:`save`, which replaces the file in one step: whatever
    happens meanwhile, the file is the old one or the new one. Any number of processes may read
    the file while one writes it; each goes on with the content that it opened. Of two that write,
    the last wins. Threads may search one store at the same time, but not change it meanwhile.

    Equal distances are ordered by when an item was added, with ``Flat`` and ``MultiIndex``.

    Example:
        >>> store = FaissStore.create("codes.store", num_bits=64, index=MultiIndex())
        >>> store.add(codes, ids)
        >>> store.save()
        >>> distances, ids = FaissStore.open("codes.store").search(query, k=10)

    Use :meth:`create` and :meth:`open`.
    """

    def __init__(self, path: Path, num_bits: int, id_type: type[Any], index: Index) -> None:
        super().__init__(num_bits, id_type, {})
        _faiss.load()
        self.path, self.index = path, index
        self.recall: dict[str, float] | None = None
        self._searcher = index.searcher()
        self._packed: Bytes = np.empty((0, (num_bits + 7) // 8), np.uint8)
        self._waiting: list[Bytes] = []  # added since; joined when they are needed
        self._ids: IntIds | StrIds = (
            IntIds(np.empty(0, np.int64)) if id_type is int else StrIds.of(np.empty(0, object))
        )
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        num_bits: int,
        *,
        ids: type[int] | type[str] = int,
        index: Index | None = None,
    ) -> Self:
        """A new, empty store; the file appears with :meth:`save`.

        Args:
            path: the file to be.
            num_bits: bits of a code.
            ids: ``int`` or ``str``.
            index: ``Flat()`` (default), ``MultiIndex()``, ``IVF(...)`` or ``HNSW(...)``.

        Raises:
            FileExistsError: there is a file already.
            ImportError: FAISS is not installed.
            OSError: the file could not be written.
            TypeError, ValueError: wrong arguments.
        """
        index = Flat() if index is None else index
        if not isinstance(index, Index):
            raise TypeError(f"index: expected Flat(), MultiIndex(), IVF() or HNSW(), got {index!r}")
        store = cls(Path(path), num_bits, ids, index)
        if os.path.lexists(path):
            raise FileExistsError(f"{path}: exists already; open() it or choose another name")
        check_writable(path)
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, mapped: bool = True) -> Self:
        """Open what :meth:`save` wrote.

        Args:
            path: the file.
            mapped: leave codes, ids and hash tables on disk, to be read as they are used; what
                IVF and HNSW keep beside the codes is always read into memory.

        Raises:
            FileNotFoundError: there is no such file.
            CorruptFileError: the file is truncated, damaged or something else.
            ImportError: FAISS is not installed.
        """
        arrays, metadata = read_arrays(path, mapped=mapped)
        if metadata.get("format") != _FORMAT:
            raise CorruptFileError(f"{path}: is not a store that FaissStore.save() wrote")
        if metadata.get("version") != _VERSION:
            raise CorruptFileError(
                f"{path}: has version {metadata.get('version')!r}, this pyg_hash reads {_VERSION}; "
                "build the store again"
            )
        try:
            id_type = {"int": int, "str": str}[metadata["ids"]]
            store = cls(Path(path), metadata["num_bits"], id_type, from_settings(metadata["index"]))
            store._restore(arrays)
            store.recall = metadata["recall"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CorruptFileError(f"{path}: is damaged ({error}); build it again") from error
        return store

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        packed = arrays["codes"]
        self._ids = IntIds.read(arrays) if self.id_type is int else StrIds.read(arrays)
        if packed.dtype != np.uint8 or packed.shape != (len(self._ids), self._packed.shape[1]):
            raise ValueError("codes and ids do not fit")
        self._packed = packed
        if len(packed):
            self._searcher.restore(arrays, packed)

    def __len__(self) -> int:
        """Number of items."""
        return len(self._ids)

    def save(self) -> None:
        """Write the file, atomically.

        Raises:
            OSError: the file cannot be written; the old one is then still there.
        """
        packed, searcher = self._ready()
        metadata = {
            "format": _FORMAT,
            "version": _VERSION,
            "num_bits": self.num_bits,
            "ids": self.id_type.__name__,
            "index": self.index.settings(),
            "recall": self.recall,
        }
        arrays = {"codes": packed, **self._ids.arrays()}
        if len(packed):
            arrays.update(searcher.arrays())
        write_arrays(self.path, arrays, metadata)

    def close(self) -> None:
        """Let go of the file; what was not saved is lost."""
        self._packed = np.empty((0, self._packed.shape[1]), np.uint8)
        self._ids = IntIds(np.empty(0, np.int64))
        self._waiting, self._searcher = [], self.index.searcher()

    def items(self, batch_size: int = 1 << 16) -> Iterator[tuple[Bytes, NDArray[Any]]]:
        """All items in the order they were added."""
        packed = self._joined()
        for start in range(0, len(packed), batch_size):
            part = slice(start, start + batch_size)
            yield np.array(packed[part]), np.array(self._ids.at(part))

    def measure_recall(self, codes: Tensor, k: int = 10) -> float:
        """How much of the true answer ``search`` finds; kept in ``recall`` and in the file.

        An answer counts if it is as near as the true ``k``-th item, so that ties are no loss.

        Args:
            codes: queries like those to come, not items of the store; a few hundred will do.
            k: answers a query, at most ``len(self)``.

        Returns:
            0 to 1; 1 with ``Flat`` and ``MultiIndex``.

        Raises:
            TypeError, ValueError: wrong types, shapes or values, or no query.
        """
        check_positive_int(k, "k")
        query = _checks.packed_codes(codes, self.num_bits)
        if len(query) == 0 or k > len(self):
            raise ValueError(
                f"k: {len(query)} queries and k = {k} of {len(self)} items; give "
                "at least one query and k no larger than the store"
            )
        packed, searcher = self._ready()
        distances, positions = searcher.search(packed, query, k)
        worst = scan(packed, query, k)[0][:, -1:]
        value = float(((positions >= 0) & (distances <= worst)).mean())
        self.recall = {"value": value, "k": k, "queries": len(query)}
        return value

    def _joined(self) -> Bytes:
        """All codes in one array."""
        if self._waiting:
            first = [self._packed] if len(self._packed) else []
            parts = [*first, *self._waiting]
            self._packed = parts[0] if len(parts) == 1 else np.concatenate(parts)
            self._waiting = []
        return self._packed

    def _ready(self) -> tuple[Bytes, Scan]:
        """All codes, and a searcher that knows them."""
        with self._lock:  # of several threads that search, one prepares
            packed = self._joined()
            if len(packed):
                self._searcher.update(packed)
            return packed, self._searcher

    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        return self._ids.find(ids) >= 0

    def _add(self, packed: Bytes, ids: NDArray[Any], metadata: dict[str, list[Any]]) -> None:
        self._waiting.append(packed.copy())
        self._ids = self._ids.extended(ids)
        self.recall = None

    def _remove(self, ids: NDArray[Any]) -> None:
        packed = self._joined()
        keep = np.ones(len(packed), bool)
        keep[self._ids.find(ids)] = False
        self._packed, self._ids = packed[keep], self._ids.kept(keep)
        self._searcher, self.recall = self.index.searcher(), None

    def _search(
        self, packed: Bytes, k: int, where: dict[str, list[Any]]
    ) -> tuple[NDArray[np.int32], NDArray[Any]]:
        database, searcher = self._ready()
        distances = np.full((len(packed), k), -1, np.int32)
        ids = np.full((len(packed), k), self._no_id, self._id_dtype)
        if len(database):
            some = min(k, len(database))
            found, positions = searcher.search(database, packed, some)
            there = positions >= 0
            distances[:, :some] = np.where(there, found, -1)
            ids[:, :some][there] = self._ids.at(positions[there])
        return distances, ids

    def _range_search(
        self, packed: Bytes, radius: int, where: dict[str, list[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
        database, searcher = self._ready()
        query, distances, positions = searcher.range_search(database, packed, radius)
        if len(query) > 1:
            order = np.lexsort((positions, distances, query))
            query, distances, positions = query[order], distances[order], positions[order]
        limits = np.bincount(query + 1, minlength=len(packed) + 1).cumsum()
        return limits, distances.astype(np.int32), self._ids.at(positions)
