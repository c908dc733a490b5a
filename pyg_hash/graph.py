"""The graph of a ``HeteroData``: its protocol, its operators, and where nodes stand in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor

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
    SAMPLED,
    TEXT,
    Modality,
    other,
)
from pyg_hash.utils.csr import csr_matrix, product, row_block, rows_of, sorted_csr, transpose

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData
    from torch_geometric.data.storage import EdgeStorage

__all__ = ["graph_operator", "protocol"]

PROTOCOLS: dict[str, tuple[str, str]] = {
    "inductive": ("train", "train"),
    "strict": ("all", "train"),
    "transductive": ("all", "all"),
}
"""Protocol name -> ``anchors`` of :class:`IntraKNN` and of :class:`InterKNN`."""

BLOCK = 8192  # rows that are worked on at a time where nothing is kept for a backward pass
_GEMM_SPEED = 16  # multiply-adds of a dense product in the time of one of a sparse product

States = Iterable[Tensor]
Project = Callable[[Tensor], Tensor]


class SparseMap:
    r"""A constant sparse matrix :math:`A + L M L^\top` that acts on the rows of an array.

    ``sparse_map @ x`` is differentiable in ``x`` and keeps none of it for the backward pass. It is
    computed in the matrix's type, fp32, even under :func:`torch.autocast` to bf16: sums over many
    neighbours need the digits.

    All are CSR: ``matrix`` is ``A``, ``[rows, n]``; ``scatter`` ``L``, ``[n, U]``, if there is one;
    ``middle`` ``M``, ``[U, U]``, or None for the identity.
    """

    def __init__(
        self, matrix: Tensor, scatter: Tensor | None = None, middle: Tensor | None = None
    ) -> None:
        self.matrix = matrix if matrix.dtype.itemsize > 2 else matrix.float()
        self._scatter, self._middle = scatter, middle
        self._gather = None if scatter is None else transpose(scatter)
        self._constant: tuple[ReferenceType[Tensor], int, Tensor] | None = None

    @property
    def num_entries(self) -> int:
        """Stored weights of ``A``."""
        return self.matrix.values().numel()

    def __matmul__(self, x: Tensor) -> Tensor:
        """Propagate ``x`` ``[n, f]``: float ``[rows, f]``."""
        result: Tensor = _Propagate.apply(x.to(self.matrix.dtype), self, False)  # type: ignore[no-untyped-call]
        return result

    def apply(self, x: Tensor, *, transposed: bool = False) -> Tensor:
        """The product itself, without autograd."""
        matrix, middle = self._transposes if transposed else (self.matrix, self._middle)
        if self._scatter is None:
            return product(matrix, x)
        # where all is cliques one pass over the result is half of the time
        out = product(matrix, x) if self.num_entries else None
        return product(self._scatter, self._totals(x, middle), onto=out)

    def blocks(self, x: Tensor, size: int) -> Iterator[Tensor]:
        """:meth:`apply` in consecutive blocks of ``size`` rows; only one of them is alive."""
        totals = self._totals(x, self._middle)
        for start in range(0, self.matrix.size(0), size):
            out = product(row_block(self.matrix, start, start + size), x)
            if self._scatter is not None:
                product(row_block(self._scatter, start, start + size), totals, onto=out)
            yield out

    def of_constant(self, x: Tensor) -> Tensor:
        """``self @ x`` for features that stay the same: computed once and remembered."""
        if x.is_inference():  # such a tensor does not count its changes
            return self.apply(x)
        if self._constant is not None:
            kept, version, result = self._constant
            if kept() is x and version == x._version:
                return result
        result = self.apply(x.detach())
        self._constant = ref(x), x._version, result
        return result

    def _totals(self, x: Tensor, middle: Tensor | None) -> Tensor:
        """What each hub sends."""
        totals = x if self._gather is None else product(self._gather, x)
        return totals if middle is None else product(middle, totals)

    @cached_property
    def _transposes(self) -> tuple[Tensor, Tensor | None]:
        middle = None if self._middle is None else _transpose(self._middle)
        return _transpose(self.matrix), middle


class _Propagate(torch.autograd.Function):
    """``sparse_map @ x``; keeps no activation, because the gradient is ``sparse_map^T @ grad``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sparse_map: SparseMap, transposed: bool) -> Tensor:
        ctx.arguments = (sparse_map, transposed)
        return sparse_map.apply(x, transposed=transposed)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        sparse_map, transposed = ctx.arguments
        back = _Propagate.apply(grads[0], sparse_map, not transposed)  # type: ignore[no-untyped-call]
        return back, None, None


class GraphOperator(SparseMap):
    r"""The GCN operator :math:`\hat A = D^{-1/2} (A + P M P^T + S) D^{-1/2}` of one graph.

    ``A`` holds weighted edges (target = row), ``P M P^T`` the label cliques of
    :class:`LabelHub`, which stay factored, ``S`` the self-loops, and ``D`` the row sums of all.
    ``P M P^T`` joins labelled nodes to themselves too: :func:`graph_operator`, which makes the
    operator of a ``HeteroData``, takes that off ``S``.

    Args:
        edge_index: int64 ``[2, E]``: source, target.
        edge_weight: float ``[E]``.
        self_loop: float ``[N]``, diagonal of ``S``.
        spread: ``P``, CSR ``[N, U]`` of ones where nodes are in hubs; None: there are no cliques.
        overlap: ``M``, CSR ``[U, U]``; None is the identity.
        degree: float ``[N]``, used in place of the row sums: the degrees in the whole graph, of
            which this one is a sample.

    ``ValueError``: a node's degree is 0, negative, NaN or inf, so that no normalisation exists.
    """

    def __init__(
        self,
        edge_index: Tensor,
        edge_weight: Tensor,
        self_loop: Tensor,
        spread: Tensor | None = None,
        overlap: Tensor | None = None,
        *,
        degree: Tensor | None = None,
    ) -> None:
        num_nodes = self_loop.numel()
        source, target = edge_index
        if degree is None:
            degree = self_loop.clone().index_add_(0, target, edge_weight.to(self_loop))
            if spread is not None:
                count = product(transpose(spread), torch.ones_like(degree).unsqueeze(1))
                count = count if overlap is None else product(overlap, count)
                degree += product(spread, count).squeeze(1)
        bad = ~((degree > 0) & degree.isfinite())  # NaN included
        if bool(bad.any()):
            node = int(bad.nonzero()[0])
            raise ValueError(
                f"edge_weight: node {node} has degree {float(degree[node]):g}; degrees must be "
                "positive and finite (negative similarities? use weight='binary')"
            )
        self.inv_sqrt_degree = degree.rsqrt()  # the diagonal of D^-1/2
        loop = torch.arange(num_nodes, device=degree.device)
        row, column = torch.cat((target, loop)), torch.cat((source, loop))
        value = torch.cat((edge_weight, self_loop))
        value = value * self.inv_sqrt_degree[row] * self.inv_sqrt_degree[column]
        keep = value != 0
        matrix = sorted_csr(row[keep], column[keep], value[keep], num_nodes, num_nodes)
        if spread is not None:
            value = self.inv_sqrt_degree[rows_of(spread)]
            spread = csr_matrix(spread.crow_indices(), spread.col_indices(), value, spread.size(1))
        super().__init__(matrix, spread, overlap)

    def to_dense(self) -> Tensor:
        """The operator as a dense ``[N, N]`` array: for small graphs and for tests."""
        return self.apply(torch.diag(torch.ones_like(self.inv_sqrt_degree)))


def _transpose(matrix: Tensor) -> Tensor:
    """The transposed matrix; the very same one if it is symmetric."""
    other = transpose(matrix)
    ours, theirs = ((x.crow_indices(), x.col_indices()) for x in (matrix, other))
    same = all(map(torch.equal, ours, theirs))  # of another length: False
    same = same and torch.allclose(matrix.values(), other.values(), rtol=1e-6, atol=0.0)
    return matrix if same else other


class Place(ABC):
    r"""Nodes, and how they receive from layer to layer of a channel: :math:`\hat A (H \Theta)`.

    They are those of a graph in training (:class:`WholeGraph`), the same in blocks of rows
    (:class:`BlockedGraph`), or new items that receive from known nodes (:class:`NewItems`).
    """

    @abstractmethod
    def receive(self, layer: int, states: States, project: Project) -> States:
        r"""What the nodes receive in a layer, in parts of rows ``[n, f']`` that are new in memory.

        Of :math:`H`, in parts of rows ``[n, f]`` (of layer 0: the features), of which ``project``,
        row by row, makes :math:`H \Theta`. Calls come in one order, for one modality as for both.
        """

    def gather(self, states: States) -> list[Tensor]:
        """The states after the last layer: of the nodes and, if there is one, of the view."""
        return list(states)


class WholeGraph(Place):
    """All nodes of a graph at once; the parts of ``view``, nodes as new items, come last.

    ``constant``: the same features come again and again; their propagation is kept where faster.
    """

    def __init__(
        self, operator: SparseMap, view: View | None = None, *, constant: bool = False
    ) -> None:
        self.operator, self.view, self.constant = operator, view, constant

    def receive(self, layer: int, states: States, project: Project) -> list[Tensor]:
        """What the nodes receive, then what those of the view do."""
        if layer > 0:
            sent, *viewed = map(project, states)
            received = [self.operator @ sent]
            return received if self.view is None else [*received, self.view(sent, *viewed)]
        x = list(states)
        maps = [self.operator] if self.view is None else [self.operator, self.view.first]
        # of torch or PyG; anything else may be other than A x W
        linear = type(project).__name__ == "Linear" and getattr(project, "bias", self) is None
        if linear and self.constant and len(x) == 1 and self._is_worth_keeping(x[0]):
            return [project(each.of_constant(x[0]).to(x[0])) for each in maps]
        parts = [project(part) for part in x]
        sent = parts[0] if len(parts) == 1 else torch.cat(parts)
        return [each @ sent for each in maps]

    def _is_worth_keeping(self, x: Tensor) -> bool:
        """Whether propagating costs more than projecting a view's rows apart from the graph's."""
        if x.requires_grad or self.view is None:
            return not x.requires_grad
        spared = self.operator.num_entries + self.view.first.num_entries
        return self.view.own.size(0) * x.size(1) <= _GEMM_SPEED * spared


class BlockedGraph(Place):
    r"""All nodes in blocks, no autograd; ``messages`` gets :math:`D^{-1/2} H \Theta` by call."""

    def __init__(self, operator: GraphOperator, messages: list[Tensor] | None = None) -> None:
        self.operator, self.messages = operator, messages

    def receive(self, layer: int, states: States, project: Project) -> Iterator[Tensor]:
        """What the nodes receive, in consecutive blocks."""
        (sent,) = self.gather(map(project, states))
        if self.messages is not None:
            self.messages.append(sent * self.operator.inv_sqrt_degree.unsqueeze(1))
        return self.operator.blocks(sent, BLOCK)

    def gather(self, states: States) -> list[Tensor]:
        """Blocks in one array; ``torch.cat`` would hold all of them twice."""
        out, start = torch.empty(0), 0
        for block in states:
            if start == 0:
                out = block.new_empty(self.operator.matrix.size(0), block.size(1))
            out[start : start + block.size(0)] = block
            start += block.size(0)
        return [out]


class NewItems(Place):
    r"""Items that receive from the nodes of a graph and send to nobody.

    An item with weights :math:`w` has degree :math:`d = 1 + \sum w`, itself included (``degree``
    replaces it where the edges are a sample). Given what its neighbours send,
    :math:`m = D^{-1/2} H \Theta`, float ``[known, f]`` (``messages`` of a :class:`BlockedGraph`, in
    the order of its calls), and its own :math:`h \Theta`, ``[rows, f]``, it receives
    :math:`d^{-1/2} (\sum_j w_j m_j + d^{-1/2} h \Theta)`: what it would as a node of the graph.
    """

    def __init__(
        self,
        edge_index: Tensor,
        edge_weight: Tensor,
        num_rows: int,
        num_known: int,
        messages: Sequence[Tensor] = (),
        *,
        degree: Tensor | None = None,
    ) -> None:
        source, target = edge_index
        if degree is None:
            degree = edge_weight.new_ones(num_rows).index_add_(0, target, edge_weight)
        self.scale = degree.rsqrt().unsqueeze(1)
        self.map = SparseMap(sorted_csr(target, source, edge_weight, num_rows, num_known))
        self.messages, self.received = messages, 0

    def receive(self, layer: int, states: States, project: Project) -> list[Tensor]:
        """What the items receive."""
        projected = [project(own) for own in states]
        sent = self.messages[self.received % len(self.messages)]
        self.received += 1
        return [self(sent, own) for own in projected]

    def __call__(self, messages: Tensor, own: Tensor) -> Tensor:
        """What they receive of ``messages``, float ``[rows, f]``."""
        return self.scale * (self.map @ messages + self.scale * own)


class View:
    """Nodes of a graph, int64 ``[rows]``, as new items, which receive **projected** states."""

    def __init__(self, items: NewItems, operator: GraphOperator, nodes: Tensor) -> None:
        matrix = items.map.matrix
        row, column = rows_of(matrix).long(), matrix.col_indices().long()
        value = matrix.values() * items.scale.squeeze(1)[row] * operator.inv_sqrt_degree[column]
        others = csr_matrix(matrix.crow_indices(), column, value, matrix.size(1))
        self.others, self.own = SparseMap(others), items.scale.square()
        loop = torch.arange(nodes.numel(), device=nodes.device)
        entries = (row, loop), (column, nodes), (value, self.own.squeeze(1))
        row, column, value = map(torch.cat, entries)
        self.first = SparseMap(sorted_csr(row, column, value, *matrix.shape))

    def __call__(self, projected: Tensor, own: Tensor) -> Tensor:
        """What the rows receive in a later layer, of projected states ``[N, f]`` and their own."""
        return self.others @ projected + self.own * own


def protocol(data: HeteroData) -> str:
    """Name the protocol of a graph, read from its anchors; docs/concepts.rst says what each means.

    A graph without edges across the modalities (:class:`SGCHGraph`) whose anchors are all nodes is
    ``'strict'``; data without a graph have ``'none'``.
    """
    graph = data.graph if "graph" in data else {}
    if "intra_anchors" not in graph:
        return "none"
    intra = graph["intra_anchors"]
    pair = (intra, graph.get("inter_anchors", intra))
    return next(name for name, anchors in PROTOCOLS.items() if anchors == pair)


class Graphs(NamedTuple):
    """What a graph is to a model: operators, and the labelled nodes as new items."""

    operators: dict[str, GraphOperator]  #: of ``'image'``, ``'text'``, ``'joint'``, as needed
    views: dict[str, View]  #: on the same graphs; on the joint one images, then texts
    constant: bool  #: the graph and its features stay: it is no mini-batch


def anchor_view(data: HeteroData) -> HeteroData:
    """The subgraph of the anchors; ``data`` itself if all nodes are anchors or it has no graph."""
    store = data[IMAGE]
    if "anchor_mask" not in store or bool(store.anchor_mask.all()):
        return data
    subset: dict[str, Tensor] = {modality: data[modality].anchor_mask for modality in MODALITIES}
    if CLASS in data.node_types:  # left out, PyG would build its mask on the CPU
        subset[CLASS] = store.anchor_mask.new_ones(data[CLASS].num_nodes)
    data = copy(data)
    for m in MODALITIES:  # PyG would take a list by a tensor
        for k in [k for k, v in data[m].items() if isinstance(v, list) and len(v) == len(store.x)]:
            del data[m][k]
    return data.subgraph(subset)


def build_graphs(data: HeteroData, *, specific: bool = True, joint: bool = True) -> Graphs:
    """Operators of each modality (``specific``) and of both; ``ValueError``: edges are missing."""
    operators: dict[str, GraphOperator] = {}
    views: dict[str, View] = {}
    for m in (*(MODALITIES if specific else ()), *((None,) if joint else ())):
        name, sides = m or "joint", (m,) if m else MODALITIES
        labeled = torch.cat([data[side].labeled_mask for side in sides]).nonzero().flatten()
        operators[name] = graph_operator(data, m)
        items = query_view(data, *sides, joint=m is None)
        views[name] = View(items, operators[name], labeled)
    return Graphs(operators, views, constant=SAMPLED not in data.get("graph", {}))


def has_hubs(data: HeteroData) -> bool:
    """Whether :class:`LabelHub` made label cliques; ``'class'`` nodes may be somebody else's."""
    return CLASS in data.node_types and "self_loops" in data.get("graph", {})


def graph_operator(data: HeteroData, modality: Modality | None = None) -> GraphOperator:
    """One modality's graph, MCGCN Eq. 1, as an operator on ``[N, f]``.

    Without a modality it is the cross-modal graph, MCGCN Eq. 2, on ``[2N, f]``: images, then texts.
    ``self_loop`` and the pairs' edges say all of a node with itself and its pair: what hubs add
    there is taken off. ``ValueError``: edges are missing.
    """
    joint = modality is None
    _check_edges(data, joint=joint)
    # the first node of each side
    offset = {modality: 0} if modality else {IMAGE: 0, TEXT: data[IMAGE].x.size(0)}
    parts: list[tuple[Tensor, Tensor]] = []
    loops: list[Tensor] = []
    for m, first in offset.items():
        own, through = joint_edges(data, m) if joint else data[INTRA[m]], through_hubs(data, m)
        parts.append((own.edge_index + first, own.edge_weight))
        if joint:  # less what the hubs already add between the two of a pair
            index, weight = data[INTER[m]].edge_index, data[INTER[m]].edge_weight
            source, target = index
            pair, alone = source == target, through != 0
            alone[target[pair]] = False
            nodes = alone.nonzero().flatten()
            weight = torch.where(pair, weight - through[target], weight)
            index = torch.cat((index, nodes.expand(2, -1)), dim=1)
            index = index + index.new_tensor([[offset[other(m)]], [first]])
            parts.append((index, torch.cat((weight, -through[nodes]))))
        loops.append(data[m].get("self_loop", torch.ones_like(through)) - through)
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
    rows = {m: data[m].labeled_mask.nonzero().flatten() for m in modalities}
    count = 0
    for m, labeled in rows.items():
        mask = data[m].labeled_mask
        position = mask.cumsum(0) - 1 + count  # of a labelled node among all of these
        own = joint and JOINT_NEAREST[m] in data.edge_types  # strict protocol
        nearest = data[JOINT_NEAREST[m] if own else NEAREST[m]]
        keep = mask[nearest.edge_index[1]]
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


def _check_edges(data: HeteroData, *, joint: bool) -> None:
    if INTRA[IMAGE] not in data.edge_types:
        raise ValueError("data: has no intra edges; apply IntraKNN")
    if joint and INTER[IMAGE] not in data.edge_types:
        raise ValueError("data: has no inter edges; apply InterKNN")


def through_hubs(data: HeteroData, modality: Modality) -> Tensor:
    r"""What :math:`P M P^T` says of each node with itself; it joins different ones: ``[N]``."""
    weight: Tensor = data[INTRA[modality]].edge_weight.new_zeros(len(data[modality].x))
    weight = weight if weight.dtype.itemsize > 2 else weight.float()  # as in SparseMap
    if not has_hubs(data):
        return weight
    node, hub = data[IN_CLASS[modality]].edge_index
    meets_itself = weight.new_ones(int(data[CLASS].num_nodes))
    if OVERLAP in data.edge_types:
        source, target = data[OVERLAP].edge_index
        meets_itself.zero_()[source[source == target]] = 1.0
    return weight.index_add_(0, node, meets_itself[hub])


def _true_degree(data: HeteroData, name: str, rows: Mapping[Modality, Any]) -> Tensor | None:
    """Degrees in the graph that ``data`` is a sample of (:class:`InstanceLoader`), or None."""
    if SAMPLED not in data.get("graph", {}):
        return None
    return torch.cat([data[m][name][which] for m, which in rows.items()])


def _cliques(
    data: HeteroData, offset: dict[Modality, int], like: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``P`` and ``M`` of the label cliques (:class:`LabelHub`), in the type of ``like``."""
    if not has_hubs(data):
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
