"""Where nodes stand in a graph: what they receive from one layer of a channel to the next.

They are those of a graph in training (:class:`WholeGraph`), the same in blocks of rows
(:class:`BlockedGraph`), or new items that receive from known nodes (:class:`NewItems`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from pyg_hash.graph.operator import GraphOperator, SparseMap
from pyg_hash.utils.csr import csr_matrix, rows_of, sorted_csr

BLOCK = 8192  # rows that are worked on at a time where nothing is kept for a backward pass
_GEMM_SPEED = 16  # multiply-adds of a dense product in the time of one of a sparse product

States = Iterable[Tensor]
Project = Callable[[Tensor], Tensor]


class Place(ABC):
    r"""Nodes, and how they receive: :math:`\hat A (H \Theta)`."""

    @abstractmethod
    def receive(self, layer: int, states: States, project: Project) -> States:
        r"""What the nodes receive in a layer, in parts of rows ``[n, f']`` that are new in memory.

        Args:
            layer: number of the layer, from 0.
            states: :math:`H`, in parts of rows ``[n, f]``; those of layer 0 are the features.
            project: multiplies by the layer's weights :math:`\Theta`.
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
        if self.constant and len(x) == 1 and self._is_worth_keeping(x[0]):
            return [project(each.of_constant(x[0])) for each in maps]
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
    r"""All nodes in blocks, no autograd; ``messages`` gets :math:`D^{-1/2} H \Theta` by layer."""

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
    :math:`m = D^{-1/2} H \Theta`, float ``[known, f]`` (``messages`` of a :class:`BlockedGraph`),
    and its own :math:`h \Theta`, ``[rows, f]``, it receives
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
        self.messages = messages

    def receive(self, layer: int, states: States, project: Project) -> list[Tensor]:
        """What the items receive."""
        return [self(self.messages[layer], project(own)) for own in states]

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
        first = sorted_csr(
            torch.cat((row, torch.arange(nodes.numel(), device=nodes.device))),
            torch.cat((column, nodes)),
            torch.cat((value, self.own.squeeze(1))),
            *matrix.shape,
        )
        self.first = SparseMap(first)

    def __call__(self, projected: Tensor, own: Tensor) -> Tensor:
        """What the rows receive in a later layer, of projected states ``[N, f]`` and their own."""
        return self.others @ projected + self.own * own
