"""Nearest-neighbour edges inside each modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_hash.graph.build import edge_weights
from pyg_hash.knn import knn, recall
from pyg_hash.knn.knn import check_backend
from pyg_hash.transforms.edges import ANCHORS, anchor_mask, merge_edges
from pyg_hash.typing import IMAGE, INTRA, MODALITIES, NEAREST, TEXT, Metric
from pyg_hash.utils.checks import (
    check_choice,
    check_features,
    check_nonzero_rows,
    check_positive_int,
    check_same_rows,
    check_weight,
)


@dataclass(eq=False)
class IntraKNN(BaseTransform):
    r"""k-nearest-neighbour edges inside each modality: the kNN case of MCGCN Eq. 1.

    Two anchors are joined iff either is among the ``k`` nearest anchors of the other. A node
    that is no anchor receives edges from its ``k`` nearest anchors and sends none, so that it
    changes no other node's code.

    The ``('image', 'nearest', 'image')`` edges (and those of texts) keep each node's own ``k``
    nearest anchors, in one direction: what the node would receive as a new item.

    Args:
        k: number of neighbours, excluding the node itself (by index).
        metric: ``'cosine'``, ``'ip'`` or ``'l2'``; the papers leave it unstated.
        anchors: which nodes may be somebody's neighbour, ``'train'`` or ``'all'``
            (transductive, as in the papers).
        weight: ``'binary'`` (1, as in MCGCN) or ``'similarity'`` (the cosine itself, as in SGCH;
            a neighbour whose cosine is not positive is none). None is ``'similarity'`` under
            cosine, which serves MCGCN better too, and ``'binary'`` under the others.
        neighbor_weight: a factor :math:`\omega` of all these weights, above 0; 1 in the papers. The
            smaller it is, the more a node's own features (and labels) count.
        backend: of :func:`~pyg_hash.knn.knn`: how the exact search works.
        approximate: of :func:`~pyg_hash.knn.knn`: ``'pca'``, ``'ivf'`` or ``'hnsw'`` for many
            rows, when a few missing neighbours do not matter. ``data.graph['recall']`` then says
            for each modality which part of the true neighbours was found, measured on 256 nodes.
            New items are always joined to their true neighbours.

    Raises:
        ValueError: NaN or inf features, zero vectors under cosine, ``k`` not smaller than the
            number of anchors, image and text rows that do not match.
    """

    k: int = 20
    metric: Metric = "cosine"
    anchors: str = "train"
    weight: str | None = None
    neighbor_weight: float = 1.0
    backend: str = "auto"
    approximate: str | None = None

    # whether only labelled anchors may be somebody's nearest (the graph of SGCH's program)
    _labeled_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive_int(self.k, "k")
        check_choice(self.metric, ("cosine", "ip", "l2"), "metric")
        check_choice(self.anchors, ANCHORS, "anchors")
        if self.weight is None:
            self.weight = "similarity" if self.metric == "cosine" else "binary"
        check_choice(self.weight, ("binary", "similarity"), "weight")
        if self.weight == "similarity" and self.metric != "cosine":
            raise ValueError(
                f"weight: 'similarity' needs metric='cosine', got {self.metric!r}; use 'binary'"
            )
        check_weight(self.neighbor_weight, "neighbor_weight")
        if self.neighbor_weight == 0:
            raise ValueError("neighbor_weight: 0 leaves no kNN edge; use a number above 0")
        check_backend(self.backend, self.approximate)

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with intra edges and ``anchor_mask`` in both modalities."""
        if "graph" in data:
            raise ValueError("IntraKNN: the graph exists already; start from data without one")
        check_same_rows(data[IMAGE].x, data[TEXT].x, "data['image'].x", "data['text'].x")
        found = {}
        for modality in MODALITIES:
            store = data[modality]
            mask = anchor_mask(store, self.anchors)
            sources = mask & store.labeled_mask if self._labeled_only else mask
            count = int(sources.sum())
            if self.k >= count:
                kind = "labelled anchors" if self._labeled_only else "anchors"
                raise ValueError(
                    f"k: {self.k} neighbours asked for, but only {count} {kind} "
                    f"(anchors={self.anchors!r}); use k < {max(count, 1)}"
                )
            name = f"data['{modality}'].x"
            check_features(store.x, name)  # here, where row numbers are those of the data
            if self.metric == "cosine":
                check_nonzero_rows(store.x, name)
            try:
                source, target, weight, found[modality] = self._nearest(store.x, sources)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            nearest = data[NEAREST[modality]]
            nearest.edge_index, nearest.edge_weight = torch.stack((source, target)), weight
            back = mask[target]  # between anchors both directions: the "or" of the equation
            edges = data[INTRA[modality]]
            edges.edge_index, edges.edge_weight = merge_edges(
                torch.cat((source, target[back])),
                torch.cat((target, source[back])),
                torch.cat((weight, weight[back])),
                store.x.size(0),
                reduce="amax",
            )
            store.anchor_mask = mask
        data.graph = {
            "k": self.k,
            "metric": self.metric,
            "weight": self.weight,
            "neighbor_weight": self.neighbor_weight,
            "intra_anchors": self.anchors,
        }
        if self.approximate is not None:
            data.graph |= {"approximate": self.approximate, "recall": found}
        return data

    def _nearest(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        """Source, target and weight of the edges from its k nearest sources to each node.

        Also the part of the true nearest that was found.
        """
        sources, rest = mask.nonzero().flatten(), (~mask).nonzero().flatten()
        database = x[sources]
        scores, index, found = [], [], 0.0
        for rows in (sources, rest) if rest.numel() else (sources,):
            own = rows is sources
            query = database if own else x[rows]
            near = knn(
                query,
                database,
                self.k,
                metric=self.metric,
                exclude_self=own,
                backend=self.backend,
                approximate=self.approximate,
            )
            scores.append(near[0])
            index.append(near[1])
            if self.approximate is not None:
                part = recall(near[1], query, database, metric=self.metric, exclude_self=own)
                found += part * rows.numel() / x.size(0)
        target = torch.cat((sources, rest)).repeat_interleave(self.k)
        source = sources[torch.cat(index).flatten()]
        weight = self.neighbor_weight * edge_weights(torch.cat(scores), str(self.weight)).flatten()
        keep = weight > 0
        return source[keep], target[keep], weight[keep], found
