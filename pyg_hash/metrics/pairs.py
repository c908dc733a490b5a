"""Pair recall: whether a query finds its own other side, the thing and not only its category."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.codes import check_codes
from pyg_hash.utils.checks import check_positive_int, check_same_rows

_SCORES = 1 << 20  # numbers held at once: 4 MB, which stay in a core's cache


def pair_recall(query: Tensor, database: Tensor, k: int) -> float:
    """Share of queries whose own pair is among the first k of the Hamming ranking (R@k).

    Row i of both is a pair. Items at equal distance come in no order: a pair among b items at one
    distance, behind a nearer ones, is found with probability ``clamp((k - a) / b, 0, 1)``, the
    exact mean over all orders. Chance is ``k / n``. Memory is O(n).

    Args:
        query: int8 ±1 ``[n, num_bits]``, at least one row.
        database: int8 ±1 ``[n, num_bits]``, on the same device.
        k: rank cut, at least 1; more than n means all.

    Raises:
        TypeError: codes that are not int8, or ``k``.
        ValueError: unequal numbers of rows or bits, no rows, values other than ±1, ``k`` below 1.
    """
    check_positive_int(k, "k")
    return expected_recall(*pair_places(query, database), k)


def pair_places(query: Tensor, database: Tensor) -> tuple[Tensor, Tensor]:
    """How many items are nearer than a query's own pair, and as near (itself included).

    Codes and errors are those of :func:`pair_recall`.

    Returns:
        two of int64 ``[n]``, on the CPU.
    """
    check_codes(query, "query")
    check_codes(database, "database", num_bits=query.size(1))
    check_same_rows(query, database, "query", "database")
    if len(query) == 0:
        raise ValueError("query, database: have no rows; give at least one pair")
    if query.device != database.device:
        raise ValueError(f"query, database: on {query.device} and {database.device}; move one")
    others = database.float().T.contiguous()
    own = torch.arange(len(query), device=query.device)
    height = max(1, _SCORES // len(database))
    parts = [
        places_of(some.float() @ others, pair)  # num_bits - 2 * distance, exact in float32
        for some, pair in zip(torch.split(query, height), torch.split(own, height), strict=True)
    ]
    nearer, tied = (torch.cat(x).cpu() for x in zip(*parts, strict=True))
    return nearer, tied


def places_of(scores: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """Items that score above a query's own pair, and that score the same (itself included).

    Args:
        scores: real ``[q, n]``, the higher the nearer, without NaN.
        pair: the column of each query's own pair, int64 ``[q]``.

    Returns:
        two of int64 ``[q]``.
    """
    own = scores.gather(1, pair.unsqueeze(1))
    # sums of floats are three times as fast as of bools, and exact up to 2^24
    holds = torch.empty_like(scores, dtype=torch.float32)
    nearer = torch.gt(scores, own, out=holds).sum(1).long()
    return nearer, torch.eq(scores, own, out=holds).sum(1).long()


def expected_recall(nearer: Tensor, tied: Tensor, k: int) -> float:
    """Recall of the first k, expected over the orders of ties; both as of :func:`pair_places`."""
    return float(((k - nearer).double() / tied).clamp(0, 1).mean())
