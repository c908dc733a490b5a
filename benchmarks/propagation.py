"""Graph convolutions: one CSR operator against PyG's messages, a dense array, and clique edges.

    python -m benchmarks.propagation [--short] [--device cuda]

Two layers with tanh, 1024 -> 512 -> 64, forward and backward to the gradients of both weights, on
10,000 nodes with 20 neighbours each, made symmetric (about 39 edges a node, no helpful order).
"GCNConv" is PyG's layer with its normalisation cached, on edge_index or on a torch CSR matrix;
"operator" is the library's, "operator, cached" keeps the product of graph and features, which
training does. The second part is label cliques alone: nodes in 10 classes, all pairs of one class
joined, 512 numbers a node, forward and backward; "hubs" is the library's factored form, "edges" the
same operator with every pair as an edge. All compute the same numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import coalesce

from benchmarks.cliques import num_bytes
from benchmarks.measure import alone, difference, options, side_by_side
from benchmarks.record import Record
from pyg_hash.graph import GraphOperator, Hub, WholeGraph
from pyg_hash.nn import GCNChannel

CLASSES, WIDTHS, LABEL_WIDTH, NEIGHBOURS = 10, (1024, 512, 64), 512, 20
SHORT_WIDTHS = (32, 16, 8)
REFERENCE, OURS, CACHED = "GCNConv, edge_index", "operator", "operator, cached"
Step = Callable[[], list[Tensor]]


def neighbour_edges(n: int) -> Tensor:
    """Random neighbours of each node, both ways, int64 ``[2, E]``."""
    g = torch.Generator().manual_seed(0)
    source = torch.randint(n, (n * NEIGHBOURS,), generator=g)
    target = torch.arange(n).repeat_interleave(NEIGHBOURS)
    keep = source != target
    both = torch.stack((source[keep], target[keep]))
    edges: Tensor = coalesce(torch.cat((both, both.flip(0)), dim=1))
    return edges


class Convolutions(torch.nn.Module):
    """The same two layers of PyG, on whatever adjacency they take."""

    def __init__(self, widths: tuple[int, ...], adjacency: Tensor, **kwargs: Any) -> None:
        super().__init__()
        self.adjacency = adjacency
        pairs = zip(widths, widths[1:], strict=False)
        self.convs = torch.nn.ModuleList(GCNConv(a, b, bias=False, **kwargs) for a, b in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """Both layers."""
        for conv in self.convs:
            x = conv(x, self.adjacency).tanh()
        return x


class Dense(Convolutions):
    """The same with an ``[N, N]`` array."""

    def forward(self, x: Tensor) -> Tensor:
        """Both layers."""
        for conv in self.convs:
            x = (self.adjacency @ conv.lin(x)).tanh()
        return x


class Ours(GCNChannel):
    """The library's layers with the graph at hand."""

    def __init__(self, widths: tuple[int, ...], operator: GraphOperator, constant: bool) -> None:
        super().__init__(*widths)
        self.operator, self.constant = operator, constant

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Both layers."""
        return super().forward(x, WholeGraph(self.operator, constant=self.constant))[0]


def network(name: str, edges: Tensor, n: int, widths: tuple[int, ...]) -> torch.nn.Module:
    """The layers of a method, all with the same weights."""
    ones = torch.ones(n, device=edges.device)
    torch.manual_seed(0)
    if name == REFERENCE:
        return Convolutions(widths, edges, cached=True)
    if name.startswith(OURS):
        operator = GraphOperator(edges, torch.ones_like(edges[0], dtype=torch.float32), ones)
        return Ours(widths, operator, name == CACHED)
    index, weight = gcn_norm(edges, num_nodes=n)
    matrix = torch.sparse_coo_tensor(index.flip(0), weight, (n, n), check_invariants=False)
    if name == "dense":
        return Dense(widths, matrix.to_dense())
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    return Convolutions(widths, matrix.to_sparse_csr(), normalize=False)


NAMES = (REFERENCE, "GCNConv, torch CSR", "dense", OURS, CACHED)


def convolutions(name: str, n: int, widths: tuple[int, ...], device: str = "cpu") -> Step:
    """A case: forward and backward; gives the output and the gradients.

    What a method keeps (normalised weights, a cached product) it makes in the first call.
    """
    _convolutions(name, 2 * NEIGHBOURS, widths, device)()  # loads what the first call loads
    return _convolutions(name, n, widths, device)


def _convolutions(name: str, n: int, widths: tuple[int, ...], device: str) -> Step:
    model = network(name, neighbour_edges(n).to(device), n, tuple(widths)).to(device)
    x = torch.randn(n, widths[0], generator=torch.Generator().manual_seed(1)).to(device)

    def run() -> list[Tensor]:
        model.zero_grad(set_to_none=True)
        out = model(x)
        out.square().mean().backward()
        gradients = [p.grad for p in model.parameters()]
        return [out.detach(), *(g for g in gradients if g is not None)]

    return run


def graph_bytes(name: str, n: int, widths: tuple[int, ...]) -> int:
    """Memory of the graph as a method takes it."""
    graph = network(name, neighbour_edges(n), n, widths)
    if isinstance(graph, Ours):
        return num_bytes(graph.operator)
    assert isinstance(graph, Convolutions)
    adjacency = graph.adjacency
    parts = [adjacency]
    if adjacency.layout == torch.sparse_csr:
        parts = [adjacency.crow_indices(), adjacency.col_indices(), adjacency.values()]
    return sum(part.numel() * part.element_size() for part in parts)


def label_graph(form: str, n: int, labeled: float, edges: Tensor, device: str) -> GraphOperator:
    """Neighbour edges where an end has no label, and all pairs of equal label (MCGCN Eq. 1)."""
    g = torch.Generator().manual_seed(2)
    nodes = torch.randperm(n, generator=g)[: round(labeled * n)].sort().values
    y = torch.randint(CLASSES, (nodes.numel(),), generator=g)
    is_labeled = torch.zeros(n, dtype=torch.bool)
    is_labeled[nodes] = True
    edges = edges[:, ~(is_labeled[edges[0]] & is_labeled[edges[1]])]
    loop = (~is_labeled).float()  # a labelled node meets itself in its clique
    hub = Hub(nodes.to(device), y.to(device), CLASSES, None)
    if form == "edges":
        cliques = [nodes[y == c] for c in range(CLASSES)]
        pairs = [torch.cartesian_prod(nodes, nodes).T for nodes in cliques]
        edges, hub = torch.cat((edges, *pairs), dim=1), None
    weight = torch.ones(edges.size(1), device=device)
    return GraphOperator(edges.to(device), weight, loop.to(device), hub)


def cliques(operator: GraphOperator, width: int) -> Step:
    """A case: a propagation, and the gradient of its input."""
    like = operator.inv_sqrt_degree
    g = torch.Generator().manual_seed(1)
    x, slope = (torch.randn(like.numel(), width, generator=g).to(like.device) for _ in range(2))
    x.requires_grad_()

    def run() -> list[Tensor]:
        out = operator @ x
        (gradient,) = torch.autograd.grad(out, x, slope)
        return [out.detach(), gradient]

    return run


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    args = options(__doc__, arguments, device="cpu")
    record = Record("propagation", "Propagation on sparse graphs", args)
    part_one(record, args.short, str(args.device))
    part_two(record, args.short, str(args.device))
    record.save()


def part_one(record: Record, short: bool, device: str) -> None:
    """Graph convolutions."""
    n, widths = (400, SHORT_WIDTHS) if short else (10_000, WIDTHS)
    steps = {name: convolutions(name, n, widths, device) for name in NAMES}
    expected = steps[REFERENCE]()
    errors = {name: difference(step(), expected) for name, step in steps.items()}
    seconds = side_by_side(steps)
    extra = {name: alone(convolutions, name, n, widths, device).extra_bytes for name in NAMES}
    graph = {name: graph_bytes(name, n, widths) for name in NAMES}
    rows = [
        {
            "method": name,
            "seconds": seconds[name],
            "times as fast": seconds[REFERENCE] / seconds[name],
            "extra MB": extra[name] / 1e6,
            "of the memory": extra[name] / max(extra[REFERENCE], 1),
            "graph MB": graph[name] / 1e6,
            "largest difference": errors[name],
        }
        for name in NAMES
    ]
    note = (
        "Extra memory is that of a first call, so what a method keeps is in it, but not the graph "
        "as it is given. Differences are relative to the largest value, outputs and gradients."
    )
    record.table(f"{n:,} nodes, {' -> '.join(map(str, widths))}", rows, note)
    fast = seconds[REFERENCE] / seconds[OURS]
    record.goal("operator against GCNConv on edge_index, times as fast", fast, at_least=6)
    memory = extra[OURS] / max(extra[REFERENCE], 1)
    record.goal("operator's extra memory / GCNConv's on edge_index", memory, at_most=0.1)
    record.goal("operator against dense", seconds["dense"] / seconds[OURS], at_least=5)
    record.bars("Times as fast as GCNConv", {r["method"]: r["times as fast"] for r in rows}, x="x")


def part_two(record: Record, short: bool, device: str) -> None:
    """Label cliques."""
    sizes = (300, 500, 2_000) if short else (2_173, 8_000, 200_000)
    rows, found, bars = [], {}, {}
    for n in sizes[:2]:
        for labeled in (0.3, 1.0):
            forms = ("hubs", "edges")
            graphs = {f: label_graph(f, n, labeled, neighbour_edges(n), device) for f in forms}
            steps = {form: cliques(graph, LABEL_WIDTH) for form, graph in graphs.items()}
            error = difference(steps["hubs"](), steps["edges"]())
            seconds = side_by_side(steps)
            found[n, labeled] = (
                seconds["edges"] / seconds["hubs"],
                num_bytes(graphs["edges"]) / num_bytes(graphs["hubs"]),
            )
            bars[f"{n:,} nodes, {labeled:.0%} labelled"] = found[n, labeled][0]
            rows.append(
                {
                    "nodes": n,
                    "labelled": f"{labeled:.0%}",
                    "edges": graphs["edges"].num_entries,
                    "edges s": seconds["edges"],
                    "hubs s": seconds["hubs"],
                    "times as fast": found[n, labeled][0],
                    "edges MB": num_bytes(graphs["edges"]) / 1e6,
                    "hubs MB": num_bytes(graphs["hubs"]) / 1e6,
                    "times as small": found[n, labeled][1],
                    "largest difference": error,
                }
            )
    record.table("Label cliques as hubs or as edges", rows)
    record.goal("hubs against edges, 100 % labelled, times as fast", found[n, 1.0][0], at_least=100)
    record.goal("hubs against edges, 100 % labelled, storage", found[n, 1.0][1], at_least=150)
    n = sizes[2]
    large = []
    for labeled in (0.3, 1.0):
        graph = label_graph("hubs", n, labeled, neighbour_edges(n), device)
        implied = (labeled * n) ** 2 / CLASSES
        large.append(
            {
                "nodes": n,
                "labelled": f"{labeled:.0%}",
                "seconds": side_by_side({"": cliques(graph, LABEL_WIDTH)})[""],
                "hubs MB": num_bytes(graph) / 1e6,
                "edges would be MB": 8 * (implied + graph.num_entries) / 1e6,
            }
        )
    record.table("Where edges do not fit", large)
    most = max(float(row["hubs MB"]) for row in large)
    record.goal("MB of the graph of 200,000 nodes", most, at_most=100)
    record.bars("Hubs: times as fast as clique edges", bars, x="x")


if __name__ == "__main__":
    main()
