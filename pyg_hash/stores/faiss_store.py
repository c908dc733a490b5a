"""The embedded store: one file, mapped into memory, searched by FAISS in one of four ways."""

from __future__ import annotations

import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from pyg_hash.index.arrays import StoredArrays, damaged, read_arrays, write_arrays
from pyg_hash.index.base import Bytes, Columns
from pyg_hash.index.memory import InMemory
from pyg_hash.index.rescore import Relaxed
from pyg_hash.index.scan import FaissScan
from pyg_hash.stores.base import CodeStore
from pyg_hash.stores.multi_index import MultiIndexHash
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.files import BusyError, Lock, check_writable


class Index:
    """Settings of a way to look codes up."""

    def searcher(self) -> FaissScan:
        """Something that searches so."""
        return FaissScan()

    def settings(self) -> dict[str, Any]:
        """Name and arguments, as JSON values."""
        return {"kind": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Flat(Index):
    """Compare with all codes: exact."""


@dataclass(frozen=True)
class MultiIndex(Index):
    """As :class:`Flat`, and small radii are looked up in hash tables: exact, without a scan.

    The tables take ``4 * ceil(num_bits / 16)`` bytes an item and are built again after a change.
    """

    def searcher(self) -> FaissScan:
        """A scan with tables."""
        return MultiIndexHash()


class FaissIndex(Index, ABC):
    """Settings of an approximate index of FAISS: positive integers."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():  # type: ignore[call-overload]
            if (name, value) != ("nlist", None):
                check_positive_int(value, name)

    def searcher(self) -> FaissScan:
        """An index, made when first needed."""
        return _Approximate(self)

    @abstractmethod
    def make(self, packed: Bytes) -> Any:
        """An index without codes, trained on ``packed``."""


@dataclass(frozen=True)
class IVF(FaissIndex):
    """Codes in ``nlist`` groups, of which the ``nprobe`` nearest are searched: approximate.

    Args:
        nlist: groups; None takes ``4 sqrt(n)``, as far as there are 39 codes to each.
        nprobe: groups that a query looks into.

    Raises:
        TypeError, ValueError: not positive integers.
    """

    nlist: int | None = None
    nprobe: int = 16

    def make(self, packed: Bytes) -> Any:
        """A trained index without codes; ``ValueError`` for fewer codes than ``nlist``."""
        faiss = _faiss.load()
        nlist = self.nlist or max(1, min(int(4 * len(packed) ** 0.5), len(packed) // 39))
        if nlist > len(packed):
            raise ValueError(f"nlist: {nlist} groups of {len(packed)} codes; use fewer")
        bits = 8 * packed.shape[1]
        coarse = faiss.IndexBinaryFlat(bits)
        index = faiss.IndexBinaryIVF(coarse, bits, nlist)
        coarse.this.disown()  # the index frees it
        index.own_fields = True
        index.cp.min_points_per_centroid = 1  # few are what the user asked for
        index.nprobe = self.nprobe
        index.train(packed)
        return index


@dataclass(frozen=True)
class HNSW(FaissIndex):
    """A graph of near codes, walked towards the query: approximate.

    Args:
        m: neighbours of a code in the graph.
        ef_construction: candidates held while the graph is built.
        ef_search: candidates held while it is searched.

    Raises:
        TypeError, ValueError: not positive integers.
    """

    m: int = 32
    ef_construction: int = 40
    ef_search: int = 64

    def make(self, packed: Bytes) -> Any:
        """An index without codes."""
        index = _faiss.load().IndexBinaryHNSW(8 * packed.shape[1], self.m)
        index.hnsw.efConstruction, index.hnsw.efSearch = self.ef_construction, self.ef_search
        return index


class _Approximate(FaissScan):
    """``search`` through an index of FAISS, radius lookups exact by a scan."""

    def __init__(self, kind: FaissIndex) -> None:
        super().__init__()
        self._kind = kind
        self._index: Any = None

    def update(self, packed: Bytes) -> None:
        if self._index is None:
            self._index = self._kind.make(packed)
        if self._index.ntotal < len(packed):
            self._index.add(np.ascontiguousarray(packed[self._index.ntotal :]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """FAISS's own form of it, and a checksum, because FAISS does not check what it reads."""
        data = self._faiss.serialize_index_binary(self._index)
        return {"index": data, "index_crc": np.array([zlib.crc32(data.data)])}

    def restore(self, arrays: StoredArrays, packed: Bytes) -> None:
        arrays.check("index", "index_crc")
        data = np.array(arrays["index"])
        if zlib.crc32(data.data) != int(arrays["index_crc"][0]):
            raise ValueError("the index has a wrong checksum")
        index = self._faiss.deserialize_index_binary(data)
        if index.ntotal != len(packed) or index.code_size != packed.shape[1]:
            raise ValueError("the index does not fit the codes")
        self._index = index

    def search(self, packed: Bytes, query: Bytes, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        distances, positions = self._index.search(query, k)
        return distances, positions

    def shortlist(
        self, packed: Bytes, query: Bytes, count: int
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """What the index finds, without a scan for what is tied with the last one."""
        for found in zip(*self.search(packed, query, min(count, len(packed))), strict=True):
            distances, positions = (column[found[1] >= 0] for column in found)
            order = positions.argsort()
            yield distances[order], positions[order]


KINDS: dict[str, type[Index]] = {kind.__name__: kind for kind in (Flat, MultiIndex, IVF, HNSW)}


class FaissStore(InMemory, CodeStore):
    """Codes in one file on disk, searched in place by FAISS.

    Changes are in memory until :meth:`save`, which replaces the file in one step: whatever
    happens meanwhile, the file is the old one or the new one. Any number of processes may read
    the file while one writes it; each goes on with the content that it opened. One at a time may
    change it, from the first change to :meth:`save` or :meth:`close`: others get a
    :class:`BusyError <pyg_hash.utils.files.BusyError>` that names the process.
    Threads may search one store at the same time, but not change it meanwhile.

    Equal distances are ordered by when an item was added, with ``Flat`` and ``MultiIndex``.

    Example:
        >>> store = FaissStore.create("codes.store", num_bits=64, index=MultiIndex())
        >>> store.add(codes, ids)
        >>> store.save()
        >>> distances, ids = FaissStore.open("codes.store").search(query, k=10)
    """

    def __init__(self, path: Path, num_bits: int, id_type: type[Any], index: Index) -> None:
        super().__init__(num_bits, id_type, index.searcher)
        self.path, self.index = path, index
        self.recall: dict[str, float] | None = None
        self._opened = _state(path)
        self._changing: Lock | None = None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        num_bits: int,
        *,
        ids: type[int] | type[str] = int,
        index: Index | None = None,
        model: str | None = None,
    ) -> Self:
        """A new, empty store; the file appears with :meth:`save`.

        Args:
            path: the file to be.
            num_bits: bits of a code.
            ids: ``int`` or ``str``.
            index: ``Flat()`` (default), ``MultiIndex()``, ``IVF(...)`` or ``HNSW(...)``.
            model: ``model.digest()`` of the model whose codes it will hold, if known.

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
        store.model = model
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
        state = _state(Path(path))
        arrays, metadata = read_arrays(path, "FaissStore", mapped=mapped)
        with damaged(path):
            id_type = {"int": int, "str": str}[metadata["ids"]]
            settings = dict(metadata["index"])
            index = KINDS[settings.pop("kind")](**settings)
            store = cls(Path(path), metadata["num_bits"], id_type, index)
            store._restore(arrays)
            store._opened = state
            store.recall = metadata["recall"]
            store.model = metadata.get("model")
        return store

    def save(self) -> None:
        """Write the file, atomically; after an ``OSError`` the old one is still there."""
        metadata = {
            "num_bits": self.num_bits,
            "ids": self.id_type.__name__,
            "index": self.index.settings(),
            "recall": self.recall,
            "model": self.model,
        }
        self._take_lock()
        write_arrays(self.path, "FaissStore", self._arrays(), metadata)
        self._opened = _state(self.path)
        self._let_go()

    def close(self) -> None:
        """Let go of the file; what was not saved is lost."""
        self._clear()
        self._let_go()

    def _take_lock(self) -> None:
        if self._changing is None:
            path = Path(os.path.realpath(self.path))
            self._changing = Lock(path.with_name(f".{path.name}.lock"), f"store: {self.path}")
            if _state(self.path) != self._opened:
                self._let_go()
                raise BusyError(
                    f"store: {self.path} was changed by another process since it was opened here; "
                    "open it again"
                )

    def _let_go(self) -> None:
        if self._changing is not None:
            self._changing.release()
        self._changing = None

    def items(self, batch_size: int = 1 << 16) -> Iterator[tuple[Bytes, NDArray[Any]]]:
        """All items in the order they were added."""
        self._stored.check("codes")
        packed = self._packed.joined()
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

    def _add(
        self, packed: Bytes, ids: NDArray[Any], metadata: Columns, relaxed: Relaxed | None
    ) -> None:
        self._take_lock()
        super()._add(packed, ids, metadata, relaxed)
        self.recall = None

    def _remove(self, ids: NDArray[Any]) -> None:
        self._take_lock()
        super()._remove(ids)
        self.recall = None


def _state(path: Path) -> tuple[int, int, int] | None:
    """Tells one content of a file from another; None: there is no file."""
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return None
    return now.st_ino, now.st_size, now.st_mtime_ns
