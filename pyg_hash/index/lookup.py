"""Ways to look codes up: by a scan, in hash tables, or in an approximate index of FAISS.

Codes are packed, uint8 ``[n, bytes]``; a radius includes its border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from xxhash import xxh3_64_intdigest

from pyg_hash.index.arrays import Rows, StoredArrays, ranges
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.checks import check_positive_int

_TILE_QUERIES = 256
_TILE_DATABASE = 8192
_KEYS = 1 << 16
_CHUNK = 1 << 21  # candidates and keys in hand at a time, at about 40 bytes each
_SCAN_ADVANTAGE = 32  # codes that a scan reads in the time one candidate takes here
_LATE = 8  # codes to one that came after the tables
_GROWTH = 8  # times the codes that groups were made of

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Flat:
    """Compare with all codes: exact."""


@dataclass(frozen=True)
class MultiIndex:
    """As :class:`Flat`, and small radii are looked up in hash tables: exact, without a scan.

    The tables take ``4 * ceil(num_bits / 16)`` bytes an item and are built again after a change.
    """


class FaissIndex:
    """Settings of an approximate index of FAISS: positive integers."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "nlist" or value is not None:
                check_positive_int(value, name)
                object.__setattr__(self, name, int(value))  # FAISS does not take NumPy's


@dataclass(frozen=True)
class IVF(FaissIndex):
    """Codes in groups, of which the nearest are searched: approximate."""

    #: groups, no more than codes; None: ``4 sqrt(n)``, as far as there are 39 codes to each
    nlist: int | None = None
    nprobe: int = 16  #: groups that a query looks into


@dataclass(frozen=True)
class HNSW(FaissIndex):
    """A graph of near codes, walked towards the query: approximate."""

    m: int = 32  #: neighbours of a code in the graph
    ef_construction: int = 40  #: candidates held while the graph is built
    ef_search: int = 64  #: candidates held while it is searched


Index = Flat | MultiIndex | FaissIndex
KINDS = {kind.__name__: kind for kind in (Flat, MultiIndex, IVF, HNSW)}


class Hits(NamedTuple):
    """Matches of queries, one an entry: rows of the queries, distances, and what is so far."""

    query: NDArray[Any]
    distances: NDArray[Any]
    names: NDArray[Any]  # places among the codes of a scan; those of a store are ids, or rows

    def some(self, which: NDArray[Any]) -> Hits:
        """Some of them, by a mask or in another order."""
        return Hits(*(column[which] for column in self))


NOTHING = Hits(*(np.empty(0, np.int64) for _ in range(3)))


class Scan:
    """Search by float32 matrix products of ±1, in tiles of both sides."""

    def search(self, packed: Bytes, query: Bytes, k: int) -> Hits:
        """The ``k <= n`` nearest of each query, by query, then distance, then place."""
        n, best = len(packed), dict[int, Tensor]()
        for top, start, distance in _tiles(packed, query):
            key = distance * n + torch.arange(start, start + distance.size(1), device="cpu")
            key = torch.cat([best.get(top, key[:, :0]), key], dim=1)
            best[top] = key.topk(min(k, key.size(1)), dim=1, largest=False).values
        keys = torch.cat(list(best.values())).numpy().reshape(-1)
        return Hits(np.repeat(np.arange(len(query)), k), keys // n, keys % n)

    def range_search(self, packed: Bytes, query: Bytes, radius: int) -> Hits:
        """All within the radius, in any order."""
        parts = []
        for top, start, distance in _tiles(packed, query):
            row, column = (distance <= radius).nonzero(as_tuple=True)
            parts.append((row + top, distance[row, column], column + start))
        return Hits(*(torch.cat(column).numpy() for column in zip(*parts, strict=True)))


class FaissScan(Scan):
    """Search by FAISS, which raises ``ImportError`` at once if it is not installed."""

    def __init__(self) -> None:
        _faiss.load()  # no attribute: a module is in no copy

    def search(self, packed: Bytes, query: Bytes, k: int) -> Hits:
        """As :meth:`Scan.search`: FAISS's heaps order equal distances by place too."""
        distances, places = _faiss.load().knn_hamming(query, packed, k)
        return Hits(np.repeat(np.arange(len(query)), k), distances.reshape(-1), places.reshape(-1))

    def range_search(self, packed: Bytes, query: Bytes, radius: int) -> Hits:
        """As :meth:`Scan.range_search`."""
        faiss = _faiss.load()
        pointer, array = faiss.swig_ptr, faiss.rev_swig_ptr
        found = faiss.RangeSearchResult(len(query))
        sizes = len(query), len(packed), radius + 1, packed.shape[1]  # it means distance < radius
        faiss.hamming_range_search(pointer(query), pointer(packed), *sizes, found)
        limits = array(found.lims, len(query) + 1).astype(np.int64)
        total = int(limits[-1])
        distances = array(found.distances, total).astype(np.int64)
        places = array(found.labels, total).astype(np.int64)
        return Hits(np.repeat(np.arange(len(query)), np.diff(limits)), distances, places)


def _tiles(packed: Bytes, query: Bytes) -> Iterator[tuple[int, int, Tensor]]:
    """First query, first code, and int64 distances of each tile."""
    for top in range(0, len(query), _TILE_QUERIES):
        asked = _signs(query[top : top + _TILE_QUERIES])
        for start in range(0, len(packed), _TILE_DATABASE):
            products = asked @ _signs(packed[start : start + _TILE_DATABASE]).T
            yield top, start, products.sub_(asked.size(1)).div_(-2).long()


def _signs(packed: Bytes) -> Tensor:
    return torch.from_numpy(np.unpackbits(packed, axis=1)).float().mul_(2).sub_(1)


class MultiIndexHash(FaissScan):
    """One table for every 16 bits of a code, from their value to the items that have it.

    Multi-index hashing (Norouzi, Punjani, Fleet: Fast Search in Hamming Space with Multi-Index
    Hashing, CVPR 2012, Propositions 1 and 2). Two codes that differ in at most
    ``r = m r' + a`` bits, ``a < m``, differ in at most ``r'`` bits of one of the first ``a + 1``
    of ``m`` words, or in at most ``r' - 1`` bits of one of the others.

    FAISS's IndexBinaryMultiHash takes over twice as long for a radius of 2 among a million codes
    (``benchmarks/store.py``).

    Kept are item positions sorted by word, int32 ``[m, n]``, and where words begin, ``[m, 65537]``.
    """

    _order, _bounds = Rows(np.empty((0, 0), np.int32)), Rows(np.empty((0, _KEYS + 1), np.int32))
    _n = 0  # codes in the tables

    def update(self, packed: Bytes) -> None:
        """Build the tables, unless they are of nearly as many; ``ValueError`` from 2^31 codes."""
        n = len(packed)
        if self._n and n - self._n <= self._n // _LATE:
            return
        if n >= 2**31:
            raise ValueError(f"codes: {n} are too many for one multi-index table; split them")
        words = _words(packed).T
        order = np.empty(words.shape, np.int32)
        bounds = np.zeros((len(words), _KEYS + 1), np.int32)
        for table, word in enumerate(map(np.ascontiguousarray, words)):
            order[table] = np.argsort(word, kind="stable")  # a radix sort
            np.cumsum(np.bincount(word, minlength=_KEYS), out=bounds[table, 1:])
        self._order, self._bounds, self._n = Rows(order), Rows(bounds), n

    def reordered(self, packed: Bytes, rows: NDArray[Any]) -> None:
        """Forget the tables."""
        self._n = 0

    def arrays(self, packed: Bytes) -> dict[str, NDArray[Any]]:
        """The tables, of all codes."""
        if self._n != len(packed):
            self._n = 0
            self.update(packed)
        return {**self._order.arrays("mih_order"), **self._bounds.arrays("mih_bounds")}

    def restore(self, arrays: StoredArrays, packed: Bytes) -> None:
        """Take the tables as they are, mapped or not."""
        tables, self._n = (packed.shape[1] + 1) // 2, len(packed)
        self._order = arrays.rows("mih_order", np.int32, tables, self._n)
        self._bounds = arrays.rows("mih_bounds", np.int32, tables, _KEYS + 1)

    @staticmethod
    def pays(n: int, query: Bytes, radius: int) -> bool:
        """Whether it can be faster than a scan of n codes."""
        reach = reaches(radius, (query.shape[1] + 1) // 2)
        keys = sum(comb(16, ones) for most in reach for ones in range(most + 1))
        return keys * _SCAN_ADVANTAGE <= n + _KEYS

    def range_search(self, packed: Bytes, query: Bytes, radius: int) -> Hits:
        """Exact; queries whose buckets hold too much, and late codes, are left to a scan."""
        packed, late = packed[: self._n], packed[self._n :]
        matches, left = self.lookup(packed, query, radius)
        found = [matches]
        if left.any():
            q, d, p = super().range_search(packed, np.ascontiguousarray(query[left]), radius)
            found.append(Hits(left.nonzero()[0][q], d, p))
        if len(late):
            q, d, p = super().range_search(late, query, radius)
            found.append(Hits(q, d, p + self._n))
        return _joined(found) if len(found) > 1 else matches

    def lookup(self, packed: Bytes, query: Bytes, radius: int) -> tuple[Hits, NDArray[np.bool_]]:
        """Hits of all queries for which a scan would not be faster, and who is left for one."""
        n = len(packed)
        table, mask = _differences(radius, len(self._order))
        order, bounds = self._order.joined().reshape(-1), self._bounds.joined().reshape(-1)
        words, left = _words(query), np.zeros(len(query), bool)
        codes, asked = _wide(packed), _wide(query)
        found: list[Hits] = []
        step = max(1, _CHUNK // len(mask))
        for first in range(0, len(query), step):
            key = table * (_KEYS + 1) + (words[first : first + step, table] ^ mask)
            start = bounds[key]
            counts = bounds[key + 1] - start
            cost = counts.sum(axis=1, dtype=np.int64) + len(mask)
            cheap = cost * _SCAN_ADVANTAGE <= n + _KEYS
            left[first : first + step] = ~cheap
            rows = cheap.nonzero()[0]
            cuts = np.diff(np.cumsum(cost[rows]) // _CHUNK).nonzero()[0] + 1
            for part in np.split(rows, cuts):
                places = ranges((start[part] + table * n).reshape(-1), counts[part].reshape(-1))
                position = order[places]
                row = np.repeat(first + part, counts[part].sum(axis=1))
                distance = _popcount(codes[position] ^ asked[row])
                near = distance <= radius
                found.append(Hits(row[near], distance[near], position[near].astype(np.int64)))
        hits = _joined(found)
        once = np.unique(hits.query * n + hits.names, return_index=True)[1]  # of several tables
        return hits.some(once), left


def _joined(found: list[Hits]) -> Hits:
    return Hits(*(np.concatenate(column) for column in zip(*found, strict=True)))


def reaches(radius: int, tables: int) -> list[int]:
    """How many bits of each table's word may differ; -1: the table is not needed."""
    whole, rest = divmod(radius, tables)
    return [min(whole - (table > rest), 16) for table in range(tables)]


@lru_cache(maxsize=64)
def _differences(radius: int, tables: int) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """All differences from a query's words that are to be looked up, and in which tables."""
    masks = [np.flatnonzero(_ones().astype(int) <= reach) for reach in reaches(radius, tables)]
    table = np.repeat(np.arange(tables), [len(mask) for mask in masks])
    return table, np.concatenate(masks).astype(np.uint16)


def _words(packed: Bytes) -> NDArray[np.uint16]:
    """Codes as 16-bit words ``[n, ceil(bytes / 2)]``; an odd byte is a word of its own."""
    if packed.shape[1] % 2:
        packed = np.pad(packed, ((0, 0), (0, 1)))
    return np.ascontiguousarray(packed).view("<u2").astype(np.uint16, copy=False)


def _wide(packed: Bytes) -> NDArray[np.unsignedinteger]:
    """Codes in the widest integers that fit, ``[n, parts]``."""
    width = next(width for width in (8, 4, 2, 1) if packed.shape[1] % width == 0)
    return packed.view(f"u{width}")


def _popcount(words: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    if hasattr(np, "bitwise_count"):  # numpy 2
        ones = np.bitwise_count(words)
    else:
        ones = _ones()[words.view(np.uint8)]
    one = ones.shape[1] == 1  # a column is cheaper than a sum
    total: NDArray[np.int64] = ones[:, 0].astype(np.int64) if one else ones.sum(1, np.int64)
    return total


@lru_cache(maxsize=1)
def _ones() -> NDArray[np.uint8]:
    """Number of ones of every 16-bit word."""
    words = np.arange(_KEYS, dtype="<u2").view(np.uint8).reshape(-1, 2)
    ones: NDArray[np.uint8] = np.unpackbits(words, axis=1).sum(axis=1, dtype=np.uint8)
    return ones


class Approximate:
    """``nearest`` through an index of FAISS, of different codes; radius lookups by a scan.

    Rows of one code are one entry of the index, so that a crowd of them neither hides others from
    a query nor costs more than one. Groups are made again when there are eight times the codes.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._forget()

    def _forget(self) -> None:
        self._index: Any = None
        self._entry: NDArray[Any] = np.empty(0, np.int32)  # of each row
        self._made = 0  # codes that groups were made of
        self._rows: tuple[NDArray[Any], NDArray[Any]] | None = None  # by entry, and where each ends
        self._known: dict[bytes, int] = {}  # entries of codes

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        if self._index is not None:
            state["_index"] = _faiss.load().serialize_index_binary(self._index)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._index is not None:
            self._index = _faiss.load().deserialize_index_binary(self._index)

    def update(self, packed: Bytes) -> None:
        """Take in codes: new ones as entries, the others as rows of theirs."""
        start = len(self._entry)
        if start == len(packed):
            return
        keys = np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel()
        known = self._known or dict(zip(keys[:start].tolist(), self._entry.tolist(), strict=True))
        count, new = 0 if self._index is None else int(self._index.ntotal), list[int]()
        late = keys[start:].tolist()
        for row, key in enumerate(late, start):
            if known.setdefault(key, count + len(new)) == count + len(new):
                new.append(row)
        if isinstance(self._kind, IVF) and start and count + len(new) >= _GROWTH * self._made:
            self._forget()
            return self.update(packed)
        if self._index is None:
            self._index, self._made = self._trained(packed[new]), len(new)
        if new:  # FAISS 1.13 and older crash when HNSW gets none
            self._index.add(packed[new])
        more = np.array([known[key] for key in late], np.int32)
        self._entry, self._known, self._rows = np.append(self._entry, more), known, None

    def _trained(self, packed: Bytes) -> Any:
        """An index without codes: an empty graph, or groups of these by k-means."""
        kind, width = self._kind, 8 * packed.shape[1]
        if isinstance(kind, HNSW):
            index = _faiss.load().IndexBinaryHNSW(width, kind.m)
            index.hnsw.efConstruction, index.hnsw.efSearch = kind.ef_construction, kind.ef_search
            return index
        nlist = kind.nlist or max(1, min(int(4 * len(packed) ** 0.5), len(packed) // 39))
        nlist = min(nlist, len(packed))  # there may be more codes later, or have been
        index = _faiss.load().index_binary_factory(width, f"BIVF{nlist}")
        index.cp.min_points_per_centroid = 1  # few are what the user asked for
        index.nprobe = kind.nprobe
        index.train(packed)
        return index

    def reordered(self, packed: Bytes, rows: NDArray[Any]) -> None:
        """Entries without rows stay, unless they are many."""
        if self._index is None:
            return
        self.update(packed)
        self._entry, self._rows, self._known = self._entry[rows], None, {}
        if 2 * len(np.unique(self._entry)) < self._index.ntotal:
            self._forget()

    def arrays(self, packed: Bytes) -> dict[str, NDArray[Any]]:
        """FAISS's own form of it, and a checksum, since FAISS does not check what it reads."""
        self.update(packed)
        data = _faiss.load().serialize_index_binary(self._index)
        about = np.array([_sum(data), self._made])
        return {"index": data, "index_entry": self._entry, "index_about": about}

    def restore(self, arrays: StoredArrays, packed: Bytes) -> None:
        """Undo :meth:`arrays`, checked at once, since FAISS reads all of it."""
        for name in ("index", "index_entry", "index_about"):
            arrays.check(name)
        data, (total, made) = np.array(arrays["index"]), arrays["index_about"].tolist()
        if total != _sum(data):
            raise ValueError("the index has a wrong checksum")
        index = _faiss.load().deserialize_index_binary(data)
        entry = arrays["index_entry"]
        fits = len(entry) == len(packed) and index.code_size == packed.shape[1]
        if not fits or not 0 <= entry.min() <= entry.max() < index.ntotal:
            raise ValueError("the index does not fit the codes")
        self._index, self._entry, self._made = index, entry, made

    def nearest(self, query: Bytes, k: int, alive: NDArray[np.bool_] | None) -> Hits:
        """Rows by query, then distance; k at least where the index finds so many."""
        if self._rows is None:
            order = np.argsort(self._entry, kind="stable")
            ends = np.bincount(self._entry, minlength=self._index.ntotal).cumsum()
            self._rows = order, ends
        order, ends = self._rows
        total, asked, pending = len(ends), min(k, len(ends)), np.arange(len(query))
        found = []
        while len(pending):
            far, entries = self._index.search(np.ascontiguousarray(query[pending]), asked)
            there = entries >= 0
            entry, seen = entries[there], there.sum(axis=1)
            start = np.where(entry > 0, ends[entry - 1], 0)
            counts = ends[entry] - start
            rows = order[ranges(start, counts)]
            whose = np.repeat(np.repeat(pending, seen), counts)
            hits = Hits(whose, np.repeat(far[there], counts), rows)
            if alive is not None:
                hits = hits.some(alive[rows])
            # some entries have no row any more
            few = np.bincount(hits.query, minlength=len(query))[pending] < k
            more = pending[few & (seen == asked) & (asked < total)]
            found.append(hits.some(~np.isin(hits.query, more)))
            pending, asked = more, min(4 * asked, total)
        every = _joined(found)
        return every.some(np.lexsort((every.names, every.distances, every.query)))


def _sum(data: NDArray[np.uint8]) -> int:
    """A checksum that an int64 holds."""
    return xxh3_64_intdigest(data.data) >> 1
