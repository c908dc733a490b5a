"""Precision at n, hash lookup, precision-recall curve and NDCG of Hamming rankings.

All take codes and labels as :func:`mean_average_precision` does, raise its errors, and average over
all queries. Where a rank cut falls among items at equal distance, the result is the exact mean over
their orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_hash.metrics.counts import Ranking
from pyg_hash.utils.checks import check_positive_int


def precision_at_n(
    query: Tensor,
    database: Tensor,
    query_y: Tensor,
    database_y: Tensor,
    *,
    topn: Sequence[int],
) -> Tensor:
    """Share of relevant items among the first n of the ranking (P@N), expected under ties.

    Codes, labels and errors are those of :func:`mean_average_precision`.

    Returns:
        float64 ``[len(topn)]``, one number for each n, an integer from 1 to m, in ``topn``.
    """
    ranking = Ranking(query, database, query_y, database_y)
    for n in topn:
        check_positive_int(n, "topn")
        if n > database.size(0):
            raise ValueError(f"topn: {n} is more than the {database.size(0)} database items")
    cuts = torch.tensor(list(topn), dtype=torch.float64)
    total = torch.zeros_like(cuts)
    for items, relevant in ranking.counts():
        before, rate = items.cumsum(1) - items, relevant / items.clamp_min(1)
        for i, cut in enumerate(cuts):
            total[i] += (_places(before, items, float(cut)) * rate).sum()
    return total / cuts / query.size(0)


@dataclass(frozen=True)
class LookupCurve:
    """Means within each Hamming radius 0, 1, ..., num_bits, float64 ``[num_bits + 1]`` each.

    A query that finds nothing has precision 0; ``precision / answered`` leaves such queries out.
    """

    precision: Tensor  #: share of relevant items among those found
    recall: Tensor  #: share of the relevant items that is found; 0 for a query without any
    answered: Tensor  #: share of queries that find anything
    found: Tensor  #: number of items found


def pr_curve(query: Tensor, database: Tensor, query_y: Tensor, database_y: Tensor) -> LookupCurve:
    """Precision-recall curve over the Hamming radius; no ties are broken.

    Codes, labels and errors are those of :func:`mean_average_precision`.
    """
    ranking = Ranking(query, database, query_y, database_y)
    sums = torch.zeros(4, ranking.num_bits + 1, dtype=torch.float64)
    for items, relevant in ranking.counts():
        found, hits = items.cumsum(1), relevant.cumsum(1)
        sums[0] += (hits / found.clamp_min(1)).sum(0)
        sums[1] += (hits / hits[:, -1:].clamp_min(1)).sum(0)
        sums[2] += (found > 0).sum(0)
        sums[3] += found.sum(0)
    precision, recall, answered, found = sums / query.size(0)
    return LookupCurve(precision, recall, answered, found)


@dataclass(frozen=True)
class Lookup:
    """Result of a lookup within one Hamming radius; the means are those of a LookupCurve."""

    radius: int
    precision: float
    recall: float
    answered: float
    found: float


def hash_lookup(
    query: Tensor, database: Tensor, query_y: Tensor, database_y: Tensor, *, radius: int = 2
) -> Lookup:
    """Precision and recall of the items at distances up to ``radius``, 0 to num_bits.

    Codes, labels and errors are those of :func:`mean_average_precision`.
    """
    if isinstance(radius, bool) or not isinstance(radius, int):
        raise TypeError(f"radius: expected an integer, got {radius!r}")
    curve = pr_curve(query, database, query_y, database_y)
    if not 0 <= radius <= query.size(1):
        raise ValueError(f"radius: expected 0 to {query.size(1)} (num_bits), got {radius}")
    return Lookup(radius, **{name: float(value[radius]) for name, value in vars(curve).items()})


def ndcg(
    query: Tensor,
    database: Tensor,
    query_y: Tensor,
    database_y: Tensor,
    *,
    topk: int | None = None,
) -> float:
    """Normalised discounted cumulative gain with gains 0 and 1, expected under ties.

    DCG = sum of ``rel(i) / log2(i + 1)`` over the ranks i <= ``topk``; it is divided by the DCG
    of the best ranking. A query without relevant items scores 0. Codes, labels, ``topk`` and errors
    are those of :func:`mean_average_precision`.
    """
    ranking = Ranking(query, database, query_y, database_y)
    if topk is not None:
        check_positive_int(topk, "topk")
    n = database.size(0)
    cut = n if topk is None else min(topk, n)
    discount = torch.zeros(n + 1, dtype=torch.float64)  # of the first 0, 1, ..., n ranks
    discount[1:] = (1 / torch.arange(2, n + 2, dtype=torch.float64).log2()).cumsum(0)
    total = 0.0
    for items, relevant in ranking.counts():
        before, rate = items.cumsum(1) - items, relevant / items.clamp_min(1)
        last = before + _places(before, items, cut)
        gain = rate * (discount[last.long()] - discount[before.long()])
        best = discount[relevant.sum(1).clamp_max(cut).long()]
        total += float(torch.where(best > 0, gain.sum(1) / best, 0.0).sum())
    return total / query.size(0)


def _places(before: Tensor, items: Tensor, cut: float) -> Tensor:
    """Places of each bucket above the rank cut."""
    return torch.minimum((cut - before).clamp_min(0), items)
