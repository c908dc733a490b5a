"""The graph's size: sparse operator against N x N matrix against messages on ``edge_index``.

    python -m benchmarks.graph_scale [--short] [--limit_gb 10] [--up_to 1000000] [--device cuda]

A step is forward and backward of two graph convolutions, 128 -> 128 -> 64 with tanh, to the
gradients of both weights. Every node has 10 random neighbours in its cluster of 100, edges run both
ways, and nodes are in no helpful order. Once without labels, once with 30 % of the nodes labelled
in 10 classes, where all nodes of one label are joined (MCGCN Eq. 1): "hubs" is the library's
operator, "csr" the same with each of these pairs as an edge, "edge_index" PyG's message passing on
the same edges, "dense" an N x N array. All compute the same numbers. What a method will need is
predicted first; what does not fit into the limit is not run.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from functools import partial
from typing import Any

import torch

from benchmarks.graph_cases import CLASSES, METHODS, WIDTHS, build_and_step, make, stepper
from benchmarks.measure import alone, options, side_by_side
from benchmarks.picture import PREDICTED
from benchmarks.record import Record, cell

SIZES = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
KINDS = {"no labels": 0.0, "30 % labelled": 0.3}


def predicted(method: str, n: float, labeled: float) -> float:
    """Extra bytes from edges to the first gradients.

    An edge costs 110 bytes while a sorted CSR is made; as a message it is 128 numbers twice,
    before and after its weight. A node has its activations: three times the first width and twice
    the second.
    """
    edges, cliques = expected_edges(n, labeled)
    states = 4 * n * (3 * WIDTHS[1] + 2 * WIDTHS[2])
    if method == "dense":
        return 4 * n * n + states
    if method == "edge_index":
        return (edges + cliques + n) * (2 * 4 * WIDTHS[1] + 40) + states
    if method == "csr":
        edges += cliques
    return max(110 * edges, 8 * edges + states)


def expected_edges(n: float, labeled: float) -> tuple[float, float]:
    """Neighbour edges, of which two in twenty meet another, and edges of equal label."""
    return 18.2 * n * (1 - labeled**2), (labeled * n) ** 2 / CLASSES


def largest(method: str, labeled: float, limit: float) -> int:
    """The most nodes, to two digits, that are predicted to fit with their features and edges."""

    def fits(n: float) -> bool:
        inputs = 4 * WIDTHS[0] * n + 20 * expected_edges(n, labeled)[0]
        return inputs + predicted(method, n, labeled) <= limit

    low, high = 1.0, 1e12
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if fits(middle) else (low, middle)
    return int(float(f"{low:.2g}"))


def at_size(n: int, labeled: float, methods: list[str], args: Namespace) -> dict[str, Any]:
    """All methods that fit at one size: seconds, megabytes, and what does not fit."""
    device = str(args.device)
    limit = args.limit_gb * 1e9
    fitting = [m for m in methods if predicted(m, n, labeled) <= limit]
    result: dict[str, Any] = {"nodes": n, "predicted": {}, "extra": {}, "build": {}, "step": {}}
    for method in methods:
        result["predicted"][method] = predicted(method, n, labeled)
    for method in fitting:
        spent = alone(build_and_step, method, n, labeled, device, limit_gb=args.limit_gb + 3)
        result["extra"][method], result["build"][method] = spent.extra_bytes, spent.value
    graph = make(n, labeled, device)
    result["edges"] = graph.edge_index.size(1)
    built = {m: METHODS[m][0](graph) for m in fitting}
    result["stored"] = built["hubs"][0].num_bytes
    steps = {m: partial(stepper(m, graph), b) for m, b in built.items()}
    clock = "cuda" if args.device.type == "cuda" else "cpu"
    print(f"{n:,} nodes, {labeled:.0%} labelled: timing a step", file=sys.stderr)
    result["step"] = side_by_side(steps, repeats=3 if n <= 5_000 else 2, clock=clock)
    return result


def show(record: Record, name: str, results: list[dict[str, Any]], methods: list[str]) -> None:
    """Two tables and two panels of one kind of graph."""

    def entry(result: dict[str, Any], method: str, value: Any) -> Any:
        needed = result["predicted"][method] / 1e9
        return value if method in result["step"] else f"needs {cell(needed)} GB"

    times, memory = [], []
    for result in results:
        step, extra = result["step"], result["extra"]
        ours = step["hubs"]
        row = {"nodes": result["nodes"], "edges": result["edges"], "hubs, s": ours}
        row |= {f"{m} / hubs": entry(result, m, step.get(m, 0) / ours) for m in methods[1:]}
        row |= {f"{m}, build s": entry(result, m, result["build"].get(m)) for m in methods}
        times.append(row)
        row = {"nodes": result["nodes"], "hubs stored, MB": result["stored"] / 1e6}
        row |= {f"{m}, MB": entry(result, m, extra.get(m, 0) / 1e6) for m in methods}
        row["hubs predicted, MB"] = result["predicted"]["hubs"] / 1e6
        memory.append(row)
    record.table(f"{name}: time of a step", times)
    record.table(f"{name}: extra memory from edges to the first gradients", memory)
    steps = {m: [(r["nodes"], r["step"][m]) for r in results if m in r["step"]] for m in methods}
    record.plot(f"{name}: time of a step", steps, x="nodes", y="seconds")
    lines = {}
    for m in methods:
        lines[m] = [(r["nodes"], r["extra"][m] / 1e6) for r in results if m in r["extra"]]
        beyond = [(r["nodes"], r["predicted"][m] / 1e6) for r in results if m not in r["extra"]]
        if beyond:
            lines[m + PREDICTED] = lines[m][-1:] + beyond
    record.plot(f"{name}: extra memory (dashed: predicted)", lines, x="nodes", y="MB")


def main(arguments: list[str] | None = None) -> None:
    """Measure and write."""
    args = options(__doc__, arguments, device="cpu", limit_gb=10.0, up_to=1_000_000)
    record = Record("graph_scale", "Graph size", args)
    sizes = [500, 1000] if args.short else [n for n in SIZES if n <= args.up_to]
    if args.device.type == "cuda":
        total = torch.cuda.get_device_properties(args.device).total_memory
    else:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    dies, stored = [], {}
    for name, labeled in KINDS.items():
        methods = [m for m in METHODS if labeled or m != "csr"]  # without labels csr is hubs
        results = [at_size(n, labeled, methods, args) for n in sizes]
        show(record, name, results, methods)
        fit = {m: largest(m, labeled, total) for m in methods}
        dies.append({"graph": name, **fit})
        stored[name] = {r["nodes"]: r["stored"] for r in results}
    record.table(f"Most nodes in {total / 2**30:.0f} GiB, predicted", dies)
    adjacency = stored["30 % labelled"].get(200_000)
    record.goal(
        "200k nodes, 30 % labelled: MB of the stored operator",
        None if adjacency is None else adjacency / 1e6,
        at_most=100,
    )
    record.save()


if __name__ == "__main__":
    main()
