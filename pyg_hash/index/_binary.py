"""Exact Hamming search over packed codes, with FAISS and without."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pyg_hash.codes import unpack_bits
from pyg_hash.utils import faiss

_TILE_QUERIES = 256
_TILE_DATABASE = 8192


class BinaryEngine(Protocol):
    """Packed codes at positions 0, 1, ... and exact search over them.

    Codes are uint8 ``[n, bytes]`` on the CPU, distances int64, positions int64; a radius includes
    its border.
    """

    def add(self, packed: Tensor) -> None:
        """Append codes."""
        ...

    def packed(self) -> Tensor:
        """A copy of all codes."""
        ...

    def search(self, packed: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """``(distances, positions)`` ``[q, k]``, the k smallest by distance, then position."""
        ...

    def range_search(self, packed: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
        """``(query, distances, positions)``, one entry a match, in any order."""
        ...


class TorchEngine:
    """Codes as ±1 in float32 matrix products, in tiles of both sides."""

    def __init__(self, num_bytes: int) -> None:
        self._bits = 8 * num_bytes
        self._packed = torch.empty(0, num_bytes, dtype=torch.uint8)

    def add(self, packed: Tensor) -> None:
        """Append codes."""
        self._packed = torch.cat([self._packed, packed])

    def packed(self) -> Tensor:
        """A copy of all codes."""
        return self._packed.clone()

    def _distances(self, query: Tensor, start: int) -> Tensor:
        tile = unpack_bits(self._packed[start : start + _TILE_DATABASE], self._bits).float()
        return (query @ tile.T).sub_(self._bits).div_(-2).long()

    def search(self, packed: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """``(distances, positions)`` ``[q, k]``, the k smallest by distance, then position."""
        n = self._packed.size(0)
        found = []
        for part in torch.split(packed, _TILE_QUERIES):
            query = unpack_bits(part, self._bits).float()
            best = torch.empty(part.size(0), 0, dtype=torch.int64)
            for start in range(0, n, _TILE_DATABASE):
                distance = self._distances(query, start)
                key = distance * n + torch.arange(start, start + distance.size(1))
                best = torch.cat([best, key], dim=1)
                best = best.topk(min(k, best.size(1)), dim=1, largest=False).values
            found.append(best)
        keys = torch.cat(found)
        return keys // n, keys % n

    def range_search(self, packed: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
        """``(query, distances, positions)``, one entry a match, in any order."""
        empty = torch.empty(0, dtype=torch.int64)
        parts = [(empty, empty, empty)]
        for top in range(0, packed.size(0), _TILE_QUERIES):
            query = unpack_bits(packed[top : top + _TILE_QUERIES], self._bits).float()
            for start in range(0, self._packed.size(0), _TILE_DATABASE):
                distance = self._distances(query, start)
                row, column = (distance <= radius).nonzero(as_tuple=True)
                parts.append((row + top, distance[row, column], column + start))
        rows, distances, positions = zip(*parts, strict=True)
        return torch.cat(rows), torch.cat(distances), torch.cat(positions)


class FaissEngine:
    """``IndexBinaryFlat`` as a :class:`BinaryEngine`."""

    def __init__(self, num_bytes: int) -> None:
        self._faiss = faiss.load()
        self._bytes = num_bytes
        self._index = self._faiss.IndexBinaryFlat(8 * num_bytes)

    def add(self, packed: Tensor) -> None:
        """Append codes."""
        self._index.add(packed.contiguous().numpy())

    def packed(self) -> Tensor:
        """A copy of all codes."""
        flat = self._faiss.vector_to_array(self._index.xb)
        return torch.from_numpy(flat.reshape(-1, self._bytes))

    def search(self, packed: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """``(distances, positions)`` ``[q, k]``, the k smallest by distance, then position.

        FAISS's heaps order equal distances by position, so the k items kept are these too.
        """
        distances, positions = self._index.search(packed.contiguous().numpy(), k)
        return torch.from_numpy(distances).long(), torch.from_numpy(positions)

    def range_search(self, packed: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
        """``(query, distances, positions)``, one entry a match, in any order."""
        # FAISS means distance < radius
        found = self._index.range_search(packed.contiguous().numpy(), radius + 1)
        limits, distances, positions = (torch.from_numpy(x) for x in found)
        limits = limits.long()
        query = torch.arange(packed.size(0)).repeat_interleave(limits.diff())
        return query, distances.long(), positions.long()
