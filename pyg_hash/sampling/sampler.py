"""Neighbour sampling that keeps propagation unbiased."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.sampler import BaseSampler, HeteroSamplerOutput, NodeSamplerInput

from pyg_hash.sampling.hubs import HubSampler
from pyg_hash.sampling.instance_graph import InstanceGraph
from pyg_hash.typing import (
    CLASS,
    IMAGE,
    IN_CLASS,
    JOINT_NEAREST,
    NEAREST,
    TEXT,
    EdgeType,
)
from pyg_hash.utils.checks import check_positive_int

_LAYERS = 2  # of every GCN of this library
_VIEWS = (*NEAREST.values(), *JOINT_NEAREST.values())


class InstanceSampler(BaseSampler):
    r"""Samples the neighbourhoods of image-text pairs, class hubs included.

    Layer by layer, each node receives from at most ``num_neighbors`` others. An edge that is
    taken with probability :math:`p` weighs :math:`1/p` of what it is, and degrees stay those of
    the whole graph, so that each row of a batch's operator has the row of
    :math:`\hat A = D^{-1/2}(A + P M P^\top + S)D^{-1/2}` as its expectation. The same members
    stand for a class in the whole batch (:class:`HubSampler`).

    Neighbours are sampled as :class:`~torch_geometric.loader.NeighborLoader` does it (Hamilton,
    Ying, Leskovec: "Inductive representation learning on large graphs", NIPS 2017, Algorithm 2),
    but in torch operations alone, without replacement, and an instance is one node: both its
    modalities are in the batch, and one draw serves all edge types.

    Args:
        data: a graph, all of whose nodes may be sampled.
        num_neighbors: neighbours of an instance in each of the two layers, the outer (that of the
            seeds) first; -1 takes all.
        num_members: labelled instances that stand for all in a batch; -1 takes all, which makes
            as many edges as there are pairs of equal label.

    Raises:
        TypeError: numbers that are not integers.
        ValueError: no graph, or numbers that are not -1 or positive, one for each layer.
    """

    def __init__(
        self, data: HeteroData, num_neighbors: Sequence[int] = (30, 10), num_members: int = 256
    ) -> None:
        if len(num_neighbors) != _LAYERS:
            raise ValueError(
                f"num_neighbors: {list(num_neighbors)} has {len(num_neighbors)} entries; the "
                f"models have {_LAYERS} layers, give one number for each"
            )
        for index, number in enumerate(num_neighbors):
            _check_size(number, f"num_neighbors[{index}]")
        _check_size(num_members, "num_members")
        if "graph" not in data or "intra_anchors" not in data.graph:
            raise ValueError("data: has no graph to sample; apply IntraKNN or SGCHGraph first")
        self.num_neighbors = tuple(num_neighbors)
        self.num_members = num_members
        self.graph = InstanceGraph(data)
        has_hubs = CLASS in data.node_types and data[IN_CLASS[IMAGE]].edge_index.numel() > 0
        self.hubs = HubSampler(data, num_members, self.graph.dtype) if has_hubs else None
        self._position = torch.full((self.graph.num_nodes,), -1, device=data[IMAGE].x.device)

    def sample_from_nodes(self, index: NodeSamplerInput, **_: Any) -> HeteroSamplerOutput:
        """The sampled neighbourhood of some instances, given as nodes of either modality.

        Returns:
            ``node``: the instances, the seeds first, the same for both modalities. ``metadata``:
            what :class:`~torch_geometric.loader.NodeLoader` expects there, and third the weights
            of the edges, float, by edge type.
        """
        seeds = index.node.to(self._position.device)
        nodes, parts = self._expand(seeds)
        row: dict[EdgeType, Tensor] = {}
        col: dict[EdgeType, Tensor] = {}
        weight: dict[EdgeType, Tensor] = {}
        for kind in self.graph.edge_types:
            columns = zip(*parts[kind], strict=True)
            row[kind], col[kind], weight[kind] = (torch.cat(column) for column in columns)
        return HeteroSamplerOutput(
            node={IMAGE: nodes, TEXT: nodes},
            row=row,
            col=col,
            edge=dict.fromkeys(row),
            metadata=(index.input_id, index.time, weight),
        )

    def sample_from_edges(self, index: Any, neg_sampling: Any = None) -> NoReturn:
        """Not needed: the models learn from nodes.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("InstanceSampler samples from nodes; use sample_from_nodes")

    def _expand(
        self, seeds: Tensor
    ) -> tuple[Tensor, dict[EdgeType, list[tuple[Tensor, Tensor, Tensor]]]]:
        """Instances of a batch, and its edges as positions among them."""
        members = seeds[:0] if self.hubs is None else self.hubs.members()
        parts: dict[EdgeType, list[tuple[Tensor, Tensor, Tensor]]] = {
            kind: [] for kind in self.graph.edge_types
        }
        position = self._position
        nodes, frontier, start = seeds, seeds, 0
        position[seeds] = torch.arange(seeds.numel(), device=seeds.device)
        for size in self.num_neighbors:
            edges = self.graph.sample(frontier, size)
            reached = torch.cat((edges.source, members))  # the members receive like neighbours
            new = torch.unique(reached[position[reached] < 0])
            position[new] = torch.arange(new.numel(), device=new.device) + nodes.numel()
            nodes = torch.cat((nodes, new))
            for kind, weight in edges.weight.items():
                keep = weight != 0
                row, col = position[edges.source[keep]], edges.target[keep] + start
                parts[kind].append((row, col, weight[keep]))
            if self.hubs is not None:
                source, target, weight = self.hubs.edges(members, frontier)
                for kind in self.graph.edge_types:
                    if kind not in _VIEWS:
                        parts[kind].append((position[source], target + start, weight))
            self._add_pairs(parts, frontier, start)
            start, frontier = nodes.numel() - new.numel(), new
        position[nodes] = -1
        return nodes, parts

    def _add_pairs(
        self,
        parts: dict[EdgeType, list[tuple[Tensor, Tensor, Tensor]]],
        frontier: Tensor,
        start: int,
    ) -> None:
        """The edges between the two nodes of an instance."""
        for kind, pair_weight in self.graph.pair_weight.items():
            weight = pair_weight[frontier]
            own = weight.nonzero().flatten()
            parts[kind].append((own + start, own + start, weight[own]))


def _check_size(number: int, name: str) -> None:
    """Raise unless a number is -1 or positive."""
    if number != -1:
        check_positive_int(number, name)
