"""Losses of codes: squared errors, balance of bits, and what is predicted from them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_floats, check_labels, reduced


def quantization_loss(relaxed: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Distance of relaxed codes ``[N, num_bits]`` to codes, :math:`\lVert B - R \rVert_F^2`.

    The second term of MCGCN Eq. 7, without its factor :math:`\alpha`.
    :math:`B = \mathrm{sign}(R)`, with sign(0) = +1, is a constant. ``'sum'`` is the formula;
    ``'mean'`` divides it by ``N * num_bits``. Errors are those of all :mod:`~pyg_hash.losses`.
    """
    check_floats(relaxed, "relaxed")
    codes = torch.where(relaxed >= 0, 1.0, -1.0).to(relaxed)
    return squared_distance_loss(relaxed, codes, reduction)


def balance_loss(relaxed: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""How unevenly bits ``[N, num_bits]`` are used, :math:`\lVert R^\top \mathbf{1} \rVert^2`.

    The third term of MCGCN Eq. 7, without its factor :math:`\beta`. The paper writes it on the
    binary codes, whose gradient is zero everywhere; it is taken on the relaxed codes here.
    ``'sum'`` is the formula; ``'mean'`` divides it by ``N * N * num_bits``, which gives the squared
    mean of a bit, averaged over the bits, in [0, 1]. Errors: see :mod:`pyg_hash.losses`.
    """
    check_floats(relaxed, "relaxed")
    total = relaxed.sum(dim=0).square().sum()
    return reduced(total, relaxed.size(0) * relaxed.numel(), reduction)


def squared_distance_loss(a: Tensor, b: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Squared distance of two matrices ``[N, d]``, :math:`\lVert A - B \rVert_F^2`.

    The second term of GCH Eq. 5, between beacon codes and codes, without its factor, Eq. 12 of
    GCH's reproduction report ("Try2"), between image and text features, and the loss :math:`L_r` of
    MCGCN's autoencoders (Fig. 2). ``'sum'`` is the formula; ``'mean'`` divides it by ``N * d``.
    ``ValueError``: the shapes differ; other errors: see :mod:`pyg_hash.losses`.
    """
    check_floats(a, "a")
    check_floats(b, "b")
    if a.shape != b.shape:
        raise ValueError(f"a and b: shapes {list(a.shape)} and {list(b.shape)} must be the same")
    return reduced(F.mse_loss(a, b, reduction="sum"), a.numel(), reduction)


def label_prediction_loss(logits: Tensor, y: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Cross-entropy of the labels predicted from the codes of one modality.

    One of the two sums of MCGCN Eq. 6; add the losses of both modalities. For class indices:

    .. math:: -\frac{1}{N_L} \sum_p \log P(r_p)_{y_p}, \qquad P = \mathrm{softmax}

    of logits of labelled rows, float ``[N_L, C]``, and their labels. The paper has single labels
    only; multi-hot ones, also with one label a row, use the binary cross-entropy of every class.
    ``'mean'`` (the formula) divides ``'sum'`` by the rows, or rows times classes. ``ValueError``:
    class indices outside 0..C-1, multi-hot ones but 0 and 1; others: see :mod:`pyg_hash.losses`.
    """
    check_floats(logits, "logits")
    check_labels(y, "y", num_rows=logits.size(0), num_classes=logits.size(1))
    if y.dim() == 1:
        total = F.cross_entropy(logits, y.long(), reduction="sum")
    else:
        total = F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="sum")
    return reduced(total, y.numel(), reduction)


def adversarial_loss(
    image_logits: Tensor, text_logits: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""Cross-entropy of a modality discriminator.

    MCGCN Eq. 8, with :math:`A` the probability of class 1, "image":

    .. math:: -\frac{1}{N} \sum_n \left( \log A(r^I_n) + \log (1 - A(r^T_n)) \right)

    The discriminator descends it and the code network ascends it (MCGCN Eq. 9 and MCGCN Eq. 10).
    Behind a gradient reversal (:class:`~pyg_hash.nn.ModalityDiscriminator`) one joint descent does
    both, so **add** it. Logits are float ``[N, 2]``: column 0 text, 1 image. ``'mean'`` is the
    formula; ``'sum'`` does not divide by ``N``. Errors: see :mod:`pyg_hash.losses`.
    """
    check_floats(image_logits, "image_logits")
    check_floats(text_logits, "text_logits")
    if image_logits.shape != text_logits.shape or image_logits.size(1) != 2:
        raise ValueError(
            f"image_logits and text_logits: expected [N, 2] with the same N, got "
            f"{list(image_logits.shape)} and {list(text_logits.shape)}"
        )
    is_image = torch.ones(len(image_logits), dtype=torch.long, device=image_logits.device)
    total = F.cross_entropy(image_logits, is_image, reduction="sum")
    total = total + F.cross_entropy(text_logits, 1 - is_image, reduction="sum")
    return reduced(total, len(image_logits), reduction)
