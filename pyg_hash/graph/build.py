"""What a ``HeteroData`` holds of a graph: its protocol, its anchors and its operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pyg_hash.graph.operator import GraphOperator
from pyg_hash.graph.place import NewItems, View
from pyg_hash.typing import (
    CLASS,
    IMAGE,
    IN_CLASS,
    INTER,
    INTRA,
    JOINT,
    JOINT_NEAREST,
    MODALITIES,
    NEAREST,
    OVERLAP,
    TEXT,
    Modality,
    other,
)
from pyg_hash.utils.csr import sorted_csr

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData
    from torch_geometric.data.storage import EdgeStorage


PROTOCOLS: dict[str, tuple[str, str]] = {
    "inductive": ("train", "train"),
    "strict": ("all", "train"),
    "transductive": ("all", "all"),
}
"""Protocol name -> ``anchors`` of :class:`IntraKNN` and of :class:`InterKNN`."""


def protocol(data: HeteroData) -> str:
    """Name the protocol of a graph, read from its anchors.

    * ``'transductive'``: all nodes are anchors, and the inter edges of a query may be chosen by
      its own other modality (the papers' setting).
    * ``'strict'``: all nodes are anchors, but nothing of a query's other modality reaches its
      code; so too without edges across the modalities (:class:`SGCHGraph`).
    * ``'inductive'``: only training nodes are anchors; a query changes no other node.
    * ``'none'``: the data carries no graph.
    """
    graph = data.graph if "graph" in data else {}
    if "intra_anchors" not in graph:
        return "none"
    intra = graph["intra_anchors"]
    pair = (intra, graph.get("inter_anchors", intra))
    return next(name for name, anchors in PROTOCOLS.items() if anchors == pair)


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


def anchor_view(data: HeteroData) -> HeteroData:
    """The subgraph of the anchors; ``data`` itself if all nodes are anchors or it has no graph."""
    store = data[IMAGE]
    if "anchor_mask" not in store or bool(store.anchor_mask.all()):
        return data
    subset: dict[str, Tensor] = {modality: data[modality].anchor_mask for modality in MODALITIES}
    if CLASS in data.node_types:  # left out, PyG would build its mask on the CPU
        subset[CLASS] = store.anchor_mask.new_ones(data[CLASS].num_nodes)
    return data.subgraph(subset)


def build_graphs(data: HeteroData, *, specific: bool = True, joint: bool = True) -> Graphs:
    """Operators of each modality (``specific``) and of both; ``ValueError``: edges are missing."""
    operators: dict[str, GraphOperator] = {}
    views: dict[str, View] = {}
    for m in (*(MODALITIES if specific else ()), *((None,) if joint else ())):
        name, offset = m or "joint", _offsets(data, m)
        nodes = torch.cat([_labeled(data, each) + shift for each, shift in offset.items()])
        operators[name] = graph_operator(data, m)
        views[name] = View(query_view(data, *offset, joint=m is None), operators[name], nodes)
    return Graphs(operators, views, constant="degree" not in data[IMAGE])


def _offsets(data: HeteroData, modality: Modality | None) -> dict[Modality, int]:
    """The first node of one modality's graph, or of both modalities' in the cross-modal graph."""
    return {modality: 0} if modality else {IMAGE: 0, TEXT: data[IMAGE].x.size(0)}


def graph_operator(data: HeteroData, modality: Modality | None = None) -> GraphOperator:
    """One modality's graph, MCGCN Eq. 1, as an operator on ``[N, f]``.

    Without a modality it is the cross-modal graph, MCGCN Eq. 2, on ``[2N, f]``: images, then texts.
    """
    joint = modality is None
    _check_edges(data, joint=joint)
    offset = _offsets(data, modality)
    parts: list[tuple[Tensor, Tensor]] = []
    loops: list[Tensor] = []
    for m, first in offset.items():
        own, through = joint_edges(data, m) if joint else data[INTRA[m]], _through_hubs(data, m)
        parts.append((own.edge_index + first, own.edge_weight))
        if joint:
            index, weight = _pairs_less(data[INTER[m]], through)
            parts.append((index + index.new_tensor([[offset[other(m)]], [first]]), weight))
        loops.append(_self_loop(data, m) - through)
    edge_index, edge_weight = zip(*parts, strict=True)
    degree = _true_degree(data, "joint_degree" if joint else "degree", dict.fromkeys(offset, ...))
    return GraphOperator(
        torch.cat(edge_index, dim=1),
        torch.cat(edge_weight),
        torch.cat(loops),
        *_cliques(data, offset, loops[0]),
        degree=degree,
    )


def query_view(data: HeteroData, *modalities: Modality, joint: bool = False) -> NewItems:
    """The labelled nodes as new items of their ``nearest`` anchors (``joint``: of ``2N`` nodes)."""
    _check_edges(data, joint=joint)
    num_nodes = data[modalities[0]].x.size(0)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    rows = {m: _labeled(data, m) for m in modalities}
    count = 0
    for m, labeled in rows.items():
        position = torch.full((num_nodes,), -1, device=labeled.device)
        position[labeled] = torch.arange(labeled.numel(), device=labeled.device) + count
        own = joint and JOINT_NEAREST[m] in data.edge_types  # strict protocol
        nearest = data[JOINT_NEAREST[m] if own else NEAREST[m]]
        keep = position[nearest.edge_index[1]] >= 0
        source, target = nearest.edge_index[:, keep]
        for shift in (0, num_nodes) if joint else (0,):
            parts.append((source + shift, position[target], nearest.edge_weight[keep]))
        count += labeled.numel()
    source, target, weight = (torch.cat(column) for column in zip(*parts, strict=True))
    degree = _true_degree(data, "joint_view_degree" if joint else "view_degree", rows)
    num_known = 2 * num_nodes if joint else num_nodes
    return NewItems(torch.stack((source, target)), weight, count, num_known, degree=degree)


def joint_edges(data: HeteroData, modality: Modality) -> EdgeStorage:
    """The edges inside a modality that take part in the cross-modal graph (:class:`InterKNN`)."""
    own = JOINT[modality] in data.edge_types  # strict protocol
    return data[JOINT[modality] if own else INTRA[modality]]


def edge_weights(scores: Tensor, weight: str) -> Tensor:
    """Weights of edges: 1 (``'binary'``), or their similarity, but never below 0."""
    return torch.ones_like(scores) if weight == "binary" else scores.clamp(min=0)


def _pairs_less(edges: EdgeStorage, through: Tensor) -> tuple[Tensor, Tensor]:
    """Edges across the modalities, less what the hubs already add between the two of a pair."""
    source, target = edges.edge_index
    is_pair = source == target
    weight = torch.where(is_pair, edges.edge_weight - through[target], edges.edge_weight)
    alone = through != 0
    alone[target[is_pair]] = False
    nodes = alone.nonzero().flatten()
    index = torch.cat((edges.edge_index, nodes.expand(2, -1)), dim=1)
    return index, torch.cat((weight, -through[nodes]))


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
    """The weight of each node with itself."""
    store = data[modality]
    weight: Tensor = data[INTRA[modality]].edge_weight  # its type, whatever the features are
    loops: Tensor = store.self_loop if "self_loop" in store else weight.new_ones(store.x.size(0))
    if bool((loops < 1).any()):
        raise ValueError(
            f"data[{modality!r}].self_loop: below 1, so the graph is of an earlier version; make "
            "it anew: force_reload=True, or delete the folder processed/ or FILE.cache/ of the data"
        )
    return loops


def _through_hubs(data: HeteroData, modality: Modality) -> Tensor:
    r"""What :math:`P M P^T` says of each node with itself; it joins different ones: ``[N]``."""
    weight: Tensor = data[INTRA[modality]].edge_weight
    weight = weight.new_zeros(data[modality].x.size(0))
    if CLASS not in data.node_types:
        return weight
    node, hub = data[IN_CLASS[modality]].edge_index
    meets_itself = weight.new_ones(int(data[CLASS].num_nodes))
    if OVERLAP in data.edge_types:
        source, target = data[OVERLAP].edge_index
        meets_itself.zero_()[source[source == target]] = 1.0
    return weight.index_add_(0, node, meets_itself[hub])


def _true_degree(data: HeteroData, name: str, rows: Mapping[Modality, Any]) -> Tensor | None:
    """Degrees in the graph that ``data`` is a sample of (:class:`InstanceLoader`), or None."""
    found = [data[m][name][which] for m, which in rows.items() if name in data[m]]
    return torch.cat(found) if found else None


def _cliques(
    data: HeteroData, offset: dict[Modality, int], like: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``P`` and ``M`` of the label cliques (:class:`LabelHub`), in the type of ``like``."""
    if CLASS not in data.node_types:
        return None, None
    num_nodes, num_hubs = len(offset) * data[IMAGE].x.size(0), int(data[CLASS].num_nodes)
    members = [data[IN_CLASS[m]].edge_index[0] + shift for m, shift in offset.items()]
    hubs = torch.cat([data[IN_CLASS[m]].edge_index[1] for m in offset])
    if not len(hubs):
        return None, None
    spread = sorted_csr(torch.cat(members), hubs, like.new_ones(len(hubs)), num_nodes, num_hubs)
    if OVERLAP not in data.edge_types:
        return spread, None
    row, column = data[OVERLAP].edge_index
    return spread, sorted_csr(row, column, like.new_ones(len(row)), num_hubs, num_hubs)
