"""Losses that are linear in the similarity of pairs: sums over similar ones, no matrix of pairs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.losses.pairs import comparable, num_classes, tiles
from pyg_hash.typing import Match, Reduction
from pyg_hash.utils.checks import check_choice, reduced

_TILE = 1024  # rows and columns of the similarities that are alive at a time


def linear_similarity_loss(
    a: Tensor,
    b: Tensor,
    a_y: Tensor,
    b_y: Tensor,
    *,
    match: Match = "shared",
    dissimilar: float = -1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Negative correlation of the similarity of all pairs with that of their codes.

    SGCH's similarity term,

    .. math:: -\sum_{p,q} S_{pq} \langle a_p, b_q \rangle

    With the paper's :math:`S \in \{0, 1\}` all codes could be one and the same, because nothing
    pushes codes apart; with :math:`S \in \{-1, 1\}` each bit has the same optimum, whatever the
    other bits are. Keep a :func:`balance_loss` beside it: without one, the optimum for many classes
    is one code for all images and its opposite for all texts.

    Exact, in :math:`O((n + m) K)` memory; for one label a row also in that time. It has first
    derivatives only, and a second raises no error. Arguments and errors are those of
    :func:`pairwise_nll`, and ``dissimilar``, the :math:`S` of pairs that are not similar, -1 or 0
    (paper), else ``ValueError``. ``'sum'`` is the formula; ``'mean'`` divides it by
    ``n * m * num_bits``, which gives a value in [-1, 1].
    """
    check_choice(dissimilar, (-1.0, 0.0), "dissimilar")
    a, b, a_y, b_y = comparable(a, b, a_y, b_y, match, reduction)
    with torch.no_grad():  # S = (1 - dissimilar) J + dissimilar, with J of the similar pairs
        to_a, to_b = _similar_sums(a, b, a_y, b_y)
        to_a = (1 - dissimilar) * to_a + dissimilar * b.sum(0)
        to_b = (1 - dissimilar) * to_b + dissimilar * a.sum(0)
    return reduced(-_inner(a, b, to_a, to_b), a.numel() * b.size(0), reduction)


def similar_distance_loss(
    a: Tensor, b: Tensor, a_y: Tensor, b_y: Tensor, *, reduction: Reduction = "mean"
) -> Tensor:
    r"""Squared distances of the codes of all similar pairs.

    The fourth term of GCH report Eq. 11 ("Try1"), a reproduction of it, without its factor:
    :math:`\sum_{p,q} J_{pq} \lVert a_p - b_q \rVert_2^2`, with :math:`J_{pq} = 1` if the two share
    a label, else 0. As cheap as :func:`linear_similarity_loss`; ``'mean'`` divides it by ``n * m``.
    """
    a, b, a_y, b_y = comparable(a, b, a_y, b_y, "shared", reduction)
    with torch.no_grad():  # a column of ones beside the codes counts the similar pairs
        more_a, more_b = (F.pad(x, (0, 1), value=1.0) for x in (a, b))
        to_a, to_b = _similar_sums(more_a, more_b, a_y, b_y)
    near = (a.square() * to_a[:, -1:]).sum() + (b.square() * to_b[:, -1:]).sum()
    total = near - 2 * _inner(a, b, to_a[:, :-1], to_b[:, :-1])
    return reduced(total, a.size(0) * b.size(0), reduction)


def _similar_sums(a: Tensor, b: Tensor, a_y: Tensor, b_y: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the sum of the other set's similar rows: ``J b``, ``J^T a``, ``[n or m, d]``."""
    if a_y.dim() == 1:
        classes = num_classes(a_y, b_y)
        of_a, of_b = (
            x.new_zeros(classes, x.size(1)).index_add_(0, y, x) for x, y in ((a, a_y), (b, b_y))
        )
        return of_b[a_y], of_a[b_y]
    to_a, to_b = torch.zeros_like(a), torch.zeros_like(b)
    with torch.autocast(a.device.type, enabled=False):
        for rows, columns in tiles(len(a), len(b), _TILE):
            j = (a_y[rows] @ b_y[columns].t()).clamp_(max=1)
            to_a[rows].addmm_(j, b[columns])
            to_b[columns].addmm_(j.t(), a[rows])
    return to_a, to_b


def _inner(a: Tensor, b: Tensor, to_a: Tensor, to_b: Tensor) -> Tensor:
    """Sum of ``a * S b``, of the constants ``S b`` and ``S^T a``, with the gradient of both."""
    product = (a * to_a).sum()
    # twice the product less itself: the value is one product, the gradient is of both factors
    return product + (b * to_b).sum() - product.detach()
