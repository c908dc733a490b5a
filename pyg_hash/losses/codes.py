"""Squared errors of codes and features, and how evenly each bit is used.

MCGCN: Wu et al., "Semi-supervised cross-modal hashing via modality-specific and cross-modal graph
convolutional networks", Pattern Recognition 136, 2023. GCH: Xu et al., "Graph Convolutional
Network Hashing for Cross-Modal Retrieval", IJCAI 2019.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_floats, reduced


def quantization_loss(relaxed: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Distance of one modality's relaxed codes to its codes, :math:`\lVert B - R \rVert_F^2`.

    The second term of MCGCN Eq. 7, without its factor :math:`\alpha`.
    :math:`B = \mathrm{sign}(R)`, with sign(0) = +1, is a constant: no gradient flows through it.

    Args:
        relaxed: relaxed codes :math:`R`, float ``[N, num_bits]``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``N * num_bits``.
    """
    check_floats(relaxed, "relaxed")
    codes = torch.where(relaxed >= 0, 1.0, -1.0).to(relaxed)
    return squared_distance_loss(relaxed, codes, reduction)


def balance_loss(relaxed: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""How unevenly one modality's bits are used, :math:`\lVert R^\top \mathbf{1} \rVert^2`.

    The third term of MCGCN Eq. 7, without its factor :math:`\beta`: each bit is summed over the
    instances, and the sums are squared. The paper writes it on the binary codes, whose gradient is
    zero everywhere; it is taken on the relaxed codes here.

    Args:
        relaxed: relaxed codes :math:`R`, float ``[N, num_bits]``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``N * N * num_bits``, which
            gives the squared mean of a bit, averaged over the bits, in [0, 1].
    """
    check_floats(relaxed, "relaxed")
    total = relaxed.sum(dim=0).square().sum()
    return reduced(total, relaxed.size(0) * relaxed.numel(), reduction)


def reconstruction_loss(x: Tensor, reconstruction: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Squared error of one modality's autoencoder, :math:`\lVert X - X_d \rVert_F^2`.

    The loss :math:`L_r` of MCGCN, Sec. 3.3, which gives it in Fig. 2 only; add both modalities'.

    Args:
        x: features, float ``[N, d]``.
        reconstruction: what the decoder made of them, float ``[N, d]``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``N * d``, so that wide
            features weigh no more than narrow ones.
    """
    return squared_distance_loss(x, reconstruction, reduction, names=("x", "reconstruction"))


def squared_distance_loss(
    a: Tensor,
    b: Tensor,
    reduction: Reduction = "mean",
    *,
    names: tuple[str, str] = ("a", "b"),
) -> Tensor:
    r"""Squared distance of two matrices, :math:`\lVert A - B \rVert_F^2`.

    The second term of GCH Eq. 5, between beacon codes and codes, without its factor, and Eq. 12 of
    GCH's reproduction report ("Try2"), between image and text features.

    Args:
        a: float ``[N, d]``.
        b: float ``[N, d]``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``N * d``.
        names: what errors call the two.
    """
    check_floats(a, names[0])
    check_floats(b, names[1])
    if a.shape != b.shape:
        raise ValueError(
            f"{names[0]} and {names[1]}: shapes {list(a.shape)} and {list(b.shape)} must be the "
            "same"
        )
    return reduced(F.mse_loss(a, b, reduction="sum"), a.numel(), reduction)
