"""Linear canonical correlation analysis, in float64, and signs of its variates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.models.closed_form import LinearHashModel, centred, selected_features
from pyg_hash.models.common import Widths
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_weight

# the strongest of 1e-3 .. 1e3 on a validation split of each data set, 32 bits: CCA without it fits
# noise (weighted ITQ on Wikipedia: .21 at 1e-3, .36 at 10, .35 at 1000, where it is a PLS)
RIDGE = 10.0
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


def cca(x: Tensor, y: Tensor, count: int | None = None, *, ridge: float = 0.0) -> Projection:
    r"""The ``count`` strongest canonical directions (Hotelling, 1936), by whitening and an SVD.

    With covariances :math:`C` of the centred views and :math:`C' = C + r\,\mathrm{tr}(C)/d\,I`,
    the singular values of :math:`C_{xx}'^{-1/2} C_{xy} C_{yy}'^{-1/2}` are the correlations.
    Variates of the given rows have variance 1 for ``ridge=0``.

    Args:
        x: float ``[n, d_x]``.
        y: float ``[n, d_y]``; row i belongs to row i of ``x``.
        count: number of directions; None takes all there are.
        ridge: :math:`r`, relative to the mean variance of a view.

    Raises:
        ValueError: the views have fewer directions than ``count``.
    """
    views, means = centred((x.double(), y.double()))
    whiteners = [whitener(view.T @ view / len(view), ridge) for view in views]
    available = min(matrix.size(1) for matrix in whiteners)
    if count is None:
        count = available
    elif count > available:
        raise ValueError(
            f"num_bits: {count} canonical directions wanted, but the two views have only "
            f"{available}; use at most as many bits, or wider features"
        )
    white = [view @ matrix for view, matrix in zip(views, whiteners, strict=True)]
    left, values, right = torch.linalg.svd(white[0].T @ white[1] / len(x), full_matrices=False)
    weights = (whiteners[0] @ left[:, :count], whiteners[1] @ right[:count].T)
    return Projection(means, weights, values[:count])


def whitener(covariance: Tensor, ridge: float) -> Tensor:
    r"""``[d, r]``: what makes :math:`C + r\,\mathrm{tr}(C)/d\,I` the identity.

    Args:
        covariance: symmetric, float64 ``[d, d]``; directions without variance are left out.
        ridge: :math:`r`.
    """
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > _RANK * values[-1]
    scale = (values[kept] + ridge * values.clamp(min=0).mean()).sqrt()
    return torch.div(vectors[:, kept], scale)


class CanonicalModel(LinearHashModel):
    """A model that goes on from the canonical directions of the training rows."""

    def __init__(self, num_features: Widths, num_bits: int, ridge: float) -> None:
        super().__init__(num_features, num_bits)
        check_weight(ridge, "ridge")
        self.ridge = ridge

    def _directions(self, data: HeteroData, count: int | None) -> Projection:
        return cca(*selected_features(data), count, ridge=self.ridge)

    def _keep_directions(self, fitted: Projection, rotation: Tensor | None = None) -> None:
        """Take over the directions, with a matrix ``[k, num_bits]`` behind them if given."""
        for view, modality in enumerate(MODALITIES):
            weight = fitted.weights[view]
            weight = weight if rotation is None else weight @ rotation
            self._keep_centred(modality, weight, fitted.means[view])


class CCA(CanonicalModel):
    r"""Signs of the strongest canonical variates; no label is read.

    Hotelling, "Relations Between Two Sets of Variates", *Biometrika* 28, 1936, with a ridge. The
    directions :math:`W` of both modalities maximise

    .. math::
        \mathrm{tr}(W_I^\top C_{IT} W_T) \quad \text{with} \quad
        W_m^\top \left(C_{mm} + r\,\tfrac{\mathrm{tr}\,C_{mm}}{d_m} I\right) W_m = I

    over the training rows; a code is :math:`\mathrm{sign}((x - \mu_m) W_m)`. On pairs this is the
    cross-view hashing (CVH) of Kumar & Udupa, IJCAI 2011.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_bits: code length, at most the number of canonical directions.
        ridge: :math:`r`; without it the directions fit noise.
    """

    def __init__(self, num_features: Widths, num_bits: int = 32, *, ridge: float = RIDGE) -> None:
        super().__init__(num_features, num_bits, ridge)

    def _solve(self, data: HeteroData) -> None:
        self._keep_directions(self._directions(data, self.num_bits))
