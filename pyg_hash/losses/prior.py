"""Codes that cannot be told from coin tosses: SGEH's regulariser."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pyg_hash.losses._reduction import check_reduction, reduce_sum
from pyg_hash.typing import Reduction


def prior_discriminator_loss(
    code_logits: Tensor, random_logits: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""Cross-entropy of a discriminator that tells codes from random ones.

    The regulariser of Eq. (15) of SGEH (Zhao et al., ACCV 2022), without its factor
    :math:`\eta_4`, as the discriminator descends it: with :math:`d` the probability of "random",

    .. math:: -\frac{1}{n} \sum_i \left( \log(1 - d(B_i)) + \log d(y_i) \right),
        \qquad y_i \in \{-1, +1\}^b \text{ uniform}

    The paper sums over the ``b`` bits what is indexed by instances; this is a mean over instances.

    Args:
        code_logits: logits of :math:`d(B)`, float ``[n]``; pass the codes detached.
        random_logits: logits of :math:`d(y)`, float ``[n]``.
        reduction: ``'mean'`` is the formula; ``'sum'`` does not divide by ``n``.

    Returns:
        A scalar, ``2 ln 2`` for a discriminator that cannot tell; an exact zero without rows.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: logits that are not two vectors of one length, or an unknown reduction.
    """
    check_reduction(reduction)
    _check_logits(code_logits, "code_logits")
    _check_logits(random_logits, "random_logits")
    if code_logits.shape != random_logits.shape:
        raise ValueError(
            f"code_logits and random_logits: {code_logits.numel()} and {random_logits.numel()} "
            "entries; draw one random code an instance"
        )
    total = F.softplus(code_logits).sum() + F.softplus(-random_logits).sum()
    return reduce_sum(total, code_logits.numel(), reduction)


def prior_generator_loss(code_logits: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""What the codes descend to look random: :math:`-\frac{1}{n} \sum_i \log d(B_i)`.

    The other side of Eq. (15) of SGEH. Descending the printed sign with the codes would make them
    easier to tell; this is the usual non-saturating loss of a generator.

    Args:
        code_logits: logits of :math:`d(B)`, float ``[n]``, with the codes' gradient.
        reduction: ``'mean'`` is the formula; ``'sum'`` does not divide by ``n``.

    Returns:
        A scalar; an exact zero without rows.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: logits that are no vector, or an unknown reduction.
    """
    check_reduction(reduction)
    _check_logits(code_logits, "code_logits")
    return reduce_sum(F.softplus(-code_logits).sum(), code_logits.numel(), reduction)


def _check_logits(logits: Tensor, name: str) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor [n], got {logits.dtype}")
    if logits.dim() != 1:
        raise ValueError(f"{name}: expected shape [n], got {list(logits.shape)}")
