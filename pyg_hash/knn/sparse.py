"""Sparse rows, such as bags of words: checked, made ready, and scored."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.knn.exact import ELEMENTS, DenseScores, PreparedRows, check_scale
from pyg_hash.utils.checks import check_features, check_nonzero_rows
from pyg_hash.utils.csr import csr_matrix, row_block, rows_of

_SAMPLE = 256


def is_csr(x: Tensor) -> bool:
    """Whether ``x`` is a ``torch.sparse_csr`` matrix."""
    return x.layout == torch.sparse_csr


def check_rows(x: Tensor, name: str) -> None:
    """Check features; ``TypeError``: layout, dtype; ``ValueError``: shape, values, CSR's parts."""
    if not isinstance(x, Tensor) or x.layout == torch.strided:
        return check_features(x, name)
    if not is_csr(x):
        what = f"{x.layout} is not supported; call .to_dense() or .to_sparse_csr() first"
        raise TypeError(f"{name}: {what}")
    if x.dim() != 2:
        raise ValueError(f"{name}: expected shape [n, d], got {list(x.shape)}")
    try:
        torch.sparse_csr_tensor(
            x.crow_indices(), x.col_indices(), x.values(), x.shape, check_invariants=True
        )
    except RuntimeError as error:
        raise ValueError(f"{name}: no valid CSR matrix ({error}); make it again") from error
    check_features(_largest(x) if x.is_floating_point() else x, name)


def _largest(x: Tensor) -> Tensor:
    """The largest absolute value of each row of a CSR matrix, ``[n, 1]``: what checks look at."""
    largest = x.values().new_zeros(x.size(0))
    return largest.scatter_reduce_(0, rows_of(x).long(), x.values().abs(), "amax").unsqueeze(1)


def ready_csr(x: Tensor, metric: str, name: str) -> PreparedRows:
    """Checked CSR rows as the metric needs them, no stored zeros; raises as :func:`ready` does."""
    value = x.values() if x.dtype == torch.float64 else x.values().float()
    if metric == "cosine":
        largest, row = _largest(x), rows_of(x).long()
        check_nonzero_rows(largest, name)
        value = value / largest.to(value.dtype).squeeze(1)[row]
        length = row_sums(value.square(), x.crow_indices().diff()).sqrt()
        value = value / length[row]
    stored = value != 0
    before = torch.cat((stored.new_zeros(1), stored)).cumsum(0)  # of each entry
    start = before[x.crow_indices().long()]
    rows = csr_matrix(start, x.col_indices()[stored], value[stored].float(), x.size(1))
    if metric == "cosine":
        return PreparedRows(rows, metric)
    squares = squared_norms(rows)
    check_scale(squares, name)
    return PreparedRows(rows, metric, None, squares)


def to_csr(x: Tensor) -> Tensor:
    """A dense matrix as CSR: faster than ``x.to_sparse_csr()``, and without its warning."""
    flat = x.contiguous().view(-1)
    place = flat.nonzero().squeeze(1)
    start = torch.arange(0, flat.numel() + 1, x.size(1), device=x.device)
    return csr_matrix(torch.searchsorted(place, start), place % x.size(1), flat[place], x.size(1))


def density(x: Tensor) -> float:
    """The part of entries that are not zero, in a sample of rows."""
    rows = x[:: max(1, x.size(0) // _SAMPLE)]
    return int(rows.count_nonzero()) / rows.numel()


class CSRScores(DenseScores):
    """Scores of CSR rows, which meet a few dense queries at a time; equal rows score equally."""

    def __init__(self, query: PreparedRows, database: PreparedRows) -> None:
        super().__init__(query, database)
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
        """See :meth:`DenseScores.exact`; L2 in float64, as the origin cannot move near the data."""
        if not self.l2:
            assert values is not None
            return values
        query, database = take(self.query, rows), _double(self.database)
        start, column, value = database.crow_indices(), database.col_indices(), database.values()
        squares = squared_norms(database)
        stored = max(1, value.numel() // self.shape[1])
        step = max(1, ELEMENTS // max(query.size(1), index.size(1) * stored))
        scores = []
        for low in range(0, query.size(0), step):
            part = _double(row_block(query, low, min(low + step, query.size(0))))
            own, part = squared_norms(part).unsqueeze(1), part.to_dense()
            wanted = index[low : low + step]
            new, entry = _entries(start, wanted.flatten())
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
    new, entry = _entries(x.crow_indices(), rows)
    return csr_matrix(new, x.col_indices()[entry], x.values()[entry], x.size(1))


def _entries(start: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where the picked rows start in the new matrix, and the places of their entries."""
    count = start.diff().long()[rows]
    new = torch.cat((count.new_zeros(1), count.cumsum(0)))
    shift = (start[:-1].long()[rows] - new[:-1]).repeat_interleave(count)
    return new, shift + torch.arange(shift.numel(), device=shift.device)


def _double(x: Tensor) -> Tensor:
    return csr_matrix(x.crow_indices(), x.col_indices(), x.values().double(), x.size(1))


def squared_norms(x: Tensor) -> Tensor:
    """Squared Euclidean norm of each row of a CSR matrix: ``[n]``, in its type."""
    return row_sums(x.values().square(), x.crow_indices().diff())


def row_sums(value: Tensor, count: Tensor) -> Tensor:
    """Sums of consecutive runs of entries, each added up in its own order."""
    return torch.segment_reduce(value, "sum", lengths=count.long(), initial=0)
