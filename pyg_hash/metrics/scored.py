"""Rankings by score, exact under ties: pair recall, and mAP of real-valued scores.

The score of an item is the inner product of the two codes, or of the query's relaxed code with the
item's bits, as rescoring makes it, which tie items of equal codes; or with its int8 or real-valued
code. No item is left out: these are the metrics of a shortlist of everything.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pyg_hash.codes import binarize, check_codes, check_relaxed, exact_queries
from pyg_hash.metrics.counts import Ranking, check_sides, shared
from pyg_hash.metrics.mean_ap import expected_sum
from pyg_hash.utils.checks import check_positive_int, check_same_rows

_SCORES = 1 << 20  # numbers held at once: 4 MB, which stay in a core's cache


def pair_recall(query: Tensor, database: Tensor, k: int) -> float:
    """Share of queries whose own pair is among the first k of the Hamming ranking (R@k).

    Whether a query finds its own other side: the thing and not only its category. Row i of both is
    a pair. Items at equal distance come in no order: a pair among b items at one distance, behind a
    nearer ones, is found with probability ``clamp((k - a) / b, 0, 1)``, the exact mean over all
    orders. Chance is ``k / n``. Memory is O(n).

    Codes are int8 ±1 ``[n, num_bits]`` on one device; a ``k`` of more than n means all.
    ``TypeError``: codes that are not int8, or ``k``; ``ValueError``: unequal numbers of rows or
    bits, no rows, values other than ±1, ``k`` below 1.
    """
    check_positive_int(k, "k")
    check_codes(query, "query")
    check_codes(database, "database", num_bits=query.size(1))
    return expected_recall(*pair_places(query, database), k)


def scored_pair_recall(query: Tensor, database: Tensor, k: int) -> float:
    """:func:`pair_recall` by score; codes and errors are those of :func:`scored_average_precision`.

    ``ValueError`` too for unequal numbers of rows.
    """
    check_positive_int(k, "k")
    _check_scored(query, database)
    return expected_recall(*pair_places(query, database), k)


def scored_average_precision(
    query: Tensor, database: Tensor, query_y: Tensor, database_y: Tensor
) -> float:
    """Mean over the queries of the average precision of their rankings by score (mAP@all).

    Definition as :func:`mean_average_precision` with ``topk=None``; items of equal score come in
    no order, and the result is the exact mean over all orders.

    Queries are relaxed codes, float ``[q, num_bits]``; the database is int8 ``[n, num_bits]``, ±1
    or of :func:`pyg_hash.codes.quantize`, or relaxed codes. Labels are as there. ``TypeError`` or
    ``ValueError``: wrong types, shapes or values, no rows, labels of two kinds.
    """
    _check_scored(query, database)
    signs = torch.where(database < 0, -1, 1).to(torch.int8)
    labels = Ranking(binarize(query), signs, query_y, database_y)
    total, own = 0.0, labels.query_y
    for start, scores in score_tiles(query, database):
        relevance = shared(own[start : start + len(scores)], labels.database_y)
        total += float(_expected_sums(scores, relevance).sum())
    return total / len(query)


def _check_scored(query: Tensor, database: Tensor) -> None:
    check_relaxed(query, "query")
    if not isinstance(database, Tensor) or database.dtype != torch.int8:
        check_relaxed(database, "database")
    if database.dim() != 2 or database.size(1) != query.size(1):
        wanted = f"[n, {query.size(1)}] as the queries"
        raise ValueError(f"database: expected shape {wanted}, got {list(database.shape)}")


def score_tiles(query: Tensor, database: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Scores of checked codes, some queries at a time; equal codes have equal scores.

    First comes the first query of a tile, then its scores ``[some, n]``, exact, in float32 between
    int8 ±1 codes (num_bits - 2 * distance), else float64.
    """
    items, place = database.detach(), None
    if query.dtype == torch.int8:
        query, items = query.float(), items.float()
    elif items.dtype == torch.int8:
        query, items = exact_queries(query), items.double()
    else:  # a product rounds by a row's place: each different code is taken once
        items, place = torch.unique(items, dim=0, return_inverse=True)
        query, items = query.detach().double(), items.double()
    columns, height = items.T.contiguous(), max(1, _SCORES // len(database))
    for start in range(0, len(query), height):
        scores = query[start : start + height] @ columns
        yield start, scores if place is None else scores[:, place]


def pair_places(query: Tensor, database: Tensor) -> tuple[Tensor, Tensor]:
    """Items nearer than a query's own pair, and as near (it included): int64 ``[n]``, CPU."""
    check_same_rows(query, database, "query", "database")
    check_sides(query=query, database=database)
    own = torch.arange(len(query), device=query.device)
    parts = [
        places_of(scores, own[start : start + len(scores)])
        for start, scores in score_tiles(query, database)
    ]
    nearer, tied = (torch.cat(x).cpu() for x in zip(*parts, strict=True))
    return nearer, tied


def places_of(scores: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`pair_places` by scores ``[q, n]``, without NaN, of pairs in columns ``pair``."""
    own = scores.gather(1, pair.unsqueeze(1))
    # sums of floats are three times as fast as of bools, and exact up to 2^24
    holds = torch.empty_like(scores, dtype=torch.float32)
    nearer = torch.gt(scores, own, out=holds).sum(1).long()
    return nearer, torch.eq(scores, own, out=holds).sum(1).long()


def expected_recall(nearer: Tensor, tied: Tensor, k: int) -> float:
    """Recall of the first k, expected over the orders of ties; both as of :func:`pair_places`."""
    return float(((k - nearer).double() / tied).clamp(0, 1).mean())


def _expected_sums(scores: Tensor, relevance: Tensor) -> Tensor:
    """AP of each query ``[q]`` from scores and relevance ``[q, n]``."""
    scores, order = scores.sort(dim=1, descending=True)
    relevance = relevance.gather(1, order).double()
    hits = relevance.cumsum(1)
    total = hits[:, -1]
    # a bucket ends where the next score is another one
    last = torch.ones_like(scores, dtype=torch.bool)
    last[:, :-1] = scores[:, 1:] != scores[:, :-1]
    row, place = last.nonzero(as_tuple=True)
    end, hits = place.double() + 1, hits[row, place]
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = row[1:] != row[:-1]
    before, hits_before = (torch.where(first, 0.0, x.roll(1)) for x in (end, hits))
    alone = end - before == 1  # hits / rank: less work
    sums = torch.where(alone & (hits > hits_before), hits / end, 0.0)
    tied = ~alone & (hits > hits_before)
    items, relevant = end - before, hits - hits_before
    parts = (x[tied] for x in (before, hits_before, items, relevant, items))
    sums[tied] = expected_sum(*parts)
    return torch.zeros_like(total).index_add_(0, row, sums) / total.clamp_min(1)
