"""The ranking of pairs in UCCH.

Hu, Zhu, Lin, Peng, Zhao, Peng, "Unsupervised Contrastive Cross-modal Hashing", TPAMI 2023.
"""

from __future__ import annotations

from torch import Tensor

from pyg_hash.losses.contrast import check_codes, sum_of_rows
from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import (
    check_positive,
    check_reduction,
    check_same_rows,
    check_weight,
    reduced,
)


def ranking_loss(
    a: Tensor,
    b: Tensor,
    *,
    margin: float = 0.2,
    kappa: float = 1.0,
    shift: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""UCCH's cross-modal ranking of a pair before all others, in both directions.

    :math:`L_r(S) + L_r(S^\top)` with the cosines :math:`S_{ij} = \cos(a_i, b_j)` and

    .. math:: L_r(S) = \frac{1}{n} \sum_i \left( m
        + \kappa \log \sum_j e^{S_{ij} / \kappa} - S_{ii} \right)

    It is :math:`2 m` and :math:`\kappa` times the :func:`~pyg_hash.losses.contrastive_loss` of both
    directions at temperature :math:`\kappa`. The released program (penghu-cs/UCCH) first takes
    ``shift`` = 1 off each :math:`S_{ij} < S_{ii} - m`: what is far enough hardly counts, and only
    there the margin has an effect on the gradient.

    Codes are float ``[n, num_bits]``; defaults are the program's, but for ``shift``. ``'mean'`` is
    the formula; ``'sum'`` does not divide by ``n``. Errors are those of ``contrastive_loss``, and
    ``ValueError``: ``margin`` or ``shift`` is negative or infinite, ``kappa`` not positive.
    """
    check_reduction(reduction)
    check_weight(margin, "margin")
    check_positive(kappa, "kappa")
    check_weight(shift, "shift")
    a, b = check_codes(a, b)
    check_same_rows(a, b, "a", "b")
    cut = (margin / kappa, shift / kappa)
    contrast = sum_of_rows(a, b, kappa, cut=cut) + sum_of_rows(b, a, kappa, cut=cut)
    return reduced(kappa * contrast + 2 * margin * len(a), len(a), reduction)
