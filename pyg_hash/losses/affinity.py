"""Codes whose cosines repeat an affinity, as in SGEH."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_choice, check_floats, check_fraction, check_weight, reduced


def cosine_matrix(first: Tensor, second: Tensor | None = None) -> Tensor:
    """Cosine of every row of one matrix with every row of another (None: itself), ``[n, m]``.

    SGEH Eq. 8 on features and SGEH Eq. 11 on codes; a zero row has cosine 0. Errors are those of
    all :mod:`~pyg_hash.losses`.
    """
    check_floats(first, "first")
    a = F.normalize(first, dim=1)
    if second is None:
        return a @ a.t()
    check_floats(second, "second")
    if first.size(1) != second.size(1):
        both = f"{first.size(1)} and {second.size(1)}"
        raise ValueError(f"first and second: {both} columns; rows must be equally long")
    return a @ F.normalize(second, dim=1).t()


def hybrid_affinity(
    adjacency: Tensor,
    image: Tensor,
    text: Tensor,
    *,
    evolution: str = "G2",
    lambda3: float = 0.4,
    lambda4: float = 0.5,
) -> Tensor:
    r"""The dense affinity :math:`U` that a sparse one and two dense ones evolve to.

    SGEH Eq. 9 is ``evolution='G1'``, SGEH Eq. 10 is ``'G2'``; with
    :math:`\bar S = \lambda_4 S^I + (1 - \lambda_4) S^T`,

    .. math::
        G_1 = (1 - \lambda_3) \bar S + \lambda_3 A, \qquad
        G_2 = \lambda_3 A + (1 - \lambda_3) \frac{\bar S \bar S^\top}{n}

    All are float ``[n, n]``: ``adjacency`` :math:`A`, the cosines :math:`S^I, S^T` of ``image`` and
    ``text`` features, and the result; both shares are in [0, 1] (paper: 0.4 of A, and of the images
    0.3 on Wikipedia, 0.6 on NUS-WIDE and COCO, 0.9 on MIRFlickr). Errors: see
    :mod:`pyg_hash.losses`.
    """
    check_choice(evolution, ("G1", "G2"), "evolution")
    check_fraction(lambda3, "lambda3")
    check_fraction(lambda4, "lambda4")
    for matrix, name in ((adjacency, "adjacency"), (image, "image"), (text, "text")):
        _check_shape(matrix, name, 2 * adjacency.shape[:1])
    dense = lambda4 * image + (1.0 - lambda4) * text
    if evolution == "G2":
        dense = dense @ dense.t() / max(dense.size(0), 1)
    return lambda3 * adjacency + (1.0 - lambda3) * dense


def affinity_loss(
    first: Tensor,
    second: Tensor,
    affinity: Tensor,
    *,
    alpha: float = 1.5,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Squared distance between an affinity and the cosines of codes.

    SGEH Eq. 12, :math:`\lVert \alpha U - \cos(B^1, B^2) \rVert_F^2`.

    Of relaxed codes ``[n, num_bits]`` of one modality and ``[m, num_bits]`` of any; ``affinity``
    :math:`U`, float ``[n, m]``, is a constant. ``alpha`` above 1 draws similar codes together.
    ``'sum'`` is the formula; ``'mean'`` divides it by ``n * m``. ``ValueError``: ``alpha`` is
    negative or infinite; other errors: see :mod:`pyg_hash.losses`.
    """
    check_weight(alpha, "alpha")
    cosine = cosine_matrix(first, second)
    _check_shape(affinity, "affinity", cosine.shape)
    total = (alpha * affinity.detach() - cosine).square().sum()
    return reduced(total, affinity.numel(), reduction)


def _check_shape(matrix: Tensor, name: str, shape: torch.Size) -> None:
    check_floats(matrix, name)
    if matrix.shape != shape:
        raise ValueError(f"{name}: expected shape {list(shape)}, got {list(matrix.shape)}")
