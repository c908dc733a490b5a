"""What anyone would try first: one classifier a modality and a random code a class."""

from __future__ import annotations

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.codes import binarize
from pyg_hash.typing import Modality


class ClassCodeBaseline:
    """Logistic regression on the labelled nodes; posteriors through random class codes.

    Each class gets a random code in {-1, +1}; an item's code is the sign of the mean class code
    under its posterior. It sees one modality of an item and no graph, so it is inductive.

    Args:
        num_bits: code length.
        seed: seed of the class codes.
    """

    def __init__(self, num_bits: int, seed: int) -> None:
        self.num_bits = num_bits
        self.seed = seed

    def encode(self, data: HeteroData, modality: Modality) -> Tensor:
        """Codes of all nodes of one modality: int8 ``[N, num_bits]``."""
        store = data[modality]
        labeled = store.labeled_mask
        classifier = LogisticRegression(max_iter=5000)
        classifier.fit(store.x[labeled].numpy(), store.y[labeled].numpy())
        generator = torch.Generator().manual_seed(self.seed)
        bits = torch.rand(data.num_classes, self.num_bits, generator=generator) < 0.5
        codes = torch.where(bits, 1.0, -1.0)[torch.from_numpy(classifier.classes_)]
        posterior = torch.from_numpy(classifier.predict_proba(store.x.numpy())).float()
        return binarize(posterior @ codes)
