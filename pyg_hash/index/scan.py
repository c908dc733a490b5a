"""Exact Hamming search through uint8 codes ``[n, bytes]``; a radius includes its border."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.index.arrays import StoredArrays
from pyg_hash.utils import faiss

_TILE_QUERIES = 256
_TILE_DATABASE = 8192

Bytes = NDArray[np.uint8]


class Hits(NamedTuple):
    """Matches of queries, one an entry: rows of the queries, distances, and what is so far.

    ``names`` are places among the codes of a scan; those of a store are ids, or rows.
    """

    query: NDArray[Any]
    distances: NDArray[Any]
    names: NDArray[Any]


NOTHING = Hits(*(np.empty(0, np.int64) for _ in range(3)))


def ranges(start: NDArray[np.int64], counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """All numbers ``start[i] .. start[i] + counts[i] - 1``, one range after the other."""
    ends = np.cumsum(counts, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    places: NDArray[np.int64] = np.arange(total) + np.repeat(start - (ends - counts), counts)
    return places


class Scan:
    """Search by float32 matrix products of ±1, in tiles of both sides."""

    def update(self, packed: Bytes) -> None:
        """Take notice of codes, the first of which it knows already."""

    def reordered(self, packed: Bytes, rows: NDArray[Any]) -> None:
        """Take notice that of these codes some rows alone are left, in this order."""

    def arrays(self, packed: Bytes) -> dict[str, NDArray[Any]]:
        """What goes into a file beside the codes."""
        return {}

    def restore(self, arrays: StoredArrays, packed: Bytes) -> None:
        """Undo :meth:`arrays`; ``KeyError`` or ``ValueError`` if they do not fit."""

    def search(self, packed: Bytes, query: Bytes, k: int) -> Hits:
        """The ``k <= n`` nearest of each query, by query, then distance, then place."""
        if k == 0:
            return NOTHING
        n, best = len(packed), dict[int, Tensor]()
        for top, start, distance in _tiles(packed, query):
            key = distance * n + torch.arange(start, start + distance.size(1))
            key = torch.cat([best.get(top, key[:, :0]), key], dim=1)
            best[top] = key.topk(min(k, key.size(1)), dim=1, largest=False).values
        keys = torch.cat(list(best.values())).numpy().reshape(-1)
        return Hits(np.repeat(np.arange(len(query)), k), keys // n, keys % n)

    def range_search(self, packed: Bytes, query: Bytes, radius: int) -> Hits:
        """All within the radius, in any order."""
        parts = [tuple(map(torch.from_numpy, NOTHING))]
        for top, start, distance in _tiles(packed, query):
            row, column = (distance <= radius).nonzero(as_tuple=True)
            parts.append((row + top, distance[row, column], column + start))
        return Hits(*(torch.cat(column).numpy() for column in zip(*parts, strict=True)))


class FaissScan(Scan):
    """Search by FAISS, which raises ``ImportError`` at once if it is not installed."""

    def __init__(self) -> None:
        self._faiss = faiss.load()

    def search(self, packed: Bytes, query: Bytes, k: int) -> Hits:
        """As :meth:`Scan.search`: FAISS's heaps order equal distances by place too."""
        if k == 0:
            return NOTHING
        distances, places = self._faiss.knn_hamming(query, packed, k)
        return Hits(np.repeat(np.arange(len(query)), k), distances.reshape(-1), places.reshape(-1))

    def range_search(self, packed: Bytes, query: Bytes, radius: int) -> Hits:
        """As :meth:`Scan.range_search`."""
        pointer, array = self._faiss.swig_ptr, self._faiss.rev_swig_ptr
        found = self._faiss.RangeSearchResult(len(query))
        sizes = len(query), len(packed), radius + 1, packed.shape[1]  # it means distance < radius
        self._faiss.hamming_range_search(pointer(query), pointer(packed), *sizes, found)
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
