"""The graph's size: sparse operator against N x N matrix against messages on ``edge_index``.

    python -m benchmarks.graph_scale [--short] [--limit_gb 10] [--up_to 1000000]

A step is forward and backward of two graph convolutions, 128 -> 128 -> 64 with tanh, to the
gradients of both weights. Every node has 10 random neighbours in its cluster of 100, edges run both
ways, and nodes are in no helpful order. Once without labels, once with 30 % of the nodes labelled
in 10 classes, where all nodes of one label are joined (MCGCN Eq. 1): "hubs" is the library's
operator, "edge_index" PyG's message passing with each of these pairs as an edge, "dense" an N x N
array. All compute the same numbers. What a method will need is
predicted first; what does not fit into the limit is not run.
"""

import sys
import time
from functools import partial
from itertools import pairwise

import torch
from scipy.optimize import brentq
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.utils import add_self_loops, coalesce

from benchmarks.measure import alone, cell, num_bytes, side_by_side
from benchmarks.record import MEMORY, PREDICTED, benchmark
from pyg_hash.graph import GraphOperator
from pyg_hash.utils.csr import sorted_csr

WIDTHS, K, CLUSTER, CLASSES = (128, 128, 64), 10, 100, 10


def make(n, labeled, device="cpu", seed=0):
    """Random neighbours in clusters; ``labeled`` of the nodes have their cluster's class, or -1."""
    g = torch.Generator().manual_seed(seed)
    clusters = max(1, n // CLUSTER)
    target = torch.arange(n).repeat_interleave(K)
    source = (target + clusters * torch.randint(1, CLUSTER, (n * K,), generator=g)) % n
    label = torch.arange(n) % clusters % CLASSES
    label[torch.rand(n, generator=g) >= labeled] = -1
    keep = (source != target) & ((label[source] < 0) | (label[target] < 0))  # Eq. 1, second case
    index = torch.stack((source, target))[:, keep]
    index = coalesce(torch.cat((index, index.flip(0)), 1), num_nodes=n, sort_by_row=False)
    x, weight = torch.randn(n, WIDTHS[0], generator=g), torch.ones(index.size(1))
    return Data(x, index, edge_weight=weight, label=label).to(device)


def with_cliques(graph):
    parts = [graph.edge_index]
    for c in range(CLASSES):
        nodes = (graph.label == c).nonzero().flatten()
        pairs = torch.cartesian_prod(nodes, nodes).T
        parts.append(pairs[:, pairs[0] != pairs[1]])
    edge_index = torch.cat(parts, dim=1)
    return edge_index, graph.edge_weight.new_ones(edge_index.size(1))


def hubs(graph):
    """The library's: neighbours as one CSR matrix, labels as hubs, which hold their own state."""
    nodes = (graph.label >= 0).nonzero().flatten()
    ones = graph.x.new_ones(len(nodes))
    hub = sorted_csr(nodes, graph.label[nodes], ones, len(graph.x), CLASSES)
    loops = (graph.label < 0).to(graph.x)
    return GraphOperator(graph.edge_index, graph.edge_weight, loops, hub)


def messages(graph):
    """PyG's message passing, normalised once, in half the time of PyG's ``gcn_norm``."""
    n = len(graph.x)
    edge_index, weight = add_self_loops(*with_cliques(graph), num_nodes=n)
    scale = weight.new_zeros(n).index_add_(0, edge_index[1], weight).rsqrt()
    return edge_index, weight * scale[edge_index[0]] * scale[edge_index[1]]


def dense(graph):
    n = len(graph.x)
    adjacency = graph.x.new_zeros(n, n)
    for c in range(CLASSES):
        nodes = (graph.label == c).nonzero().flatten()
        adjacency[nodes.unsqueeze(1), nodes] = 1.0
    adjacency[graph.edge_index[1], graph.edge_index[0]] = graph.edge_weight
    adjacency.fill_diagonal_(1.0)
    scale = adjacency.sum(1).rsqrt()
    return adjacency.mul_(scale).mul_(scale.unsqueeze(1))


METHODS = {"hubs": hubs, "edge_index": messages, "dense": dense}


def convolved(layers, x, graph):
    """What graph convolutions with tanh make; the graph is a matrix, or what PyG's layers take."""
    for layer in layers:
        x = torch.tanh(layer(x, *graph) if isinstance(graph, tuple) else graph @ layer.lin(x))
    return x


def stepper(graph):
    """The step of any method, given what it made of the graph: returns output and gradients."""
    torch.manual_seed(0)  # the same numbers in every method
    of = {"normalize": False, "bias": False}  # the weights of edges are ready
    layers = [GCNConv(*widths, **of).to(graph.x.device) for widths in pairwise(WIDTHS)]
    weights = [layer.lin.weight for layer in layers]

    def step(built):
        out = convolved(layers, graph.x, built)
        return [out.detach(), *torch.autograd.grad(out.sum(), weights)]

    return step


def prepare(method, graph):
    return partial(stepper(graph), METHODS[method](graph))


def build_and_step(method, n, labeled):
    """For :func:`measure.alone`: from edges to the first gradients; seconds of the building."""
    prepare(method, make(1000, labeled))()
    graph = make(n, labeled)
    step = stepper(graph)

    def case():
        start = time.process_time()
        built = METHODS[method](graph)
        seconds = time.process_time() - start
        step(built)
        return seconds

    return case


SIZES = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
KINDS = {"no labels": 0.0, "30 % labelled": 0.3}


def predicted(method, n, labeled):
    """Extra bytes from edges to the first gradients."""
    edges, cliques = expected_edges(n, labeled)
    states = 4 * n * (3 * WIDTHS[1] + 2 * WIDTHS[2])  # the activations
    if method == "dense":
        return 4 * n * n + states
    if method == "edge_index":  # messages before and after weights
        return (edges + cliques + n) * (2 * 4 * WIDTHS[1] + 40) + states
    return max(110 * edges, 8 * edges + states)  # 110 while a CSR is made


def expected_edges(n, labeled):
    """Neighbour edges, of which two in twenty meet another, and edges of equal label."""
    return 18.2 * n * (1 - labeled**2), (labeled * n) ** 2 / CLASSES


def largest(method, labeled, limit):
    """The most nodes, to two digits, that are predicted to fit with their features and edges."""

    def lacking(n):
        inputs = 4 * WIDTHS[0] * n + 20 * expected_edges(n, labeled)[0]
        return inputs + predicted(method, n, labeled) - limit

    return int(float(f"{brentq(lacking, 1.0, 1e12):.2g}"))


def compared(record, name, labeled, sizes, limit_gb):
    """Two tables and panels of one kind of graph; returns MB of the stored operator by nodes."""
    times, memory, stored = [], [], {}
    steps, extra = ({m: [] for m in METHODS} for _ in range(2))
    for n in sizes:
        needs = {m: predicted(m, n, labeled) / 1e6 for m in METHODS}
        fitting = [m for m in METHODS if needs[m] <= limit_gb * 1e3]
        spent = {m: alone(build_and_step, m, n, labeled, limit_gb=limit_gb + 3) for m in fitting}
        graph = make(n, labeled)
        stored[n] = num_bytes(hubs(graph)) / 1e6
        print(f"{n:,} nodes, {labeled:.0%} labelled: timing a step", file=sys.stderr)
        cases = {m: prepare(m, graph) for m in fitting}
        step = side_by_side(cases, repeats=3 if n <= 5_000 else 2)
        lacking = {m: f"needs {cell(needs[m] / 1e3)} GB" for m in METHODS if m not in fitting}
        ratio = {m: step[m] / step["hubs"] for m in fitting} | lacking
        build = {m: spent[m].value for m in fitting} | lacking
        size = {m: spent[m].extra_bytes / 1e6 for m in fitting} | lacking
        for m in fitting:
            steps[m].append((n, step[m]))
            extra[m].append((n, size[m]))
        for m in lacking:
            extra.setdefault(m + PREDICTED, extra[m][-1:]).append((n, needs[m]))
        row = {"nodes": n, "edges": graph.edge_index.size(1), "hubs, s": step["hubs"]}
        row |= {f"{m} / hubs": ratio[m] for m in METHODS if m != "hubs"}
        times.append(row | {f"{m}, build s": build[m] for m in METHODS})
        row = {"nodes": n, "hubs stored, MB": stored[n]} | {f"{m}, MB": size[m] for m in METHODS}
        memory.append(row | {"hubs predicted, MB": needs["hubs"]})
    record.table(f"{name}: time of a step", times)
    record.table(f"{name}: extra memory from edges to the first gradients", memory)
    record.plot(f"{name}: time of a step", steps, x="nodes", y="seconds")
    record.plot(f"{name}: extra memory (dashed: predicted)", extra, x="nodes", y="MB")
    return stored


@benchmark("Graph size", limit_gb=10.0, up_to=1_000_000)
def main(record, args):
    sizes = [1000] if args.short else [n for n in SIZES if n <= args.up_to]
    dies = []
    for name, labeled in KINDS.items():
        stored = compared(record, name, labeled, sizes, args.limit_gb)
        dies.append({"graph": name} | {m: largest(m, labeled, MEMORY) for m in METHODS})
    record.table(f"Most nodes in {MEMORY / 2**30:.0f} GiB, predicted", dies)
    goal = "200k nodes, 30 % labelled: MB of the stored operator"
    record.goal(goal, stored.get(200_000), at_most=100)
