"""Discriminators' losses: of the modality of a code, and of codes among random ones.

MCGCN: Wu et al., "Semi-supervised cross-modal hashing via modality-specific and cross-modal graph
convolutional networks", Pattern Recognition 136, 2023. SGEH: Zhao et al., "From Sparse to Dense:
Semantic Graph Evolutionary Hashing for Unsupervised Cross-Modal Retrieval", ACCV 2022.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_floats, reduced


def adversarial_loss(
    image_logits: Tensor, text_logits: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""Cross-entropy of a modality discriminator.

    MCGCN Eq. 8, with :math:`A` the probability of class 1, "image":

    .. math:: -\frac{1}{N} \sum_n \left( \log A(r^I_n) + \log (1 - A(r^T_n)) \right)

    The discriminator descends it and the code network ascends it (MCGCN Eq. 9 and MCGCN Eq. 10).
    Behind a :class:`~pyg_hash.nn.GradientReversal` one joint descent does both, so **add** it.

    Args:
        image_logits: logits of the image codes, float ``[N, 2]``: column 0 text, column 1 image.
        text_logits: logits of the text codes, float ``[N, 2]``, same columns.
        reduction: ``'mean'`` is the formula; ``'sum'`` does not divide by ``N``.
    """
    check_floats(image_logits, "image_logits")
    check_floats(text_logits, "text_logits")
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
    return reduced(total, n, reduction)


def prior_discriminator_loss(
    code_logits: Tensor, random_logits: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""Cross-entropy of a discriminator that tells codes from random ones.

    SGEH Eq. 15 without :math:`L^B` and the factor :math:`\eta_4`, as the discriminator descends it:
    with :math:`d` the probability of "random",

    .. math:: -\frac{1}{n} \sum_i \left( \log(1 - d(B_i)) + \log d(y_i) \right),
        \qquad y_i \in \{-1, +1\}^b \text{ uniform}

    The paper has b, the number of bits, for n, that of codes. It adds such a mean for either
    modality to :math:`L^B`, a sum over n * n pairs: given the codes of both at once, ``'mean'`` is
    half of that and ``'sum'`` n times it, so beside an :math:`L^B` that is averaged,
    :math:`\eta_4` times ``'mean'`` weighs n * n / 2 times as much as in the paper.

    Args:
        code_logits: logits of :math:`d(B)`, float ``[n]``; pass the codes detached.
        random_logits: logits of :math:`d(y)`, float ``[n]``.
        reduction: ``'mean'`` is the formula; ``'sum'`` does not divide by ``n``.
    """
    check_floats(code_logits, "code_logits", "[n]")
    check_floats(random_logits, "random_logits", "[n]")
    if code_logits.shape != random_logits.shape:
        raise ValueError(
            f"code_logits and random_logits: {code_logits.numel()} and {random_logits.numel()} "
            "entries; draw one random code an instance"
        )
    total = F.softplus(code_logits).sum() + F.softplus(-random_logits).sum()
    return reduced(total, code_logits.numel(), reduction)


def prior_generator_loss(code_logits: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""What the codes descend to look random: :math:`-\frac{1}{n} \sum_i \log d(B_i)`.

    The other side of :func:`prior_discriminator_loss`. Descending the printed sign with the codes
    would make them easier to tell; this is the usual non-saturating loss of a generator.

    Args:
        code_logits: logits of :math:`d(B)`, float ``[n]``, with the codes' gradient.
        reduction: as there.
    """
    check_floats(code_logits, "code_logits", "[n]")
    return reduced(F.softplus(-code_logits).sum(), code_logits.numel(), reduction)
