"""Retrieval metrics of rankings by real-valued scores, as rescoring makes them, exact under ties.

The score of an item is the inner product of the query's relaxed code with the item's bits, which
ties items of equal codes, or with its int8 or real-valued code. No item is left out: these are the
metrics of a shortlist of everything.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pyg_hash.codes import binarize, check_relaxed, exact_queries
from pyg_hash.metrics.counts import Ranking
from pyg_hash.metrics.mean_ap import expected_sum
from pyg_hash.metrics.pairs import expected_recall, places_of
from pyg_hash.utils.checks import check_positive_int, check_same_rows

_SCORES = 1 << 20  # numbers in an array


def scored_average_precision(
    query: Tensor, database: Tensor, query_y: Tensor, database_y: Tensor
) -> float:
    """Mean over the queries of the average precision of their rankings by score (mAP@all).

    Definition as :func:`mean_average_precision` with ``topk=None``; items of equal score come in
    no order, and the result is the exact mean over all orders.

    Args:
        query: relaxed codes, float ``[q, num_bits]``.
        database: int8 ``[n, num_bits]``, ±1 or of :func:`pyg_hash.codes.quantize`; or relaxed
            codes, float ``[n, num_bits]``.
        query_y: class index, integer ``[q]``, or multi-hot ``[q, C]``.
        database_y: class index ``[n]`` or multi-hot ``[n, C]``, as ``query_y``.

    Raises:
        TypeError, ValueError: wrong types, shapes or values, no rows, labels of two kinds.
    """
    rows = _Scores(query, database)
    labels = Ranking(binarize(query), rows.signs(), query_y, database_y)
    total, own = 0.0, labels.query_y
    for start, scores in rows:
        y = own[start : start + len(scores)]
        if y.dim() == 1:
            relevance = y.unsqueeze(1) == labels.database_y
        else:
            relevance = y.float() @ labels.database_y.float().T > 0
        total += float(_expected_sums(scores, relevance).sum())
    return total / len(query)


def scored_pair_recall(query: Tensor, database: Tensor, k: int) -> float:
    """Share of queries whose own pair is among the first k by score, expected under ties.

    Row i of both is a pair; codes as those of :func:`scored_average_precision`.

    Raises:
        TypeError, ValueError: wrong types, shapes or values, unequal numbers of rows, no rows.
    """
    check_positive_int(k, "k")
    rows = _Scores(query, database)
    check_same_rows(query, database, "query", "database")
    own = torch.arange(len(query), device=query.device)
    parts = [places_of(scores, own[start : start + len(scores)]) for start, scores in rows]
    above, tied = (torch.cat(x) for x in zip(*parts, strict=True))
    return expected_recall(above, tied, k)


class _Scores:
    """Scores of all pairs, float64, some queries at a time; equal codes have equal scores."""

    def __init__(self, query: Tensor, database: Tensor) -> None:
        check_relaxed(query, "query")
        if not isinstance(database, Tensor) or database.dtype != torch.int8:
            check_relaxed(database, "database")
        if database.dim() != 2 or database.size(1) != query.size(1):
            raise ValueError(
                f"database: expected shape [n, {query.size(1)}] as the queries, got "
                f"{list(database.shape)}"
            )
        if len(query) == 0 or len(database) == 0:
            raise ValueError("query, database: have no rows; give at least one of each")
        if query.device != database.device:
            raise ValueError(f"query, database: on {query.device} and {database.device}; move one")
        self.query, self.database = query, database

    def signs(self) -> Tensor:
        """The codes of the database."""
        return torch.where(self.database < 0, -1, 1).to(torch.int8)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """First query of a tile, and its scores ``[some, n]``."""
        query, items, place = self.query.detach().double(), self.database.detach(), None
        if items.dtype == torch.int8:
            query = exact_queries(self.query)
        else:  # a product rounds by a row's place: each different code is taken once
            items, place = torch.unique(items, dim=0, return_inverse=True)
        items = items.double().T.contiguous()
        height = max(1, _SCORES // len(self.database))
        for start in range(0, len(query), height):
            scores = query[start : start + height] @ items
            yield start, scores if place is None else scores[:, place]


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
