"""Small operations on edge lists that the graph transforms share."""

from __future__ import annotations

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
