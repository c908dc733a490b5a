"""Small operations on edge lists that the graph transforms share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage

from pyg_hash.typing import INTRA, JOINT, JOINT_NEAREST, NEAREST, Modality


def joint_edges(data: HeteroData, modality: Modality) -> EdgeStorage:
    """The edges inside a modality that take part in the cross-modal graph (:class:`InterKNN`)."""
    own = JOINT[modality] in data.edge_types  # strict protocol
    return data[JOINT[modality] if own else INTRA[modality]]


def joint_nearest_edges(data: HeteroData, modality: Modality) -> EdgeStorage:
    """The directed nearest edges that belong to :func:`joint_edges`."""
    own = JOINT_NEAREST[modality] in data.edge_types
    return data[JOINT_NEAREST[modality] if own else NEAREST[modality]]


def averaged_edges(
    edges: Mapping[Modality, EdgeStorage], modality: Modality, is_anchor: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of both modalities' edges, as nodes of one modality receive them.

    Anchors receive :math:`(G^I + G^T) / 2`. A node that is no anchor receives the edges of **its
    own modality** alone, at full weight: its other modality must not choose them.

    Args:
        edges: edges inside each modality.
        modality: that of the receiving nodes.
        is_anchor: bool ``[N]``.

    Returns:
        source, target and weight, where the same edge of both modalities still occurs twice.
    """
    parts = []
    for each, store in edges.items():
        source, target = store.edge_index
        keep = is_anchor[target] if each != modality else torch.ones_like(target) > 0
        weight = store.edge_weight * torch.where(is_anchor[target], 0.5, 1.0)
        parts.append((source[keep], target[keep], weight[keep]))
    source, target, weight = (torch.cat(column) for column in zip(*parts, strict=True))
    return source, target, weight


def edge_weights(scores: Tensor, weight: str) -> Tensor:
    """Edge weights of nearest neighbours: 1, or the similarity itself but never below 0.

    Args:
        scores: similarities, any shape.
        weight: ``'binary'`` or ``'similarity'``.
    """
    return torch.ones_like(scores) if weight == "binary" else scores.clamp(min=0)


def merge_edges(
    source: Tensor, target: Tensor, weight: Tensor, num_nodes: int, reduce: str
) -> tuple[Tensor, Tensor]:
    """Join parallel edges and sort by target, then source.

    Args:
        source: int64 ``[E]``.
        target: int64 ``[E]``.
        weight: float ``[E]``.
        num_nodes: number of nodes on either side.
        reduce: how parallel weights combine, ``'sum'`` or ``'amax'``.

    Returns:
        ``edge_index`` int64 ``[2, E']`` and ``edge_weight`` float ``[E']``.
    """
    key, group = torch.unique(target * num_nodes + source, return_inverse=True)
    merged = weight.new_zeros(key.numel()).scatter_reduce_(
        0, group, weight, reduce=reduce, include_self=False
    )
    return torch.stack((key % num_nodes, key // num_nodes)), merged
