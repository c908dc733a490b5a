"""What anyone would try first, with labels and without. All see one modality and no graph."""

from __future__ import annotations

import numpy as np
import torch
from cca import Projection, cca, itq
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.codes import binarize
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality

# the strongest of 1e-3 .. 1e3 on a validation split of each data set, 32 bits: CCA without it fits
# noise (ITQ on Wikipedia: .21 at 1e-3, .36 at 10, .35 at 1000, where it is a PLS)
RIDGE = 10.0


class _Baseline:
    """Code length and seed; nothing but an item's own features enters its code."""

    def __init__(self, num_bits: int, seed: int = 0) -> None:
        self.num_bits = num_bits
        self.seed = seed

    def protocol(self, data: HeteroData) -> str:
        """Always ``'inductive'``, whatever graph comes with the data."""
        return "inductive"


class ClassCodeBaseline(_Baseline):
    """Logistic regression on the labelled nodes; posteriors through random class codes.

    Each class gets a random code in {-1, +1}; an item's code is the sign of the mean class code
    under its posterior. Multi-label data get one classifier a label (one against the rest).

    Args:
        num_bits: code length.
        seed: seed of the class codes.
        center: subtract the labels' frequencies from the posteriors first.
    """

    def __init__(self, num_bits: int, seed: int = 0, *, center: bool = False) -> None:
        super().__init__(num_bits, seed)
        self.center = center

    def encode(self, data: HeteroData, modality: Modality) -> Tensor:
        """Codes of all nodes of one modality: int8 ``[N, num_bits]``."""
        store = data[modality]
        labeled = store.labeled_mask
        y = store.y[labeled]
        if y.dim() == 1:
            posterior = _posterior(store.x, labeled, y, data.num_classes)
            y = torch.nn.functional.one_hot(y, data.num_classes)
        else:
            columns = [_posterior(store.x, labeled, column, 2) for column in y.long().unbind(1)]
            posterior = torch.stack([column[:, 1] for column in columns], dim=1)
        if self.center:
            posterior = posterior - y.double().mean(dim=0)
        generator = torch.Generator().manual_seed(self.seed)
        bits = torch.rand(data.num_classes, self.num_bits, generator=generator) < 0.5
        return binarize(posterior @ torch.where(bits, 1.0, -1.0).double())


def _posterior(x: Tensor, labeled: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """Class probabilities float64 ``[N, num_classes]``; 0 for classes without a labelled node."""
    result = np.zeros((len(x), num_classes))
    if len(y.unique()) == 1:  # nothing to learn: all labelled nodes are alike
        result[:, int(y[0])] = 1.0
    else:
        classifier = LogisticRegression(max_iter=5000)
        classifier.fit(x[labeled].numpy(), y.numpy())
        result[:, classifier.classes_] = classifier.predict_proba(x.numpy())
    return torch.from_numpy(result)


class SignCCA(_Baseline):
    """Signs of the ``num_bits`` strongest canonical variates; fitted on train, without labels.

    Args:
        num_bits: code length.
        seed: not needed by this one; there for a common signature.
        ridge: see :func:`cca.cca`.

    Raises:
        ValueError: (on encoding) the features have fewer canonical directions than bits.
    """

    def __init__(self, num_bits: int, seed: int = 0, *, ridge: float = RIDGE) -> None:
        super().__init__(num_bits, seed)
        self.ridge = ridge

    def encode(self, data: HeteroData, modality: Modality) -> Tensor:
        """Codes of all nodes of one modality: int8 ``[N, num_bits]``."""
        view = MODALITIES.index(modality)
        projection = self._fit(data)
        rotation = self._rotation(data, projection)
        return binarize(projection(data[modality].x, view) @ rotation)

    def _fit(self, data: HeteroData) -> Projection:
        image, text = (data[m].x[data[m].train_mask] for m in (IMAGE, TEXT))
        return cca(image, text, self.num_bits, ridge=self.ridge)

    def _rotation(self, data: HeteroData, projection: Projection) -> Tensor:
        return torch.eye(self.num_bits, dtype=torch.float64)


class ITQCCA(SignCCA):
    """The same variates, rotated by ITQ on the training nodes of both modalities together.

    Args:
        num_bits: code length.
        seed: seed of the first rotation.
        ridge: see :func:`cca.cca`.
        weighted: multiply each variate by its correlation before the rotation, so that directions
            that say little about the other modality weigh little.
        iterations: turns of :func:`cca.itq`.
    """

    def __init__(
        self,
        num_bits: int,
        seed: int = 0,
        *,
        ridge: float = RIDGE,
        weighted: bool = False,
        iterations: int = 50,
    ) -> None:
        super().__init__(num_bits, seed, ridge=ridge)
        self.weighted = weighted
        self.iterations = iterations

    def _fit(self, data: HeteroData) -> Projection:
        fitted = super()._fit(data)
        if not self.weighted:
            return fitted
        image, text = fitted.weights
        return fitted._replace(weights=(image * fitted.correlations, text * fitted.correlations))

    def _rotation(self, data: HeteroData, projection: Projection) -> Tensor:
        views = [
            projection(data[modality].x[data[modality].train_mask], view)
            for view, modality in enumerate(MODALITIES)
        ]
        return itq(torch.cat(views), iterations=self.iterations, seed=self.seed)[0]
