"""Signs of canonical variates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.models.canonical import RIDGE, Projection, cca
from pyg_hash.models.closed_form import LinearHashModel, selected_features
from pyg_hash.models.common import Widths
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_weight


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
            self._keep(modality, weight, torch.mv(weight.T, fitted.means[view]))


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
