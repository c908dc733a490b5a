"""Logistic regression and random codes of the classes: what anyone would try first."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from pyg_hash.models.closed_form import ClosedFormModel, selected_features, solved
from pyg_hash.models.common import Widths, known_labels, multi_hot
from pyg_hash.typing import MODALITIES, Modality
from pyg_hash.utils.checks import check_positive, check_positive_int
from pyg_hash.utils.optional import require

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


class ClassCodes(ClosedFormModel):
    r"""Posteriors of a logistic regression, through random codes of the classes.

    Each class :math:`c` gets a random code :math:`b_c \in \{-1, +1\}^K`; the code of an item is
    the sign of the mean class code under its posterior,
    :math:`\mathrm{sign}(\sum_c (p_c(x) - q_c)\, b_c)`. One regression a modality is fitted on the
    labelled nodes by scikit-learn: multinomial for class indices, one against the rest for each
    column of multi-hot labels. Ours; any supervised method must beat it.

    Args:
        num_features, num_classes, num_bits: see :class:`HashModel`.
        center: let :math:`q` be the share of labelled items of each class, not 0.
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
            rows = x.to(torch.promote_types(data[m].x.dtype, torch.float32)).cpu().numpy()
            if y.dim() == 1:
                weight, bias = self._regression(rows, y, self.num_classes)
            else:  # of each column the logit of having the class against not having it
                fits = [self._regression(rows, column, 2) for column in y.long().unbind(1)]
                weight = torch.stack([w[:, 1] - w[:, 0] for w, _ in fits], dim=1)
                bias = torch.stack([b[1] - b[0] for _, b in fits])
            self.weight[m].copy_(weight)
            self.bias[m].copy_(bias)
        self.frequency.copy_(multi_hot(y, self.num_classes).double().mean(dim=0))
        generator = torch.Generator().manual_seed(self.seed)
        shape = self.num_classes, self.num_bits
        drawn = torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")
        bits = drawn < 0.5
        self.class_code.copy_(torch.where(bits, 1.0, -1.0))

    def _regression(self, x: npt.NDArray[Any], y: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Weights and biases of the logits of classes; one that no labelled node has gets -inf."""
        linear = require("sklearn.linear_model", "scikit-learn", extra="baselines")
        classes = torch.unique(y).cpu()
        weight = torch.zeros(x.shape[1], count, dtype=torch.float64, device="cpu")
        bias = torch.full((count,), -inf, dtype=torch.float64, device="cpu")
        bias[classes] = 0.0
        if len(classes) > 1:
            fitted = linear.LogisticRegression(C=1.0 / self.penalty, max_iter=5000)
            fitted.fit(x, y.cpu().numpy())
            # of two classes scikit-learn keeps the logit of the second alone
            kept = classes[1:] if len(classes) == 2 else classes
            weight[:, kept] = torch.from_numpy(fitted.coef_.T).double()
            bias[kept] = torch.from_numpy(fitted.intercept_).double()
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
