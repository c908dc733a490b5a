"""The only file that imports FAISS."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import torch
from torch import Tensor

from pyg_hash.search import _torch

_GPU_MAX_K = 2048  # limit of FAISS's GPU indexes


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


def candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> Tensor:
    """The ``k`` best database rows of each query and a few more, by FAISS's ``IndexFlat``.

    FAISS leaves open which of several equally good rows it returns. Queries whose ``k``-th
    place is not clearly better than the last place fetched are answered by the torch backend.

    Args, Returns: as :func:`pyg_hash.search._torch.candidates`; tensors on a GPU are copied to
    the host, and FAISS puts them on its own GPU when it was built for one.
    """
    faiss = load()
    n, d = database.shape
    fetch = min(n, k + _torch.MARGIN)
    index = faiss.IndexFlatL2(d) if l2 else faiss.IndexFlatIP(d)
    if fetch <= _GPU_MAX_K and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    index.add(database.cpu().numpy())
    values, ids = index.search(query.cpu().numpy(), fetch)
    scores = torch.from_numpy(values).to(query.device)
    found = torch.from_numpy(ids).to(query.device)
    if fetch == n:
        return found

    gap = (scores[:, k - 1] - scores[:, fetch - 1]).abs()
    size_q, size_d = query.norm(dim=1), database.norm(dim=1).max()
    scale = (size_q + size_d).square() if l2 else size_q * size_d
    rounding = torch.finfo(torch.float32).eps * math.sqrt(d)
    unclear = (gap <= rounding * scale).nonzero().squeeze(1)
    if unclear.numel():
        found[unclear] = _torch.candidates(query[unclear], database, k, l2)
    return found


class FaissEngine:
    """``IndexBinaryFlat`` as a :class:`pyg_hash.search._binary.BinaryEngine`."""

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
