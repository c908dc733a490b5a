"""Nearest-neighbour candidates of sparse rows, such as bags of words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_hash.search._blocks import stable_top_scores
from pyg_hash.search._csr import csr_matrix, rows_of
from pyg_hash.search._rows import squared_norms, take, to_double

_DENSE_ELEMENTS = 1 << 19  # a dense block of the database stays in the cache
_ROWS = 4096  # queries that share the work of making a block dense
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
        self.rows = _ROWS

    def block(self, rows: slice | Tensor, columns: slice) -> Tensor:
        """See :class:`pyg_hash.search._blocks.Scores`."""
        part = take(self.query, rows)
        scores = torch.empty(
            part.size(0), columns.stop - columns.start, device=self.device, dtype=self.dtype
        )
        step = max(64, _DENSE_ELEMENTS // self.query.size(1))
        for left in range(columns.start, columns.stop, step):
            some = slice(left, min(left + step, columns.stop))
            place = slice(left - columns.start, some.stop - columns.start)
            out = scores[:, place]
            torch.addmm(out, part, _dense_columns(take(self.database, some)), beta=0, out=out)
        return scores if self.bias is None else scores.sub_(self.bias[columns])


def _dense_columns(x: Tensor) -> Tensor:
    """CSR ``[n, d]`` as dense ``[d, n]``."""
    dense = x.values().new_zeros(x.size(1), x.size(0))
    dense.view(-1)[x.col_indices().long() * x.size(0) + rows_of(x)] = x.values()
    return dense


def candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> tuple[Tensor, Tensor | None]:
    """The ``k`` best database rows of each query and a few more.

    A score adds up the entries of the query one by one, so it is that of the pair alone already.
    Under L2 the origin cannot move near the data, which would fill the zeros: ranked in float64.

    Args:
        query: float32 CSR ``[q, d]``.
        database: float32 CSR ``[n, d]`` on the same device.
        k: 1 to n.
        l2: rank by squared L2 distance instead of inner product.

    Returns:
        as :func:`pyg_hash.search._torch.candidates`; the scores of inner products.
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
