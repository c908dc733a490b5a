"""Nearest-neighbour candidates by a bfloat16 product, for CPUs where that is the fast one."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.knn import _torch
from pyg_hash.knn._blocks import DenseScores, stable_top_scores, top_scores
from pyg_hash.knn._rows import pair_scores

_FURTHER = (8, 16, 32)  # candidates beyond the k best: the first number that suffices is taken
_SAMPLE = 64
_SYMMETRIC_FROM = 4096  # features: a product is faster, so it has to be larger to matter
_FEW, _MANY = 0.05, 0.25  # parts of the sampled rows


def candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> tuple[Tensor, Tensor | None]:
    """The best database rows of each query by rounded scores, then scored exactly.

    A row's answer is certain when its ``k``-th exact score is above the last rounded score
    fetched by more than rounding ever moved a score of the pairs fetched (relative to the length
    of the query): then no pair left out can belong to the best. Other rows are searched again in
    float32. Where a sample says that these would be many, everything is float32.

    Args:
        query: float32 ``[q, d]``.
        database: float32 ``[n, d]`` on the same device.
        k: 1 to n.
        l2: rank by squared L2 distance instead of inner product.

    Returns:
        int64 ``[q, m]`` with ``m >= k``, in no particular order within a row, and the exact
        scores float32 ``[q, m]``; or what :func:`pyg_hash.knn._torch.candidates` returns.
    """
    n = database.size(0)
    same = query is database
    low = database.bfloat16()
    bias = _torch.bias(database, l2)
    scores = DenseScores(low if same else query.bfloat16(), low, bias)

    rows = torch.arange(0, query.size(0), max(1, query.size(0) // _SAMPLE), device=query.device)
    some = DenseScores(scores.query[rows], low, bias)
    widths = sorted({min(n, k + further) for further in _FURTHER})
    values, index = top_scores(some, widths[-1])
    exact = pair_scores(query[rows], database, index, l2)
    rates = [
        float(_unclear(query[rows], values[:, :w], exact[:, :w], k, l2).float().mean())
        if w < n
        else 0.0
        for w in widths
    ]
    if rates[-1] > _MANY:
        return _torch.candidates(query, database, k, l2)
    width = next((w for w, rate in zip(widths, rates, strict=True) if rate <= _FEW), widths[-1])

    once = _torch.symmetric(query, database, _SYMMETRIC_FROM)
    values, index = top_scores(scores, width, symmetric=once)
    exact = pair_scores(query, database, index, l2)
    if width == n:
        return index, exact
    again = _unclear(query, values, exact, k, l2).nonzero().squeeze(1)
    if again.numel():
        part = query[again]
        _, index[again] = stable_top_scores(DenseScores(part, database, bias), k, further=width - k)
        exact[again] = pair_scores(part, database, index[again], l2)
    return index, exact


def _unclear(query: Tensor, values: Tensor, exact: Tensor, k: int, l2: bool) -> Tensor:
    """Rows ``[q]`` of which rounding may have kept a neighbour away."""
    length = query.norm(dim=1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
    if l2:  # a squared distance is |q|^2 - 2 (q.d - |d|^2 / 2)
        exact = (length.square() - exact) / 2
    moved = ((exact - values).abs() / length).max() * length.squeeze(1)
    reached = exact.topk(k, dim=1).values[:, -1]
    unclear: Tensor = reached <= values[:, -1] + moved
    return unclear
