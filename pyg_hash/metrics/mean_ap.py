"""Mean average precision of Hamming rankings, exact under ties.

A *bucket* is the set of items at one distance: n items, r of them relevant, after N0 nearer
items with R0 relevant ones. Relevant item number j at rank i adds j / i to the sum that is then
divided by the denominator. All numbers are float64.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.metrics.counts import Ranking, places_above, shared
from pyg_hash.utils.checks import check_choice, check_positive_int

Ties = Literal["expected", "index", "optimistic", "pessimistic"]
Denominator = Literal["hits", "min_k_R", "R", "dcmh"]
TIES, DENOMINATORS = get_args(Ties), get_args(Denominator)

_ELEMENTS = 1 << 19  # numbers in an array, where queries are taken some at a time
_SORTED_QUERIES = 8  # at least


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

    Memory is O(num_bits) a query; with ``ties='index'`` O(n num_bits) in all.

    Codes are int8 ±1 ``[q, num_bits]`` and ``[n, num_bits]``, labels class indices, integer ``[q]``
    and ``[n]``, or multi-hot ``[q, C]`` and ``[n, C]``; a ``topk`` of None, or more than n, means
    all. ``TypeError``: codes that are not int8, class indices that are not integers, or ``topk``;
    ``ValueError``: wrong shapes or values, no rows, labels of two kinds, unknown options.
    """
    scores = average_precision(query, database, query_y, database_y, topk, ties, denominator)
    return float(scores.mean())


def average_precision(
    query: Tensor,
    database: Tensor,
    query_y: Tensor,
    database_y: Tensor,
    topk: int | None = None,
    ties: str = "expected",
    denominator: str = "hits",
) -> Tensor:
    """Average precision of each query, float64 ``[q]``; see :func:`mean_average_precision`."""
    check_definition(topk, ties, denominator)
    ranking = Ranking(query, database, query_y, database_y)
    n = database.size(0)
    cut = n if topk is None else min(topk, n)
    if ties == "index":
        return torch.cat(_in_index_order(ranking, cut, denominator))
    counts = ranking.counts()
    return torch.cat([_from_counts(*some, cut, ties, denominator) for some in counts])


def check_definition(topk: int | None, ties: str, denominator: str) -> None:
    """Raise unless these are options of :func:`mean_average_precision`."""
    check_choice(ties, TIES, "ties")
    check_choice(denominator, DENOMINATORS, "denominator")
    if topk is not None:
        check_positive_int(topk, "topk")


def _from_counts(items: Tensor, relevant: Tensor, cut: int, ties: str, denominator: str) -> Tensor:
    """AP of each query from its counts, float64 ``[q, num_bits + 1]`` each."""
    if ties != "expected":  # a bucket becomes two: its relevant items, and the others
        items = torch.stack((relevant, items - relevant), 2)
        relevant = torch.stack((relevant, torch.zeros_like(relevant)), 2)
        if ties == "pessimistic":
            items, relevant = items.flip(2), relevant.flip(2)
        items, relevant = items.flatten(1), relevant.flatten(1)
    before = items.cumsum(1) - items
    hits_before = relevant.cumsum(1) - relevant
    if denominator == "dcmh":
        return _at_any_rank(items, relevant, before, hits_before, cut)
    places = places_above(before, items, cut)
    sums = expected_sum(before, hits_before, items, relevant, places)
    whole = places == items
    hits = torch.where(whole, relevant, 0.0).sum(1)
    score = _divide(sums.sum(1), hits, relevant.sum(1), cut, denominator)
    # a bucket that the cut divides makes the denominator random as well
    divided = ((places > 0) & ~whole & (relevant > 0)).nonzero()
    if denominator != "hits" or len(divided) == 0:
        return score
    nearer = torch.where(whole, sums, 0.0).sum(1)  # all buckets above it are whole
    for some in torch.split(divided, max(1, _ELEMENTS // (cut + 1))):
        row, column = some.unbind(1)
        bucket = (x[row, column] for x in (before, hits_before, items, relevant, places))
        score[row] = expected_hits_ap(nearer[row], *bucket)
    return score


def _at_any_rank(
    items: Tensor, relevant: Tensor, before: Tensor, hits_before: Tensor, cut: int
) -> Tensor:
    """The denominator 'dcmh'."""
    wanted = relevant.sum(1, keepdim=True).clamp_max(cut)  # min(k, R)
    counted = places_above(hits_before, relevant, wanted)
    whole = counted == relevant
    sums = expected_sum(before, hits_before, items, relevant, items)
    sums = torch.where(whole, sums, 0.0)
    for row, column in (~whole & (counted > 0)).nonzero().tolist():
        bucket = (before, hits_before, items, relevant, counted)
        sums[row, column] = expected_first_sum(*(int(x[row, column]) for x in bucket))
    return sums.sum(1) / wanted.squeeze(1).clamp_min(1)


def _divide(sums: Tensor, hits: Tensor, total: Tensor, cut: int, denominator: str) -> Tensor:
    by = {"hits": hits, "dcmh": hits, "R": total, "min_k_R": total.clamp_max(cut)}[denominator]
    return sums / by.clamp_min(1)


def _in_index_order(ranking: Ranking, cut: int, denominator: str) -> list[Tensor]:
    """AP of each query where equal distances keep the order of the database."""
    database, others = ranking.database.float().T.contiguous(), ranking.database_y
    bits, n = database.shape
    kind = torch.int16 if bits < 2**15 else torch.int32  # NumPy sorts the former by radix
    parts = []
    size = max(_SORTED_QUERIES, _ELEMENTS // n)
    rows = (torch.split(x, size) for x in (ranking.query, ranking.query_y))
    for some, own in zip(*rows, strict=True):
        product = database.new_empty(len(some), n)
        distance = torch.mm(some.float(), database, out=product).sub_(bits).div_(-2).to(kind)
        relevance = shared(own, others)
        if distance.device.type == "cpu":
            order = torch.from_numpy(np.argsort(distance.numpy(), axis=1, kind="stable"))
        else:
            order = distance.sort(dim=1, stable=True)[1]
        hit = relevance.gather(1, order)  # by rank
        number = hit.cumsum(1, dtype=torch.float64)  # of a hit within its query
        counted = hit * (number <= cut) if denominator == "dcmh" else hit[:, :cut]
        end = counted.size(1)
        rank = torch.arange(1, end + 1, dtype=torch.float64, device=hit.device)
        sums = (number[:, :end] / rank).mul_(counted).sum(1)
        parts.append(_divide(sums, counted.sum(1).double(), number[:, -1], cut, denominator))
    return parts


def harmonic(start: Tensor, count: Tensor) -> Tensor:
    """``1 / (start + 1) + ... + 1 / (start + count)``, without cancellation for large starts."""
    low, high = start + 0.5, start + count + 0.5  # H_m = log(m + 1/2) + Euler's constant + tail
    total = torch.log1p(count / low) + _tail(high) - _tail(low)
    few = start < 32
    first, last = start[few] + 1, start[few] + count[few] + 1
    total[few] = torch.special.digamma(last) - torch.special.digamma(first)
    return total


def _tail(x: Tensor) -> Tensor:
    square = 1 / (x * x)
    return square * (1 / 24 - square * (7 / 960 - square * (31 / 8064 - square * 127 / 30720)))


def expected_sum(
    before: Tensor, hits_before: Tensor, items: Tensor, relevant: Tensor, first: Tensor
) -> Tensor:
    """Expected sum of the ``first`` places of a bucket in random order.

    The place i of a bucket is relevant with probability r / n and then finds
    ``R0 + 1 + (i - 1)(r - 1) / (n - 1)`` hits in expectation.
    """
    rate = relevant / items.clamp_min(1)
    others = (relevant - 1) / (items - 1).clamp_min(1)
    others = torch.where(items > 1, others, 1.0)  # one item: (i - 1) is 0
    offset = hits_before + 1 - others * (before + 1)
    total = rate * (offset * harmonic(before, first) + others * first)
    return torch.where(relevant > 0, total, 0.0)


def expected_hits_ap(
    nearer: Tensor,
    before: Tensor,
    hits_before: Tensor,
    items: Tensor,
    relevant: Tensor,
    places: Tensor,
) -> Tensor:
    """Expected AP ``[q]`` with denominator 'hits' where the rank cut falls into a bucket.

    The number x of hits in the ``places`` that remain is hypergeometric; given x, they are spread
    evenly: a whole bucket. ``nearer`` is the sum over the nearer buckets; all are ``[q]``.
    """
    low = (places - (items - relevant)).clamp_min(0)
    high = torch.minimum(places, relevant)
    steps = torch.arange(int((high - low).max()) + 1, dtype=low.dtype, device=low.device)
    x = low[:, None] + steps
    n0, r0, n, r, m, nearer = (
        v[:, None] for v in (before, hits_before, items, relevant, places, nearer)
    )
    up = torch.where(x < high[:, None], (r - x) * (m - x), 1.0)
    logs = _log_weights(up[:, :-1], ((x + 1) * (n - r - m + x + 1))[:, :-1])
    probability = logs.masked_fill(x > high[:, None], -torch.inf).softmax(1)
    x = torch.minimum(x, high[:, None])
    sums = nearer + expected_sum(n0, r0, m, x, m)
    score = torch.where(x + r0 > 0, sums / (x + r0).clamp_min(1), 0.0)
    return (probability * score).sum(1)


def expected_first_sum(before: int, hits_before: int, n: int, r: int, first: int) -> float:
    """Expected sum of the ``first`` nearest of r relevant items of a bucket in random order.

    Place i is relevant with probability r / n; C of the i - 1 places above it are, where C is
    hypergeometric, and it counts while C < first, 0 < first < r. Needed are P(C < first) and
    E[C; C < first] = (i - 1)(r - 1) / (n - 1) P(C' < first - 1), C' with one relevant item less.
    """
    above = torch.arange(n, dtype=torch.float64, device="cpu")  # i - 1
    fewer = F.pad(_at_most(n - 2, r - 2, first - 1), (1, 0))
    mean = above * (r - 1) / (n - 1) * fewer
    counted = (hits_before + 1) * _at_most(n - 1, r - 1, first) + mean
    return float(r / n * (counted / (before + 1 + above)).sum())


def _at_most(items: int, relevant: int, bound: int) -> Tensor:
    """P(fewer than ``bound`` relevant among the first i of ``items``) for i = 0 .. ``items``."""
    fewer = torch.zeros(items + 1, dtype=torch.float64, device="cpu")
    if bound == 0:
        return fewer
    # the rank of relevant item number `bound` is negative hypergeometric
    rank = torch.arange(bound, items - relevant + bound, dtype=torch.float64, device="cpu")
    up, down = rank * (items - rank - (relevant - bound)), (rank - bound + 1) * (items - rank)
    probability = _log_weights(up, down).softmax(0)
    fewer[:bound] = 1.0
    fewer[bound : bound + len(rank)] = probability[1:].flip(0).cumsum(0).flip(0)
    return fewer


def _log_weights(up: Tensor, down: Tensor) -> Tensor:
    """Logarithms of weights in a row whose ratios ``w[i + 1] / w[i]`` are ``up[i] / down[i]``."""
    return F.pad((up.log() - down.log()).cumsum(-1), (1, 0))
