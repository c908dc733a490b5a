"""Four ways to compute one step of graph convolutions, for ``graph_scale.py``.

A step is forward and backward of two layers, 128 -> 128 -> 64 with tanh. All ways give the same
numbers; they differ in what they store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv
from torch_geometric.utils import coalesce

from benchmarks.measure import CLOCKS
from pyg_hash.graph import GraphOperator, Hub
from pyg_hash.nn import HubGCNConv

WIDTHS, K, CLUSTER, CLASSES = (128, 128, 64), 10, 100, 10


@dataclass
class Graph:
    """A graph as it comes: features, neighbours both ways, and labels (-1: none)."""

    x: Tensor
    edge_index: Tensor
    edge_weight: Tensor
    label: Tensor


def make(n: int, labeled: float, device: str = "cpu", seed: int = 0) -> Graph:
    """Random neighbours in clusters; ``labeled`` of the nodes have their cluster's class."""
    g = torch.Generator().manual_seed(seed)
    clusters = max(1, n // CLUSTER)
    target = torch.arange(n).repeat_interleave(K)
    source = (target + clusters * torch.randint(1, CLUSTER, (n * K,), generator=g)) % n
    label = torch.arange(n) % clusters % CLASSES
    label[torch.rand(n, generator=g) >= labeled] = -1
    keep = (source != target) & ((label[source] < 0) | (label[target] < 0))  # Eq. 1, second case
    source, target = source[keep], target[keep]
    index = torch.stack((torch.cat((source, target)), torch.cat((target, source))))
    index = coalesce(index, num_nodes=n, sort_by_row=False)
    weight = torch.ones(index.size(1))
    x = torch.randn(n, WIDTHS[0], generator=g)
    return Graph(*(t.to(device) for t in (x, index, weight, label)))


def with_cliques(graph: Graph) -> tuple[Tensor, Tensor]:
    """Neighbours and all pairs of equal label as edges."""
    parts = [graph.edge_index]
    for c in range(CLASSES):
        nodes = (graph.label == c).nonzero().flatten()
        pairs = torch.cartesian_prod(nodes, nodes).T
        parts.append(pairs[:, pairs[0] != pairs[1]])
    edge_index = torch.cat(parts, dim=1)
    return edge_index, graph.edge_weight.new_ones(edge_index.size(1))


class DenseConv(nn.Module):
    """The convolution as most published code has it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """``A X W`` with a dense ``A``."""
        return adjacency @ self.lin(x)


def hubs(graph: Graph) -> tuple[Any, ...]:
    """The library's: neighbours as one CSR matrix, labels as hubs, which hold their own state."""
    nodes = (graph.label >= 0).nonzero().flatten()
    hub = Hub(nodes, graph.label[nodes], CLASSES, None)
    loops = (graph.label < 0).to(graph.x)
    return (GraphOperator(graph.edge_index, graph.edge_weight, loops, hub),)


def csr(graph: Graph) -> tuple[Any, ...]:
    """The same operator with every pair of equal label as an edge."""
    return (GraphOperator(*with_cliques(graph), graph.x.new_ones(len(graph.x))),)


def messages(graph: Graph) -> tuple[Any, ...]:
    """PyG's message passing, normalised once."""
    edge_index, weight = with_cliques(graph)
    loop = torch.arange(len(graph.x), device=edge_index.device).expand(2, -1)
    edge_index = torch.cat((edge_index, loop), dim=1)
    weight = torch.cat((weight, weight.new_ones(loop.size(1))))
    scale = weight.new_zeros(loop.size(1)).index_add_(0, edge_index[1], weight).rsqrt()
    return edge_index, weight * scale[edge_index[0]] * scale[edge_index[1]]


def dense(graph: Graph) -> tuple[Any, ...]:
    """One N x N array, filled and normalised in place."""
    n = len(graph.x)
    adjacency = graph.x.new_zeros(n, n)
    for c in range(CLASSES):
        nodes = (graph.label == c).nonzero().flatten()
        adjacency[nodes.unsqueeze(1), nodes] = 1.0
    adjacency[graph.edge_index[1], graph.edge_index[0]] = graph.edge_weight
    adjacency.fill_diagonal_(1.0)
    scale = adjacency.sum(1).rsqrt()
    return (adjacency.mul_(scale).mul_(scale.unsqueeze(1)),)


def plain_conv(in_channels: int, out_channels: int) -> GCNConv:
    """PyG's layer; the weights of the edges are ready."""
    return GCNConv(in_channels, out_channels, normalize=False, bias=False)


METHODS: dict[str, tuple[Callable[[Graph], tuple[Any, ...]], Callable[..., nn.Module]]] = {
    "hubs": (hubs, HubGCNConv),
    "csr": (csr, HubGCNConv),
    "edge_index": (messages, plain_conv),
    "dense": (dense, DenseConv),
}


def stepper(method: str, graph: Graph) -> Callable[[tuple[Any, ...]], Tensor]:
    """The step of a method, given what it made of the graph: returns the output."""
    convolution = METHODS[method][1]
    layers = [convolution(WIDTHS[0], WIDTHS[1]), convolution(WIDTHS[1], WIDTHS[2])]
    torch.manual_seed(0)
    for layer in layers:
        nn.init.xavier_uniform_(layer.lin.weight)  # the same numbers in every method
        layer.to(graph.x.device)

    def step(built: tuple[Any, ...]) -> Tensor:
        state = graph.x
        for layer in layers:
            layer.zero_grad()
            state = torch.tanh(layer(state, *built))
        state.sum().backward()
        return torch.cat(
            [state.detach().flatten(), *(la.lin.weight.grad.flatten() for la in layers)]
        )

    return step


def build_and_step(method: str, n: int, labeled: float, device: str) -> Callable[[], float]:
    """For :func:`measure.alone`: from edges to the first gradients; seconds of the building."""
    now = CLOCKS["cuda" if device.startswith("cuda") else "cpu"]
    tiny = make(1000, labeled, device)
    stepper(method, tiny)(METHODS[method][0](tiny))
    graph = make(n, labeled, device)
    step = stepper(method, graph)

    def case() -> float:
        start = now()
        built = METHODS[method][0](graph)
        seconds = now() - start
        step(built)
        return seconds

    return case
