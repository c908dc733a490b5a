"""Feature rows: checked, and made ready so that inner products rank as the metric does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_hash.utils.checks import check_features, check_nonzero_rows
from pyg_hash.utils.csr import csr_matrix, rows_of

_CHUNK_ELEMENTS = 1 << 20  # a few MB of temporary values: what a cache holds
_SMALLEST = 1e-15  # squares of parts of such a row keep all their digits
_MAX_NORM = 4e18  # products and squared distances of such rows stay below the float32 limit
_SAMPLE = 256


@dataclass(frozen=True)
class PreparedRows:
    """Rows that were checked and prepared, to be searched many times: see :func:`prepare`.

    Attributes:
        x: float32 ``[n, d]``, dense or CSR: unit rows under cosine, moved ones under L2.
        metric: ``'cosine'``, ``'ip'`` or ``'l2'``.
        origin: the point ``[d]`` that L2 distances of dense rows are measured around.
        squares: float32 ``[n]``, squared norms; None of unit rows.
    """

    x: Tensor
    metric: str
    origin: Tensor | None = None
    squares: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """Of the rows."""
        return self.x.shape

    @property
    def device(self) -> torch.device:
        """Of the rows."""
        return self.x.device


@torch.no_grad()
def prepare(
    x: Tensor, metric: str = "cosine", *, origin: Tensor | None = None, name: str = "database"
) -> PreparedRows:
    """Check rows and make them ready; :func:`pyg_hash.knn.knn` takes the result as ``database``.

    For rows that many searches meet: they are checked, normalised and copied once.

    Args:
        x: float ``[n, d]``, dense or ``torch.sparse_csr``.
        metric: ``'cosine'``, ``'ip'`` or ``'l2'``.
        origin: of L2 distances of dense rows; None finds one near the data. That of CSR rows is 0,
            their most common value.
        name: in errors.

    Raises:
        TypeError, ValueError: as :func:`pyg_hash.knn.knn`.
    """
    check_rows(x, name)
    return ready(x, metric, origin, name)


def ready(x: Tensor, metric: str, origin: Tensor | None, name: str) -> PreparedRows:
    """:func:`prepare` of checked rows; zero rows under cosine are found here."""
    if metric == "cosine":
        return PreparedRows((_unit_csr if is_csr(x) else _unit_rows)(x, name), metric)
    if is_csr(x):
        rows = _stored(x, x.values().float())
    elif metric == "ip":
        rows = x.float().contiguous()
    else:
        origin = l2_origin(x) if origin is None else origin
        rows = (x.to(origin.dtype) - origin).float().contiguous()
    squares = squared_norms(rows)
    if not bool((squares.sqrt() < _MAX_NORM).all()):
        raise ValueError(f"{name}: values so large that scores overflow float32; scale down")
    return PreparedRows(rows, metric, origin, squares)


def check_rows(x: Tensor, name: str, metric: str | None = None) -> None:
    """Check a feature matrix, dense or ``torch.sparse_csr``; for zero rows if a metric is named.

    Raises:
        TypeError: another layout, or not floating point.
        ValueError: wrong shape, no rows, NaN or inf, a zero row under cosine, CSR parts that
            do not fit together.
    """
    if not isinstance(x, Tensor) or x.layout == torch.strided:
        check_features(x, name)
        if metric == "cosine":
            check_nonzero_rows(x, name)
        return
    if not is_csr(x):
        raise TypeError(
            f"{name}: {x.layout} is not supported; call .to_dense() or .to_sparse_csr() first"
        )
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


def l2_origin(database: Tensor) -> Tensor:
    """A point near the data, ``[d]``, that L2 distances are measured around.

    Distances do not change when the origin moves near the data, but |q|^2 + |d|^2 - 2 q.d then
    cancels less. The origin lies on a coarse binary grid: integers stay exact.
    """
    wide = database if database.dtype == torch.float64 else database.float()
    mean, spread = wide.mean(0), wide.std(0, correction=0)
    spread = torch.maximum(spread, mean.abs() * 2.0**-20)
    grid = torch.where(spread > 0, spread.log2().floor().exp2(), 1.0)
    return ((mean / grid).round() * grid).nan_to_num(0.0)


def _unit_rows(x: Tensor, name: str) -> Tensor:
    x = x if x.dtype == torch.float64 else x.float()
    norm = x.norm(dim=1, keepdim=True)
    low, high = norm.aminmax()
    if float(low) < _SMALLEST or float(high) > _MAX_NORM:  # squares overflow or vanish
        check_nonzero_rows(x, name)
        x = x / x.abs().amax(1, keepdim=True)
        norm = x.norm(dim=1, keepdim=True)
    unit: Tensor = x / norm
    return unit.float().contiguous()


def _unit_csr(x: Tensor, name: str) -> Tensor:
    largest = _largest(x)
    check_nonzero_rows(largest, name)
    value = x.values() if x.dtype == torch.float64 else x.values().float()
    row = rows_of(x).long()
    value = value / largest.to(value.dtype).squeeze(1)[row]
    length = row_sums(value.square(), x.crow_indices().diff()).sqrt()
    return _stored(x, (value / length[row]).float())


def _stored(x: Tensor, value: Tensor) -> Tensor:
    """A CSR matrix with these values, without stored zeros."""
    stored = value != 0
    before = torch.cat((stored.new_zeros(1), stored)).cumsum(0)  # of each entry
    return csr_matrix(
        before[x.crow_indices().long()], x.col_indices()[stored], value[stored], x.size(1)
    )


def is_csr(x: Tensor) -> bool:
    """Whether ``x`` is a ``torch.sparse_csr`` matrix."""
    return x.layout == torch.sparse_csr


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


def squared_norms(x: Tensor) -> Tensor:
    """Squared Euclidean norm of each row, dense or CSR: ``[n]``, in the type of ``x``."""
    if is_csr(x):
        return row_sums(x.values().square(), x.crow_indices().diff())
    parts = torch.split(x, max(1, _CHUNK_ELEMENTS // x.size(1)))
    return torch.cat([part.square().sum(1) for part in parts])


def row_sums(value: Tensor, count: Tensor) -> Tensor:
    """Sums of consecutive runs of entries, each added up in its own order."""
    sums: Tensor = torch.segment_reduce(value, "sum", lengths=count.long(), initial=0)
    return sums
