"""The only file that imports FAISS."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor


def is_installed() -> bool:
    """Whether ``import faiss`` would find something, without importing it."""
    return importlib.util.find_spec("faiss") is not None


def load() -> Any:
    """Import FAISS.

    Raises:
        ImportError: it is not installed; the message names the extras that bring it.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "FAISS is not installed: pip install 'pyg_hash[cpu]', or 'pyg_hash[gpu]' on a "
            "machine with CUDA (never both: they share one import name)"
        ) from error
    return faiss


class FaissEngine:
    """``IndexBinaryFlat`` as a :class:`pyg_hash.index._binary.BinaryEngine`."""

    def __init__(self, num_bytes: int) -> None:
        self._faiss = load()
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
