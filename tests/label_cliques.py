"""Same-label cliques with every pair as an edge: what :class:`LabelHub` does not store."""

from __future__ import annotations

import torch

from pyg_hash.transforms import LabelHub
from pyg_hash.typing import CLASS, IN_CLASS, INTER, INTRA, JOINT, MODALITIES, OVERLAP


class LabelCliques(LabelHub):
    """:class:`LabelHub` with its hubs written out, up to ``N_L^2`` edges an edge type."""

    def forward(self, data):
        """Return ``data`` with label edges in place of kNN edges between labelled nodes."""
        data = super().forward(data)
        node, hub = data[IN_CLASS["image"]].edge_index
        members = torch.zeros(data["image"].x.size(0), int(data[CLASS].num_nodes))
        members[node.cpu(), hub.cpu()] = 1.0
        overlap = torch.eye(members.size(1))
        if OVERLAP in data.edge_types:
            overlap.zero_()[tuple(data[OVERLAP].edge_index.cpu())] = 1.0
            del data[OVERLAP]
        same = (members @ overlap @ members.T).fill_diagonal_(0).to(node.device)
        cliques, weight = same.nonzero().T.flip(0), same[same != 0]
        for m in MODALITIES:
            del data[IN_CLASS[m]]
            for edge_type in (INTRA[m], JOINT[m], INTER[m]):
                if edge_type in data.edge_types:
                    edges = data[edge_type]
                    edges.edge_index = torch.cat((edges.edge_index, cliques), dim=1)
                    edges.edge_weight = torch.cat((edges.edge_weight, weight))
        del data[CLASS]
        return data
