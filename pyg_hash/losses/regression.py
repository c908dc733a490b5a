"""Squared errors of codes, features and predicted labels."""

from __future__ import annotations

from torch import Tensor

from pyg_hash.losses._reduction import check_matrix, check_reduction, reduce_sum
from pyg_hash.typing import Reduction


def label_regression_loss(logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Squared error of predicted labels, :math:`\lVert \hat L - L \rVert_F^2`.

    The last terms of Eq. (3), (5) and (8) of Xu et al., "Graph Convolutional Network Hashing for
    Cross-Modal Retrieval" (GCH), IJCAI 2019, without their factors; :math:`\hat L` is the logistic
    function of the logits (Sec. 4.2).

    Args:
        logits: predictions before the logistic function, float ``[N, C]``.
        labels: multi-hot labels, float ``[N, C]``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``N * C``.

    Returns:
        A scalar; an exact zero if there are no rows.

    Raises:
        TypeError: logits or labels that are not floating-point.
        ValueError: shapes that differ, or an unknown reduction.
    """
    check_matrix(logits, "logits")
    return squared_distance_loss(logits.sigmoid(), labels, reduction, names=("logits", "labels"))


def squared_distance_loss(
    a: Tensor,
    b: Tensor,
    reduction: Reduction = "mean",
    *,
    names: tuple[str, str] = ("a", "b"),
) -> Tensor:
    r"""Squared distance of two matrices, :math:`\lVert A - B \rVert_F^2`.

    The second term of Eq. (5) of GCH, between beacon codes and codes, and Eq. (12) of its
    reproduction report ("Try2"), between image and text features; without their factors.

    Args:
        a: float ``[N, d]``.
        b: float ``[N, d]``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``N * d``.
        names: what errors call the two.

    Returns:
        A scalar; an exact zero if there are no rows.

    Raises:
        TypeError: not floating-point.
        ValueError: shapes that differ, or an unknown reduction.
    """
    check_reduction(reduction)
    check_matrix(a, names[0])
    check_matrix(b, names[1])
    if a.shape != b.shape:
        raise ValueError(
            f"{names[0]} and {names[1]}: shapes {list(a.shape)} and {list(b.shape)} must be the "
            "same"
        )
    return reduce_sum((a - b).square().sum(), a.numel(), reduction)
