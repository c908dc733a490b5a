"""Losses of predicted labels.

MCGCN: Wu et al., "Semi-supervised cross-modal hashing via modality-specific and cross-modal graph
convolutional networks", Pattern Recognition 136, 2023. GCH: Xu et al., "Graph Convolutional
Network Hashing for Cross-Modal Retrieval", IJCAI 2019.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pyg_hash.losses.codes import squared_distance_loss
from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_floats, check_labels, reduced


def label_prediction_loss(logits: Tensor, y: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Cross-entropy of the predicted labels of one modality.

    One of the two sums of MCGCN Eq. 6; add the losses of both modalities. For class indices:

    .. math:: -\frac{1}{N_L} \sum_p \log P(r_p)_{y_p}, \qquad P = \mathrm{softmax}

    The paper has single labels only. Multi-hot labels, also those with one label a row, use the
    binary cross-entropy of every class instead.

    Args:
        logits: unnormalised predictions of the labelled rows, float ``[N_L, C]``.
        y: labels of these rows, class index ``[N_L]`` or multi-hot ``[N_L, C]``.
        reduction: ``'mean'`` is the formula: it divides by the number of summands, which are the
            rows, or rows times classes if multi-hot. ``'sum'`` does not divide.
    """
    check_floats(logits, "logits")
    check_labels(y, "y", num_rows=logits.size(0), num_classes=logits.size(1))
    if y.dim() == 1:
        total = F.cross_entropy(logits, y.long(), reduction="sum")
    else:
        total = F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="sum")
    return reduced(total, y.numel(), reduction)


def label_regression_loss(logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Squared error of predicted labels, :math:`\lVert \hat L - L \rVert_F^2`.

    The last term of GCH Eq. 3, GCH Eq. 5 and GCH Eq. 8, without its factor; :math:`\hat L` is the
    logistic function of the logits (Sec. 4.2).

    Args:
        logits: predictions before the logistic function, float ``[N, C]``.
        labels: multi-hot labels, float ``[N, C]``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``N * C``.
    """
    check_floats(logits, "logits")
    return squared_distance_loss(logits.sigmoid(), labels, reduction, names=("logits", "labels"))
