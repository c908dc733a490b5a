"""SCM: codes whose inner products repeat the similarity of labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.codes import binarize
from pyg_hash.models.batches import multi_hot
from pyg_hash.models.cca import whitener
from pyg_hash.models.closed_form import LinearHashModel, centred, selected_features
from pyg_hash.models.common import Widths, known_labels
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_choice, check_weight

VARIANTS = ("sequential", "orthogonal")
_TIES = 1e-6


class SCM(LinearHashModel):
    r"""Semantic correlation maximization.

    Zhang & Li, "Large-Scale Supervised Multimodal Hashing with Semantic Correlation Maximization",
    AAAI 2014. With the label vectors scaled to length 1, :math:`\tilde L`, the similarity of two
    labelled items is :math:`\tilde S = 2 \tilde L \tilde L^\top - 1 1^\top`. Their codes shall
    minimise

    .. math::
        \lVert \mathrm{sgn}(X W_x)\, \mathrm{sgn}(Y W_y)^\top - K \tilde S \rVert_F^2 .

    ``'orthogonal'`` (Sec. "Orthogonal Projection Learning") drops the signs and asks for
    :math:`W_x^\top X^\top X W_x = n I` and the same of :math:`W_y`: a generalised eigenproblem of
    :math:`C = X^\top \tilde S Y`. That has no more directions than there are classes; further ones
    are all alike to it, and here they are ordered by their correlation. ``'sequential'`` (Algorithm
    1) takes bit by bit the leading direction of what the bits before have left:
    :math:`C \leftarrow C - X^\top \mathrm{sgn}(X w_x)\, \mathrm{sgn}(Y w_y)^\top Y`, from
    :math:`K C`. Both work on products with :math:`\tilde L`; no matrix of pairs is made. The ridge
    is relative here (the authors' program adds 1e-6).

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_classes: number of classes.
        num_bits: code length; for ``'orthogonal'`` at most the rank of either modality's features.
        variant: ``'sequential'`` or ``'orthogonal'``.
        ridge: multiple of a modality's mean variance that is added to every variance.
    """

    def __init__(
        self,
        num_features: Widths,
        num_classes: int,
        num_bits: int = 32,
        *,
        variant: str = "sequential",
        ridge: float = 1.0,
    ) -> None:
        super().__init__(num_features, num_bits)
        check_choice(variant, VARIANTS, "variant")
        check_weight(ridge, "ridge")
        self.num_classes, self.variant, self.ridge = num_classes, variant, ridge

    def _solve(self, data: HeteroData) -> None:
        y = known_labels(data, self.num_classes)
        labels = multi_hot(y, self.num_classes)
        views, means = centred(selected_features(data, "labeled_mask"))
        white = [whitener(x.T @ x / len(x), self.ridge) for x in views]
        learn = sequential_directions if self.variant == "sequential" else orthogonal_directions
        directions = learn(
            (views[0] @ white[0], views[1] @ white[1]), labels.to(views[0]), self.num_bits
        )
        for m, mean, whiten, direction in zip(MODALITIES, means, white, directions, strict=True):
            self._keep_centred(m, whiten @ direction, mean)


def orthogonal_directions(
    views: tuple[Tensor, Tensor], labels: Tensor, num_bits: int
) -> tuple[Tensor, Tensor]:
    """Directions ``[r_x, num_bits]`` and ``[r_y, num_bits]`` of whitened views, jointly.

    Args:
        views: whitened features, float64 ``[n, r_x]`` and ``[n, r_y]``.
        labels: multi-hot, float64 ``[n, C]``.
        num_bits: number of directions.

    Raises:
        ValueError: there are not that many.
    """
    x, y = views
    available = min(x.size(1), y.size(1))
    if num_bits > available:
        raise ValueError(
            f"num_bits: {num_bits} orthogonal directions wanted, but the features have only "
            f"{available}; use fewer bits, or variant='sequential'"
        )
    left, right = _similarity_factors(views, labels)
    product, correlation = left @ right.T, x.T @ y
    share = _TIES * torch.linalg.matrix_norm(product) / torch.linalg.matrix_norm(correlation)
    u, _, v = torch.linalg.svd(product + share * correlation, full_matrices=False)
    return u[:, :num_bits], v[:num_bits].T


def sequential_directions(
    views: tuple[Tensor, Tensor], labels: Tensor, num_bits: int
) -> tuple[Tensor, Tensor]:
    """Directions of whitened views, one after the other; see :func:`orthogonal_directions`."""
    x, y = views
    left, right = _similarity_factors(views, labels)
    left = num_bits * left
    image, text = [], []
    for _ in range(num_bits):
        u, v = _leading_pair(left, right)
        image.append(u)
        text.append(v)
        left = torch.cat([left, -(x.T @ binarize(x @ u).to(x))[:, None]], dim=1)
        right = torch.cat([right, (y.T @ binarize(y @ v).to(y))[:, None]], dim=1)
    return torch.stack(image, dim=1), torch.stack(text, dim=1)


def _similarity_factors(views: tuple[Tensor, Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """``A`` and ``B`` with ``A @ B.T = X.T @ S @ Y``, of one column more than there are classes."""
    unit = torch.nn.functional.normalize(labels, dim=1)
    one = torch.ones_like(unit[:, :1])
    x, y = views
    return x.T @ torch.cat([2.0 * unit, -one], dim=1), y.T @ torch.cat([unit, one], dim=1)


def _leading_pair(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The leading singular vectors of ``left @ right.T``, which has few columns in between."""
    q_left, r_left = torch.linalg.qr(left)
    q_right, r_right = torch.linalg.qr(right)
    u, _, v = torch.linalg.svd(r_left @ r_right.T)
    return q_left @ u[:, 0], q_right @ v[0]
