"""Nearest-neighbour edges inside each modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import NodeStorage
from torch_geometric.transforms import BaseTransform

from pyg_hash.graph import edge_weights
from pyg_hash.knn import knn, recall
from pyg_hash.knn.knn import check_backend
from pyg_hash.typing import IMAGE, INTRA, MODALITIES, NEAREST, TEXT, Metric
from pyg_hash.utils.checks import (
    check_choice,
    check_features,
    check_nonzero_rows,
    check_positive_int,
    check_same_rows,
    check_weight,
)

ANCHORS = ("train", "all")


def anchor_mask(store: NodeStorage, anchors: str) -> Tensor:
    """Nodes that may be a neighbour of others: bool ``[N]``."""
    mask: Tensor = store.train_mask if anchors == "train" else store.train_mask | True
    return mask


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
        neighbor_weight: a factor :math:`\omega` of all these weights, above 0; 1 in the papers.
        backend, approximate: of :func:`~pyg_hash.knn.knn`. Of approximate neighbours
            ``data.graph['recall']`` says for each modality which part of the true ones was found,
            measured on 256 nodes. New items get their true neighbours.

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
    _labeled_only = False

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
        kept = ("k", "metric", "weight", "neighbor_weight")
        data.graph = {name: getattr(self, name) for name in kept} | {"intra_anchors": self.anchors}
        if self.approximate is not None:
            data.graph |= {"approximate": self.approximate, "recall": found}
        return data

    def _nearest(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        """Edges to each node from its k nearest sources, and the part of the true ones found."""
        sources, rest = mask.nonzero().flatten(), (~mask).nonzero().flatten()
        database = x[sources]
        near, found = [], 0.0
        for rows in (sources, rest) if rest.numel() else (sources,):
            own = rows is sources
            query = database if own else x[rows]
            what: dict[str, Any] = {"metric": self.metric, "exclude_self": own}
            how: dict[str, Any] = {"backend": self.backend, "approximate": self.approximate}
            near.append(knn(query, database, self.k, **what, **how))
            if self.approximate is not None:
                found += recall(near[-1][1], query, database, **what) * rows.numel() / x.size(0)
        scores, index = (torch.cat(parts) for parts in zip(*near, strict=True))
        target = torch.cat((sources, rest)).repeat_interleave(self.k)
        source = sources[index.flatten()]
        weight = self.neighbor_weight * edge_weights(scores, str(self.weight)).flatten()
        keep = weight > 0
        return source[keep], target[keep], weight[keep], found


def merge_edges(
    source: Tensor, target: Tensor, weight: Tensor, num_nodes: int, reduce: str
) -> tuple[Tensor, Tensor]:
    """Join parallel edges by ``'sum'`` or ``'amax'``, sorted by target, then source."""
    key, group = torch.unique(target * num_nodes + source, return_inverse=True)
    merged = weight.new_zeros(key.numel()).scatter_reduce_(
        0, group, weight, reduce=reduce, include_self=False
    )
    return torch.stack((key % num_nodes, key // num_nodes)), merged
