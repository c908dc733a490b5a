"""Checks of feature rows, and the float32 rows that backends compare."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.knn._rows import is_csr, squared_norms
from pyg_hash.utils.checks import check_features, check_nonzero_rows
from pyg_hash.utils.csr import csr_matrix, rows_of

_SMALLEST = 1e-15  # squares of parts of such a row keep all their digits
_MAX_NORM = 4e18  # products and squared distances of such rows stay below the float32 limit


def check_rows(x: Tensor, name: str, metric: str) -> None:
    """Check a feature matrix, dense or ``torch.sparse_csr``.

    Raises:
        TypeError: another layout, or not floating point.
        ValueError: wrong shape, no rows, NaN or inf, a zero row under cosine, CSR parts that
            do not fit together.
    """
    if not isinstance(x, Tensor) or x.layout == torch.strided:
        check_features(x, name)
        if metric == "cosine" and not bool((x.sum(dim=1) != 0).all()):  # the sum is the fast check
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
    # the worst entry of each row stands for the row in the checks of dense features
    largest = x.values().new_zeros(x.size(0))
    if x.is_floating_point() and x.values().numel():
        largest.scatter_reduce_(0, rows_of(x).long(), x.values().abs(), "amax")
    check_features(largest.unsqueeze(1), name)
    if metric == "cosine":
        check_nonzero_rows(largest.unsqueeze(1), name)


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


def prepare(x: Tensor, metric: str, origin: Tensor | None, name: str) -> Tensor:
    """Float32 rows whose inner products (or L2 distances) rank as the metric does.

    Args:
        x: float ``[n, d]``, dense or CSR; the latter has its L2 origin at 0, its most common value.
        metric: ``'cosine'``, ``'ip'`` or ``'l2'``.
        origin: of L2 distances of dense rows, see :func:`l2_origin`.
        name: in errors.

    Raises:
        ValueError: values whose scores overflow float32.
    """
    if is_csr(x):
        out = _prepare_csr(x, metric)
    elif metric == "cosine":
        out = _unit_rows(x)
    elif origin is None or metric == "ip":
        out = x.float().contiguous()
    else:
        out = (x.to(origin.dtype) - origin).float().contiguous()
    if metric != "cosine" and not bool((_norms(out) < _MAX_NORM).all()):
        raise ValueError(f"{name}: values so large that scores overflow float32; scale down")
    return out


def _unit_rows(x: Tensor) -> Tensor:
    x = x if x.dtype == torch.float64 else x.float()
    norm = x.norm(dim=1, keepdim=True)
    if bool(((norm < _SMALLEST) | (norm > _MAX_NORM)).any()):  # squares overflow or vanish
        x = x / x.abs().amax(1, keepdim=True)
        norm = x.norm(dim=1, keepdim=True)
    unit: Tensor = x / norm
    return unit.float().contiguous()


def _prepare_csr(x: Tensor, metric: str) -> Tensor:
    value = x.values() if x.dtype == torch.float64 else x.values().float()
    start, column, row = x.crow_indices(), x.col_indices(), rows_of(x).long()
    if metric == "cosine":
        largest = value.new_zeros(x.size(0)).scatter_reduce_(0, row, value.abs(), "amax")
        value = value / largest[row]
        norm = squared_norms(csr_matrix(start, column, value, x.size(1))).sqrt()
        value = value / norm[row]
    stored = value != 0  # equal rows store equal entries
    count = torch.zeros_like(start).scatter_add_(
        0, row + 1, stored.to(start.dtype)
    )  # of row i - 1 at place i
    return csr_matrix(count.cumsum(0), column[stored], value[stored].float(), x.size(1))


def _norms(x: Tensor) -> Tensor:
    return squared_norms(x).sqrt() if is_csr(x) else x.norm(dim=1)
