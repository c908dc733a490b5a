"""The normalised adjacency of a graph as one linear operator, class hubs included."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.typing import (
    CLASS,
    IMAGE,
    IN_CLASS,
    INTER,
    INTRA,
    MODALITIES,
    OVERLAP,
    TEXT,
    Modality,
)


@dataclass(frozen=True)
class Hub:
    """Label cliques in factored form, ``P M P^T`` (see :class:`LabelHub`).

    Attributes:
        members: int64 ``[n]``, nodes that belong to a hub.
        index: int64 ``[n]``, the hub of each member (the rows of ``P``).
        num_hubs: number of hubs ``U``.
        overlap: float ``[U, U]`` of zeros and ones (``M``), or None for the identity.
    """

    members: Tensor
    index: Tensor
    num_hubs: int
    overlap: Tensor | None

    def sum(self, values: Tensor) -> Tensor:
        """Multiply ``P M P^T`` with member values ``[n, f]``: float ``[n, f]``."""
        totals = values.new_zeros(self.num_hubs, values.size(1))
        totals.index_add_(0, self.index, values)
        if self.overlap is not None:
            totals = self.overlap.to(totals) @ totals
        return totals[self.index]


class GraphOperator:
    r"""The GCN operator :math:`\hat A = D^{-1/2} (A + P M P^T + S) D^{-1/2}` of one graph.

    ``A`` holds weighted edges (target = row), ``P M P^T`` the label cliques of
    :class:`LabelHub`, ``S`` the self-loops, and ``D`` the row sums of all three (MCGCN Eq. 3).
    The edges and self-loops are one CSR matrix; the hubs stay factored, so that no clique edge is
    ever stored. ``operator @ x`` is differentiable in ``x``.

    Args:
        edge_index: int64 ``[2, E]``: source, target.
        edge_weight: float ``[E]``.
        self_loop: float ``[N]``, diagonal of ``S``.
        hub: label cliques, or None.

    Raises:
        ValueError: a node has degree 0 or less, so that no normalisation exists.
    """

    def __init__(
        self, edge_index: Tensor, edge_weight: Tensor, self_loop: Tensor, hub: Hub | None = None
    ) -> None:
        num_nodes = self_loop.numel()
        source, target = edge_index
        degree = self_loop.clone().index_add_(0, target, edge_weight)
        if hub is not None and hub.members.numel():
            ones = torch.ones(hub.members.numel(), 1, device=degree.device, dtype=degree.dtype)
            degree.index_add_(0, hub.members, hub.sum(ones).squeeze(1))
        else:
            hub = None
        if bool((degree <= 0).any()):
            node = int((degree <= 0).nonzero()[0])
            raise ValueError(
                f"edge_weight: node {node} has degree {float(degree[node]):g}; degrees must be "
                "positive (negative similarities? use weight='binary')"
            )
        self.inv_sqrt_degree = degree.rsqrt()
        self.hub = hub
        loop = torch.arange(num_nodes, device=degree.device)
        row, column = torch.cat((target, loop)), torch.cat((source, loop))
        value = torch.cat((edge_weight, self_loop))
        value = value * self.inv_sqrt_degree[row] * self.inv_sqrt_degree[column]
        keep = value != 0
        row, column, value = row[keep], column[keep], value[keep]
        self._matrix = _sorted_csr(row, column, value, num_nodes)
        transposed = _sorted_csr(column, row, value, num_nodes)
        self.is_symmetric = _equal(self._matrix, transposed)
        self._transposed = self._matrix if self.is_symmetric else transposed

    def __matmul__(self, x: Tensor) -> Tensor:
        """Propagate ``x`` ``[N, f]``: float ``[N, f]``."""
        result: Tensor = _Propagate.apply(x, self)  # type: ignore[no-untyped-call]
        return result

    def apply(self, x: Tensor, *, transposed: bool = False) -> Tensor:
        """The product itself, without autograd."""
        matrix = self._transposed if transposed else self._matrix
        out: Tensor = torch.sparse.mm(matrix, x)
        if self.hub is not None:
            members = self.hub.members
            scale = self.inv_sqrt_degree[members].unsqueeze(1)
            out.index_add_(0, members, scale * self.hub.sum(scale * x[members]))
        return out

    def to_dense(self) -> Tensor:
        """The operator as a dense ``[N, N]`` array: for small graphs and for tests."""
        return self.apply(torch.diag(torch.ones_like(self.inv_sqrt_degree)))


class _Propagate(torch.autograd.Function):
    """``operator @ x``; keeps no activation, because the gradient is ``operator^T @ grad``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: GraphOperator) -> Tensor:
        ctx.operator = operator
        return operator.apply(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return ctx.operator.apply(grads[0], transposed=True), None


def intra_operator(data: HeteroData, modality: Modality) -> GraphOperator:
    """The modality-specific graph of MCGCN Eq. 1 as an operator on ``[N, f]``."""
    edges = data[INTRA[modality]]
    hub = _hub(data, {modality: 0})
    return GraphOperator(edges.edge_index, edges.edge_weight, _self_loop(data, modality), hub)


def joint_operator(data: HeteroData) -> GraphOperator:
    """The cross-modal graph of MCGCN Eq. 2 as an operator on ``[2N, f]``: images, then texts.

    A query never occurs in its own pair's rows, because edges only start at anchors
    (:class:`InterKNN`).
    """
    num_nodes = data[IMAGE].x.size(0)
    offset: dict[Modality, int] = {IMAGE: 0, TEXT: num_nodes}
    index: list[Tensor] = []
    weight: list[Tensor] = []
    for modality in MODALITIES:
        intra = data[INTRA[modality]]
        index.append(intra.edge_index[:, intra.joint_mask] + offset[modality])
        weight.append(intra.edge_weight[intra.joint_mask])
        edge_type = INTER[modality]
        shift = [[offset[edge_type[0]]], [offset[edge_type[2]]]]  # type: ignore[index]
        inter = data[edge_type]
        index.append(inter.edge_index + torch.tensor(shift, device=inter.edge_index.device))
        weight.append(inter.edge_weight)
    self_loop = torch.cat([_self_loop(data, m) for m in MODALITIES])
    return GraphOperator(torch.cat(index, dim=1), torch.cat(weight), self_loop, _hub(data, offset))


def _self_loop(data: HeteroData, modality: Modality) -> Tensor:
    store = data[modality]
    loops: Tensor = store.self_loop if "self_loop" in store else torch.ones_like(store.x[:, 0])
    return loops


def _hub(data: HeteroData, offset: dict[Modality, int]) -> Hub | None:
    if CLASS not in data.node_types:
        return None
    pairs = [(data[IN_CLASS[m]].edge_index, shift) for m, shift in offset.items()]
    members = torch.cat([edge_index[0] + shift for edge_index, shift in pairs])
    index = torch.cat([edge_index[1] for edge_index, _ in pairs])
    num_hubs = int(data[CLASS].num_nodes)
    overlap = None
    if OVERLAP in data.edge_types:
        overlap = torch.zeros(num_hubs, num_hubs, device=members.device)
        overlap[tuple(data[OVERLAP].edge_index)] = 1.0
    return Hub(members, index, num_hubs, overlap)


def _sorted_csr(row: Tensor, column: Tensor, value: Tensor, num_nodes: int) -> Tensor:
    order = torch.argsort(row * num_nodes + column)
    counts = torch.bincount(row, minlength=num_nodes)
    start = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    return csr_matrix(start, column[order], value[order], num_nodes)


def csr_matrix(start: Tensor, column: Tensor, value: Tensor, num_columns: int) -> Tensor:
    """A ``torch.sparse_csr`` matrix with int32 indices, which halve what the product reads.

    Args:
        start: integer ``[rows + 1]``, where each row starts.
        column: integer ``[nnz]``, ascending in each row.
        value: float ``[nnz]``.
        num_columns: number of columns.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            start.int(),
            column.int(),
            value,
            size=(start.numel() - 1, num_columns),
            check_invariants=False,
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    return (
        torch.equal(a.crow_indices(), b.crow_indices())
        and torch.equal(a.col_indices(), b.col_indices())
        and torch.allclose(a.values(), b.values(), rtol=1e-6)
    )
