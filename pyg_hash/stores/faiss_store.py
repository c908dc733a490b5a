"""The embedded store: one file, mapped into memory, searched by FAISS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from pyg_hash.index.arrays import damaged, read_arrays, write_arrays
from pyg_hash.index.base import Bytes, Columns
from pyg_hash.index.memory import InMemory
from pyg_hash.index.scan import FaissScan
from pyg_hash.stores.base import CodeStore
from pyg_hash.stores.indexes import Flat, Index, from_settings
from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.files import check_writable


class FaissStore(InMemory, CodeStore):
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
        super().__init__(num_bits, id_type, index.searcher)
        self.path, self.index = path, index
        self.recall: dict[str, float] | None = None

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
        arrays, metadata = read_arrays(path, "FaissStore", mapped=mapped)
        with damaged(path):
            id_type = {"int": int, "str": str}[metadata["ids"]]
            store = cls(Path(path), metadata["num_bits"], id_type, from_settings(metadata["index"]))
            store._restore(arrays)
            store.recall = metadata["recall"]
        return store

    def save(self) -> None:
        """Write the file, atomically.

        Raises:
            OSError: the file cannot be written; the old one is then still there.
        """
        metadata = {
            "num_bits": self.num_bits,
            "ids": self.id_type.__name__,
            "index": self.index.settings(),
            "recall": self.recall,
        }
        write_arrays(self.path, "FaissStore", self._arrays(), metadata)

    def close(self) -> None:
        """Let go of the file; what was not saved is lost."""
        self._clear()

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
        query = self._packed_codes(codes)
        if len(query) == 0 or k > len(self):
            raise ValueError(
                f"k: {len(query)} queries and k = {k} of {len(self)} items; give "
                "at least one query and k no larger than the store"
            )
        packed, index = self._ready()
        distances, positions = index.search(packed, query, k)
        worst = FaissScan().search(packed, query, k)[0][:, -1:]
        value = float(((positions >= 0) & (distances <= worst)).mean())
        self.recall = {"value": value, "k": k, "queries": len(query)}
        return value

    def _add(self, packed: Bytes, ids: NDArray[Any], metadata: Columns) -> None:
        super()._add(packed, ids, metadata)
        self.recall = None

    def _remove(self, ids: NDArray[Any]) -> None:
        super()._remove(ids)
        self.recall = None
