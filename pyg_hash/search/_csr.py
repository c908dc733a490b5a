"""CSR matrices with int32 column numbers, which halve what a product reads.

``pyg_hash.nn`` stands on the graph transforms, and these on the search: its helpers of the same
names cannot be imported here.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


def csr_matrix(start: Tensor, column: Tensor, value: Tensor, num_columns: int) -> Tensor:
    """A ``torch.sparse_csr`` matrix.

    Args:
        start: integer ``[rows + 1]``, where each row starts.
        column: integer ``[nnz]``.
        value: float ``[nnz]``.
        num_columns: number of columns.
    """
    kind = torch.int32 if value.numel() < 2**31 else torch.int64
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            start.to(kind),
            column.to(kind),
            value,
            size=(start.numel() - 1, num_columns),
            check_invariants=False,
        )


def rows_of(matrix: Tensor) -> Tensor:
    """The row of each entry: int64 ``[nnz]``."""
    count = matrix.crow_indices().diff()
    return torch.arange(count.numel(), device=count.device).repeat_interleave(count)
