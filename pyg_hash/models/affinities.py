"""Unsupervised baselines whose codes repeat an affinity of both modalities' features."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.codes import binarize
from pyg_hash.knn import knn
from pyg_hash.losses import affinity_loss, cosine_matrix
from pyg_hash.models.base import Objective
from pyg_hash.models.common import GraphCache, Widths
from pyg_hash.models.two_encoders import AffinityModel
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality
from pyg_hash.utils.checks import check_each, check_fraction, check_positive_int, check_weight
from pyg_hash.utils.oddities import OddDataWarning

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


class DJSRH(AffinityModel):
    r"""Deep joint-semantics reconstructing hashing; no label is read.

    Su, Zhong, Zhang, "Deep Joint-Semantics Reconstructing Hashing for Large-Scale Unsupervised
    Cross-Modal Retrieval", ICCV 2019. In a mini-batch of m pairs with the cosines of their features
    :math:`S_I, S_T`,

    .. math::
        \tilde S = \beta S_I + (1 - \beta) S_T, \qquad
        S = (1 - \eta) \tilde S + \eta\, \tilde S \tilde S^\top / m,

    and training descends

    .. math::
        \lambda_1 \lVert \mu S - \cos(B_I, B_I) \rVert^2 + \lVert \mu S - \cos(B_I, B_T) \rVert^2
        + \lambda_2 \lVert \mu S - \cos(B_T, B_T) \rVert^2

    as means over the pairs of pairs. Codes are :math:`\tanh(\sqrt{e + 1}\, Y)` in epoch :math:`e`
    (from 0).

    Args:
        num_features, num_bits, hidden_channels, dropout, batch_size: see :class:`HashModel` (paper:
            batches of 32; code: a hidden layer of 4096 for texts).
        beta: share of the images in :math:`\tilde S` (paper: 0.9 on MIRFlickr, 0.6 on NUS-WIDE, 0.3
            on Wikipedia).
        eta: share of the second-order affinity (paper: 0.4).
        mu: factor of the affinity (paper: 1.5). None is 9, or, with a warning, what makes the mean
            of :math:`\mu S` one half where 9 makes it over 1, so that all codes would be the same.
        lambda1, lambda2: weight of images and of texts among themselves (paper: 0.1, Wikipedia
            0.3).
        rescale: make :math:`2 S - 1` of both cosines, as the paper does.
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
        check_each(check_fraction, beta=beta, eta=eta)
        check_each(check_weight, lambda1=lambda1, lambda2=lambda2, mu=9.0 if mu is None else mu)
        self.share, self.eta, self.rescale = beta, eta, rescale
        lower = partial(affinity_factor, mu=mu, weights=(beta, 1.0 - beta), rescale=rescale)
        self._factor = GraphCache(partial(lower, default=9.0))
        self.weights = {"image": lambda1, "text": lambda2}

    def _target(self, data: HeteroData, rows: Tensor, batch: Tensor) -> Tensor:
        image, text = batch_cosines(data, rows[batch], self.rescale)
        first = self.share * image + (1.0 - self.share) * text
        second = first @ first.T / len(first)
        return self._factor(data) * ((1.0 - self.eta) * first + self.eta * second)

    def _terms(self, codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
        return _distances(codes, target)


class JDSH(AffinityModel):
    r"""Joint-modal distribution-based similarity hashing; no label is read.

    Liu, Qian, Guan, Zhan, Ying, "Joint-modal Distribution-based Similarity Hashing for Large-scale
    Unsupervised Deep Cross-modal Retrieval", SIGIR 2020, in the form of the authors' program. In a
    mini-batch with the cosines of the features :math:`S_I, S_T`,

    .. math::
        S = \alpha S_I + \beta S_T + \lambda\, \tfrac{1}{2} (H + H^\top), \qquad
        H = \cos(S_I, S_T),

    whose rows are compared in :math:`H`. Then :func:`weigh_by_distribution` draws apart what is
    clearly similar or clearly not, and training descends, with :math:`S' = \mu S`,

    .. math::
        2 \lVert S' - \cos(B_I, B_T) \rVert^2 - \overline{\cos(b_I, b_T)}
        + \rho \left( \lVert S' - \cos(B_I, B_I) \rVert^2
        + \lVert S' - \cos(B_T, B_T) \rVert^2 \right)

    as means over the pairs of pairs. Codes are :math:`\tanh(\sqrt{e + 1}\, Y)` in epoch :math:`e`
    (from 0).

    Args:
        num_features, num_bits, hidden_channels, dropout, batch_size: see :class:`HashModel`
            (authors: batches of 32).
        alpha, beta, lambda_: weight of images, texts and the joint affinity H in S (paper: 0.5,
            0.1 and 0.4 on MIRFlickr, 0.4, 0.3 and 0.3 on NUS-WIDE).
        mu: factor of the affinity (code: 1.4). None is 4.8, or less as that of :class:`DJSRH`.
        intra: weight :math:`\rho` of the terms within a modality (code: 0.1).
        left, right: weight of the clearly dissimilar, and similar (code: 0.1 and 0.2).
        rescale: see :class:`DJSRH`.
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
        check_each(check_weight, alpha=alpha, beta=beta, lambda_=lambda_)
        check_each(check_weight, intra=intra, left=left, right=right, mu=4.8 if mu is None else mu)
        self.shares, self.rescale = (alpha, beta, lambda_), rescale
        self.weights = {"image": intra, "text": intra}
        self._weigh = partial(weigh_by_distribution, left=left, right=right)
        lower = partial(affinity_factor, mu=mu, weights=(alpha, beta), rescale=rescale)
        self._factor = GraphCache(partial(lower, default=4.8))

    def _target(self, data: HeteroData, rows: Tensor, batch: Tensor) -> Tensor:
        image, text = batch_cosines(data, rows[batch], self.rescale)
        alpha, beta, joint = self.shares
        high = cosine_matrix(image, text)
        mixed = alpha * image + beta * text + joint * 0.5 * (high + high.T)
        return self._factor(data) * self._weigh(mixed)

    def _terms(self, codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
        terms = _distances(codes, target)
        terms["cross"] = 2.0 * terms["cross"]
        terms["pair"] = -F.cosine_similarity(codes[IMAGE], codes[TEXT]).mean()
        return terms


class DGCPN(AffinityModel):
    r"""Deep graph-neighbor coherence preserving network; no label is read.

    Yu, Zhou, Zhan, Tao, "Deep Graph-neighbor Coherence Preserving Network for Unsupervised
    Cross-modal Hashing", AAAI 2021, in the form of the authors' program. With the affinity
    :math:`P = a_1 S_T + (1 - a_1) S_I` of pairs, and in the rows of :math:`\hat P`, which sum to 1,
    that of each with its ``k`` nearest training pairs,

    .. math:: S = (1 - a_2) P + a_2\, k\, \hat P \hat P^\top .

    (The authors have 4000 in place of k.) Training descends, as means over the pairs of pairs,

    .. math::
        \lVert \mathrm{diag} \cos(B_I, B_T) - \kappa \rVert^2
        + \sum_{(x, y) \in \{II, IT, TT\}} \lVert \cos(B_x, B_y) - S \rVert_{\text{off}}^2
        + w \sum_{\{u, v\}} \lVert u - v \rVert^2

    the last over :math:`\cos(B_I, B_T)` with :math:`\cos(B_I, B_I)`, with :math:`\cos(B_T, B_T)`
    and with its own transpose, and the latter two with each other. Each mini-batch makes three
    steps: with both codes relaxed, with the texts' signs as constants, with the images'.

    Args:
        num_features, num_bits, hidden_channels, dropout, batch_size: see :class:`HashModel`
            (authors: batches of 32).
        k: neighbours of a training pair; a third of all pairs at most.
        a1: share of the texts in P (code: 0.01).
        a2: share of the coherence in S (code: 0.3).
        kappa: aim of the cosine of a pair's two codes (code: 1.5).
        consistency: weight :math:`w` (code: 1).
        rescale: make :math:`2 S - 1` of S, as the authors do; see :class:`DJSRH`.
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
        check_each(check_fraction, a1=a1, a2=a2)
        check_each(check_weight, kappa=kappa, consistency=consistency)
        self.a1, self.a2, self.rescale = a1, a2, rescale
        self.kappa, self.weights = kappa, {"consistency": consistency}
        self._neighbours = GraphCache(partial(neighbour_rows, k=k, text_share=a1))

    def _target(self, data: HeteroData, rows: Tensor, batch: Tensor) -> Tensor:
        image, text = batch_cosines(data, rows[batch], False)
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
        image, text = (cosine_matrix(codes[m]) for m in MODALITIES)
        cross = cosine_matrix(codes[IMAGE], codes[TEXT])
        different = 1.0 - target.new_ones(len(target)).diag()
        far = [((each - target) * different).square().mean() for each in (image, cross, text)]
        return {
            "coexistence": (cross.diagonal() - self.kappa).square().mean(),
            "coherence": far[0] + far[1] + far[2],
            "consistency": F.mse_loss(cross, image)
            + F.mse_loss(cross, text)
            + F.mse_loss(image, text)
            + F.mse_loss(cross, cross.T),
        }


def affinity_factor(
    data: HeteroData,
    *,
    mu: float | None,
    default: float,
    weights: tuple[float, float],
    rescale: bool,
) -> float:
    """The factor ``mu``; for None the default, less where equal codes would meet most targets."""
    if mu is not None:
        return mu
    rows = data[IMAGE].train_mask.nonzero().flatten()
    mean = 0.0
    for m, weight in zip(MODALITIES, weights, strict=True):
        x = F.normalize(data[m].x[rows].double(), dim=1)
        pairs = max(len(x) * (len(x) - 1), 1)
        cosine = float(x.sum(dim=0).square().sum() - x.square().sum()) / pairs
        mean += weight * (2.0 * cosine - 1.0 if rescale else cosine)
    if default * mean <= 1.0:
        return default
    warnings.warn(
        f"mu: the default {default:g} asks for a mean cosine of {default * mean:.2g} between "
        f"the codes of different pairs, which would make all codes equal; {0.5 / mean:.3g} is "
        "used. Where codes are equal all the same, centre both sides' features: --scaling.center="
        "[image,text], in Python ScaleFeatures(center=('image', 'text'))",
        OddDataWarning,
        stacklevel=2,
    )
    return 0.5 / mean


def batch_cosines(data: HeteroData, rows: Tensor, rescale: bool) -> tuple[Tensor, Tensor]:
    """Cosines of both modalities' features, ``[m, m]`` each; ``rescale``: ``2 S - 1`` of them."""
    image, text = (cosine_matrix(data[m].x[rows]) for m in MODALITIES)
    return (2.0 * image - 1.0, 2.0 * text - 1.0) if rescale else (image, text)


def _distances(codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
    """Of the cosines of codes, within and across the modalities, from their target."""
    sides = {"image": (IMAGE, IMAGE), "cross": (IMAGE, TEXT), "text": (TEXT, TEXT)}
    return {k: affinity_loss(codes[a], codes[b], target, alpha=1.0) for k, (a, b) in sides.items()}


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

    Here :math:`c` is the median and :math:`\sigma` the root mean square distance from it on either
    side, of this mini-batch (code: numbers of each data set). ``left`` is :math:`L_1`, ``right``
    :math:`L_2`.
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
    """The ``k`` nearest training pairs of each, a third of all at most, by the cosines P."""
    rows = data[IMAGE].train_mask.nonzero().flatten()
    shares = {IMAGE: 1.0 - text_share, TEXT: text_share}
    # the inner product of these is P
    sides = [shares[m] ** 0.5 * F.normalize(data[m].x[rows], dim=1) for m in MODALITIES]
    x = torch.cat(sides, dim=1)
    scores, index = knn(x, x, min(k, max(1, len(rows) // 3)), metric="ip", exclude_self=True)
    weight = scores.clamp(min=0).to(x)
    return NeighbourRows(index, F.normalize(weight, p=1.0, dim=1))
