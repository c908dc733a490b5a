"""Edges across the modalities, bridged through the image-text pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_hash.transforms.edges import merge_edges
from pyg_hash.transforms.protocol import ANCHORS, PROTOCOLS, anchor_mask
from pyg_hash.typing import INTER, INTRA, MODALITIES, other
from pyg_hash.validation import check_choice

PAIR_EDGES = ("all", "labeled", "none")


class InterKNN(BaseTransform):
    r"""Edges across modalities: the off-diagonal blocks of MCGCN Eq. 2.

    Between two anchors the weight is :math:`(G^I_{mn} + G^T_{mn}) / 2`: text *m* is a neighbour
    of image *n* if *m* is among *n*'s image or text neighbours. No common feature space is
    needed, the pair is the bridge. A node that is no anchor takes the edges of **its own
    modality's graph** with weight :math:`G^I_{mn}` alone, so that nothing of its other modality
    can choose them.

    The diagonal blocks of Eq. 2 are the intra edges; ``joint_mask`` marks those that take part
    (all but the ones sent by a node that is no anchor here).

    Args:
        anchors: ``'train'``, ``'all'`` or None for the anchors of :class:`IntraKNN`.
            ``IntraKNN(anchors='all')`` with ``InterKNN(anchors='train')`` is the *strict*
            protocol.
        pair_edges: which images and texts of the same instance are joined, with weight 1:
            ``'all'`` anchors (default), only ``'labeled'`` ones (Eq. 1 and 2 read literally:
            a labelled node has the same label as itself), or ``'none'``.
    """

    def __init__(self, anchors: str | None = None, pair_edges: str = "all") -> None:
        if anchors is not None:
            check_choice(anchors, ANCHORS, "anchors")
        check_choice(pair_edges, PAIR_EDGES, "pair_edges")
        self.anchors = anchors
        self.pair_edges = pair_edges

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with inter edges, ``joint_mask`` and ``joint_anchor_mask``."""
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
            edges = data[INTRA[modality]]
            edges.joint_mask = data[modality].joint_anchor_mask[edges.edge_index[0]]
        for modality in MODALITIES:
            edges = data[INTER[modality]]
            edges.edge_index, edges.edge_weight = self._edges(data, modality)
        data.graph = data.graph | {"inter_anchors": anchors, "pair_edges": self.pair_edges}
        return data

    def _edges(self, data: HeteroData, modality: str) -> tuple[Tensor, Tensor]:
        """Edges received by ``modality``: source in the other one, target in this one."""
        is_anchor = data[modality].joint_anchor_mask
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for bridge in MODALITIES:
            edges = data[INTRA[bridge]]
            keep = edges.joint_mask.clone()
            target = edges.edge_index[1]
            share = torch.where(is_anchor[target], 0.5, 1.0)
            if bridge == other(modality):  # type: ignore[arg-type]
                keep &= is_anchor[target]  # it must not choose a query's edges
            parts.append(
                (edges.edge_index[0][keep], target[keep], (edges.edge_weight * share)[keep])
            )
        if self.pair_edges == "all":
            pair = is_anchor.nonzero().flatten()
            parts.append((pair, pair, torch.ones(pair.numel(), device=pair.device)))
        source, target, weight = (torch.cat(column) for column in zip(*parts, strict=True))
        return merge_edges(source, target, weight, is_anchor.numel(), reduce="sum")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(anchors={self.anchors!r}, pair_edges={self.pair_edges!r})"
