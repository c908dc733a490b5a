"""One table of all edges between instances, whatever the modalities they join."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.sampling._rows import row_starts, sample_rows
from pyg_hash.sampling.cells import close_order
from pyg_hash.typing import (
    IMAGE,
    INTER,
    INTRA,
    JOINT,
    JOINT_NEAREST,
    MODALITIES,
    NEAREST,
    EdgeType,
)

_KINDS = (*INTRA.values(), *INTER.values(), *JOINT.values())
_VIEWS = (*NEAREST.values(), *JOINT_NEAREST.values())  # what nodes receive as new items


class Edges(NamedTuple):
    """Sampled edges between instances.

    Attributes:
        source: an instance, int64 ``[E]``.
        target: position in the list of receiving instances, int64 ``[E]``.
        weight: for each edge type, float ``[E]``; 0 where this edge is none of that type.
    """

    source: Tensor
    target: Tensor
    weight: dict[EdgeType, Tensor]


class InstanceGraph:
    """Who receives from whom, by instances: row *i* of images and texts is one instance.

    Two instances are joined if any edge type joins their images or texts. One draw then decides
    for all edge types, so that a batch needs one set of instances, not one for each modality.
    Edges of an instance's image with its own text are apart: they are never left out.

    Args:
        data: a graph.

    Attributes:
        edge_types: those of ``data`` that a batch has.
        pair_weight: weight of the edge between an instance's two nodes, float ``[N]``, keyed by
            the edge type.
        dtype: of the weights.
        degree: for each edge type the sum of the weights that each node receives, float ``[N]``.
    """

    def __init__(self, data: HeteroData) -> None:
        num_nodes = data[IMAGE].x.size(0)
        self.num_nodes = num_nodes
        self.edge_types = [kind for kind in (*_KINDS, *_VIEWS) if kind in data.edge_types]
        self.pair_weight: dict[EdgeType, Tensor] = {}
        self.degree: dict[EdgeType, Tensor] = {}
        key = torch.empty(0, dtype=torch.long, device=data[IMAGE].x.device)
        for kind in self.edge_types:  # a type at a time: all keys together would be most memory
            source, target = data[kind].edge_index
            weight = data[kind].edge_weight
            self.degree[kind] = weight.new_zeros(num_nodes).index_add_(0, target, weight)
            pair = source == target
            if kind in INTER.values():
                own = weight.new_zeros(num_nodes).index_add_(0, target[pair], weight[pair])
                self.pair_weight[kind] = own
            found = (target * num_nodes + source)[~pair]
            found = found[~_contains(key, found)]
            if found.numel():
                key = torch.unique(torch.cat((key, found)))
        self.dtype = data[INTRA[IMAGE]].edge_weight.dtype
        shape = (key.numel(), len(self.edge_types))
        self._weight = torch.zeros(shape, dtype=self.dtype, device=key.device)
        for column, kind in enumerate(self.edge_types):
            source, target = data[kind].edge_index
            keep = source != target
            place = torch.searchsorted(key, (target * num_nodes + source)[keep])
            weight = data[kind].edge_weight[keep]
            self._weight[:, column].index_add_(0, place, weight)
        self._start = row_starts(key // num_nodes, num_nodes)
        self._source = (key % num_nodes).int()  # half the memory

    def sample(self, target: Tensor, size: int) -> Edges:
        """Edges that lead to some instances, weighted so that every sum over them is unbiased.

        Args:
            target: instances, int64 ``[n]``.
            size: neighbours of each; -1 takes all.
        """
        position, place, ratio = sample_rows(self._start, target, size)
        weight = self._weight[place] * ratio.to(self.dtype).unsqueeze(1)
        by_kind = dict(zip(self.edge_types, weight.unbind(1), strict=True))
        return Edges(self._source[place].long(), position, by_kind)

    def close_order(self) -> Tensor:
        """All instances, neighbours close to each other: int64 ``[N]``."""
        return close_order(self._start, self._source)


def true_degrees(
    data: HeteroData, graph: InstanceGraph, hub: Tensor | float
) -> dict[str, dict[str, Tensor]]:
    """The degrees of the whole graph that a batch is normalised by.

    Args:
        data: the graph.
        graph: its edges.
        hub: what the hubs of one modality add, float ``[N]``.

    Returns:
        for each modality ``degree``, ``joint_degree`` (if there are edges across the modalities),
        and ``view_degree`` and ``joint_view_degree``, of nodes as new items; float ``[N]``.
    """
    degrees: dict[str, dict[str, Tensor]] = {}
    for m in MODALITIES:
        loop = self_loops(data, m)
        found = {"degree": loop + graph.degree[INTRA[m]] + hub}
        if NEAREST[m] in graph.degree:
            found["view_degree"] = 1 + graph.degree[NEAREST[m]]
        if INTER[m] in graph.degree:
            own = graph.degree.get(JOINT[m], graph.degree[INTRA[m]])
            found["joint_degree"] = loop + own + graph.degree[INTER[m]] + 2 * hub
            if NEAREST[m] in graph.degree:
                near = graph.degree.get(JOINT_NEAREST[m], graph.degree[NEAREST[m]])
                found["joint_view_degree"] = 1 + 2 * near
        degrees[m] = found
    return degrees


def self_loops(data: HeteroData, modality: str) -> Tensor:
    """The weight of each node with itself: float ``[N]``."""
    store = data[modality]
    if "self_loop" in store:
        loops: Tensor = store.self_loop
        return loops
    return torch.ones(store.x.size(0), device=store.x.device)


def _contains(key: Tensor, found: Tensor) -> Tensor:
    """Whether each entry is among the ascending ``key``: bool."""
    if key.numel() == 0:
        return torch.zeros_like(found, dtype=torch.bool)
    place = torch.searchsorted(key, found).clamp(max=key.numel() - 1)
    return key[place] == found
