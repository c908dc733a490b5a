"""Sparse matrices in CSR form, and their products with dense ones."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

with warnings.catch_warnings():  # torch says once a process that CSR is in beta
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1), check_invariants=False)


def csr_matrix(start: Tensor, column: Tensor, value: Tensor, num_columns: int) -> Tensor:
    """A ``torch.sparse_csr`` matrix; indices are int32 where these can count the entries."""
    kind, on = torch.int32 if value.numel() < 2**31 else torch.int64, value.device
    size, start, column = (start.numel() - 1, num_columns), start.to(kind), column.to(kind)
    return torch.sparse_csr_tensor(start, column, value, size, device=on, check_invariants=False)


def sorted_csr(
    row: Tensor, column: Tensor, value: Tensor, num_rows: int, num_columns: int
) -> Tensor:
    """The CSR matrix of entries in any order; entries of the same place add up in products."""
    order = torch.argsort(row * num_columns + column)
    return csr_matrix(_starts(row, num_rows), column[order], value[order], num_columns)


def transpose(matrix: Tensor) -> Tensor:
    """The transposed CSR matrix, in CSR form too."""
    num_rows, num_columns = matrix.shape
    column = matrix.col_indices()
    order = torch.argsort(column, stable=True)  # the rows stay ascending
    row = rows_of(matrix)[order]
    return csr_matrix(_starts(column, num_columns), row, matrix.values()[order], num_rows)


def rows_of(matrix: Tensor) -> Tensor:
    """The row of each entry: int32 ``[nnz]``."""
    count = matrix.crow_indices().diff()
    row = torch.arange(count.numel(), dtype=torch.int32, device=count.device)
    return torch.repeat_interleave(row, count, output_size=matrix.values().numel())


def row_block(matrix: Tensor, start: int, stop: int) -> Tensor:
    """Rows ``[start:stop]`` of a CSR matrix; indices and values are shared, not copied."""
    begin = matrix.crow_indices()[start : stop + 1]
    entries = slice(int(begin[0]), int(begin[-1]))
    column, value = matrix.col_indices()[entries], matrix.values()[entries]
    return csr_matrix(begin - begin[0], column, value, matrix.size(1))


def product(matrix: Tensor, x: Tensor, onto: Tensor | None = None) -> Tensor:
    """``matrix @ x``, CSR ``[rows, n]`` and ``[n, f]``, added to ``onto`` if given; no autograd."""
    x, beta = x.to(matrix.dtype), 1  # CSR products have no bf16 form
    if onto is None:  # torch.sparse.mm would fill one array with zeros and then copy it
        onto, beta = x.new_empty(matrix.size(0), x.size(1)), 0
    return torch.addmm(onto, matrix, x, beta=beta, out=onto)  # under autocast as without, by out=


def _starts(row: Tensor, num_rows: int) -> Tensor:
    counts = torch.bincount(row, minlength=num_rows)
    return torch.cat((counts.new_zeros(1), counts.cumsum(0)))
