"""Per-distance counts, all that rankings of codes need when ties have no order, and their metrics.

Where a rank cut falls among items at equal distance, results are exact means over their orders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.codes import check_codes
from pyg_hash.utils.checks import check_choice, check_labels, check_positive_int

Gains = Literal["binary", "shared"]

_PART = 2048  # queries whose counts are held at once
_TILE_QUERIES = 64
_TILE_DATABASE = 4096  # float32 tiles of 1 MB stay in a core's cache
_GPU_TILE = (256, 1 << 15)
_COUNTS = 1 << 24  # at once
_EXACT = 1 << 22  # half integers up to twice this are exact in float32


class Ranking:
    """Codes and labels, checked, as :func:`pyg_hash.metrics.mean_average_precision` takes them.

    ``graded``: the number of labels an item shares counts. Without labels nothing is relevant.
    """

    def __init__(
        self,
        query: Tensor,
        database: Tensor,
        query_y: Tensor | None = None,
        database_y: Tensor | None = None,
        *,
        graded: bool = False,
    ) -> None:
        check_codes(query, "query")
        check_codes(database, "database", num_bits=query.size(1))
        check_sides(query=query, database=database)
        labeled = query_y is not None and database_y is not None
        if query_y is None or database_y is None:
            query_y, database_y = (codes.new_zeros(len(codes)) for codes in (query, database))
        check_labels(query_y, "query_y", num_rows=len(query))
        check_labels(database_y, "database_y", num_rows=len(database))
        if query_y.shape[1:] != database_y.shape[1:]:
            raise ValueError(
                f"query_y, database_y: shapes {list(query_y.shape)} and {list(database_y.shape)}; "
                "both must be class indices, or multi-hot over the same classes"
            )
        check_sides(query=query, database=database, query_y=query_y, database_y=database_y)
        self.num_levels = 1 + labeled  #: numbers of shared labels that are told apart: 0, 1, ...
        if query_y.dim() == 2:  # what products take
            query_y, database_y = query_y.float(), database_y.float()
            if graded:
                self.num_levels = 1 + int(min(y.sum(1).max() for y in (query_y, database_y)))
        self.query, self.query_y = query, query_y
        self.database, self.database_y = database, database_y
        self.num_bits = query.size(1)

    def counts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Items and relevant items at each distance, float64 ``[some queries, num_bits + 1]``."""
        for counts in self.counts_by_gain():
            yield counts.sum(2), counts[:, :, 1:].sum(2)

    def counts_by_gain(self) -> Iterator[Tensor]:
        """Items by distance and shared labels, float64 ``[queries, num_bits + 1, num_levels]``."""
        height = max(1, min(_PART, _COUNTS // (self.num_levels * (self.num_bits + 1))))
        parts = (torch.split(x, height) for x in (self.query, self.query_y))
        for query, own in zip(*parts, strict=True):
            yield self._count(query.float(), own).double().cpu()

    def _count(self, query: Tensor, own: Tensor) -> Tensor:
        """Counts of some queries: ``[q, num_bits + 1, num_levels]``."""
        keys = self.num_levels * (self.num_bits + 1)
        counts = query.new_zeros((len(query), keys), dtype=torch.int64)
        cpu = query.device.type == "cpu"
        height, width = (_TILE_QUERIES, _TILE_DATABASE) if cpu else _GPU_TILE
        height = max(1, min(height, len(query), _EXACT // keys))
        # the key of a pair is num_levels * distance + shared, and 2 * distance = num_bits - q.d
        half = 0.5 * self.num_levels
        offset = torch.arange(height, device=query.device).unsqueeze(1) * keys
        offset = offset + half * self.num_bits
        rows = list(zip(*(torch.split(x, height) for x in (query, own, counts)), strict=True))
        columns = (torch.split(x, width) for x in (self.database, self.database_y))
        for database, others in zip(*columns, strict=True):
            codes = database.float().T.contiguous()
            for some, labels, found in rows:
                key = shared(labels, others, most=self.num_levels - 1)
                key.addmm_(some, codes, alpha=-half).add_(offset[: len(some)])
                found += _histogram(key.int().flatten(), len(some) * keys).view(-1, keys)
        return counts.view(-1, self.num_bits + 1, self.num_levels)


def check_sides(**sides: Tensor) -> None:
    """Raise ``ValueError`` unless all of these, by name, have rows and lie on one device."""
    for name, x in sides.items():
        if len(x) == 0:
            raise ValueError(f"{name}: has no rows; give at least one")
    devices = {str(x.device) for x in sides.values()}
    if len(devices) > 1:
        raise ValueError(f"{', '.join(sides)}: on {sorted(devices)}; move them")


def shared(own: Tensor, others: Tensor, *, most: int = 1) -> Tensor:
    """How many labels query and item share, at most ``most``: float32 ``[q, n]``."""
    # autocast leaves ``out`` alone
    found = own.new_empty(len(own), len(others), dtype=torch.float32)
    if own.dim() == 2:
        torch.mm(own, others.T, out=found)
    else:
        torch.eq(own.unsqueeze(1), others, out=found)
    return found.clamp_(max=most)


def _histogram(number: Tensor, size: int) -> Tensor:
    """How often each of the numbers 0 .. size - 1 occurs, int64 ``[size]``."""
    if number.device.type == "cpu":
        return torch.bincount(number, minlength=size)
    # on a GPU bincount would wait for the largest number, in every tile
    count = number.new_zeros(size, dtype=torch.int64)
    one = count.new_ones(()).expand(number.numel())
    return count.scatter_add_(0, number.long(), one)


def precision_at_n(
    query: Tensor, database: Tensor, query_y: Tensor, database_y: Tensor, *, topn: Sequence[int]
) -> Tensor:
    """Share of relevant items among the first n of the ranking (P@N), expected under ties.

    float64 ``[len(topn)]``, a number for each n of ``topn``, an integer from 1 to the database's
    size. Codes, labels and errors are those of :func:`mean_average_precision`.
    """
    ranking = Ranking(query, database, query_y, database_y)
    for n in topn:
        check_positive_int(n, "topn")
        if n > database.size(0):
            raise ValueError(f"topn: {n} is more than the {database.size(0)} database items")
    cuts = torch.tensor(list(topn), dtype=torch.float64, device="cpu")
    total = torch.zeros_like(cuts)
    for items, relevant in ranking.counts():
        before, rate = items.cumsum(1) - items, relevant / items.clamp_min(1)
        for i, cut in enumerate(cuts):
            total[i] += (places_above(before, items, float(cut)) * rate).sum()
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
    """Precision-recall curve over the radius, of each query and all items within it.

    Codes, int8 ``[q, num_bits]`` and ``[n, num_bits]``, labels and errors are those of
    :func:`mean_average_precision`.
    """
    ranking = Ranking(query, database, query_y, database_y)
    sums = torch.zeros(4, ranking.num_bits + 1, dtype=torch.float64, device="cpu")
    for items, relevant in ranking.counts():
        found, hits = items.cumsum(1), relevant.cumsum(1)
        sums[0] += (hits / found.clamp_min(1)).sum(0)
        sums[1] += (hits / hits[:, -1:].clamp_min(1)).sum(0)
        sums[2] += (found > 0).sum(0)
        sums[3] += found.sum(0)
    return LookupCurve(*(sums / query.size(0)))


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
    """:func:`pr_curve` at one ``radius``, 0 to num_bits: a number each, not a curve.

    Errors are its, and ``TypeError``: ``radius`` is no integer; ``ValueError``: out of its range.
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
    rank = torch.arange(1, n + 1, dtype=torch.float64, device="cpu")
    discount = F.pad((1 / (rank + 1).log2()).cumsum(0), (1, 0))  # of the first 0, 1, ..., n

    def gained(items: Tensor, gain: Tensor) -> Tensor:
        """DCG of rows of buckets, from their items and the mean gain of one."""
        before = items.cumsum(1) - items
        last = before + places_above(before, items, cut)
        return (gain * (discount[last.long()] - discount[before.long()])).sum(1)

    gain = torch.arange(counts.size(2), dtype=torch.float64, device="cpu")
    items = counts.sum(2)
    best = gained(counts.sum(1).flip(1), gain.flip(0))
    found = gained(items, (counts @ gain) / items.clamp_min(1))
    return torch.where(best > 0, found / best, 0.0)


def tied_at(items: Tensor, k: int) -> Tensor:
    """Items ``[q]`` as far from each query as its answer k, of those at each distance."""
    reached = items.cumsum(1)
    bucket = (reached < reached[:, -1:].clamp_max(k)).sum(1, keepdim=True)
    return items.gather(1, bucket).squeeze(1)


def places_above(before: Tensor, items: Tensor, cut: float | Tensor) -> Tensor:
    """Places of each bucket above the rank cut."""
    return torch.minimum((cut - before).clamp_min(0), items)
