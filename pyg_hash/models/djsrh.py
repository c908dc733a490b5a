"""DJSRH: codes that reconstruct a joint affinity of both modalities."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.losses import affinity_loss
from pyg_hash.models.common import Widths, weighted
from pyg_hash.models.two_encoders import AffinityModel, batch_cosines
from pyg_hash.typing import IMAGE, TEXT, Modality
from pyg_hash.utils.checks import check_fraction, check_weight


class DJSRH(AffinityModel):
    r"""Deep joint-semantics reconstructing hashing; no label is read.

    Su, Zhong, Zhang, "Deep Joint-Semantics Reconstructing Hashing for Large-Scale Unsupervised
    Cross-Modal Retrieval", ICCV 2019. In a mini-batch of m pairs with the cosines
    of their features :math:`S_I, S_T`,

    .. math::
        \tilde S = \beta S_I + (1 - \beta) S_T, \qquad
        S = (1 - \eta) \tilde S + \eta\, \tilde S \tilde S^\top / m,

    and training descends

    .. math::
        \lambda_1 \lVert \mu S - \cos(B_I, B_I) \rVert^2 + \lVert \mu S - \cos(B_I, B_T) \rVert^2
        + \lambda_2 \lVert \mu S - \cos(B_T, B_T) \rVert^2

    as means over the pairs of pairs, as in the authors' program. Codes are :math:`\tanh(\alpha Y)`
    with :math:`\alpha = \sqrt{e + 1}` in epoch :math:`e` (from 0).

    Defaults were chosen on validation splits and differ from the paper's where it says so.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_bits: code length.
        hidden_channels: width of the encoders' hidden layer (code: 4096 for texts).
        beta: share of the images in :math:`\tilde S` (paper: 0.9 on MIRFlickr, 0.6 on NUS-WIDE, 0.3
            on Wikipedia).
        eta: share of the second-order affinity (paper: 0.4).
        mu: factor of the affinity (paper: 1.5). A large one draws neighbours together where few
            cosines are high. Where most are, as those of features of few dimensions, it asks
            for cosines above 1 of nearly all pairs, and all codes become the same: use the paper's.
        lambda1: weight of the images among themselves (paper: 0.1, Wikipedia 0.3).
        lambda2: weight of the texts among themselves (likewise).
        rescale: make :math:`2 S - 1` of both cosines, as the paper does for features without
            negative entries; those of :class:`~pyg_hash.transforms.ScaleFeatures` are centred.
        dropout: share of the hidden layer that is dropped in training.
        batch_size: pairs of a mini-batch (paper: 32).
    """

    def __init__(
        self,
        num_features: Widths,
        num_bits: int = 32,
        *,
        hidden_channels: int = 256,
        beta: float = 0.2,
        eta: float = 0.4,
        mu: float = 9.0,
        lambda1: float = 1.0,
        lambda2: float = 1.0,
        rescale: bool = False,
        dropout: float = 0.45,
        batch_size: int = 32,
    ) -> None:
        super().__init__(num_features, num_bits, hidden_channels, dropout, batch_size)
        for name in ("beta", "eta"):
            check_fraction(self.config[name], name)
        for name in ("mu", "lambda1", "lambda2"):
            check_weight(self.config[name], name)
        self.share, self.eta, self.mu, self.rescale = beta, eta, mu, rescale
        self.lambda1, self.lambda2 = lambda1, lambda2

    def _target(self, data: HeteroData, rows: Tensor, batch: Tensor) -> Tensor:
        image, text = batch_cosines(data, rows[batch], rescale=self.rescale)
        first = self.share * image + (1.0 - self.share) * text
        second = first @ first.T / len(first)
        return self.mu * ((1.0 - self.eta) * first + self.eta * second)

    def _terms(self, codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
        image, text = codes[IMAGE], codes[TEXT]
        terms = {
            "image": affinity_loss(image, image, target, alpha=1.0),
            "cross": affinity_loss(image, text, target, alpha=1.0),
            "text": affinity_loss(text, text, target, alpha=1.0),
        }
        return weighted(terms, {"image": self.lambda1, "text": self.lambda2})
