"""The two reductions that all losses of this folder share."""

from __future__ import annotations

from torch import Tensor

from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_choice


def check_reduction(reduction: str) -> None:
    """Raise ``ValueError`` unless ``reduction`` is ``'mean'`` or ``'sum'``."""
    check_choice(reduction, ("mean", "sum"), "reduction")


def check_matrix(x: Tensor, name: str) -> None:
    """Raise unless ``x`` is a floating-point matrix; it may have no rows.

    Raises:
        TypeError: not floating-point.
        ValueError: not two-dimensional.
    """
    if not x.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor [N, d], got {x.dtype}")
    if x.dim() != 2:
        raise ValueError(f"{name}: expected shape [N, d], got {list(x.shape)}")


def reduce_sum(total: Tensor, count: int, reduction: Reduction) -> Tensor:
    """``total``, divided by its number of summands if ``reduction`` is ``'mean'``.

    A sum without summands stays an exact zero, so a loss over no rows is no NaN.
    """
    return total / max(count, 1) if reduction == "mean" else total
