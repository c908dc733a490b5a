"""A method of your own: two encoders, a graph for the training, and what `pyg-hash train` needs.

From this folder: `pyg-hash train --model own_method:Smooth --k 5 --out runs/own`.
"""

import torch
from torch import nn

from pyg_hash.losses import balance_loss, contrastive_loss, pairwise_nll
from pyg_hash.models import EncoderHashModel
from pyg_hash.transforms import IntraKNN


class Smooth(EncoderHashModel):
    """Codes by labels and pairs, near to those of an image's neighbours."""

    recipe_defaults = {"epochs": 30, "lr": 1e-3, "k": 10}  # each may be given: --epochs, --k, ...

    @staticmethod
    def recipe_graph(settings):
        """Transforms after `LabelRate` and `ScaleFeatures`."""
        return [IntraKNN(k=settings["k"])]

    def __init__(self, num_features, num_classes, num_bits=32, hidden=256):
        super().__init__(num_bits, num_features=num_features)  # widths {"image": d, "text": d}
        self.encoders = nn.ModuleDict()
        for modality, d in self.num_features.items():
            layers = nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, num_bits)
            self.encoders[modality] = nn.Sequential(*layers)

    def relaxed(self, x, modality):
        """Real-valued codes [n, num_bits] of features [n, d]; their signs are the codes."""
        return torch.tanh(self.encoders[modality](x))

    def loss(self, out, data):
        """Named terms and their total; labels only under `labeled_mask`."""
        train, known = data["image"].train_mask, data["image"].labeled_mask
        y = data["image"].y[known]
        near, own = data["image", "intra", "image"].edge_index  # near: of the training items alone
        terms = {
            "pairs": contrastive_loss(out.image[train], out.text[train]),
            "labels": pairwise_nll(out.image[known], out.text[known], y, y),
            "smooth": (out.image[own] - out.image[near]).square().mean(),
            "balance": balance_loss(out.image[train]) + balance_loss(out.text[train]),
        }
        return {**terms, "loss": sum(terms.values())}
