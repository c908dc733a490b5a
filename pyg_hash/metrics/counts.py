"""Per-distance counts: all that ranking metrics of codes need when ties have no order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_hash.codes import check_codes
from pyg_hash.utils.checks import check_labels

_PART = 2048  # queries whose counts are held at once
_TILE_QUERIES = 64
_TILE_DATABASE = 4096  # float32 tiles of 1 MB stay in a core's cache
_GPU_TILE = (256, 1 << 15)


@dataclass(frozen=True)
class Ranking:
    """Codes and labels that passed :func:`check_ranking`."""

    query: Tensor
    database: Tensor
    query_y: Tensor
    database_y: Tensor

    @property
    def num_bits(self) -> int:
        """Bits of a code."""
        return self.query.size(1)

    def counts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Items at each distance, for some queries at a time, in their order.

        Tiles of both sides are counted one by one: no array of queries x database exists.

        Yields:
            ``(items, relevant)``: float64 ``[some queries, num_bits + 1]``, on the CPU.
        """
        for start in range(0, self.query.size(0), _PART):
            stop = min(start + _PART, self.query.size(0))
            counts = self._count(start, stop).double().cpu()
            yield counts.sum(2), counts[:, :, 1]

    def _count(self, start: int, stop: int) -> Tensor:
        """Counts of queries ``start..stop`` by distance and relevance: ``[q, num_bits + 1, 2]``."""
        query, own = self.query[start:stop].float(), self.query_y[start:stop].float()
        keys = 2 * (self.num_bits + 1)
        counts = query.new_zeros((stop - start, keys), dtype=torch.int64)
        cpu = query.device.type == "cpu"
        height, width = (_TILE_QUERIES, _TILE_DATABASE) if cpu else _GPU_TILE
        height, width = min(height, stop - start), min(width, self.database.size(0))
        buffer = query.new_empty(height * width)
        numbers = torch.empty_like(buffer, dtype=torch.int32)
        # the key of a pair is 2 * distance + relevant, and 2 * distance = num_bits - q.d
        offset = torch.arange(height, device=query.device).unsqueeze(1) * keys + self.num_bits
        offset = offset.float()
        for columns in slices(self.database.size(0), width):
            codes = self.database[columns].float().T.contiguous()
            others = self.database_y[columns].float()
            for rows in slices(stop - start, height):
                shape = (rows.stop - rows.start, columns.stop - columns.start)
                tile, number = (x[: shape[0] * shape[1]] for x in (buffer, numbers))
                key = fill_relevance(own[rows], others, tile.view(shape))
                key.addmm_(query[rows], codes, alpha=-1).add_(offset[: shape[0]])
                found = _histogram(number.copy_(tile), shape[0] * keys)
                counts[rows] += found.view(-1, keys)
        return counts.view(stop - start, self.num_bits + 1, 2)


def slices(n: int, size: int) -> list[slice]:
    """Cut n rows into parts of ``size``."""
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def fill_relevance(own: Tensor, others: Tensor, out: Tensor) -> Tensor:
    """Whether query and item share a label, written as 0 or 1 into ``out`` ``[q, n]``.

    Labels are floats. On the CPU, arithmetic is faster than comparisons are.
    """
    if own.dim() == 1:
        return torch.sub(own.unsqueeze(1), others, out=out).abs_().clamp_(max=1).neg_().add_(1)
    return torch.mm(own, others.T, out=out).clamp_(max=1)


def _histogram(number: Tensor, size: int) -> Tensor:
    """How often each of the numbers 0 .. size - 1 occurs, int64 ``[size]``."""
    if number.device.type == "cpu":
        return torch.bincount(number, minlength=size)
    # on a GPU bincount would wait for the largest number, in every tile
    count = number.new_zeros(size, dtype=torch.int64)
    one = count.new_ones(()).expand(number.numel())
    return count.scatter_add_(0, number.long(), one)


def check_ranking(query: Tensor, database: Tensor, query_y: Tensor, database_y: Tensor) -> Ranking:
    """Check codes and labels, given as to :func:`pyg_hash.metrics.mean_average_precision`.

    Raises:
        TypeError: codes that are not int8; class indices that are not integers.
        ValueError: wrong shapes or values, no rows, labels of two kinds, different devices.
    """
    check_codes(query, "query")
    check_codes(database, "database", num_bits=query.size(1))
    for codes, name in ((query, "query"), (database, "database")):
        if codes.size(0) == 0:
            raise ValueError(f"{name}: has no rows; give at least one")
    for y, codes, name in ((query_y, query, "query_y"), (database_y, database, "database_y")):
        check_labels(y, name, num_rows=codes.size(0))
    if query_y.dim() != database_y.dim() or query_y.shape[1:] != database_y.shape[1:]:
        raise ValueError(
            f"query_y, database_y: shapes {list(query_y.shape)} and {list(database_y.shape)}; both "
            "must be class indices, or multi-hot over the same classes"
        )
    devices = {str(x.device) for x in (query, database, query_y, database_y)}
    if len(devices) > 1:
        raise ValueError(f"query, database, query_y, database_y: on {sorted(devices)}; move them")
    if query_y.dim() == 1:  # small numbers, which floats can compare
        numbers = torch.unique(torch.cat([query_y, database_y]), return_inverse=True)[1]
        query_y, database_y = numbers[: len(query_y)], numbers[len(query_y) :]
    return Ranking(query, database, query_y, database_y)
