"""Codes whose cosines repeat an affinity: SGEH's target and its loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pyg_hash.losses._reduction import check_matrix, check_reduction, reduce_sum
from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_choice, check_fraction, check_weight

EVOLUTIONS = ("G1", "G2")


def cosine_matrix(first: Tensor, second: Tensor | None = None) -> Tensor:
    r"""Cosine of every row of one matrix with every row of another.

    Eq. (8) of Zhao et al., "From Sparse to Dense: Semantic Graph Evolutionary Hashing for
    Unsupervised Cross-Modal Retrieval" (SGEH), ACCV 2022, on features, and Eq. (11) on codes:
    :math:`x_i x_j^\top / (\lVert x_i \rVert \lVert x_j \rVert)`. A zero row has cosine 0 to all.

    Args:
        first: float ``[n, d]``.
        second: float ``[m, d]``; None takes ``first`` again.

    Returns:
        float ``[n, m]`` in [-1, 1].

    Raises:
        TypeError: not floating-point.
        ValueError: no matrices, or of different widths.
    """
    check_matrix(first, "first")
    a = F.normalize(first, dim=1)
    if second is None:
        return a @ a.t()
    check_matrix(second, "second")
    if first.size(1) != second.size(1):
        raise ValueError(
            f"first and second: {first.size(1)} and {second.size(1)} columns; rows must be "
            "equally long"
        )
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

    SGEH (Zhao et al., ACCV 2022), with :math:`\bar S = \lambda_4 S^I + (1 - \lambda_4) S^T`:
    Eq. (9) is ``evolution='G1'``, Eq. (10) is ``'G2'``:

    .. math::
        G_1 = (1 - \lambda_3) \bar S + \lambda_3 A, \qquad
        G_2 = \lambda_3 A + (1 - \lambda_3) \frac{\bar S \bar S^\top}{n}

    Args:
        adjacency: :math:`A`, float ``[n, n]``.
        image: cosines of the image features :math:`S^I`, float ``[n, n]``.
        text: cosines of the text features :math:`S^T`, float ``[n, n]``.
        evolution: ``'G1'`` or ``'G2'``.
        lambda3: share of the sparse affinity, in [0, 1] (paper: 0.4). 1 leaves ``adjacency``
            (SGEH-1 of Table 2), 0 under ``'G1'`` leaves :math:`\bar S` (SGEH-2).
        lambda4: share of the images, in [0, 1] (paper: 0.3 on Wikipedia, 0.6 on NUS-WIDE and
            COCO, 0.9 on MIRFlickr).

    Returns:
        float ``[n, n]``.

    Raises:
        TypeError: matrices that are not floating-point, or a share that is no number.
        ValueError: shapes that differ or are not square, a share outside [0, 1], or an unknown
            evolution.
    """
    check_choice(evolution, EVOLUTIONS, "evolution")
    check_fraction(lambda3, "lambda3")
    check_fraction(lambda4, "lambda4")
    for matrix, name in ((adjacency, "adjacency"), (image, "image"), (text, "text")):
        _check_square(matrix, name, adjacency.size(0) if adjacency.dim() else 0)
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

    Eq. (12) of SGEH (Zhao et al., ACCV 2022),
    :math:`\lVert \alpha U - \cos(B^1, B^2) \rVert_F^2`.

    Args:
        first: relaxed codes :math:`B^1` of one modality, float ``[n, num_bits]``.
        second: relaxed codes :math:`B^2` of the same or the other modality, float
            ``[n, num_bits]``.
        affinity: :math:`U`, float ``[n, n]``; a constant, no gradient flows into it.
        alpha: factor of the affinity (paper: 1.5); above 1 draws similar codes together.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``n * n``.

    Returns:
        A scalar; an exact zero if there are no rows.

    Raises:
        TypeError: tensors that are not floating-point.
        ValueError: shapes that do not match, or an unknown reduction.
    """
    check_reduction(reduction)
    check_weight(alpha, "alpha")
    cosine = cosine_matrix(first, second)
    _check_square(affinity, "affinity", first.size(0))
    if second.size(0) != first.size(0):
        raise ValueError(
            f"first and second: {first.size(0)} and {second.size(0)} rows; row i of both must be "
            "the same instance"
        )
    total = (alpha * affinity.detach() - cosine).square().sum()
    return reduce_sum(total, affinity.numel(), reduction)


def affinity_reconstruction_loss(
    image: Tensor,
    text: Tensor,
    affinity: Tensor,
    *,
    alpha: float = 1.5,
    lambda_ii: float = 1.0,
    lambda_it: float = 1.0,
    lambda_tt: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""The consistency loss :math:`L^B` of the codes of both modalities.

    Eq. (13) of SGEH (Zhao et al., ACCV 2022); its third term is printed with the image codes
    twice and taken between the modalities here, as its name and the authors' code say:

    .. math::
        \lambda_{ii} \lVert \alpha U - \cos(B^I, B^I) \rVert_F^2
        + \lambda_{it} \lVert \alpha U - \cos(B^I, B^T) \rVert_F^2
        + \lambda_{tt} \lVert \alpha U - \cos(B^T, B^T) \rVert_F^2

    Paper: ``lambda_ii = 1``, ``lambda_it = eta_2``, ``lambda_tt = eta_1``. Authors' code:
    ``lambda_it = 1``, the others are the two etas. Both have 0.1, and 0.3 on Wikipedia.

    Args:
        image: relaxed image codes :math:`B^I`, float ``[n, num_bits]``.
        text: relaxed text codes :math:`B^T`, float ``[n, num_bits]``.
        affinity: :math:`U`, float ``[n, n]``; see :func:`hybrid_affinity`.
        alpha: see :func:`affinity_loss`.
        lambda_ii: weight of the images among themselves.
        lambda_it: weight across the modalities; it alone couples them.
        lambda_tt: weight of the texts among themselves.
        reduction: see :func:`affinity_loss`.

    Returns:
        A scalar.

    Raises:
        TypeError, ValueError: see :func:`affinity_loss`; a weight that is negative or not finite.
    """
    terms = (
        (lambda_ii, "lambda_ii", image, image),
        (lambda_it, "lambda_it", image, text),
        (lambda_tt, "lambda_tt", text, text),
    )
    total = affinity.new_zeros(())
    for weight, name, first, second in terms:
        check_weight(weight, name)
        term = affinity_loss(first, second, affinity, alpha=alpha, reduction=reduction)
        total = total + weight * term
    return total


def _check_square(matrix: Tensor, name: str, size: int) -> None:
    check_matrix(matrix, name)
    if matrix.shape != (size, size):
        raise ValueError(f"{name}: expected shape [{size}, {size}], got {list(matrix.shape)}")
