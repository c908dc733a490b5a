"""JDSH: a joint affinity whose clear cases weigh more."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.losses import affinity_loss, cosine_matrix
from pyg_hash.models.common import Widths, weighted
from pyg_hash.models.two_encoders import AffinityModel, batch_cosines
from pyg_hash.typing import IMAGE, TEXT, Modality
from pyg_hash.utils.checks import check_weight


class JDSH(AffinityModel):
    r"""Joint-modal distribution-based similarity hashing; no label is read.

    Liu, Qian, Guan, Zhan, Ying, "Joint-modal Distribution-based Similarity Hashing for Large-scale
    Unsupervised Deep Cross-modal Retrieval", SIGIR 2020, in the form of the authors'
    program. In a mini-batch with the cosines of the features :math:`S_I, S_T`,

    .. math::
        S = \alpha S_I + \beta S_T + \lambda\, \tfrac{1}{2} (H + H^\top), \qquad
        H = \cos(S_I, S_T),

    rows of the two matrices being compared in :math:`H`. Then :func:`weigh_by_distribution` draws
    apart what is clearly similar or clearly not, and training descends, with :math:`S' = \mu S`,

    .. math::
        2 \lVert S' - \cos(B_I, B_T) \rVert^2 - \overline{\cos(b_I, b_T)}
        + \rho \left( \lVert S' - \cos(B_I, B_I) \rVert^2
        + \lVert S' - \cos(B_T, B_T) \rVert^2 \right)

    as means over the pairs of pairs; the second term is the mean cosine of the two codes of a pair.
    Codes are :math:`\tanh(\sqrt{e + 1}\, Y)` in epoch :math:`e` (from 0).

    Defaults were chosen on validation splits and differ from the paper's where it says so.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_bits: code length.
        hidden_channels: width of the encoders' hidden layer.
        alpha: weight of the images in S (paper: 0.5 on MIRFlickr, 0.4 on NUS-WIDE).
        beta: weight of the texts (paper: 0.1, NUS-WIDE 0.3).
        lambda_: weight of the joint affinity H (paper: 0.4, NUS-WIDE 0.3).
        mu: factor of the affinity (code: 1.4); too large for features of few dimensions, see
            :class:`DJSRH`.
        intra: weight :math:`\rho` of the terms within a modality (code: 0.1).
        left: weight of the clearly dissimilar (code: 0.1).
        right: weight of the clearly similar (code: 0.2).
        rescale: make :math:`2 S - 1` of both cosines, see :class:`DJSRH`.
        dropout: share of the hidden layer that is dropped in training.
        batch_size: pairs of a mini-batch (code: 32).
    """

    def __init__(
        self,
        num_features: Widths,
        num_bits: int = 32,
        *,
        hidden_channels: int = 256,
        alpha: float = 0.02,
        beta: float = 0.8,
        lambda_: float = 0.2,
        mu: float = 4.8,
        intra: float = 0.2,
        left: float = 0.1,
        right: float = 0.2,
        rescale: bool = False,
        dropout: float = 0.05,
        batch_size: int = 32,
    ) -> None:
        super().__init__(num_features, num_bits, hidden_channels, dropout, batch_size)
        for name in ("alpha", "beta", "lambda_", "mu", "intra", "left", "right"):
            check_weight(self.config[name], name)
        self.weights = (alpha, beta, lambda_)
        self.mu, self.intra, self.rescale = mu, intra, rescale
        self.left, self.right = left, right

    def _target(self, data: HeteroData, rows: Tensor, batch: Tensor) -> Tensor:
        image, text = batch_cosines(data, rows[batch], rescale=self.rescale)
        alpha, beta, joint = self.weights
        high = cosine_matrix(image, text)
        mixed = alpha * image + beta * text + joint * 0.5 * (high + high.T)
        return self.mu * weigh_by_distribution(mixed, left=self.left, right=self.right)

    def _terms(self, codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
        image, text = codes[IMAGE], codes[TEXT]
        terms = {
            "image": affinity_loss(image, image, target, alpha=1.0),
            "cross": 2.0 * affinity_loss(image, text, target, alpha=1.0),
            "text": affinity_loss(text, text, target, alpha=1.0),
            "pair": -F.cosine_similarity(image, text).mean(),
        }
        return weighted(terms, {"image": self.intra, "text": self.intra})


def weigh_by_distribution(affinity: Tensor, *, left: float = 0.1, right: float = 0.2) -> Tensor:
    r"""The similarity decision and weighting of JDSH (Liu et al., SIGIR 2020).

    With :math:`s_{\min}` and :math:`s_{\max}` the extremes of the affinities of different items,

    .. math::
        s \mapsto
        \begin{cases}
            (1 + L_1 e^{-(s - s_{\min})})\, s & s < c - 2 \sigma_l \\
            (1 + L_2 e^{s - s_{\max}})\, s & s > c + 4 \sigma_r \\
            s & \text{otherwise.}
        \end{cases}

    The authors fit centre and scales to the training set of each data set and write them down;
    here :math:`c` is the median and :math:`\sigma` the root mean square distance from it on either
    side, both of this mini-batch.

    Args:
        affinity: symmetric, float ``[m, m]``.
        left: :math:`L_1`.
        right: :math:`L_2`.
    """
    different = affinity[~torch.eye(len(affinity), dtype=torch.bool, device=affinity.device)]
    if different.numel() == 0:
        return affinity
    centre, lowest, highest = different.median(), different.min(), different.max()
    away = different - centre
    low = away.clamp(max=0).square().sum() / (away < 0).sum().clamp(min=1)
    high = away.clamp(min=0).square().sum() / (away > 0).sum().clamp(min=1)
    smaller = affinity * (1.0 + left * torch.exp(lowest - affinity))
    larger = affinity * (1.0 + right * torch.exp(affinity - highest))
    result = torch.where(affinity < centre - 2.0 * low.sqrt(), smaller, affinity)
    return torch.where(affinity > centre + 4.0 * high.sqrt(), larger, result)
