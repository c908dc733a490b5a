"""What the graph transforms share: their anchors, small operations on edge lists."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data.storage import EdgeStorage, NodeStorage

from pyg_hash.typing import Modality
from pyg_hash.utils.checks import check_choice

ANCHORS = ("train", "all")


def anchor_mask(store: NodeStorage, anchors: str) -> Tensor:
    """Nodes that may be a neighbour of others: bool ``[N]``."""
    check_choice(anchors, ANCHORS, "anchors")
    mask: Tensor = store.train_mask if anchors == "train" else store.train_mask | True
    return mask


def averaged_edges(
    edges: Mapping[Modality, EdgeStorage], modality: Modality, is_anchor: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of both modalities' edges, as nodes of one modality receive them.

    Anchors receive :math:`(G^I + G^T) / 2`. A node that is no anchor receives the edges of **its
    own modality** alone, at full weight: its other modality must not choose them. Returns source,
    target and weight, where the same edge of both modalities still occurs twice.
    """
    parts = []
    for each, store in edges.items():
        source, target = store.edge_index
        keep = is_anchor[target] if each != modality else torch.ones_like(target) > 0
        weight = store.edge_weight * torch.where(is_anchor[target], 0.5, 1.0)
        parts.append((source[keep], target[keep], weight[keep]))
    source, target, weight = (torch.cat(column) for column in zip(*parts, strict=True))
    return source, target, weight


def merge_edges(
    source: Tensor, target: Tensor, weight: Tensor, num_nodes: int, reduce: str
) -> tuple[Tensor, Tensor]:
    """Join parallel edges by ``'sum'`` or ``'amax'``, and sort by target, then source.

    Returns ``edge_index`` int64 ``[2, E']`` and ``edge_weight`` float ``[E']``.
    """
    key, group = torch.unique(target * num_nodes + source, return_inverse=True)
    merged = weight.new_zeros(key.numel()).scatter_reduce_(
        0, group, weight, reduce=reduce, include_self=False
    )
    return torch.stack((key % num_nodes, key // num_nodes)), merged
