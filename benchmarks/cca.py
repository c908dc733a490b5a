"""Linear canonical correlation analysis and iterative quantization, in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_RANK = 1e-10  # eigenvalues below this share of the largest are rounding


class Projection(NamedTuple):
    """Canonical directions of two views; a row ``x`` goes to ``(x - mean) @ weight``.

    Attributes:
        means: float64 ``[d]`` of each view.
        weights: float64 ``[d, k]`` of each view, the strongest correlation first.
        correlations: float64 ``[k]``.
    """

    means: tuple[Tensor, Tensor]
    weights: tuple[Tensor, Tensor]
    correlations: Tensor

    def __call__(self, x: Tensor, view: int) -> Tensor:
        """Canonical variates float64 ``[n, k]`` of rows of one view."""
        return (x.double() - self.means[view]) @ self.weights[view]


def cca(x: Tensor, y: Tensor, count: int, *, ridge: float = 0.0) -> Projection:
    r"""The ``count`` strongest canonical directions (Hotelling, 1936), by whitening and an SVD.

    With covariances :math:`C` of the centred views and :math:`C' = C + r\,\mathrm{tr}(C)/d\,I`,
    the singular values of :math:`C_{xx}'^{-1/2} C_{xy} C_{yy}'^{-1/2}` are the correlations.
    Variates of the given rows have variance 1 for ``ridge=0``.

    Args:
        x: float ``[n, d_x]``.
        y: float ``[n, d_y]``; row i belongs to row i of ``x``.
        count: number of directions.
        ridge: :math:`r`, relative to the mean variance of a view.

    Raises:
        ValueError: the views have fewer directions than ``count``.
    """
    views = [view.double() for view in (x, y)]
    means = (views[0].mean(dim=0), views[1].mean(dim=0))
    views = [view - mean for view, mean in zip(views, means, strict=True)]
    whiteners = [_whitener(view, ridge) for view in views]
    available = min(whitener.size(1) for whitener in whiteners)
    if count > available:
        raise ValueError(
            f"count: {count} canonical directions wanted, but the two views have only "
            f"{available}; use at most as many bits, or wider features"
        )
    white = [view @ whitener for view, whitener in zip(views, whiteners, strict=True)]
    left, values, right = torch.linalg.svd(white[0].T @ white[1] / len(x), full_matrices=False)
    weights = (whiteners[0] @ left[:, :count], whiteners[1] @ right[:count].T)
    return Projection(means, weights, values[:count])


def _whitener(view: Tensor, ridge: float) -> Tensor:
    """``[d, r]``: what makes the regularised covariance of a centred view the identity."""
    values, vectors = torch.linalg.eigh(view.T @ view / len(view))
    kept = values > _RANK * values[-1]
    return vectors[:, kept] / (values[kept] + ridge * values.clamp(min=0).mean()).sqrt()


def itq(v: Tensor, *, iterations: int = 50, seed: int = 0) -> tuple[Tensor, list[float]]:
    r"""The rotation that brings rows close to their signs (Gong et al., TPAMI 2013, Sec. 3.2).

    Minimises :math:`\lVert B - V R \rVert_F^2` in turns: :math:`B = \mathrm{sign}(V R)`, then the
    orthogonal Procrustes solution for :math:`R`; the start is a random rotation.

    Args:
        v: float64 ``[n, k]``, centred.
        iterations: number of turns.
        seed: seed of the start.

    Returns:
        The rotation float64 ``[k, k]``, and the error before the first turn and after each.
    """
    start = torch.randn(v.size(1), v.size(1), generator=torch.Generator().manual_seed(seed))
    rotation = torch.linalg.qr(start.double()).Q
    errors = []
    for _ in range(iterations):
        codes = torch.where(v @ rotation >= 0, 1.0, -1.0).double()
        errors.append(float((codes - v @ rotation).square().sum()))
        left, _, right = torch.linalg.svd(v.T @ codes)
        rotation = left @ right
    codes = torch.where(v @ rotation >= 0, 1.0, -1.0).double()
    errors.append(float((codes - v @ rotation).square().sum()))
    return rotation, errors
