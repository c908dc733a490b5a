"""DGCPN: items are alike if their neighbours are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.codes import binarize
from pyg_hash.graph import GraphCache
from pyg_hash.knn import knn
from pyg_hash.losses import cosine_matrix
from pyg_hash.models.base import Objective
from pyg_hash.models.common import Widths, weighted
from pyg_hash.models.two_encoders import AffinityModel, batch_cosines
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality
from pyg_hash.utils.checks import check_fraction, check_positive_int, check_weight


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
        self._neighbours = GraphCache(partial(neighbour_rows, k=k, text_share=a1), _watched)

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

        def far(cosine: Tensor) -> Tensor:
            return ((cosine - target) * different).square().mean()

        terms = {
            "coexistence": (cross.diagonal() - self.kappa).square().mean(),
            "coherence": far(within[IMAGE]) + far(cross) + far(within[TEXT]),
            "consistency": F.mse_loss(cross, within[IMAGE])
            + F.mse_loss(cross, within[TEXT])
            + F.mse_loss(within[IMAGE], within[TEXT])
            + F.mse_loss(cross, cross.T),
        }
        return weighted(terms, {"consistency": self.consistency})


class NeighbourRows(NamedTuple):
    r"""The sparse rows of :math:`\hat P`.

    Attributes:
        nearest: places of the neighbours among the training rows, int64 ``[n, k]``.
        weight: their weights, float ``[n, k]``; each row sums to 1, or is 0 without any.
    """

    nearest: Tensor
    weight: Tensor

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


def _watched(data: HeteroData) -> list[Tensor]:
    return [data[IMAGE].train_mask, *(data[m].x for m in MODALITIES)]
