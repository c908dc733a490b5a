"""Operators of the graphs that a ``HeteroData`` holds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.graph.edges import joint_edges, joint_nearest_edges
from pyg_hash.graph.operator import GraphOperator, Hub
from pyg_hash.graph.place import BlockedGraph, Place, Receiver, View, WholeGraph
from pyg_hash.typing import (
    CLASS,
    IMAGE,
    IN_CLASS,
    INTER,
    INTRA,
    MODALITIES,
    NEAREST,
    OVERLAP,
    TEXT,
    Modality,
)
from pyg_hash.utils.csr import sorted_csr


class Graphs(NamedTuple):
    """What a graph is to a model: operators, and the labelled nodes as new items.

    Attributes:
        operators: ``'image'``, ``'text'`` and ``'joint'``, those that the model needs.
        views: the labelled nodes on the same graphs; on the joint one images, then texts.
        constant: the graph and its features stay: it is no mini-batch.
    """

    operators: dict[str, GraphOperator]
    views: dict[str, View]
    constant: bool

    def whole(self, *, views: bool) -> dict[str, Place]:
        """The graphs at once, with or without the views: for training."""
        seen = self.views if views else {}
        return {
            name: WholeGraph(operator, seen.get(name), constant=self.constant)
            for name, operator in self.operators.items()
        }

    def blocked(self, messages: dict[str, list[Tensor]] | None = None) -> dict[str, Place]:
        """The graphs in blocks of rows, without autograd.

        Args:
            messages: gets a list for each graph, see :class:`BlockedGraph`.
        """
        return {
            name: BlockedGraph(
                operator, None if messages is None else messages.setdefault(name, [])
            )
            for name, operator in self.operators.items()
        }


def anchor_view(data: HeteroData) -> HeteroData:
    """The subgraph of the anchors; ``data`` itself if all nodes are anchors or there is no graph.

    Other nodes only receive, so leaving them out changes nothing for the anchors. What is left is
    symmetric and smaller.
    """
    store = data[IMAGE]
    if "anchor_mask" not in store or bool(store.anchor_mask.all()):
        return data
    subset: dict[str, Tensor] = {modality: data[modality].anchor_mask for modality in MODALITIES}
    if CLASS in data.node_types:  # left out, PyG would build its mask on the CPU
        subset[CLASS] = store.anchor_mask.new_ones(data[CLASS].num_nodes)
    return data.subgraph(subset)


def build_graphs(data: HeteroData, *, specific: bool = True, joint: bool = True) -> Graphs:
    """The operators of a graph.

    Args:
        data: the graph.
        specific: build one for each modality.
        joint: build the one of both modalities.

    Raises:
        ValueError: edges are missing.
    """
    _check_edges(data, joint=joint)
    operators: dict[str, GraphOperator] = {}
    views: dict[str, View] = {}
    if specific:
        for m in MODALITIES:
            operators[m] = intra_operator(data, m)
            views[m] = query_view(data, m).inside(operators[m], _labeled(data, m))
    if joint:
        operators["joint"] = joint_operator(data)
        num_nodes = data[IMAGE].x.size(0)
        nodes = torch.cat((_labeled(data, IMAGE), _labeled(data, TEXT) + num_nodes))
        receiver = query_view(data, *MODALITIES, joint=True)
        views["joint"] = receiver.inside(operators["joint"], nodes)
    return Graphs(operators, views, constant="degree" not in data[IMAGE])


def intra_operator(data: HeteroData, modality: Modality) -> GraphOperator:
    """The modality-specific graph of MCGCN Eq. 1 as an operator on ``[N, f]``."""
    _check_edges(data, joint=False)
    edges = data[INTRA[modality]]
    hub, degree = _hub(data, {modality: 0}), _true_degree(data, "degree", modality)
    loops = _self_loop(data, modality)
    return GraphOperator(edges.edge_index, edges.edge_weight, loops, hub, degree=degree)


def joint_operator(data: HeteroData) -> GraphOperator:
    """The cross-modal graph of MCGCN Eq. 2 as an operator on ``[2N, f]``: images, then texts.

    A query never occurs in its own pair's rows, because edges only start at anchors
    (:class:`InterKNN`).
    """
    _check_edges(data, joint=True)
    num_nodes = data[IMAGE].x.size(0)
    offset: dict[Modality, int] = {IMAGE: 0, TEXT: num_nodes}
    index: list[Tensor] = []
    weight: list[Tensor] = []
    for modality in MODALITIES:
        intra = joint_edges(data, modality)
        index.append(intra.edge_index + offset[modality])
        weight.append(intra.edge_weight)
        edge_type = INTER[modality]
        shift = [[offset[edge_type[0]]], [offset[edge_type[2]]]]  # type: ignore[index]
        inter = data[edge_type]
        index.append(inter.edge_index + torch.tensor(shift, device=inter.edge_index.device))
        weight.append(inter.edge_weight)
    self_loop = torch.cat([_self_loop(data, m) for m in MODALITIES])
    hub, degree = _hub(data, offset), _true_degree(data, "joint_degree", *MODALITIES)
    edge_index = torch.cat(index, dim=1)
    return GraphOperator(edge_index, torch.cat(weight), self_loop, hub, degree=degree)


def query_view(data: HeteroData, *modalities: Modality, joint: bool = False) -> Receiver:
    """How the labelled nodes, in order, would receive as new items.

    Args:
        data: a graph with ``nearest`` edges (:class:`IntraKNN`).
        *modalities: of the nodes; several on the joint graph alone.
        joint: receive on the joint graph, from images and texts of the nearest anchors
            (``2N`` nodes), or on the modality's own graph (``N`` nodes).
    """
    _check_edges(data, joint=joint)
    num_nodes = data[modalities[0]].x.size(0)
    count = 0
    sources, targets, weights, degrees = [], [], [], []
    for m in modalities:
        rows = _labeled(data, m)
        position = torch.full((num_nodes,), -1, device=rows.device)
        position[rows] = torch.arange(rows.numel(), device=rows.device) + count
        nearest = joint_nearest_edges(data, m) if joint else data[NEAREST[m]]
        keep = position[nearest.edge_index[1]] >= 0
        source, target = nearest.edge_index[:, keep]
        sources += [source, source + num_nodes] if joint else [source]
        copies = 2 if joint else 1
        targets += [position[target]] * copies
        weights += [nearest.edge_weight[keep]] * copies
        degree = _true_degree(data, "joint_view_degree" if joint else "view_degree", m)
        degrees += [] if degree is None else [degree[rows]]
        count += rows.numel()
    return Receiver(
        torch.stack((torch.cat(sources), torch.cat(targets))),
        torch.cat(weights),
        count,
        2 * num_nodes if joint else num_nodes,
        degree=torch.cat(degrees) if degrees else None,
    )


def _labeled(data: HeteroData, modality: Modality) -> Tensor:
    """The labelled nodes, ascending."""
    nodes: Tensor = data[modality].labeled_mask.nonzero().flatten()
    return nodes


def _check_edges(data: HeteroData, *, joint: bool) -> None:
    if INTRA[IMAGE] not in data.edge_types:
        raise ValueError("data: has no intra edges; apply IntraKNN")
    if joint and INTER[IMAGE] not in data.edge_types:
        raise ValueError("data: has no inter edges; apply InterKNN")


def _self_loop(data: HeteroData, modality: Modality) -> Tensor:
    store = data[modality]
    if "self_loop" in store:
        loops: Tensor = store.self_loop
    else:  # in the type of the weights, whatever the features are
        loops = data[INTRA[modality]].edge_weight.new_ones(store.x.size(0))
    return loops


def _true_degree(data: HeteroData, name: str, *modalities: Modality) -> Tensor | None:
    """Degrees in the graph that ``data`` is a sample of (:class:`InstanceLoader`), or None."""
    if name not in data[modalities[0]]:
        return None
    return torch.cat([data[m][name] for m in modalities])


def _hub(data: HeteroData, offset: dict[Modality, int]) -> Hub | None:
    if CLASS not in data.node_types:
        return None
    pairs = [(data[IN_CLASS[m]].edge_index, shift) for m, shift in offset.items()]
    members = torch.cat([edge_index[0] + shift for edge_index, shift in pairs])
    index = torch.cat([edge_index[1] for edge_index, _ in pairs])
    num_hubs = int(data[CLASS].num_nodes)
    overlap = None
    if OVERLAP in data.edge_types:
        row, column = data[OVERLAP].edge_index
        ones = torch.ones(row.numel(), device=row.device)
        overlap = sorted_csr(row, column, ones, num_hubs, num_hubs)
    return Hub(members, index, num_hubs, overlap)
