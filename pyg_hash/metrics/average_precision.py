"""Closed-form average precision of rankings with ties.

A *bucket* is the set of items at one distance: n items, r of them relevant, after N0 nearer
items with R0 relevant ones. Relevant item number j at rank i adds j / i to the sum that is then
divided by the denominator. All arrays are float64.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def harmonic(start: Tensor, count: Tensor) -> Tensor:
    """``1 / (start + 1) + ... + 1 / (start + count)``, without cancellation for large starts."""
    exact = torch.special.digamma(start + count + 1) - torch.special.digamma(start + 1)
    low, high = start + 0.5, start + count + 0.5  # H_m = log(m + 1/2) + Euler's constant + tail
    smooth = torch.log1p(count / low) + _tail(high) - _tail(low)
    return torch.where(start < 32, exact, smooth)


def _tail(x: Tensor) -> Tensor:
    square = 1 / (x * x)
    return square * (1 / 24 - square * (7 / 960 - square * (31 / 8064 - square * 127 / 30720)))


def ordered_sum(before: Tensor, hits_before: Tensor, count: Tensor) -> Tensor:
    """Sum of ``count`` relevant items in a row, after ``before`` items with ``hits_before``."""
    return count + (hits_before - before) * harmonic(before, count)


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

    The number x of hits in the ``places`` places that remain (0 < places < items) is
    hypergeometric. Given x, they are spread evenly over these places, hence each x has the closed
    form of a whole bucket. ``nearer`` is the sum over the nearer buckets; all are ``[q]``.
    """
    low = (places - (items - relevant)).clamp_min(0)
    high = torch.minimum(places, relevant)
    steps = torch.arange(int((high - low).max()) + 1, dtype=low.dtype, device=low.device)
    x = low[:, None] + steps
    n0, r0, n, r, m, nearer = (
        v[:, None] for v in (before, hits_before, items, relevant, places, nearer)
    )
    # log p(x + 1) - log p(x)
    up, down = (r - x) * (m - x), (x + 1) * (n - r - m + x + 1)
    ratio = torch.where(x < high[:, None], up, 1.0).log() - down.log()
    logs = F.pad(ratio[:, :-1].cumsum(1), (1, 0))
    probability = logs.masked_fill(x > high[:, None], -torch.inf).softmax(1)
    x = torch.minimum(x, high[:, None])
    sums = nearer + expected_sum(n0, r0, m, x, m)
    score = torch.where(x + r0 > 0, sums / (x + r0).clamp_min(1), 0.0)
    return (probability * score).sum(1)


def expected_first_sum(before: float, hits_before: float, n: int, r: int, first: int) -> float:
    """Expected sum of the ``first`` nearest of r relevant items of a bucket in random order.

    Place i is relevant with probability r / n; C of the i - 1 places above it are, where C is
    hypergeometric, and it counts while C < first, 0 < first < r. Needed are P(C < first) and
    E[C; C < first] = (i - 1)(r - 1) / (n - 1) P(C' < first - 1), C' with one relevant item less.
    """
    place = np.arange(1, n + 1, dtype=np.float64)
    counted = _at_most(n - 1, r - 1, first)
    mean = np.zeros(n)
    mean[1:] = (place[1:] - 1) * (r - 1) / (n - 1) * _at_most(n - 2, r - 2, first - 1)
    return float(r / n * (((hits_before + 1) * counted + mean) / (before + place)).sum())


def _at_most(items: int, relevant: int, bound: int) -> Array:
    """P(fewer than ``bound`` relevant among the first i of ``items``) for i = 0 .. ``items``."""
    fewer = np.zeros(items + 1)
    if bound == 0:
        return fewer
    # the rank of relevant item number `bound` is negative hypergeometric
    rank = np.arange(bound, items - relevant + bound, dtype=np.float64)
    probability = _normalised(
        rank * (items - rank - (relevant - bound)), (rank - bound + 1) * (items - rank)
    )
    fewer[:bound] = 1.0
    fewer[bound : bound + probability.size - 1] = probability[:0:-1].cumsum()[::-1]
    return fewer


def _normalised(up: Array, down: Array) -> Array:
    """Probabilities whose ratios p[i + 1] / p[i] are up[i] / down[i]."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(up) - np.log(down))])
    weights: Array = np.exp(logs - logs.max())
    weights /= weights.sum()
    return weights
