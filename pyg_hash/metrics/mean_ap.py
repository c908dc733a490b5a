"""Mean average precision of Hamming rankings, exact under ties."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pyg_hash.metrics import average_precision as ap
from pyg_hash.metrics.counts import Ranking, check_ranking, fill_relevance, slices
from pyg_hash.utils.checks import check_choice, check_positive_int

Ties = Literal["expected", "index", "optimistic", "pessimistic"]
Denominator = Literal["hits", "min_k_R", "R", "dcmh"]
TIES, DENOMINATORS = get_args(Ties), get_args(Denominator)

_ELEMENTS = 1 << 19  # numbers in an array, where queries are taken some at a time
_SORTED_QUERIES, _TILE_DATABASE = 32, 1 << 14


def mean_average_precision(
    query: Tensor,
    database: Tensor,
    query_y: Tensor,
    database_y: Tensor,
    *,
    topk: int | None = None,
    ties: Ties = "expected",
    denominator: Denominator = "hits",
) -> float:
    """Mean over the queries of the average precision of their Hamming rankings (mAP).

    An item is relevant if it shares a label with the query. With rel(i) in {0, 1} at rank i and
    R relevant items, AP = sum of ``rel(i) * (hits up to i) / i`` over the ranks i <= ``topk``,
    divided by the *denominator*:

    * ``'hits'``: relevant items among the first ``topk``; a query without any scores 0.
    * ``'min_k_R'``: min(``topk``, R).
    * ``'R'``: R.
    * ``'dcmh'``: the sum runs over the first min(``topk``, R) relevant items **at any rank**,
      divided by their number (the widespread script that came with DCMH).

    They agree for ``topk=None``. Queries without relevant items score 0 and are counted.
    Codes produce many equal distances, in which order such items come is set by ``ties``:

    * ``'expected'``: exact mean over all orders, in closed form.
    * ``'index'``: database order (what a stable sort gives; it depends on the file's order).
    * ``'optimistic'``, ``'pessimistic'``: relevant items first, or last.

    Time is O(q n num_bits) multiplications in tiles, memory O(num_bits) a query; with
    ``ties='index'`` O(n).

    Args:
        query: int8 ±1 ``[q, num_bits]``.
        database: int8 ±1 ``[n, num_bits]``.
        query_y: class index, integer ``[q]``, or multi-hot ``[q, C]``.
        database_y: class index ``[n]`` or multi-hot ``[n, C]``, as ``query_y``.
        topk: rank cut, at least 1; ``None``, or more than n, means all.
        ties: see above.
        denominator: see above.

    Returns:
        mAP in [0, 1].

    Raises:
        TypeError: codes that are not int8, class indices that are not integers, or ``topk``.
        ValueError: wrong shapes or values, no rows, labels of two kinds, unknown options.
    """
    check_choice(ties, TIES, "ties")
    check_choice(denominator, DENOMINATORS, "denominator")
    if topk is not None:
        check_positive_int(topk, "topk")
    ranking = check_ranking(query, database, query_y, database_y)
    n = database.size(0)
    cut = n if topk is None else min(topk, n)
    if ties == "index":
        parts = _in_index_order(ranking, cut, denominator)
    else:
        parts = [
            _from_counts(items, relevant, cut, ties, denominator)
            for items, relevant in ranking.counts()
        ]
    return float(torch.cat(parts).mean())


def _from_counts(items: Tensor, relevant: Tensor, cut: int, ties: str, denominator: str) -> Tensor:
    """AP of each query from its counts, float64 ``[q, num_bits + 1]`` each."""
    before = items.cumsum(1) - items
    hits_before = relevant.cumsum(1) - relevant
    total = relevant.sum(1)
    wanted = total.clamp_max(cut)  # min(k, R)
    if ties == "expected":
        if denominator == "dcmh":
            return _expected_dcmh(items, relevant, before, hits_before, wanted)
        return _expected(items, relevant, before, hits_before, cut, denominator)

    # all relevant items of a bucket stand together: before or after the others
    start = before if ties == "optimistic" else before + items - relevant
    counted = wanted.unsqueeze(1) - hits_before if denominator == "dcmh" else cut - start
    counted = torch.minimum(counted.clamp_min(0), relevant)
    sums = ap.ordered_sum(start, hits_before, counted).sum(1)
    return _divide(sums, counted.sum(1), total, cut, denominator)


def _expected(
    items: Tensor, relevant: Tensor, before: Tensor, hits_before: Tensor, cut: int, denominator: str
) -> Tensor:
    places = torch.minimum((cut - before).clamp_min(0), items)  # of a bucket, above the cut
    sums = ap.expected_sum(before, hits_before, items, relevant, places)
    whole = places == items
    hits = torch.where(whole, relevant, 0.0).sum(1)
    score = _divide(sums.sum(1), hits, relevant.sum(1), cut, denominator)
    if denominator != "hits":
        return score
    # a bucket that the cut divides makes the denominator random as well
    divided = ((places > 0) & ~whole & (relevant > 0)).nonzero()
    nearer = torch.where(whole, sums, 0.0).sum(1)  # all buckets above it are whole
    for some in slices(len(divided), max(1, _ELEMENTS // (cut + 1))):
        row, column = divided[some].unbind(1)
        bucket = (x[row, column] for x in (before, hits_before, items, relevant, places))
        score[row] = ap.expected_hits_ap(nearer[row], *bucket)
    return score


def _expected_dcmh(
    items: Tensor, relevant: Tensor, before: Tensor, hits_before: Tensor, wanted: Tensor
) -> Tensor:
    counted = torch.minimum((wanted.unsqueeze(1) - hits_before).clamp_min(0), relevant)
    whole = counted == relevant
    sums = ap.expected_sum(before, hits_before, items, relevant, items)
    sums = torch.where(whole, sums, 0.0)
    for row, column in (~whole & (counted > 0)).nonzero().tolist():
        bucket = (before, hits_before, items, relevant, counted)
        sums[row, column] = ap.expected_first_sum(*(int(x[row, column]) for x in bucket))
    return sums.sum(1) / wanted.clamp_min(1)


def _divide(sums: Tensor, hits: Tensor, total: Tensor, cut: int, denominator: str) -> Tensor:
    by = {"hits": hits, "dcmh": hits, "R": total, "min_k_R": total.clamp_max(cut)}[denominator]
    return sums / by.clamp_min(1)


def _in_index_order(ranking: Ranking, cut: int, denominator: str) -> list[Tensor]:
    """AP of each query where equal distances keep the order of the database."""
    n, bits = ranking.database.size(0), ranking.num_bits
    # numpy sorts small integers by radix
    kind = torch.uint8 if bits < 256 else torch.int16 if bits < 2**15 else torch.int32
    parts = []
    for block in slices(ranking.query.size(0), _SORTED_QUERIES):
        query, own = ranking.query[block].float(), ranking.query_y[block].float()
        distance = query.new_empty(len(query), n, dtype=kind)
        relevance = torch.empty_like(distance, dtype=torch.bool)
        for columns in slices(n, _TILE_DATABASE):
            tile, others = ranking.database[columns].float(), ranking.database_y[columns].float()
            product = query.new_empty(len(query), len(tile))
            distance[:, columns] = torch.mm(query, tile.T, out=product).sub_(bits).div_(-2)
            relevance[:, columns] = fill_relevance(own, others, product)
        for rows in slices(len(query), max(1, _ELEMENTS // n)):
            order = _stable_order(distance[rows])
            parts.append(_of_lists(relevance[rows].float().gather(1, order), cut, denominator))
    return parts


def _stable_order(distance: Tensor) -> Tensor:
    """Indices that sort the rows of whole numbers, equal ones by index, int64 ``[q, n]``."""
    if distance.device.type != "cpu":
        return distance.sort(dim=1, stable=True)[1]
    return torch.from_numpy(np.argsort(distance.numpy(), axis=1, kind="stable"))


def _of_lists(relevance: Tensor, cut: int, denominator: str) -> Tensor:
    """AP of rankings given as relevance by rank, 0 or 1 ``[q, n]``."""
    number = relevance.cumsum(1, dtype=torch.float64)  # of a hit within its query
    total = number[:, -1]
    counted = relevance * (number <= cut) if denominator == "dcmh" else relevance[:, :cut]
    end = counted.size(1)
    rank = torch.arange(1, end + 1, dtype=torch.float64, device=relevance.device)
    sums = (number[:, :end] / rank).mul_(counted).sum(1)
    return _divide(sums, counted.sum(1).double(), total, cut, denominator)
