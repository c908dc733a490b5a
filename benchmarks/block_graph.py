"""A cross-modal graph of any size in seconds: neighbours are looked for within blocks alone.

Exact kNN of a million nodes is a matter of hours on two cores, and says nothing about training.
Blocks of 500 nodes with planted classes have kNN graphs like those of real data: symmetrised,
weighted by cosines, with image and text neighbours that overlap only in part. Node numbers are
shuffled, so that neighbours are nowhere near each other in memory.
"""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

from pyg_hash.transforms import InterKNN, LabelHub
from pyg_hash.transforms.edges import merge_edges
from pyg_hash.typing import INTRA, MODALITIES, NEAREST

BLOCK, CLASSES, BLOCKS_AT_ONCE = 500, 10, 64


def block_graph(
    num_nodes: int, *, width: int = 128, k: int = 10, labeled: float = 0.3, seed: int = 0
) -> HeteroData:
    """A graph for MCGCN: ``num_nodes`` pairs in blocks of 500, k neighbours, class hubs."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (num_nodes,), generator=generator)
    blocks = torch.randperm(num_nodes, generator=generator).view(-1, BLOCK)
    everything = torch.ones(num_nodes, dtype=torch.bool)
    known = torch.rand(num_nodes, generator=generator) < labeled
    data = HeteroData()
    data.num_classes = CLASSES
    for m in MODALITIES:
        x = torch.randn(num_nodes, width, generator=generator)
        x += torch.randn(CLASSES, width, generator=generator)[y]
        for some in blocks.split(BLOCKS_AT_ONCE):  # what the nodes of a block have in common
            x[some] += torch.randn(some.size(0), 1, width, generator=generator)
        data[m].x, data[m].y = x, y
        data[m].train_mask = data[m].anchor_mask = data[m].database_mask = everything
        data[m].query_mask, data[m].labeled_mask = ~everything, known
        source, weight = _nearest(x, blocks, k)
        target = torch.arange(num_nodes).repeat_interleave(k)
        data[NEAREST[m]].edge_index = torch.stack((source, target))
        data[NEAREST[m]].edge_weight = weight
        both = torch.cat((source, target)), torch.cat((target, source))
        edges = merge_edges(*both, weight.repeat(2), num_nodes, reduce="amax")
        data[INTRA[m]].edge_index, data[INTRA[m]].edge_weight = edges
    data.graph = {"k": k, "metric": "cosine", "weight": "similarity", "intra_anchors": "train"}
    return LabelHub()(InterKNN()(data))


def _nearest(x: torch.Tensor, blocks: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and weight of the k edges that each node receives, by node."""
    source = torch.empty(x.size(0), k, dtype=torch.long)
    weight = torch.empty(x.size(0), k)
    for some in blocks.split(BLOCKS_AT_ONCE):
        unit = torch.nn.functional.normalize(x[some], dim=2)
        cosine = unit @ unit.transpose(1, 2)
        cosine.diagonal(dim1=1, dim2=2).fill_(-1.0)
        best, place = cosine.topk(k, dim=2)
        weight[some] = best.clamp(min=0)
        source[some] = some.gather(1, place.flatten(1)).view_as(place)
    return source.flatten(), weight.flatten()
