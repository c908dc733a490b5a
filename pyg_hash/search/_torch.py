"""Exact nearest-neighbour candidates with torch alone, on any device and in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 8  # further candidates, so that exact scores decide between near-equal neighbours
_BLOCK_ELEMENTS = 1 << 24  # a block of scores holds at most 64 MB


def candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> Tensor:
    """The ``k`` best database rows of each query and a few more; ties keep the lower index.

    Identical database rows are scored once: a matrix product may round the same dot product
    differently in different columns, which would make ties depend on the block layout.

    Args:
        query: float32 ``[q, d]``.
        database: float32 ``[n, d]`` on the same device.
        k: 1 to n.
        l2: rank by squared L2 distance instead of inner product.

    Returns:
        int64 ``[q, min(n, k + MARGIN)]``, in no particular order within a row.
    """
    inverse = None
    distinct = database
    first = _first_equal_row(database)
    if first is not None:
        kept, inverse = torch.unique(first, return_inverse=True)
        distinct = database[kept]
    # |q - d|^2 orders like |d|^2 - 2 q.d, so half of that is all a ranking needs
    bias = distinct.square().sum(1).div_(2) if l2 else None
    fetch = min(database.size(0), k + MARGIN)
    rows = max(1, _BLOCK_ELEMENTS // database.size(0))
    found = []
    for block in torch.split(query, rows):
        scores = block @ distinct.T
        if bias is not None:
            scores -= bias
        if inverse is not None:
            scores = scores[:, inverse]
        found.append(stable_topk(scores, fetch))
    return torch.cat(found)


def stable_topk(scores: Tensor, k: int) -> Tensor:
    """Indices of the ``k`` largest entries of each row; among equal entries the lowest indices.

    ``torch.topk`` leaves open which of several equal entries it returns.

    Args:
        scores: float ``[q, n]`` without NaN.
        k: 1 to n.

    Returns:
        int64 ``[q, k]``, in no particular order within a row.
    """
    values, index = scores.topk(k, dim=1)
    worst = values[:, -1:]
    open_rows = ((scores >= worst).sum(1) > k).nonzero().squeeze(1)
    if open_rows.numel():
        part, bound = scores[open_rows], worst[open_rows]
        better, tied = part > bound, part == bound
        free = k - better.sum(1, keepdim=True)
        chosen = better | (tied & (tied.cumsum(1) <= free))
        index[open_rows] = chosen.nonzero()[:, 1].view(-1, k)
    return index


def _first_equal_row(x: Tensor) -> Tensor | None:
    """For each row the index of the first row equal to it, or ``None`` if all rows differ.

    Rows are grouped by a 64-bit hash of their bits; a group that the hash put together
    wrongly is left apart, which costs nothing but the tie guarantee for that group.
    """
    generator = torch.Generator().manual_seed(0)
    bound = 2**62
    weight = torch.randint(-bound, bound, (x.size(1),), generator=generator).to(x.device)
    hashes = torch.empty(x.size(0), dtype=torch.int64, device=x.device)
    rows = max(1, (1 << 21) // x.size(1))
    for start in range(0, x.size(0), rows):
        bits = (x[start : start + rows] + 0.0).view(torch.int32)  # -0.0 becomes 0.0
        hashes[start : start + rows] = (bits * weight).sum(1)
    _, group, count = torch.unique(hashes, return_inverse=True, return_counts=True)
    if count.numel() == x.size(0):
        return None
    own = torch.arange(x.size(0), device=x.device)
    first = torch.full_like(count, x.size(0)).scatter_reduce_(0, group, own, "amin")[group]
    repeated = (first != own).nonzero().squeeze(1)
    for part in torch.split(repeated, rows):
        differs = (x[part] != x[first[part]]).any(1)
        first[part[differs]] = part[differs]
    return first
