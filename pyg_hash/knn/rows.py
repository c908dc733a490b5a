"""Dense feature rows, made ready so that inner products rank as the metric does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_hash.utils.checks import check_nonzero_rows

_CHUNK_ELEMENTS = 1 << 20  # a few MB of temporary values: what a cache holds
_SMALLEST = 1e-15  # squares of parts of such a row keep all their digits
_MAX_NORM = 4e18  # products and squared distances of such rows stay below the float32 limit


@dataclass(frozen=True)
class PreparedRows:
    """Rows that were checked and prepared, to be searched many times.

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


def ready(x: Tensor, metric: str, name: str = "x", origin: Tensor | None = None) -> PreparedRows:
    """Finite dense rows as the metric needs them; ``ValueError``: zero rows (cosine), overflow."""
    if metric == "cosine":
        return PreparedRows(_unit_rows(x, name), metric)
    if metric == "ip":
        rows = x.float().contiguous()
    else:
        origin = l2_origin(x) if origin is None else origin
        rows = (x.to(origin.dtype) - origin).float().contiguous()
    squares = squared_norms(rows)
    check_scale(squares, name)
    return PreparedRows(rows, metric, origin, squares)


def l2_origin(database: Tensor) -> Tensor:
    """A point near the data, ``[d]``, on a coarse binary grid, around which L2 cancels less."""
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


def squared_norms(x: Tensor) -> Tensor:
    """Squared Euclidean norm of each row: ``[n]``, in the type of ``x``."""
    parts = torch.split(x, max(1, _CHUNK_ELEMENTS // x.size(1)))
    return torch.cat([part.square().sum(1) for part in parts])


def check_scale(squares: Tensor, name: str) -> None:
    """Raise ``ValueError`` for squared norms whose sums overflow float32."""
    if not bool((squares.sqrt() < _MAX_NORM).all()):
        raise ValueError(f"{name}: values so large that scores overflow float32; scale down")
