"""Exact radius lookup without a scan: multi-index hashing."""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.index.arrays import Rows, StoredArrays, damaged
from pyg_hash.index.scan import Bytes, FaissScan, Hits, ranges

_KEYS = 1 << 16
_CHUNK = 1 << 21  # candidates and keys in hand at a time, at about 40 bytes each
_SCAN_ADVANTAGE = 32  # codes that a scan reads in the time one candidate takes here
_LATE = 8  # codes to one that came after the tables


class MultiIndexHash(FaissScan):
    """One table for every 16 bits of a code, from their value to the items that have it.

    Multi-index hashing (Norouzi, Punjani, Fleet: Fast Search in Hamming Space with Multi-Index
    Hashing, CVPR 2012, Propositions 1 and 2). Two codes that differ in at most
    ``r = m r' + a`` bits, ``a < m``, differ in at most ``r'`` bits of one of the first ``a + 1``
    of ``m`` words, or in at most ``r' - 1`` bits of one of the others.

    FAISS's IndexBinaryMultiHash takes 2.3 times as long for a radius of 2 among a million random
    codes, 3.9 times among grouped ones (``benchmarks/store.py``).

    Kept are item positions sorted by word, int32 ``[m, n]``, and where words begin, ``[m, 65537]``.
    """

    _order, _bounds = Rows(np.empty((0, 0), np.int32)), Rows(np.empty((0, _KEYS + 1), np.int32))
    _n = 0  # codes in the tables
    _path: Any = None  # of the file they are from

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
        tables, self._n, self._path = (packed.shape[1] + 1) // 2, len(packed), arrays.path
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
        with damaged(self._path):  # a file without checksums can say anything
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
        q, d, p = _joined(found)
        once = np.unique(q * n + p, return_index=True)[1]  # found in several tables
        return Hits(q[once], d[once], p[once]), left


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
    wide: NDArray[np.unsignedinteger] = packed.view(f"u{width}")
    return wide


def _popcount(words: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """Number of ones in each row."""
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
