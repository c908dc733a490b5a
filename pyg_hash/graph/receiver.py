"""Nodes that only receive: new items, and labelled nodes taken for new items."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.graph.operator import GraphOperator, SparseMap
from pyg_hash.utils.csr import csr_matrix, rows_of, sorted_csr


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
        self._map = SparseMap(sorted_csr(target, source, edge_weight, num_rows, num_known))

    def __call__(self, messages: Tensor, own: Tensor) -> Tensor:
        """What the rows receive: float ``[rows, f]``.

        Args:
            messages: of the known nodes, float ``[known, f]``.
            own: the rows' own projected states, float ``[rows, f]``.
        """
        return self.scale * (self._map @ messages + self.scale * own)

    def inside(self, operator: GraphOperator, nodes: Tensor) -> View:
        """The same rows, where each is a node of the graph, apart from its place there.

        Args:
            operator: the graph that the known nodes belong to.
            nodes: the node that each row stands for, int64 ``[rows]``.
        """
        matrix = self._map.matrix
        row, column = rows_of(matrix).long(), matrix.col_indices().long()
        value = matrix.values() * self.scale.squeeze(1)[row] * operator.inv_sqrt_degree[column]
        others = csr_matrix(matrix.crow_indices(), column, value, matrix.size(1))
        own = self.scale.square()
        first = sorted_csr(
            torch.cat((row, torch.arange(nodes.numel(), device=nodes.device))),
            torch.cat((column, nodes)),
            torch.cat((value, own.squeeze(1))),
            *matrix.shape,
        )
        return View(SparseMap(first), SparseMap(others), own)


class View:
    """Some nodes of a graph as new items: what they receive from **projected** states of the graph.

    A node's own projected features are among those of the graph, so that the first layer is one
    product; from the second layer on its state is another than in the graph.

    Args:
        first: from projected features to what the rows receive, ``[rows, N]``.
        others: the same without the rows themselves.
        own: weight of a row's own projected state, float ``[rows, 1]``.
    """

    def __init__(self, first: SparseMap, others: SparseMap, own: Tensor) -> None:
        self.first = first
        self._others, self._own = others, own

    @property
    def num_rows(self) -> int:
        """Number of nodes."""
        return self._own.size(0)

    def __call__(self, projected: Tensor, own: Tensor) -> Tensor:
        """What the rows receive in a later layer: float ``[rows, f]``.

        Args:
            projected: states of the graph's nodes, float ``[N, f]``.
            own: states of the rows, float ``[rows, f]``.
        """
        return self._others @ projected + self._own * own
