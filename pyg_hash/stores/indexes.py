"""How a :class:`~pyg_hash.stores.FaissStore` looks its codes up."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.index.scan import Arrays, Bytes, FaissScan
from pyg_hash.stores.multi_index import MultiIndexHash
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.checks import check_positive_int


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
        """A trained index without codes.

        Raises:
            ValueError: fewer codes than ``nlist``.
        """
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

    def restore(self, arrays: Arrays, packed: Bytes) -> None:
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


KINDS: dict[str, type[Index]] = {kind.__name__: kind for kind in (Flat, MultiIndex, IVF, HNSW)}


def from_settings(settings: Mapping[str, Any]) -> Index:
    """Undo :meth:`Index.settings`; ``KeyError``, ``TypeError`` or ``ValueError`` if it cannot."""
    return KINDS[settings["kind"]](**{k: v for k, v in settings.items() if k != "kind"})
