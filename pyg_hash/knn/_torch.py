"""Nearest-neighbour candidates with torch alone: dense rows, on any device."""

from __future__ import annotations

from torch import Tensor

from pyg_hash.knn._blocks import DenseScores, stable_top_scores
from pyg_hash.knn._rows import squared_norms

SYMMETRIC_FROM = 2048  # features: below, the second look at each block costs more than it saves


def candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> tuple[Tensor, None]:
    """The ``k`` best database rows of each query and a few more, in float32.

    Among equal scores those of the lower index are kept.

    Args:
        query: float32 ``[q, d]``.
        database: float32 ``[n, d]`` on the same device.
        k: 1 to n.
        l2: rank by squared L2 distance instead of inner product.

    Returns:
        int64 ``[q, min(n, k + MARGIN)]``, in no particular order within a row, and None: the
        exact scores, if a backend has them.
    """
    scores = DenseScores(query, database, bias(database, l2))
    _, index = stable_top_scores(scores, k, symmetric=symmetric(query, database))
    return index, None


def bias(database: Tensor, l2: bool) -> Tensor | None:
    """What to take off inner products: |q - d|^2 orders like |d|^2 / 2 - q.d."""
    return squared_norms(database).div_(2) if l2 else None


def symmetric(query: Tensor, database: Tensor, features: int = SYMMETRIC_FROM) -> bool:
    """Whether it pays to compute each block of a self-join once: from so many features."""
    wide = query.size(1) >= features and query.device.type == "cpu"
    return query is database and wide
