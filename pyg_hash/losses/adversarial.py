"""Modality classification loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.losses._reduction import check_matrix, check_reduction, reduce_sum
from pyg_hash.typing import Reduction


def adversarial_loss(
    image_logits: Tensor, text_logits: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""Cross-entropy of a modality discriminator.

    Eq. (8) of Wu et al. (MCGCN), Pattern Recognition 136, 2023, with :math:`A` the probability of
    class 1, "image":

    .. math:: -\frac{1}{N} \sum_n \left( \log A(r^I_n) + \log (1 - A(r^T_n)) \right)

    The discriminator descends it and the code network ascends it (Eq. (9), (10)). Behind a
    :class:`~pyg_hash.nn.GradientReversal` one joint descent does both, so **add** the loss there.

    Args:
        image_logits: logits of the image codes, float ``[N, 2]``: column 0 text, column 1 image.
        text_logits: logits of the text codes, float ``[N, 2]``, same columns.
        reduction: ``'mean'`` is the formula; ``'sum'`` does not divide by ``N``.

    Returns:
        A scalar, ``2 ln 2`` for a discriminator that cannot tell; an exact zero if there are no
        rows.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: logits that are not ``[N, 2]`` with the same ``N``, or an unknown reduction.
    """
    check_reduction(reduction)
    check_matrix(image_logits, "image_logits")
    check_matrix(text_logits, "text_logits")
    if image_logits.shape != text_logits.shape or image_logits.size(1) != 2:
        raise ValueError(
            f"image_logits and text_logits: expected [N, 2] with the same N, got "
            f"{list(image_logits.shape)} and {list(text_logits.shape)}"
        )
    n = image_logits.size(0)
    is_image = torch.ones(n, dtype=torch.long, device=image_logits.device)
    total = F.cross_entropy(image_logits, is_image, reduction="sum") + F.cross_entropy(
        text_logits, torch.zeros_like(is_image), reduction="sum"
    )
    return reduce_sum(total, n, reduction)
