"""Precision at n, hash lookup, precision-recall curve and NDCG of Hamming rankings.

All take codes and labels as :func:`mean_average_precision` does, raise its errors, and average over
all queries. Where a rank cut falls among items at equal distance, the result is the exact mean over
their orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from pyg_hash.metrics.counts import Ranking
from pyg_hash.utils.checks import check_choice, check_positive_int

Gains = Literal["binary", "shared"]


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
    gains: Gains = "binary",
) -> float:
    """Normalised discounted cumulative gain, expected under ties.

    DCG = sum of ``gain(i) / log2(i + 1)`` over the ranks i <= ``topk``; it is divided by the DCG
    of the best ranking. A query without relevant items scores 0. Codes, labels, ``topk`` and errors
    are those of :func:`mean_average_precision`.

    With ``gains='binary'`` an item that shares a label gains 1, with ``'shared'`` the number of
    labels that it shares. Multi-hot labels of classes beside subclasses thus give two levels: 2 for
    the same subclass, 1 for the same class.
    """
    check_choice(gains, get_args(Gains), "gains")
    ranking = Ranking(query, database, query_y, database_y, graded=gains == "shared")
    if topk is not None:
        check_positive_int(topk, "topk")
    parts = [normalised_gain(counts, topk) for counts in ranking.counts_by_gain()]
    return float(torch.cat(parts).mean())


def normalised_gain(counts: Tensor, topk: int | None) -> Tensor:
    """NDCG of each query, float64 ``[q]``, from its counts by distance and gain."""
    n = int(counts[0].sum())
    cut = n if topk is None else min(topk, n)
    discount = torch.zeros(n + 1, dtype=torch.float64)  # of the first 0, 1, ..., n ranks
    discount[1:] = (1 / torch.arange(2, n + 2, dtype=torch.float64).log2()).cumsum(0)

    def gained(items: Tensor, gain: Tensor) -> Tensor:
        """DCG of rows of buckets, from their items and the mean gain of one."""
        before = items.cumsum(1) - items
        last = before + _places(before, items, cut)
        return (gain * (discount[last.long()] - discount[before.long()])).sum(1)

    gain = torch.arange(counts.size(2), dtype=torch.float64)
    items = counts.sum(2)
    best = gained(counts.sum(1).flip(1), gain.flip(0))
    found = gained(items, (counts @ gain) / items.clamp_min(1))
    return torch.where(best > 0, found / best, 0.0)


def tied_at(items: Tensor, k: int) -> Tensor:
    """Items as far from each query as its answer number k, or its last one if there are fewer.

    Args:
        items: items at each distance, ``[q, num_bits + 1]``.
        k: number of the answer, from 1.

    Returns:
        ``[q]``; 1 means that the answer is alone.
    """
    reached = items.cumsum(1)
    bucket = (reached < reached[:, -1:].clamp_max(k)).sum(1, keepdim=True)
    return items.gather(1, bucket).squeeze(1)


def _places(before: Tensor, items: Tensor, cut: float) -> Tensor:
    """Places of each bucket above the rank cut."""
    return torch.minimum((cut - before).clamp_min(0), items)
