"""Distance between relaxed and binary codes."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.losses._reduction import check_matrix, check_reduction, reduce_sum
from pyg_hash.typing import Reduction


def quantization_loss(relaxed: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Quantization loss of one modality, :math:`\lVert B - R \rVert_F^2`.

    The second term of Eq. (7) of Wu et al. (MCGCN), Pattern Recognition 136, 2023, without its
    factor :math:`\alpha`. :math:`B = \mathrm{sign}(R)`, with sign(0) = +1, is a constant: no
    gradient flows through it.

    Args:
        relaxed: relaxed codes :math:`R`, float ``[N, num_bits]``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``N * num_bits``.

    Returns:
        A scalar; an exact zero if there are no rows.

    Raises:
        TypeError: codes that are not floating-point.
        ValueError: codes that are no matrix, or an unknown reduction.
    """
    check_reduction(reduction)
    check_matrix(relaxed, "relaxed")
    with torch.no_grad():
        one = torch.ones_like(relaxed)
        codes = torch.where(relaxed >= 0, one, -one)
    return reduce_sum((codes - relaxed).square().sum(), relaxed.numel(), reduction)
