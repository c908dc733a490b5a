"""Scores of sparse rows, such as bags of words, for the exact search."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.knn.exact import DenseScores
from pyg_hash.knn.rows import PreparedRows, row_sums, squared_norms
from pyg_hash.utils.csr import csr_matrix, row_block, rows_of

_ELEMENTS = 1 << 20


class CSRScores(DenseScores):
    """Scores of CSR rows.

    A few queries at a time are made dense, as columns. The whole database meets them as it is
    stored: one pass over its entries, while the queries and their scores stay in the cache.
    A score adds up the entries of the database row one by one, so equal rows score equally.
    """

    def __init__(
        self, query: PreparedRows, database: PreparedRows, *, heaps: bool | None = None
    ) -> None:
        super().__init__(query, database, heaps=heaps)
        self.symmetric = False
        self.rows, self.columns = (96 if self.device.type == "cpu" else 2048), 1 << 16
        if not self.l2:
            self.rounding = torch.zeros_like(self.rounding)

    def tile(self, rows: slice | Tensor, columns: slice) -> Tensor:
        """See :meth:`DenseScores.tile`."""
        database = self.database
        if columns.stop - columns.start < self.shape[1]:
            database = row_block(database, columns.start, columns.stop)
        query = take(self.query, rows)
        dense = query.values().new_zeros(query.size(1), query.size(0))
        dense.view(-1)[query.col_indices().long() * query.size(0) + rows_of(query)] = query.values()
        out = self.memory(database.size(0), query.size(0))
        tile: Tensor = torch.addmm(out, database, dense, beta=0, out=out).T.contiguous()
        if self.l2 and self.squares is not None:
            tile -= self.squares[columns] / 2
        return tile

    def exact(self, rows: slice | Tensor, index: Tensor, values: Tensor | None) -> Tensor:
        """See :meth:`DenseScores.exact`; inner products are exact as they come."""
        if self.l2:
            return self._distances(take(self.query, rows), index)
        assert values is not None
        return values

    def _distances(self, query: Tensor, index: Tensor) -> Tensor:
        """Squared distances of pairs in float64: the origin cannot move near sparse data."""
        start, column = self.database.crow_indices(), self.database.col_indices()
        value = self.database.values().double()
        squares = squared_norms(_double(self.database))
        stored = max(1, value.numel() // self.shape[1])
        step = max(1, _ELEMENTS // max(query.size(1), index.size(1) * stored))
        scores = []
        for low in range(0, query.size(0), step):
            part = _double(row_block(query, low, min(low + step, query.size(0))))
            own, part = squared_norms(part).unsqueeze(1), part.to_dense()
            wanted = index[low : low + step]
            new, entry = entries(start, wanted.flatten())
            first = torch.arange(0, part.numel(), part.size(1), device=new.device)
            first = first.repeat_interleave(new[:: wanted.size(1)].diff())
            products = part.view(-1)[first.add_(column[entry])].mul_(value[entry])
            found = row_sums(products, new.diff()).view(wanted.shape)
            scores.append((own + squares[wanted] - 2 * found).clamp_(min=0).float())
        return torch.cat(scores)


def take(x: Tensor, rows: Tensor | slice) -> Tensor:
    """Some rows of a CSR matrix: int64 ``[m]``, or a slice of step 1."""
    if isinstance(rows, slice):
        return row_block(x, rows.start, rows.stop)
    new, entry = entries(x.crow_indices(), rows)
    return csr_matrix(new, x.col_indices()[entry], x.values()[entry], x.size(1))


def entries(start: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where the picked rows start in the new matrix, and the places of their entries."""
    count = start.diff().long()[rows]
    new = torch.cat((count.new_zeros(1), count.cumsum(0)))
    shift = (start[:-1].long()[rows] - new[:-1]).repeat_interleave(count)
    return new, shift + torch.arange(shift.numel(), device=shift.device)


def _double(x: Tensor) -> Tensor:
    return csr_matrix(x.crow_indices(), x.col_indices(), x.values().double(), x.size(1))
