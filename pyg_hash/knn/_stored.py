"""Exact neighbours of rows that stay in a file: read block by block, answers merged."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pyg_hash.knn._prepare import check_rows, l2_origin
from pyg_hash.knn._search import drop

_QUERY_ELEMENTS, _DATABASE_ELEMENTS = 1 << 25, 1 << 24  # 128 and 64 MB of float32


@runtime_checkable
class StoredRows(Protocol):
    """Feature rows somewhere else, such as :class:`pyg_hash.datasets.StoredMatrix` in HDF5."""

    shape: tuple[int, int]

    def read_rows(self, start: int, stop: int, out: np.ndarray[Any, Any]) -> None:
        """Write rows ``start .. stop - 1`` into ``out``, float32 ``[stop - start, d]``."""


class Pairs(Protocol):
    """The search in memory: :func:`pyg_hash.knn.knn.neighbours`."""

    def __call__(
        self, query: Tensor, database: Tensor, k: int, metric: str, origin: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``(scores, index)`` of the ``k`` best database rows of each query."""


def stored_neighbours(
    query: Tensor | StoredRows,
    database: Tensor | StoredRows,
    k: int,
    metric: str,
    exclude_self: bool,
    find: Pairs,
) -> tuple[Tensor, Tensor]:
    """As :func:`pyg_hash.knn.knn`, where at least one side is stored.

    Every block of queries meets every block of the database. L2 distances are measured around a
    point near the first block, so that a pair has the same score in whatever block it is met.
    """
    needed = k + int(exclude_self)
    device = next((x.device for x in (query, database) if isinstance(x, Tensor)), None)
    origin = None
    scores, index = [], []
    for top, rows in _blocks(query, _QUERY_ELEMENTS, "query", metric, device):
        best: tuple[Tensor, Tensor] | None = None
        for left, block in _blocks(database, _DATABASE_ELEMENTS, "database", metric, device):
            if metric == "l2" and origin is None:
                origin = l2_origin(block)
            value, place = find(rows, block, min(needed, block.size(0)), metric, origin)
            place = place + left
            if best is not None:  # blocks come in order: a stable sort keeps the lower index first
                value, place = torch.cat((best[0], value), 1), torch.cat((best[1], place), 1)
                value, order = value.sort(dim=1, descending=metric != "l2", stable=True)
                place = place.gather(1, order)
            best = value[:, :needed], place[:, :needed]
        assert best is not None  # no side is empty
        if exclude_self:
            best = drop(*best, torch.arange(top, top + rows.size(0), device=device))
        scores.append(best[0])
        index.append(best[1])
    return torch.cat(scores), torch.cat(index)


def _blocks(
    x: Tensor | StoredRows, elements: int, name: str, metric: str, device: torch.device | None
) -> Any:
    """``(first row, rows)`` over all rows, checked; a tensor is one block."""
    if isinstance(x, Tensor):
        yield 0, x
        return
    n, d = x.shape
    step = max(1, elements // d)
    for start in range(0, n, step):
        stop = min(start + step, n)
        block = torch.empty(stop - start, d)
        x.read_rows(start, stop, block.numpy())
        check_rows(block, f"{name}[{start}:{stop}]", metric)
        yield start, block.to(device)
