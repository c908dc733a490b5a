"""Unsupervised baselines whose codes repeat an affinity of both modalities' features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.codes import binarize
from pyg_hash.graph.build import GraphCache
from pyg_hash.knn import knn
from pyg_hash.losses import affinity_loss, cosine_matrix
from pyg_hash.models.base import Objective
from pyg_hash.models.common import Widths, weighted
from pyg_hash.models.two_encoders import AffinityModel, batch_cosines, safe_factor, watched
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality
from pyg_hash.utils.checks import check_fraction, check_positive_int, check_weight

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


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
            cosines are high. Where most are, as those of features of few dimensions, it would ask
            for cosines above 1 of nearly all pairs, and all codes become the same. None is 9, or
            with a warning what makes the mean of :math:`\mu S` one half where 9 makes it over 1.
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
        mu: float | None = None,
        lambda1: float = 1.0,
        lambda2: float = 1.0,
        rescale: bool = False,
        dropout: float = 0.45,
        batch_size: int = 32,
    ) -> None:
        super().__init__(num_features, num_bits, hidden_channels, dropout, batch_size)
        for name in ("beta", "eta"):
            check_fraction(self.config[name], name)
        for name in ("lambda1", "lambda2"):
            check_weight(self.config[name], name)
        self.share, self.eta, self.rescale = beta, eta, rescale
        self._factor = affinity_factor(mu, 9.0, (beta, 1.0 - beta), rescale)
        self.lambda1, self.lambda2 = lambda1, lambda2

    def _target(self, data: HeteroData, rows: Tensor, batch: Tensor) -> Tensor:
        image, text = batch_cosines(data, rows[batch], rescale=self.rescale)
        first = self.share * image + (1.0 - self.share) * text
        second = first @ first.T / len(first)
        return self._factor(data) * ((1.0 - self.eta) * first + self.eta * second)

    def _terms(self, codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
        terms = _distances(codes, target)
        return weighted(terms, {"image": self.lambda1, "text": self.lambda2})


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
        mu: factor of the affinity (code: 1.4). None is 4.8, or less as that of :class:`DJSRH`.
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
        mu: float | None = None,
        intra: float = 0.2,
        left: float = 0.1,
        right: float = 0.2,
        rescale: bool = False,
        dropout: float = 0.05,
        batch_size: int = 32,
    ) -> None:
        super().__init__(num_features, num_bits, hidden_channels, dropout, batch_size)
        for name in ("alpha", "beta", "lambda_", "intra", "left", "right"):
            check_weight(self.config[name], name)
        self.weights = (alpha, beta, lambda_)
        self.intra, self.rescale = intra, rescale
        self.left, self.right = left, right
        self._factor = affinity_factor(mu, 4.8, (alpha, beta), rescale)

    def _target(self, data: HeteroData, rows: Tensor, batch: Tensor) -> Tensor:
        image, text = batch_cosines(data, rows[batch], rescale=self.rescale)
        alpha, beta, joint = self.weights
        high = cosine_matrix(image, text)
        mixed = alpha * image + beta * text + joint * 0.5 * (high + high.T)
        return self._factor(data) * weigh_by_distribution(mixed, left=self.left, right=self.right)

    def _terms(self, codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
        terms = _distances(codes, target)
        terms["cross"] = 2.0 * terms["cross"]
        terms["pair"] = -F.cosine_similarity(codes[IMAGE], codes[TEXT]).mean()
        return weighted(terms, {"image": self.intra, "text": self.intra})


class DGCPN(AffinityModel):
    r"""Deep graph-neighbor coherence preserving network; no label is read.

    Yu, Zhou, Zhan, Tao, "Deep Graph-neighbor Coherence Preserving Network for Unsupervised
    Cross-modal Hashing", AAAI 2021, in the form of the authors' program. The features of a pair
    have the affinity :math:`P = a_1 S_T + (1 - a_1) S_I` with others; the ``k`` nearest training
    pairs of each make the rows of :math:`\hat P`, which sum to 1, and two pairs are alike as far as
    these rows are:

    .. math::
        S = (1 - a_2) P + a_2\, k\, \hat P \hat P^\top .

    (The authors have 4000 in place of k.) Training descends, as means over the pairs of pairs,

    .. math::
        \lVert \mathrm{diag} \cos(B_I, B_T) - \kappa \rVert^2
        + \sum_{(x, y) \in \{II, IT, TT\}} \lVert \cos(B_x, B_y) - S \rVert_{\text{off}}^2
        + w \sum_{\{u, v\}} \lVert u - v \rVert^2

    with the coexistence of a pair, the graph-neighbor coherence of different pairs, and the
    consistency of :math:`\cos(B_I, B_T)` with :math:`\cos(B_I, B_I)`, with
    :math:`\cos(B_T, B_T)` and with its own transpose, and of the latter two with each other.
    Each mini-batch makes three steps ("half-real and half-binary"): with both codes relaxed, with
    the texts' signs as constants, with the images' signs as constants.

    Defaults were chosen on validation splits and differ from the authors' where it says so.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_bits: code length.
        hidden_channels: width of the encoders' hidden layer.
        k: neighbours of a training pair; cut to all others if there are less.
        a1: share of the texts in P (code: 0.01).
        a2: share of the coherence in S (code: 0.3).
        kappa: aim of the cosine of a pair's two codes (code: 1.5).
        consistency: weight :math:`w` (code: 1).
        rescale: make :math:`2 S - 1` of S, as the authors do; see :class:`DJSRH`.
        dropout: share of the hidden layer that is dropped in training.
        batch_size: pairs of a mini-batch (code: 32).
    """

    anneal = False  # as in the authors' program

    def __init__(
        self,
        num_features: Widths,
        num_bits: int = 32,
        *,
        hidden_channels: int = 512,
        k: int = 100,
        a1: float = 0.8,
        a2: float = 0.99,
        kappa: float = 1.5,
        consistency: float = 1.4,
        rescale: bool = False,
        dropout: float = 0.45,
        batch_size: int = 32,
    ) -> None:
        super().__init__(num_features, num_bits, hidden_channels, dropout, batch_size)
        check_positive_int(k, "k")
        for name in ("a1", "a2"):
            check_fraction(self.config[name], name)
        for name in ("kappa", "consistency"):
            check_weight(self.config[name], name)
        self.a1, self.a2, self.rescale = a1, a2, rescale
        self.kappa, self.consistency = kappa, consistency
        self._neighbours = GraphCache(partial(neighbour_rows, k=k, text_share=a1), watched)

    def _target(self, data: HeteroData, rows: Tensor, batch: Tensor) -> Tensor:
        image, text = batch_cosines(data, rows[batch], rescale=False)
        first = self.a1 * text + (1.0 - self.a1) * image
        coherence = self._neighbours(data).coherence(batch)
        target = (1.0 - self.a2) * first + self.a2 * coherence
        return 2.0 * target - 1.0 if self.rescale else target

    def _steps(self, x: Mapping[Modality, Tensor], target: Tensor) -> Iterator[Objective]:
        yield from super()._steps(x, target)
        for live in MODALITIES:
            codes = {m: self.relaxed(x[m], m) for m in MODALITIES}
            signs = {m: binarize(codes[m].detach()).to(codes[m]) for m in MODALITIES}
            yield Objective(self._exact_terms(signs | {live: codes[live]}, target))

    def _terms(self, codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
        image, text = codes[IMAGE], codes[TEXT]
        within = {IMAGE: cosine_matrix(image), TEXT: cosine_matrix(text)}
        cross = cosine_matrix(image, text)
        different = 1.0 - torch.eye(len(target)).to(target)
        far = [
            ((cosine - target) * different).square().mean()
            for cosine in (within[IMAGE], cross, within[TEXT])
        ]
        terms = {
            "coexistence": (cross.diagonal() - self.kappa).square().mean(),
            "coherence": far[0] + far[1] + far[2],
            "consistency": F.mse_loss(cross, within[IMAGE])
            + F.mse_loss(cross, within[TEXT])
            + F.mse_loss(within[IMAGE], within[TEXT])
            + F.mse_loss(cross, cross.T),
        }
        return weighted(terms, {"consistency": self.consistency})


def affinity_factor(
    mu: float | None, default: float, weights: tuple[float, float], rescale: bool
) -> Callable[[HeteroData], float]:
    """What gives ``mu`` for some data; None is the default made safe, see :func:`safe_factor`."""
    if mu is not None:
        check_weight(mu, "mu")
        return partial(_fixed, mu)
    build = partial(safe_factor, factor=default, weights=weights, rescale=rescale)
    return GraphCache(build, watched)


def _fixed(mu: float, data: HeteroData) -> float:
    return mu


def _distances(codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
    """Of the cosines of codes, within and across the modalities, from their target."""
    image, text = codes[IMAGE], codes[TEXT]
    return {
        "image": affinity_loss(image, image, target, alpha=1.0),
        "cross": affinity_loss(image, text, target, alpha=1.0),
        "text": affinity_loss(text, text, target, alpha=1.0),
    }


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
    side, both of this mini-batch. ``left`` is :math:`L_1`, ``right`` :math:`L_2`.
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


class NeighbourRows(NamedTuple):
    r"""The sparse rows of :math:`\hat P`; each sums to 1, or is 0 without any neighbour."""

    nearest: Tensor  # places among the training rows, [n, k]
    weight: Tensor  # [n, k]

    def coherence(self, batch: Tensor) -> Tensor:
        r""":math:`k\,\hat P \hat P^\top` among some training rows, float ``[m, m]``."""
        # only the columns that occur: memory does not depend on the number of training rows
        columns, place = torch.unique(self.nearest[batch], return_inverse=True)
        dense = self.weight.new_zeros(len(batch), len(columns))
        dense.scatter_(1, place, self.weight[batch])
        return self.nearest.size(1) * (dense @ dense.T)


def neighbour_rows(data: HeteroData, *, k: int, text_share: float) -> NeighbourRows:
    """The ``k`` nearest training pairs of each one, by the mixed cosine of both modalities."""
    rows = data[IMAGE].train_mask.nonzero().flatten()
    shares = {IMAGE: 1.0 - text_share, TEXT: text_share}
    # the inner product of these is P
    both = [shares[m] ** 0.5 * F.normalize(data[m].x[rows], dim=1) for m in MODALITIES]
    x = torch.cat(both, dim=1)
    scores, index = knn(x, x, min(k, len(rows) - 1), metric="ip", exclude_self=True)
    weight = scores.clamp(min=0).to(x)
    return NeighbourRows(index, F.normalize(weight, p=1.0, dim=1))
