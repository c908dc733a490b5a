"""The normalised adjacency of a graph as one linear operator, class hubs included."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Hub:
    """Label cliques in factored form, ``P M P^T`` (see :class:`LabelHub`).

    Attributes:
        members: int64 ``[n]``, nodes that belong to a hub; a node of several hubs occurs once
            for each.
        index: int64 ``[n]``, the hub of each member (the rows of ``P``).
        num_hubs: number of hubs ``U``.
        overlap: float ``[U, U]`` of zeros and ones (``M``), or None for the identity.
    """

    members: Tensor
    index: Tensor
    num_hubs: int
    overlap: Tensor | None

    def sum(self, values: Tensor) -> Tensor:
        """What each member receives from its hub, given member values ``[n, f]``: float ``[n, f]``.

        Added up over a node's memberships, that is the product with ``P M P^T``.
        """
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
        degree: float ``[N]``, used in place of the row sums: the degrees in the whole graph, of
            which this one is a sample.

    Raises:
        ValueError: a node's degree is 0, negative, NaN or inf, so that no normalisation exists.
    """

    def __init__(
        self,
        edge_index: Tensor,
        edge_weight: Tensor,
        self_loop: Tensor,
        hub: Hub | None = None,
        *,
        degree: Tensor | None = None,
    ) -> None:
        num_nodes = self_loop.numel()
        source, target = edge_index
        if hub is not None and not hub.members.numel():
            hub = None
        if degree is None:
            degree = self_loop.clone().index_add_(0, target, edge_weight)
            if hub is not None:
                ones = torch.ones(hub.members.numel(), 1, device=degree.device, dtype=degree.dtype)
                degree.index_add_(0, hub.members, hub.sum(ones).squeeze(1))
        bad = ~((degree > 0) & degree.isfinite())  # NaN included
        if bool(bad.any()):
            node = int(bad.nonzero()[0])
            raise ValueError(
                f"edge_weight: node {node} has degree {float(degree[node]):g}; degrees must be "
                "positive and finite (negative similarities? use weight='binary')"
            )
        self.inv_sqrt_degree = degree.rsqrt()
        self.hub = hub
        loop = torch.arange(num_nodes, device=degree.device)
        row, column = torch.cat((target, loop)), torch.cat((source, loop))
        value = torch.cat((edge_weight, self_loop))
        value = value * self.inv_sqrt_degree[row] * self.inv_sqrt_degree[column]
        keep = value != 0
        row, column, value = row[keep], column[keep], value[keep]
        self._matrix = _sorted_csr(row, column, value, num_nodes, num_nodes)
        transposed = _sorted_csr(column, row, value, num_nodes, num_nodes)
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
    def forward(ctx: Any, x: Tensor, operator: GraphOperator | Receiver) -> Tensor:
        ctx.operator = operator
        return operator.apply(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return ctx.operator.apply(grads[0], transposed=True), None


class Receiver:
    r"""Nodes that only receive: rows of a GCN operator for items that no other node sees.

    A row with weights :math:`w` has degree :math:`d = 1 + \sum w`, itself included. Given what
    its neighbours send, :math:`D^{-1/2} H \Theta`, and its own :math:`h \Theta`, it receives
    :math:`d^{-1/2} (\sum_j w_j m_j + d^{-1/2} h \Theta)`: the row that the operator of the
    enlarged graph would have.

    Args:
        edge_index: int64 ``[2, E]``: source among the known nodes, target among the rows.
        edge_weight: float ``[E]``.
        num_rows: number of receiving nodes.
        num_known: number of sending nodes.
        degree: float ``[rows]``, used in place of :math:`d`, of which the edges are a sample.
    """

    def __init__(
        self,
        edge_index: Tensor,
        edge_weight: Tensor,
        num_rows: int,
        num_known: int,
        *,
        degree: Tensor | None = None,
    ) -> None:
        source, target = edge_index
        if degree is None:
            degree = torch.ones(num_rows, device=edge_weight.device, dtype=edge_weight.dtype)
            degree = degree.index_add_(0, target, edge_weight)
        self.scale = degree.rsqrt().unsqueeze(1)
        self._shape = (num_rows, num_known)
        self._edges = (target, source, edge_weight)
        self._matrix = _sorted_csr(target, source, edge_weight, num_rows, num_known)
        self._transposed: Tensor | None = None

    def __call__(self, messages: Tensor, own: Tensor) -> Tensor:
        """What the rows receive: float ``[rows, f]``.

        Args:
            messages: of the known nodes, float ``[known, f]``.
            own: the rows' own projected states, float ``[rows, f]``.
        """
        received: Tensor = _Propagate.apply(messages, self)  # type: ignore[no-untyped-call]
        return self.scale * (received + self.scale * own)

    def apply(self, x: Tensor, *, transposed: bool = False) -> Tensor:
        """The weighted sum alone, without autograd."""
        matrix = self._matrix
        if transposed:
            if self._transposed is None:  # new items are never trained on and never need it
                target, source, weight = self._edges
                self._transposed = _sorted_csr(source, target, weight, *reversed(self._shape))
            matrix = self._transposed
        out: Tensor = torch.sparse.mm(matrix, x)
        return out


def _sorted_csr(
    row: Tensor, column: Tensor, value: Tensor, num_rows: int, num_columns: int
) -> Tensor:
    order = torch.argsort(row * num_columns + column)
    counts = torch.bincount(row, minlength=num_rows)
    start = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    return csr_matrix(start, column[order], value[order], num_columns)


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
        and torch.allclose(a.values(), b.values(), rtol=1e-6, atol=0.0)
    )
