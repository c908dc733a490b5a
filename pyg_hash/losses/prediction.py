"""Label prediction loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pyg_hash.losses._reduction import check_matrix, check_reduction, reduce_sum
from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_labels


def label_prediction_loss(logits: Tensor, y: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Cross-entropy of the predicted labels of one modality.

    One of the two sums of Eq. (6) of Wu et al. (MCGCN), Pattern Recognition 136, 2023; add the
    losses of both modalities. For class indices:

    .. math:: -\frac{1}{N_L} \sum_p \log P(r_p)_{y_p}, \qquad P = \mathrm{softmax}

    The paper has single labels only. Multi-hot labels, also those with one label a row, use the
    binary cross-entropy of every class instead.

    Args:
        logits: unnormalised predictions of the labelled rows, float ``[N_L, C]``.
        y: labels of these rows, class index ``[N_L]`` or multi-hot ``[N_L, C]``.
        reduction: ``'mean'`` is the formula: it divides by the number of summands, which are the
            rows, or rows times classes if multi-hot. ``'sum'`` does not divide.

    Returns:
        A scalar; an exact zero if there are no rows.

    Raises:
        TypeError: logits that are not floating-point, or class indices that are no integers.
        ValueError: shapes that do not match, labels outside the classes, or an unknown reduction.
    """
    check_reduction(reduction)
    check_matrix(logits, "logits")
    check_labels(y, "y", num_rows=logits.size(0), num_classes=logits.size(1))
    if y.dim() == 1:
        total = F.cross_entropy(logits, y.long(), reduction="sum")
    else:
        total = F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="sum")
    return reduce_sum(total, y.numel(), reduction)
