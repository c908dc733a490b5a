"""Nearest-neighbour candidates by FAISS."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyg_hash.knn import _faiss, _torch
from pyg_hash.knn._blocks import MARGIN

_GPU_MAX_K = 2048  # limit of FAISS's GPU indexes


def has_gpu() -> bool:
    """Whether FAISS is built for GPUs and finds one."""
    if not _faiss.is_installed():
        return False
    faiss = _faiss.load()
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def flat_index(database: Tensor, l2: bool) -> Any:
    """An ``IndexFlat`` of the rows.

    Args:
        database: float32 ``[n, d]`` on the CPU.
        l2: by L2 distance instead of inner product.
    """
    faiss = _faiss.load()
    d = database.size(1)
    index = faiss.IndexFlatL2(d) if l2 else faiss.IndexFlatIP(d)
    index.add(database.numpy())
    return index


def candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> tuple[Tensor, None]:
    """The ``k`` best database rows of each query and a few more, by FAISS's ``IndexFlat``.

    FAISS leaves open which of several equally good rows it returns. Queries whose ``k``-th
    place is not clearly better than the last place fetched are answered by the torch backend.

    Args, Returns: as :func:`pyg_hash.knn._torch.candidates`; tensors on a GPU are copied to
    the host, and FAISS puts them on its own GPU when it was built for one.
    """
    n = database.size(0)
    fetch = min(n, k + MARGIN)
    index = flat_index(database.cpu(), l2)
    if fetch <= _GPU_MAX_K and has_gpu():
        faiss = _faiss.load()
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    values, ids = index.search(query.cpu().numpy(), fetch)
    scores = torch.from_numpy(values).to(query.device)
    found = torch.from_numpy(ids).to(query.device)
    if fetch == n:
        return found, None
    gap = (scores[:, k - 1] - scores[:, fetch - 1]).abs()
    size_q, size_d = query.norm(dim=1), database.norm(dim=1).max()
    scale = (size_q + size_d).square() if l2 else size_q * size_d
    rounding = torch.finfo(torch.float32).eps * math.sqrt(query.size(1))
    unclear = (gap <= rounding * scale).nonzero().squeeze(1)
    if unclear.numel():
        found[unclear], _ = _torch.candidates(query[unclear], database, k, l2)
    return found, None
