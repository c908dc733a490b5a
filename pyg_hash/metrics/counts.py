"""Per-distance counts: all that ranking metrics of codes need when ties have no order."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pyg_hash.codes import check_codes
from pyg_hash.utils.checks import check_labels

_PART = 2048  # queries whose counts are held at once
_TILE_QUERIES = 64
_TILE_DATABASE = 4096  # float32 tiles of 1 MB stay in a core's cache
_GPU_TILE = (256, 1 << 15)


class Ranking:
    """Codes and labels, checked, as :func:`pyg_hash.metrics.mean_average_precision` takes them."""

    def __init__(
        self, query: Tensor, database: Tensor, query_y: Tensor, database_y: Tensor
    ) -> None:
        check_codes(query, "query")
        check_codes(database, "database", num_bits=query.size(1))
        for name, codes, y in (("query", query, query_y), ("database", database, database_y)):
            if len(codes) == 0:
                raise ValueError(f"{name}: has no rows; give at least one")
            check_labels(y, f"{name}_y", num_rows=len(codes))
        if query_y.dim() != database_y.dim() or query_y.shape[1:] != database_y.shape[1:]:
            raise ValueError(
                f"query_y, database_y: shapes {list(query_y.shape)} and {list(database_y.shape)}; "
                "both must be class indices, or multi-hot over the same classes"
            )
        devices = {str(x.device) for x in (query, database, query_y, database_y)}
        if len(devices) > 1:
            raise ValueError(
                f"query, database, query_y, database_y: on {sorted(devices)}; move them"
            )
        if query_y.dim() == 1:  # small numbers, which floats can compare
            numbers = torch.unique(torch.cat([query_y, database_y]), return_inverse=True)[1]
            query_y, database_y = numbers[: len(query_y)], numbers[len(query_y) :]
        self.query, self.query_y = query, query_y
        self.database, self.database_y = database, database_y
        self.num_bits = query.size(1)

    def counts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Items and relevant items at each distance, float64 ``[some queries, num_bits + 1]``."""
        parts = (torch.split(x, _PART) for x in (self.query, self.query_y))
        for query, own in zip(*parts, strict=True):
            counts = self._count(query.float(), own.float()).double().cpu()
            yield counts.sum(2), counts[:, :, 1]

    def _count(self, query: Tensor, own: Tensor) -> Tensor:
        """Counts of some queries by distance and relevance: ``[q, num_bits + 1, 2]``."""
        keys = 2 * (self.num_bits + 1)
        counts = query.new_zeros((len(query), keys), dtype=torch.int64)
        cpu = query.device.type == "cpu"
        height, width = (_TILE_QUERIES, _TILE_DATABASE) if cpu else _GPU_TILE
        height, width = min(height, len(query)), min(width, len(self.database))
        buffer = query.new_empty(height * width)
        numbers = torch.empty_like(buffer, dtype=torch.int32)
        # the key of a pair is 2 * distance + relevant, and 2 * distance = num_bits - q.d
        offset = torch.arange(height, device=query.device).unsqueeze(1) * keys + self.num_bits
        offset = offset.float()
        rows = list(zip(*(torch.split(x, height) for x in (query, own, counts)), strict=True))
        columns = (torch.split(x, width) for x in (self.database, self.database_y))
        for database, others in zip(*columns, strict=True):
            codes, others = database.float().T.contiguous(), others.float()
            for some, labels, found in rows:
                shape = (len(some), codes.size(1))
                tile, number = (x[: shape[0] * shape[1]] for x in (buffer, numbers))
                key = fill_relevance(labels, others, tile.view(shape))
                key.addmm_(some, codes, alpha=-1).add_(offset[: len(some)])
                found += _histogram(number.copy_(tile), len(some) * keys).view(-1, keys)
        return counts.view(-1, self.num_bits + 1, 2)


def fill_relevance(own: Tensor, others: Tensor, out: Tensor) -> Tensor:
    """Write into ``out`` ``[q, n]`` whether query and item share a label, 0 or 1; all floats."""
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
