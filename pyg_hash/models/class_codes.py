"""Logistic regression and random codes of the classes: what anyone would try first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_hash.models.batches import multi_hot
from pyg_hash.models.closed_form import (
    ClosedFormModel,
    selected_features,
    solved,
)
from pyg_hash.models.common import Widths, known_labels
from pyg_hash.typing import MODALITIES, Modality
from pyg_hash.utils.checks import check_positive, check_positive_int

_INFINITE = float("inf")


class ClassCodes(ClosedFormModel):
    r"""Posteriors of a logistic regression, through random codes of the classes.

    Each class :math:`c` gets a random code :math:`b_c \in \{-1, +1\}^K`; the code of an item is
    the sign of the mean class code under its posterior,
    :math:`\mathrm{sign}(\sum_c (p_c(x) - q_c)\, b_c)`, with :math:`q = 0`, or the share of labelled
    items of each class (``center``). One regression a modality is fitted on the labelled nodes
    by scikit-learn: multinomial for class indices, one against the rest for each column of
    multi-hot labels. Ours; no paper has it in a table, and any supervised method must beat it.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_classes: number of classes.
        num_bits: code length.
        center: subtract the classes' frequencies from the posteriors; matters for multi-hot labels.
        penalty: weight of the squared weights in the regression (scikit-learn's ``1 / C``).
        seed: seed of the class codes.
    """

    multi_label: Tensor

    def __init__(
        self,
        num_features: Widths,
        num_classes: int,
        num_bits: int = 32,
        *,
        center: bool = False,
        penalty: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(num_features, num_bits)
        check_positive_int(num_classes, "num_classes")
        check_positive(penalty, "penalty")
        self.num_classes, self.center, self.penalty, self.seed = num_classes, center, penalty, seed
        widths = self.num_features
        self.weight = nn.ParameterDict({m: solved(widths[m], num_classes) for m in MODALITIES})
        self.bias = nn.ParameterDict({m: solved(num_classes) for m in MODALITIES})
        self.frequency = solved(num_classes)
        self.class_code = solved(num_classes, num_bits)
        self.register_buffer("multi_label", torch.tensor(False))

    def _solve(self, data: HeteroData) -> None:
        y = known_labels(data, self.num_classes)
        self.multi_label.fill_(y.dim() == 2)
        for m, x in zip(MODALITIES, selected_features(data, "labeled_mask"), strict=True):
            # as float32 the features are what the data set holds, and the regression is faster
            rows = x.to(data[m].x.dtype).cpu().numpy()
            columns = [y] if y.dim() == 1 else list(y.long().unbind(1))
            fits = [self._regression(rows, column.cpu().numpy()) for column in columns]
            self.weight[m].copy_(torch.from_numpy(np.concatenate([w for w, _ in fits], axis=1)))
            self.bias[m].copy_(torch.from_numpy(np.concatenate([b for _, b in fits])))
        self.frequency.copy_(multi_hot(y, self.num_classes).double().mean(dim=0))
        generator = torch.Generator().manual_seed(self.seed)
        bits = torch.rand(self.num_classes, self.num_bits, generator=generator) < 0.5
        self.class_code.copy_(torch.where(bits, 1.0, -1.0))

    def _regression(
        self, x: npt.NDArray[np.floating], y: npt.NDArray[np.integer]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Weights and biases of the logits: of all classes, or of one multi-hot column.

        A class that no labelled node has gets the bias -inf, a column that all have +inf.
        """
        try:
            from sklearn.linear_model import LogisticRegression
        except ImportError as error:
            raise ImportError(
                "ClassCodes needs scikit-learn; pip install 'pyg_hash[baselines]'"
            ) from error
        is_column = bool(self.multi_label)
        classes = np.unique(y)
        weight = np.zeros((x.shape[1], 1 if is_column else self.num_classes))
        bias = np.full(weight.shape[1], -_INFINITE)
        if len(classes) == 1:  # nothing to learn: all labelled nodes are alike
            if not is_column:
                bias[classes] = 0.0
            elif classes[0] == 1:
                bias[0] = _INFINITE
            return weight, bias
        fitted = LogisticRegression(C=1.0 / self.penalty, max_iter=5000).fit(x, y)
        if is_column:
            return fitted.coef_.T.astype(np.float64), fitted.intercept_.astype(np.float64)
        if len(classes) == 2:  # scikit-learn keeps the logit of the second class alone
            weight[:, classes[1]] = fitted.coef_[0]
            bias[classes] = (0.0, fitted.intercept_[0])
        else:
            weight[:, classes] = fitted.coef_.T
            bias[classes] = fitted.intercept_
        return weight, bias

    def posterior(self, x: Tensor, modality: Modality) -> Tensor:
        """Class probabilities float64 ``[n, num_classes]`` of scaled features ``[n, d]``."""
        logits = torch.addmm(self.bias[modality], x.to(self.frequency), self.weight[modality])
        return logits.sigmoid() if bool(self.multi_label) else logits.softmax(dim=1)

    def relaxed_solved(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes ``[n, num_bits]``: mean class codes, in [-1, 1]."""
        posterior = self.posterior(x, modality)
        if self.center:
            posterior = posterior - self.frequency
        return posterior @ self.class_code / self.num_classes
