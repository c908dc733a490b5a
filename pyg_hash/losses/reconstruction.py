"""Reconstruction loss of an autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    total: Tensor = _SquaredError.apply(reconstruction, x)  # type: ignore[no-untyped-call]
    return reduce_sum(total, x.numel(), reduction)


class _SquaredError(torch.autograd.Function):
    """``(x - y).square().sum()`` that keeps one array and goes over it once on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        difference = x - y  # float32 if one is bfloat16
        ctx.save_for_backward(difference)
        ctx.types = (x.dtype, y.dtype)
        lengths: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return lengths.square().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None]:
        (difference,) = ctx.saved_tensors
        slope = difference * (2 * grads[0])
        of_x, of_y = ctx.needs_input_grad
        return slope.to(ctx.types[0]) if of_x else None, -slope.to(ctx.types[1]) if of_y else None
