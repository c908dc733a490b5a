"""How a :class:`~pyg_hash.stores.FaissStore` looks its codes up."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.stores.multi_index import Bytes, Matches, MultiIndexHash
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.checks import check_positive_int

Arrays = Mapping[str, NDArray[Any]]


class Scan:
    """Exact search through all codes, by FAISS, wherever the codes lie: no copy is made.

    The base of the others, which replace one of the two searches.
    """

    def update(self, packed: Bytes) -> None:
        """Take notice of codes, the first of which it knows already."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What goes into a file beside the codes."""
        return {}

    def restore(self, arrays: Arrays, packed: Bytes) -> None:
        """Undo :meth:`arrays`; ``KeyError`` or ``ValueError`` if they do not fit."""

    def search(self, packed: Bytes, query: Bytes, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """``(distances, positions)`` ``[q, k]``, by distance, then position; ``k <= n``."""
        return scan(packed, query, k)

    def range_search(self, packed: Bytes, query: Bytes, radius: int) -> Matches:
        """All items within the radius, its border included, in any order."""
        faiss = _faiss.load()
        found = faiss.RangeSearchResult(len(query))
        faiss.hamming_range_search(
            faiss.swig_ptr(query),
            faiss.swig_ptr(packed),
            len(query),
            len(packed),
            radius + 1,  # FAISS means distance < radius
            packed.shape[1],
            found,
        )
        limits = faiss.rev_swig_ptr(found.lims, len(query) + 1).astype(np.int64)
        total = int(limits[-1])
        distances = faiss.rev_swig_ptr(found.distances, total).astype(np.int64)
        positions = faiss.rev_swig_ptr(found.labels, total).astype(np.int64)
        return np.repeat(np.arange(len(query)), np.diff(limits)), distances, positions


def scan(packed: Bytes, query: Bytes, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The ``k`` nearest codes of each query, exact."""
    distances, positions = _faiss.load().knn_hamming(query, packed, k)
    return distances, positions


class MultiIndexSearch(Scan):
    """Radius lookups in hash tables, made when first needed after a change."""

    def __init__(self) -> None:
        self._tables: MultiIndexHash | None = None

    def update(self, packed: Bytes) -> None:
        """Build the tables, unless they are of so many codes."""
        if self._tables is None or len(self._tables) != len(packed):
            self._tables = MultiIndexHash.build(packed)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tables."""
        assert self._tables is not None
        return {"mih_order": self._tables.order, "mih_bounds": self._tables.bounds}

    def restore(self, arrays: Arrays, packed: Bytes) -> None:
        """Take the tables as they are, mapped or not."""
        order, bounds = arrays["mih_order"], arrays["mih_bounds"]
        tables = (packed.shape[1] + 1) // 2
        if order.shape != (tables, len(packed)) or bounds.shape != (tables, (1 << 16) + 1):
            raise ValueError("the hash tables do not fit the codes")
        self._tables = MultiIndexHash(packed, order, bounds)

    def range_search(self, packed: Bytes, query: Bytes, radius: int) -> Matches:
        """Exact; queries whose buckets hold too much are answered by a scan."""
        assert self._tables is not None
        found, left = self._tables.search(query, radius)
        if not np.count_nonzero(left):
            return found
        rest = super().range_search(packed, np.ascontiguousarray(query[left]), radius)
        rest = (left.nonzero()[0][rest[0]], rest[1], rest[2])
        q, d, p = (np.concatenate(pair) for pair in zip(found, rest, strict=True))
        return q, d, p


class Approximate(Scan):
    """``search`` through an index of FAISS, radius lookups exact by a scan.

    Args:
        index: of what kind, with its settings.
    """

    def __init__(self, index: IVF | HNSW) -> None:
        self._kind = index
        self._faiss_index: Any = None

    def update(self, packed: Bytes) -> None:
        """Add the codes that are new; train first, if it is the first time."""
        if self._faiss_index is None:
            self._faiss_index = self._kind.make(packed)
        if self._faiss_index.ntotal < len(packed):
            self._faiss_index.add(np.ascontiguousarray(packed[self._faiss_index.ntotal :]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """FAISS's own form of it, and a checksum, because FAISS does not check what it reads."""
        data = _faiss.load().serialize_index_binary(self._faiss_index)
        return {"index": data, "index_crc": np.array([zlib.crc32(data.data)])}

    def restore(self, arrays: Arrays, packed: Bytes) -> None:
        """Read it into memory."""
        data = np.array(arrays["index"])
        if zlib.crc32(data.data) != int(arrays["index_crc"][0]):
            raise ValueError("the index has a wrong checksum")
        index = _faiss.load().deserialize_index_binary(data)
        if index.ntotal != len(packed) or index.code_size != packed.shape[1]:
            raise ValueError("the index does not fit the codes")
        self._kind.tune(index)
        self._faiss_index = index

    def search(self, packed: Bytes, query: Bytes, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """As FAISS finds them; position -1 where it found less than ``k``."""
        distances, positions = self._faiss_index.search(query, k)
        return distances, positions


class Index(ABC):
    """Settings of a way to look codes up."""

    @abstractmethod
    def searcher(self) -> Scan:
        """Something that searches so."""

    def settings(self) -> dict[str, Any]:
        """Name and arguments, as JSON values."""
        return {"kind": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Flat(Index):
    """Compare with all codes: exact."""

    def searcher(self) -> Scan:
        """A scan."""
        return Scan()


@dataclass(frozen=True)
class MultiIndex(Index):
    """As :class:`Flat`, and small radii are looked up in hash tables: exact, without a scan.

    The tables take ``4 * ceil(num_bits / 16)`` bytes an item and are built again after a change.
    """

    def searcher(self) -> Scan:
        """A scan with tables."""
        return MultiIndexSearch()


@dataclass(frozen=True)
class IVF(Index):
    """Codes in ``nlist`` groups, of which the ``nprobe`` nearest are searched: approximate.

    Args:
        nlist: groups; None takes ``4 sqrt(n)``, as far as there are 39 codes to each.
        nprobe: groups that a query looks into.

    Raises:
        TypeError, ValueError: not positive integers.
    """

    nlist: int | None = None
    nprobe: int = 16

    def __post_init__(self) -> None:
        if self.nlist is not None:
            check_positive_int(self.nlist, "nlist")
        check_positive_int(self.nprobe, "nprobe")

    def searcher(self) -> Scan:
        """FAISS's IndexBinaryIVF."""
        return Approximate(self)

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
        index.train(packed)
        self.tune(index)
        return index

    def tune(self, index: Any) -> None:
        """Set what decides speed and recall of a search."""
        index.nprobe = self.nprobe


@dataclass(frozen=True)
class HNSW(Index):
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

    def __post_init__(self) -> None:
        for name in ("m", "ef_construction", "ef_search"):
            check_positive_int(getattr(self, name), name)

    def searcher(self) -> Scan:
        """FAISS's IndexBinaryHNSW."""
        return Approximate(self)

    def make(self, packed: Bytes) -> Any:
        """An index without codes."""
        index = _faiss.load().IndexBinaryHNSW(8 * packed.shape[1], self.m)
        index.hnsw.efConstruction = self.ef_construction
        self.tune(index)
        return index

    def tune(self, index: Any) -> None:
        """Set what decides speed and recall of a search."""
        index.hnsw.efSearch = self.ef_search


KINDS: dict[str, type[Index]] = {kind.__name__: kind for kind in (Flat, MultiIndex, IVF, HNSW)}


def from_settings(settings: Mapping[str, Any]) -> Index:
    """Undo :meth:`Index.settings`; ``KeyError``, ``TypeError`` or ``ValueError`` if it cannot."""
    return KINDS[settings["kind"]](**{k: v for k, v in settings.items() if k != "kind"})
