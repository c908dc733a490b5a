"""Nearest-neighbour candidates of sparse rows, such as bags of words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_hash.knn._blocks import stable_top_scores
from pyg_hash.knn._rows import squared_norms, take, to_double
from pyg_hash.utils.csr import csr_matrix, rows_of

_ROWS = 96  # queries made dense at once: what a cache holds
_GPU_ROWS = 2048
_SAMPLE = 256


@dataclass
class CSRScores:
    """Inner products of CSR rows, minus a number for each database row.

    A few queries at a time are made dense, as columns. The whole database meets them as it is
    stored: one pass over its entries, while the queries and their scores stay in the cache.

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
        self.rows = _GPU_ROWS if self.device.type == "cuda" else _ROWS
        self._block = torch.empty(0, device=self.device, dtype=self.dtype)

    def block(self, rows: slice | Tensor, columns: slice) -> Tensor:
        """See :class:`pyg_hash.knn._blocks.Scores`."""
        whole = columns.stop - columns.start == self.shape[1]
        database = self.database if whole else take(self.database, columns)
        dense = _dense_columns(take(self.query, rows))
        size = database.size(0) * dense.size(1)
        if self._block.numel() < size:  # kept: new memory costs more than the scores in it
            self._block = dense.new_empty(size)
        out = self._block[:size].view(database.size(0), dense.size(1))
        scores = torch.addmm(out, database, dense, beta=0, out=out).T
        return scores if self.bias is None else scores.sub_(self.bias[columns])


def _dense_columns(x: Tensor) -> Tensor:
    """CSR ``[n, d]`` as dense ``[d, n]``."""
    dense = x.values().new_zeros(x.size(1), x.size(0))
    dense.view(-1)[x.col_indices().long() * x.size(0) + rows_of(x)] = x.values()
    return dense


def candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> tuple[Tensor, Tensor | None]:
    """The ``k`` best database rows of each query and a few more.

    A score adds up the entries of the database row one by one, so it is that of the pair alone but
    for rounding in the last bit.
    Under L2 the origin cannot move near the data, which would fill the zeros: ranked in float64.

    Args:
        query: float32 CSR ``[q, d]``.
        database: float32 CSR ``[n, d]`` on the same device.
        k: 1 to n.
        l2: rank by squared L2 distance instead of inner product.

    Returns:
        as :func:`pyg_hash.knn._torch.candidates`; the scores of inner products.
    """
    if not l2:
        values, index = stable_top_scores(CSRScores(query, database), k)
        return index, values
    same = query is database
    database = to_double(database)
    query = database if same else to_double(query)
    scores = CSRScores(query, database, squared_norms(database).div_(2))
    return stable_top_scores(scores, k)[1], None


def to_csr(x: Tensor) -> Tensor:
    """A dense matrix as CSR; twice as fast as ``x.to_sparse_csr()`` where little is stored."""
    flat = x.contiguous().view(-1)
    place = flat.nonzero().squeeze(1)
    start = torch.arange(0, flat.numel() + 1, x.size(1), device=x.device)
    return csr_matrix(torch.searchsorted(place, start), place % x.size(1), flat[place], x.size(1))


def density(x: Tensor) -> float:
    """The part of entries that are not zero, in a sample of rows."""
    rows = x[:: max(1, x.size(0) // _SAMPLE)]
    return int(rows.count_nonzero()) / rows.numel()
