"""Nearest-neighbour edges inside each modality."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import NodeStorage
from torch_geometric.transforms import BaseTransform

from pyg_hash.graph.build import edge_weights
from pyg_hash.graph.protocol import ANCHORS, anchor_mask
from pyg_hash.knn import knn, recall
from pyg_hash.knn.knn import check_backend
from pyg_hash.transforms.edges import merge_edges
from pyg_hash.typing import IMAGE, INTRA, MODALITIES, NEAREST, TEXT, Metric
from pyg_hash.utils.checks import (
    check_choice,
    check_features,
    check_nonzero_rows,
    check_positive_int,
    check_same_rows,
    check_weight,
)


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
            a neighbour whose cosine is not positive is none). None, the default, is
            ``'similarity'`` under cosine, which serves MCGCN better too, and ``'binary'`` under
            the other metrics, which know no other.
        neighbor_weight: a factor :math:`\omega` of all these weights, above 0; 1 in the papers.
            Against a node's self-loop and labels, that is: the smaller it is, the more a node's
            own features count.
        backend: of :func:`~pyg_hash.knn.knn`: how the exact search works.
        approximate: of :func:`~pyg_hash.knn.knn`: ``'pca'``, ``'ivf'`` or ``'hnsw'`` for many
            rows, when a few missing neighbours do not matter. ``data.graph['recall']`` then says
            for each modality which part of the true neighbours was found, measured on 256 nodes.
            New items are always joined to their true neighbours.

    Raises:
        ValueError: NaN or inf features, zero vectors under cosine, ``k`` not smaller than the
            number of anchors, image and text rows that do not match.
    """

    _source_name = "anchors"

    def __init__(
        self,
        k: int = 20,
        metric: Metric = "cosine",
        anchors: str = "train",
        weight: str | None = None,
        neighbor_weight: float = 1.0,
        backend: str = "auto",
        approximate: str | None = None,
    ) -> None:
        check_positive_int(k, "k")
        check_choice(metric, ("cosine", "ip", "l2"), "metric")
        check_choice(anchors, ANCHORS, "anchors")
        if weight is None:
            weight = "similarity" if metric == "cosine" else "binary"
        check_choice(weight, ("binary", "similarity"), "weight")
        if weight == "similarity" and metric != "cosine":
            raise ValueError(
                f"weight: 'similarity' needs metric='cosine', got {metric!r}; use 'binary'"
            )
        check_neighbor_weight(neighbor_weight)
        check_backend(backend, approximate)
        self.k = k
        self.metric = metric
        self.anchors = anchors
        self.weight = weight
        self.neighbor_weight = neighbor_weight
        self.backend = backend
        self.approximate = approximate

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with intra edges and ``anchor_mask`` in both modalities."""
        if "graph" in data:
            raise ValueError("IntraKNN: the graph exists already; start from data without one")
        check_same_rows(data[IMAGE].x, data[TEXT].x, "data['image'].x", "data['text'].x")
        found = {}
        for modality in MODALITIES:
            store = data[modality]
            mask = anchor_mask(store, self.anchors)
            sources = self._sources(store, mask)
            self._check_k(int(sources.sum()))
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

    def _sources(self, store: NodeStorage, anchors: Tensor) -> Tensor:
        """The anchors that may be somebody's nearest: bool ``[N]``. Here, all."""
        return anchors

    def _check_k(self, num_sources: int) -> None:
        if self.k >= num_sources:
            raise ValueError(
                f"k: {self.k} neighbours asked for, but only {num_sources} {self._source_name} "
                f"(anchors={self.anchors!r}); use k < {max(num_sources, 1)}"
            )

    def _nearest(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        """Source, target and weight of the edges from its k nearest sources to each node.

        Also the part of the true nearest that was found.
        """
        sources, rest = mask.nonzero().flatten(), (~mask).nonzero().flatten()
        scores, index, found = self._search(x[sources], x[sources], exclude_self=True)
        if rest.numel():
            more = self._search(x[rest], x[sources], exclude_self=False)
            scores, index = torch.cat((scores, more[0])), torch.cat((index, more[1]))
            found = (sources.numel() * found + rest.numel() * more[2]) / x.size(0)
        target = torch.cat((sources, rest)).repeat_interleave(self.k)
        source, weight = sources[index.flatten()], edge_weights(scores, self.weight).flatten()
        weight = self.neighbor_weight * weight
        keep = weight > 0
        return source[keep], target[keep], weight[keep], found

    def _search(
        self, query: Tensor, sources: Tensor, *, exclude_self: bool
    ) -> tuple[Tensor, Tensor, float]:
        """Scores and index of the nearest, and the part of the true ones among them."""
        database = query if exclude_self else sources
        scores, index = knn(
            query,
            database,
            self.k,
            metric=self.metric,
            exclude_self=exclude_self,
            backend=self.backend,
            approximate=self.approximate,
        )
        found = 1.0
        if self.approximate is not None:
            found = recall(index, query, database, metric=self.metric, exclude_self=exclude_self)
        return scores, index, found

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(k={self.k}, metric={self.metric!r}, "
            f"anchors={self.anchors!r}, weight={self.weight!r}, "
            f"neighbor_weight={self.neighbor_weight}, backend={self.backend!r}, "
            f"approximate={self.approximate!r})"
        )


def check_neighbor_weight(neighbor_weight: float) -> None:
    """Raise unless kNN edges stay edges."""
    check_weight(neighbor_weight, "neighbor_weight")
    if neighbor_weight == 0:
        raise ValueError("neighbor_weight: 0 leaves no kNN edge; use a number above 0")
