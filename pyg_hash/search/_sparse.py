"""Nearest-neighbour candidates of sparse rows, such as bags of words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_hash.search._blocks import MARGIN, stable_candidates
from pyg_hash.search._csr import csr_matrix
from pyg_hash.search._rows import squared_norms, take, to_double

_DENSE_ELEMENTS = 1 << 19  # a dense block of the database stays in the cache
_SAMPLE = 256


@dataclass
class CSRScores:
    """Inner products of CSR rows, minus a number for each database row.

    The queries stay sparse and meet the database in dense blocks of a few hundred rows, which
    the cache holds: 2-3 times faster than one large product.

    Attributes:
        query: CSR ``[q, d]``.
        database: CSR ``[n, d]``.
        bias: float32 ``[n]`` or None.
    """

    query: Tensor
    database: Tensor
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        self.shape = (self.query.size(0), self.database.size(0))
        self.device, self.dtype = self.query.device, self.query.dtype

    def block(self, rows: slice | Tensor, columns: slice) -> Tensor:
        """See :class:`pyg_hash.search._blocks.Scores`."""
        part = take(self.query, rows)
        scores = torch.empty(
            part.size(0), columns.stop - columns.start, device=self.device, dtype=self.dtype
        )
        step = max(64, _DENSE_ELEMENTS // self.query.size(1))
        for left in range(columns.start, columns.stop, step):
            some = slice(left, min(left + step, columns.stop))
            dense = take(self.database, some).to_dense().T.contiguous()
            place = slice(left - columns.start, some.stop - columns.start)
            scores[:, place] = part @ dense
        return scores if self.bias is None else scores.sub_(self.bias[columns])


def candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> tuple[Tensor, None]:
    """As :func:`pyg_hash.search._torch.candidates`, for float32 CSR matrices.

    The origin cannot move near the data, which would fill the zeros; L2 is ranked in float64.
    """
    bias = None
    if l2:
        same = query is database
        database = to_double(database)
        query = database if same else to_double(query)
        bias = squared_norms(database).div_(2)
    fetch = min(database.size(0), k + MARGIN)
    return stable_candidates(CSRScores(query, database, bias), fetch), None


def to_csr(x: Tensor) -> Tensor:
    """A dense matrix as CSR with int32 indices."""
    x = x.to_sparse_csr()
    return csr_matrix(x.crow_indices(), x.col_indices(), x.values(), x.size(1))


def density(x: Tensor) -> float:
    """The part of entries that are not zero, in a sample of rows."""
    rows = x[:: max(1, x.size(0) // _SAMPLE)]
    return int(rows.count_nonzero()) / rows.numel()
