"""Reconstruction loss of an autoencoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pyg_hash.losses._reduction import check_matrix, check_reduction, reduce_sum
from pyg_hash.typing import Reduction


def reconstruction_loss(x: Tensor, reconstruction: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Squared error of one modality's autoencoder, :math:`\lVert X - X_d \rVert_F^2`.

    The loss :math:`L_r` of Wu et al. (MCGCN), Pattern Recognition 136, 2023, Sec. 3.3, which gives
    it in Fig. 2 only; add the losses of both modalities.

    Args:
        x: features, float ``[N, d]``.
        reconstruction: what the decoder made of them, float ``[N, d]``.
        reduction: ``'sum'`` is the squared Frobenius norm; ``'mean'`` divides it by the number of
            elements ``N * d``, so that wide features weigh no more than narrow ones.

    Returns:
        A scalar; an exact zero if there are no rows.

    Raises:
        TypeError: features that are not floating-point.
        ValueError: different shapes, or an unknown reduction.
    """
    check_reduction(reduction)
    check_matrix(x, "x")
    check_matrix(reconstruction, "reconstruction")
    if x.shape != reconstruction.shape:
        raise ValueError(
            f"x and reconstruction: shapes {list(x.shape)} and {list(reconstruction.shape)} "
            "must be the same"
        )
    # one pass each way: wide features are the largest arrays of all
    total = F.mse_loss(reconstruction.to(x.dtype), x, reduction="sum")
    return reduce_sum(total, x.numel(), reduction)
