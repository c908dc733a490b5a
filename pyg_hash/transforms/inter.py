"""Edges across the modalities, bridged through the image-text pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage
from torch_geometric.transforms import BaseTransform

from pyg_hash.graph import PROTOCOLS, joint_edges
from pyg_hash.transforms.intra import ANCHORS, IntraKNN, anchor_mask, merge_edges
from pyg_hash.typing import INTER, INTRA, JOINT, JOINT_NEAREST, MODALITIES, NEAREST, Modality
from pyg_hash.utils.checks import check_choice


@dataclass(eq=False)
class InterKNN(BaseTransform):
    r"""Edges across modalities: the off-diagonal blocks of MCGCN Eq. 2.

    Between two anchors the weight is :math:`(G^I_{mn} + G^T_{mn}) / 2`: text *m* is a neighbour
    of image *n* if *m* is among *n*'s image or text neighbours; the pair is the bridge. A node
    that is no anchor takes the edges of **its own modality's graph** with weight
    :math:`G^I_{mn}` alone, so that nothing of its other modality can choose them.

    The diagonal blocks are the intra edges; in the *strict* protocol alone edges of their own,
    ``('image', 'joint', 'image')``, as :class:`IntraKNN` with the anchors of this transform would
    make them: else a query would tell its own image about its text.

    Args:
        anchors: ``'train'``, ``'all'`` or None for the anchors of :class:`IntraKNN`.
            ``IntraKNN(anchors='all')`` with ``InterKNN(anchors='train')`` is the *strict*
            protocol.
        pair_edges: which images and texts of the same instance are joined, with weight 1:
            ``'all'`` anchors (default), only ``'labeled'`` ones (the paper read literally:
            a labelled node has the same label as itself), or ``'none'``.
    """

    anchors: str | None = None
    pair_edges: str = "all"

    def __post_init__(self) -> None:
        check_choice(self.anchors, (*ANCHORS, None), "anchors")
        check_choice(self.pair_edges, ("all", "labeled", "none"), "pair_edges")

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with inter edges and ``joint_anchor_mask``."""
        if "graph" not in data or "intra_anchors" not in data.graph:
            raise ValueError("InterKNN: the data has no intra edges; apply IntraKNN first")
        if "self_loops" in data.graph:
            raise ValueError("InterKNN: label edges exist already; apply it before LabelHub")
        intra = data.graph["intra_anchors"]
        anchors = self.anchors or intra
        if (intra, anchors) not in PROTOCOLS.values():
            raise ValueError(
                f"anchors: {anchors!r} with IntraKNN(anchors={intra!r}) is no protocol; "
                "inter anchors must be intra anchors too"
            )
        for modality in MODALITIES:
            data[modality].joint_anchor_mask = anchor_mask(data[modality], anchors)
        for edge_type in {*JOINT.values(), *JOINT_NEAREST.values()}.intersection(data.edge_types):
            del data[edge_type]  # of an earlier application
        if anchors != intra:
            self._add_joint_edges(data, anchors)
        joint = {m: joint_edges(data, m) for m in MODALITIES}
        for modality in MODALITIES:  # source in the other one, target in this one
            is_anchor = data[modality].joint_anchor_mask
            source, target, weight = averaged_edges(joint, modality, is_anchor)
            if self.pair_edges == "all":
                pair = is_anchor.nonzero().flatten()
                source, target = torch.cat((source, pair)), torch.cat((target, pair))
                weight = torch.cat((weight, torch.ones_like(pair, dtype=weight.dtype)))
            edges = data[INTER[modality]]
            edges.edge_index, edges.edge_weight = merge_edges(
                source, target, weight, is_anchor.numel(), reduce="sum"
            )
        data.graph = data.graph | {"inter_anchors": anchors, "pair_edges": self.pair_edges}
        return data

    @staticmethod
    def _add_joint_edges(data: HeteroData, anchors: str) -> None:
        bare = HeteroData()
        for modality in MODALITIES:
            bare[modality].x = data[modality].x
            bare[modality].train_mask = data[modality].train_mask
        approximate = data.graph.get("approximate")
        same = {key: data.graph[key] for key in ("k", "metric", "weight", "neighbor_weight")}
        bare = IntraKNN(anchors=anchors, approximate=approximate, **same)(bare)
        if approximate is not None:
            data.graph = data.graph | {"joint_recall": bare.graph["recall"]}
        for modality in MODALITIES:
            for ours, theirs in ((JOINT, INTRA), (JOINT_NEAREST, NEAREST)):
                data[ours[modality]].edge_index = bare[theirs[modality]].edge_index
                data[ours[modality]].edge_weight = bare[theirs[modality]].edge_weight


def averaged_edges(
    edges: Mapping[Modality, EdgeStorage], modality: Modality, is_anchor: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Edges to one modality's nodes: half of both's to anchors (twice if equal), own to others."""
    parts = []
    for each, store in edges.items():
        source, target = store.edge_index
        keep = is_anchor[target] if each != modality else torch.ones_like(target) > 0
        weight = store.edge_weight * torch.where(is_anchor[target], 0.5, 1.0)
        parts.append((source[keep], target[keep], weight[keep]))
    source, target, weight = (torch.cat(column) for column in zip(*parts, strict=True))
    return source, target, weight
