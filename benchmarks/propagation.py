"""Graph convolutions: one CSR operator against PyG's messages, a dense array, and clique edges.

    python -m benchmarks.propagation [--short]

Two layers with tanh, 1024 -> 512 -> 64, forward and backward to the gradients of both weights, on
10,000 nodes with 20 neighbours each, made symmetric (about 39 edges a node, no helpful order).
"GCNConv" is PyG's layer with its normalisation cached, on edge_index or on a torch CSR matrix;
"operator" is the library's, "operator, cached" keeps the product of graph and features, which
training does. The second part is label cliques alone: nodes in 10 classes, all pairs of one class
joined, 512 numbers a node, forward and backward; "hubs" is the library's factored form, "edges" the
same operator with every pair as an edge. All compute the same numbers.
"""

import warnings
from itertools import pairwise, product

import torch
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import remove_self_loops, to_undirected

from benchmarks.graph_scale import convolved, hubs, with_cliques
from benchmarks.measure import alone, difference, faster, num_bytes, side_by_side
from benchmarks.record import benchmark
from pyg_hash.graph import GraphOperator, WholeGraph
from pyg_hash.nn import GCNChannel

CLASSES, WIDTHS, LABEL_WIDTH, NEIGHBOURS = 10, (1024, 512, 64), 512, 20
SHORT_WIDTHS = (32, 16, 8)
REFERENCE, OURS, CACHED = "GCNConv, edge_index", "operator", "operator, cached"


def neighbour_edges(n):
    """Random neighbours of each node, both ways, int64 ``[2, E]``."""
    g = torch.Generator().manual_seed(0)
    source = torch.randint(n, (n * NEIGHBOURS,), generator=g)
    edges = torch.stack((source, torch.arange(n).repeat_interleave(NEIGHBOURS)))
    return to_undirected(remove_self_loops(edges)[0])


def network(name, edges, n, widths):
    """The layers of a method, all of the same weights, and as a function; bytes of its graph."""
    torch.manual_seed(0)
    if name.startswith(OURS):
        ones = torch.ones(n, device=edges.device)
        operator = GraphOperator(edges, torch.ones_like(edges[0], dtype=torch.float32), ones)
        place = WholeGraph(operator, constant=name == CACHED)
        channel = GCNChannel(*widths)
        return channel, lambda x: channel(x, place)[0], num_bytes(operator)
    adjacency, first = edges, name == REFERENCE  # which normalises by itself
    if not first:
        index, weight = gcn_norm(edges, num_nodes=n)
        matrix = torch.sparse_coo_tensor(index.flip(0), weight, (n, n), check_invariants=False)
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        adjacency = matrix.to_dense() if name == "dense" else matrix.to_sparse_csr()
    how = {"bias": False, "cached": first, "normalize": first}
    convs = torch.nn.ModuleList(GCNConv(*w, **how) for w in pairwise(widths))
    graph = adjacency if name == "dense" else (adjacency,)
    return convs, lambda x: convolved(convs, x, graph), num_bytes(adjacency)


NAMES = (REFERENCE, "GCNConv, torch CSR", "dense", OURS, CACHED)


def convolutions(name, n, widths, device="cpu"):
    if n > 2 * NEIGHBOURS:
        convolutions(name, 2 * NEIGHBOURS, widths, device)()  # loads what the first call loads
    model, forward, _ = network(name, neighbour_edges(n).to(device), n, tuple(widths))
    weights = list(model.to(device).parameters())
    x = torch.randn(n, widths[0], generator=torch.Generator().manual_seed(1)).to(device)

    def run():
        out = forward(x)
        return [out.detach(), *torch.autograd.grad(out.square().mean(), weights)]

    return run


def label_graph(form, n, labeled, edges, device="cpu"):
    """Neighbour edges where an end has no label, and all pairs of equal label (MCGCN Eq. 1)."""
    g = torch.Generator().manual_seed(2)
    nodes = torch.randperm(n, generator=g)[: round(labeled * n)].sort().values
    label = torch.full((n,), -1)
    label[nodes] = torch.randint(CLASSES, (nodes.numel(),), generator=g)
    edges = edges[:, (label[edges] < 0).any(0)]
    graph = Data(torch.empty(n, 0), edges, edge_weight=torch.ones(edges.size(1)), label=label)
    graph = graph.to(device)
    if form == "hubs":
        return hubs(graph)
    return GraphOperator(*with_cliques(graph), graph.x.new_ones(n))


def cliques(operator, width):
    like = operator.inv_sqrt_degree
    g = torch.Generator().manual_seed(1)
    x, slope = (torch.randn(like.numel(), width, generator=g).to(like.device) for _ in range(2))
    x.requires_grad_()

    def run():
        out = operator @ x
        (gradient,) = torch.autograd.grad(out, x, slope)
        return [out.detach(), gradient]

    return run


def layers(record, short):
    n, widths = (400, SHORT_WIDTHS) if short else (10_000, WIDTHS)
    steps = {name: convolutions(name, n, widths) for name in NAMES}
    expected = steps[REFERENCE]()
    errors = {name: difference(step(), expected) for name, step in steps.items()}
    seconds = side_by_side(steps)
    fast, edges = faster(seconds, REFERENCE), neighbour_edges(n)
    extra = {name: alone(convolutions, name, n, widths).extra_bytes / 1e6 for name in NAMES}
    memory = {name: extra[name] / max(extra[REFERENCE], 1e-6) for name in NAMES}
    columns = {
        "seconds": seconds,
        "times as fast": fast,
        "extra MB": extra,
        "of the memory": memory,
        "graph MB": {name: network(name, edges, n, widths)[2] / 1e6 for name in NAMES},
        "largest difference": errors,
    }
    note = (
        "Extra memory is that of a first call, so what a method keeps is in it, but not the graph "
        "as it is given. Differences are relative to the largest value, outputs and gradients."
    )
    record.columns(f"{n:,} nodes, {' -> '.join(map(str, widths))}", "method", columns, note)
    record.goal("operator against GCNConv on edge_index, times as fast", fast[OURS], at_least=6)
    record.goal("operator's extra memory / GCNConv's on edge_index", memory[OURS], at_most=0.1)
    record.goal("operator against dense", seconds["dense"] / seconds[OURS], at_least=5)
    record.bars("Times as fast as GCNConv", fast, x="x")


def label_cliques(record, short):
    rows = []
    for n, labeled in product((300, 500) if short else (2_173, 8_000), (0.3, 1.0)):
        edges = neighbour_edges(n)
        graphs = {f: label_graph(f, n, labeled, edges) for f in ("hubs", "edges")}
        steps = {form: cliques(graph, LABEL_WIDTH) for form, graph in graphs.items()}
        error, seconds = difference(*(step() for step in steps.values())), side_by_side(steps)
        size = {form: num_bytes(graph) / 1e6 for form, graph in graphs.items()}
        row = {"nodes": n, "labelled": f"{labeled:.0%}", "edges": graphs["edges"].num_entries}
        for unit, gain, of in (("s", "times as fast", seconds), ("MB", "times as small", size)):
            row |= {f"{form} {unit}": of[form] for form in ("edges", "hubs")}
            row[gain] = of["edges"] / of["hubs"]
        rows.append(row | {"largest difference": error})
    record.table("Label cliques as hubs or as edges", rows)
    of_all = "hubs against edges, 100 % labelled,"
    record.goal(f"{of_all} times as fast", row["times as fast"], at_least=100)
    record.goal(f"{of_all} storage", row["times as small"], at_least=150)
    bars = {f"{r['nodes']:,} nodes, {r['labelled']} labelled": r["times as fast"] for r in rows}
    record.bars("Hubs: times as fast as clique edges", bars, x="x")


@benchmark("Propagation on sparse graphs")
def main(record, args):
    layers(record, args.short)
    label_cliques(record, args.short)
