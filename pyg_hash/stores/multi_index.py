"""Exact radius lookup without a scan: multi-index hashing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_KEYS = 1 << 16
_CHUNK = 1 << 21  # candidates and keys in hand at a time, at about 40 bytes each
_SCAN_ADVANTAGE = 32  # codes that a scan reads in the time one candidate takes here

Bytes = NDArray[np.uint8]
Matches = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""``(query, distance, position)``, one entry a match."""


class MultiIndexHash:
    """One table for every 16 bits of a code, from their value to the items that have it.

    Multi-index hashing (Norouzi, Punjani, Fleet: Fast Search in Hamming Space with Multi-Index
    Hashing, CVPR 2012, Propositions 1 and 2). Two codes that differ in at most
    ``r = m r' + a`` bits, ``a < m``, differ in at most ``r'`` bits of one of the first ``a + 1``
    of ``m`` words, or in at most ``r' - 1`` bits of one of the others. Looking up all words
    that are so close to the query's finds every match; comparing whole codes leaves only matches.

    Args:
        order: item positions sorted by their word, int32 ``[m, n]``.
        bounds: where in ``order`` each of the 65,536 words begins, int32 ``[m, 65537]``.
    """

    def __init__(self, order: NDArray[np.int32], bounds: NDArray[np.int32]) -> None:
        self.order, self.bounds = order, bounds

    @classmethod
    def build(cls, packed: Bytes) -> MultiIndexHash:
        """Index packed codes, uint8 ``[n, bytes]``.

        Raises:
            ValueError: 2^31 codes or more.
        """
        n = len(packed)
        if n >= 2**31:
            raise ValueError(f"codes: {n} are too many for one multi-index table; split them")
        words = _words(packed)
        order = np.empty((words.shape[1], n), np.int32)
        bounds = np.zeros((words.shape[1], _KEYS + 1), np.int32)
        for table in range(words.shape[1]):
            word = np.ascontiguousarray(words[:, table])
            order[table] = np.argsort(word, kind="stable")  # a radix sort
            np.cumsum(np.bincount(word, minlength=_KEYS), out=bounds[table, 1:])
        return cls(order, bounds)

    def plan(self, query: Bytes, radius: int) -> tuple[list[int], NDArray[np.int64]]:
        """How far to look in each table, and what that costs for each query.

        Returns:
            Radius of each table (-1: not needed), and candidates plus keys ``[q]``.
        """
        m = len(self.order)
        whole, rest = divmod(radius, m)
        radii = [min(whole - (table > rest), 16) for table in range(m)]
        words = _words(query)
        cost = np.zeros(len(query), np.int64)
        for table, reach in enumerate(radii):
            if reach >= 0:
                start, end = self._ranges(words[:, table], table, reach)
                cost += (end - start).sum(axis=1) + start.shape[1]
        return radii, cost

    def _ranges(
        self, words: NDArray[np.uint16], table: int, reach: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """First and last place in ``order`` of each word within ``reach``, ``[q, words]``."""
        keys = (words[:, None] ^ _masks(reach)).astype(np.int32)
        bounds = self.bounds[table]
        return bounds[keys], bounds[keys + 1]

    def search(self, packed: Bytes, query: Bytes, radius: int) -> tuple[Matches, NDArray[np.bool_]]:
        """Items within a radius, of all queries for which a scan would not be faster.

        Args:
            packed: the codes that were indexed, uint8 ``[n, bytes]``.
            query: uint8 ``[q, bytes]``.
            radius: 0 or more; the border counts.

        Returns:
            The matches, in no order, and which queries are left for a scan, bool ``[q]``.
        """
        left = np.zeros(len(query), bool)
        found: list[Matches] = [(np.empty(0, np.int64),) * 3]
        database, wanted = _wide(packed), _wide(query)
        for chunk in _chunks(len(query), self._keys(radius)):
            radii, cost = self.plan(query[chunk], radius)
            left[chunk] = cost * _SCAN_ADVANTAGE > len(packed) + _KEYS
            rows = np.arange(len(query))[chunk][~left[chunk]]
            for part in _by_cost(rows, cost[~left[chunk]]):
                found.append(self._matches(database, wanted, query, part, radii, radius))
        q, d, p = (np.concatenate(column) for column in zip(*found, strict=True))
        return (q, d, p), left

    def _keys(self, radius: int) -> int:
        """Words looked up for one query."""
        whole = radius // len(self.order)
        return len(self.order) * len(_masks(min(whole, 16)))

    def _matches(
        self,
        database: NDArray[np.unsignedinteger],
        wanted: NDArray[np.unsignedinteger],
        query: Bytes,
        rows: NDArray[np.int64],
        radii: list[int],
        radius: int,
    ) -> Matches:
        words = _words(query[rows])
        parts = []
        for table, reach in enumerate(radii):
            if reach < 0:
                continue
            start, end = self._ranges(words[:, table], table, reach)
            counts = (end - start).astype(np.int64).ravel()
            first = np.cumsum(counts) - counts
            place = np.arange(counts.sum()) + np.repeat(start.ravel() - first, counts)
            position = self.order[table][place].astype(np.int64)
            row = np.repeat(rows, counts.reshape(start.shape).sum(axis=1))
            distance = _popcount(database[position] ^ wanted[row])
            near = distance <= radius
            parts.append((row[near], distance[near], position[near]))
        row, distance, position = (np.concatenate(column) for column in zip(*parts, strict=True))
        once = np.unique(row * len(database) + position, return_index=True)[1]
        return row[once], distance[once], position[once]


def _chunks(n: int, keys: int) -> Iterator[slice]:
    step = max(1, _CHUNK // keys)
    return (slice(start, start + step) for start in range(0, n, step))


def _by_cost(rows: NDArray[np.int64], cost: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows in groups of about ``_CHUNK`` candidates."""
    if len(rows):
        groups = np.cumsum(cost) // _CHUNK
        yield from np.split(rows, groups.searchsorted(np.unique(groups)[1:]))


def _words(packed: Bytes) -> NDArray[np.uint16]:
    """Codes as 16-bit words ``[n, ceil(bytes / 2)]``; an odd byte is a word of its own."""
    even = np.zeros((len(packed), (packed.shape[1] + 1) // 2 * 2), np.uint8)
    even[:, : packed.shape[1]] = packed
    return even.view("<u2").astype(np.uint16, copy=False)


def _wide(packed: Bytes) -> NDArray[np.unsignedinteger]:
    """Codes in the widest integers that fit, ``[n, parts]``."""
    width = next(w for w in (8, 4, 2, 1) if packed.shape[1] % w == 0)
    wide: NDArray[np.unsignedinteger] = np.ascontiguousarray(packed).view(f"u{width}")
    return wide


@lru_cache(maxsize=1)
def _bits_of_words() -> NDArray[np.uint8]:
    """Number of ones of every 16-bit word."""
    words = np.arange(_KEYS, dtype=">u2").view(np.uint8).reshape(-1, 2)
    ones: NDArray[np.uint8] = np.unpackbits(words, axis=1).sum(axis=1, dtype=np.uint8)
    return ones


@lru_cache(maxsize=17)
def _masks(reach: int) -> NDArray[np.uint16]:
    """All words with at most ``reach`` ones."""
    return np.flatnonzero(_bits_of_words() <= reach).astype(np.uint16)


def _popcount(words: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """Number of ones in each row."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        ones = np.bitwise_count(words)
    else:
        halves = words.view(np.uint8).reshape(len(words), -1)
        ones = _bits_of_words()[halves]
    total: NDArray[np.int64] = ones.sum(axis=1, dtype=np.int64)
    return total
