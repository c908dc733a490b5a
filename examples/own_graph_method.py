"""A graph method of your own: each item joins its nearest anchors, weighed by attention.

From this folder: `pyg-hash train --model own_graph_method:Attentive --out runs/attentive`.
"""

import torch
from torch import nn
from torch_geometric.utils import softmax

from pyg_hash.knn import knn
from pyg_hash.losses import contrastive_loss, pairwise_nll
from pyg_hash.models import HashModel, HashOutput
from pyg_hash.transforms import IntraKNN
from pyg_hash.typing import MODALITIES


class Attentive(HashModel):
    """Weights that depend on both ends of an edge, which the operators of our methods have not."""

    recipe_defaults = {"epochs": 30, "lr": 1e-3, "k": 10}

    @staticmethod
    def recipe_graph(settings):
        return [IntraKNN(k=settings["k"])]

    def __init__(self, num_features, num_classes, num_bits=32):
        super().__init__(num_bits, num_features=num_features)
        widths = self.num_features.items()
        self.encoders = nn.ModuleDict({m: nn.Linear(d, num_bits) for m, d in widths})

    def join(self, own, sent, source, target):
        """Relaxed codes of rows `own`; along edge e row `source[e]` of `sent` tells `target[e]`."""
        share = softmax((own[target] * sent[source]).sum(1), target, num_nodes=len(own))
        return torch.tanh(own.index_add(0, target, share[:, None] * sent[source]))

    def forward(self, data):  # all nodes of the data: training items among them, and queries
        h = {m: self.encoders[m](data[m].x) for m in MODALITIES}
        edges = {m: data[m, "intra", m].edge_index for m in MODALITIES}
        return HashOutput(*(self.join(h[m], h[m], *edges[m]) for m in MODALITIES))

    def loss(self, out, data):
        train, known = data["image"].train_mask, data["image"].labeled_mask
        y = data["image"].y[known]
        pairs = contrastive_loss(out.image[train], out.text[train])
        labels = pairwise_nll(out.image[known], out.text[known], y, y)
        return {"pairs": pairs, "labels": labels, "loss": pairs + labels}

    def make_intake(self, data):  # after the training: what is saved for new items
        intake = super().make_intake(data)  # how they are checked and scaled
        anchors = {f"anchors.{m}": data[m].x[data[m].anchor_mask] for m in MODALITIES}
        intake.tensors |= anchors
        intake.about["graph"] = dict(data.graph)  # k and metric, as JSON values
        return intake

    def relaxed_new(self, x, modality):  # a new item hears its nearest anchors, and none hears it
        anchors, graph = self.intake.tensors[f"anchors.{modality}"], self.intake.about["graph"]
        source = knn(x, anchors, graph["k"], metric=graph["metric"])[1].flatten()
        target = torch.arange(len(x), device=x.device).repeat_interleave(graph["k"])
        encoder = self.encoders[modality]
        return self.join(encoder(x), encoder(anchors), source, target)
