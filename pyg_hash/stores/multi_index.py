"""Exact radius lookup without a scan: multi-index hashing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEYS = 1 << 16
_CHUNK = 1 << 21  # candidates and keys in hand at a time, at about 40 bytes each
_SCAN_ADVANTAGE = 32  # codes that a scan reads in the time one candidate takes here
_FEW = 32  # words to look up for which arrays of them cost more than they save

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
        packed: the codes, uint8 ``[n, bytes]``.
        order: item positions sorted by their word, int32 ``[m, n]``.
        bounds: where in ``order`` each of the 65,536 words begins, int32 ``[m, 65537]``.
    """

    def __init__(self, packed: Bytes, order: NDArray[np.int32], bounds: NDArray[np.int32]) -> None:
        self.codes = _wide(packed)
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
        return cls(packed, order, bounds)

    def __len__(self) -> int:
        return len(self.codes)

    def search(self, query: Bytes, radius: int) -> tuple[Matches, NDArray[np.bool_]]:
        """Items within a radius, of all queries for which a scan would not be faster.

        Args:
            query: uint8 ``[q, bytes]``.
            radius: 0 or more; the border counts.

        Returns:
            The matches, in no order, and which queries are left for a scan, bool ``[q]``.
        """
        masks = _differences(radius, len(self.order))
        if len(query) * sum(map(len, masks)) <= _FEW:
            return self._search_few(query, radius)
        table = np.repeat(np.arange(len(masks)), [len(mask) for mask in masks])
        mask = np.concatenate(masks)
        asked, words = query.view(self.codes.dtype), _words(query)
        left = np.zeros(len(query), bool)
        found: list[Matches] = []
        step = max(1, _CHUNK // len(mask))
        for first in range(0, len(query), step):
            rows = np.arange(first, min(first + step, len(query)))
            key = (words[rows][:, table] ^ mask) + table * (_KEYS + 1)
            start = self.bounds.reshape(-1)[key]
            counts = self.bounds.reshape(-1)[key + 1] - start
            start = start + table * len(self)  # places in all tables, one after the other
            cost = counts.sum(axis=1, dtype=np.int64) + len(mask)
            few = cost * _SCAN_ADVANTAGE <= len(self) + _KEYS
            left[rows] = ~few
            for part in _groups(few.nonzero()[0], cost):
                position = self.order.reshape(-1)[_places(start[part], counts[part])]
                row = np.repeat(rows[part], counts[part].sum(axis=1))
                distance = _popcount(self.codes[position] ^ asked[row])
                near = distance <= radius
                found.append((row[near], distance[near], position[near].astype(np.int64)))
        q, d, p = _joined(found)
        once = np.unique(q * len(self) + p, return_index=True)[1]  # found in several tables
        return (q[once], d[once], p[once]), left

    def _search_few(self, query: Bytes, radius: int) -> tuple[Matches, NDArray[np.bool_]]:
        """:meth:`search` word by word: a lone query takes a quarter of the time."""
        bounds: Any = memoryview(self.bounds)  # type: ignore[arg-type]
        flips, asked = _flips(radius, len(self.order)), query.view(self.codes.dtype)
        left = np.zeros(len(query), bool)
        found: list[Matches] = []
        for row, words in enumerate(_words(query).tolist()):
            parts = []
            for table, some in enumerate(flips):
                for key in some:
                    key ^= words[table]
                    parts.append(self.order[table, bounds[table, key] : bounds[table, key + 1]])
            if (sum(map(len, parts)) + len(parts)) * _SCAN_ADVANTAGE > len(self) + _KEYS:
                left[row] = True
                continue
            position = np.concatenate(parts)
            distance = _popcount(self.codes.take(position, axis=0) ^ asked[row])
            near = (distance <= radius).nonzero()[0]
            position, distance = position[near], distance[near]
            if len(near) > 1:  # found in several tables
                once = list(dict(zip(position.tolist(), range(len(near)), strict=True)).values())
                position, distance = position[once], distance[once]
            of = np.empty(len(position), np.int64)
            of[:] = row
            found.append((of, distance, position.astype(np.int64)))
        return _joined(found), left


def _joined(found: list[Matches]) -> Matches:
    if len(found) == 1:
        return found[0]
    if not found:
        return (np.empty(0, np.int64),) * 3
    q, d, p = (np.concatenate(column) for column in zip(*found, strict=True))
    return q, d, p


def reaches(radius: int, tables: int) -> list[int]:
    """How many bits of each table's word may differ; -1: the table is not needed."""
    whole, rest = divmod(radius, tables)
    return [min(whole - (table > rest), 16) for table in range(tables)]


@lru_cache(maxsize=64)
def _differences(radius: int, tables: int) -> list[NDArray[np.uint16]]:
    """For each table, all differences from the query's word that are to be looked up."""
    return [_masks(reach) for reach in reaches(radius, tables)]


@lru_cache(maxsize=8)
def _flips(radius: int, tables: int) -> list[list[int]]:
    """The same as plain numbers."""
    return [mask.tolist() for mask in _differences(radius, tables)]


def _groups(rows: NDArray[np.int64], cost: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows in groups of about ``_CHUNK`` candidates."""
    ends = np.cumsum(cost[rows]) // _CHUNK
    start = 0
    while start < len(rows):
        end = int(np.searchsorted(ends, ends[start], "right"))
        yield rows[start:end]
        start = end


def _places(start: NDArray[np.int64], counts: NDArray[np.int32]) -> NDArray[np.int64]:
    """All numbers ``start[i] .. start[i] + counts[i] - 1``, one range after the other."""
    counts = counts.reshape(-1)
    shift = start.reshape(-1) - (np.cumsum(counts, dtype=np.int64) - counts)
    places: NDArray[np.int64] = np.arange(counts.sum(dtype=np.int64)) + np.repeat(shift, counts)
    return places


def _words(packed: Bytes) -> NDArray[np.uint16]:
    """Codes as 16-bit words ``[n, ceil(bytes / 2)]``; an odd byte is a word of its own."""
    even = packed
    if packed.shape[1] % 2:
        even = np.zeros((len(packed), packed.shape[1] + 1), np.uint8)
        even[:, :-1] = packed
    return np.ascontiguousarray(even).view("<u2").astype(np.uint16, copy=False)


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


@lru_cache(maxsize=18)
def _masks(reach: int) -> NDArray[np.uint16]:
    """All words with at most ``reach`` ones; none if it is -1."""
    return np.flatnonzero(_bits_of_words().astype(int) <= reach).astype(np.uint16)


def _popcount(words: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """Number of ones in each row."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        ones = np.bitwise_count(words)
    else:
        ones = _bits_of_words()[words.view(np.uint8)]
    one = ones.shape[1] == 1  # a column is cheaper than a sum
    total: NDArray[np.int64] = ones[:, 0].astype(np.int64) if one else ones.sum(1, np.int64)
    return total
