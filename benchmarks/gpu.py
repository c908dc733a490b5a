"""What a GPU brings: the CPU and the GPU of one machine on the same cases, in one run.

    python -m benchmarks.gpu --out DIR [--short] [--minutes 8] [--device cuda]

The tests that need a GPU, the peaks that the machine reaches (matrix products, copies), MCGCN's
training at Wikipedia's size under default settings, and the library's costly steps on random
features of planted clusters. CPU time is wall time with all threads, GPU time wall time between two
synchronisations; each is the smallest of several calls after a first one that is not counted. A
fraction of a peak is of the peak measured here: of float32 products in FLOP/s, of a copy in bytes
read and written a second. "Difference" is the largest between the results of both, relative to the
largest value. Every part is written as soon as it is done; one that fails or no longer fits into
the minutes is named as such, and the others run.
"""

import gc
import os
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from functools import partial
from itertools import product

import torch
from torch.nn.functional import normalize

from benchmarks import encode, graph_scale, losses, map, propagation, search, training_step
from benchmarks.knn import image_features
from benchmarks.measure import ROOT, difference, gemm_rate, side_by_side
from benchmarks.record import benchmark
from pyg_hash.codes import hamming_distance
from pyg_hash.index import HammingIndex
from pyg_hash.knn import knn
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import recipe
from pyg_hash.training import fit

K, BITS, RATE, DTYPES = 20, 64, 0.3, training_step.DTYPES
PRODUCTS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
CLOCK = {"cpu": "wall"}  # of a GPU "cuda"


class Run:
    """What the parts share: the GPU (or ``'cpu'``), sizes, and when the last case has to start."""

    def __init__(self, device, short, until):
        self.short, self.until = short, until
        self.gpu = None if device == "cpu" else device
        self.devices = ["cpu", *([self.gpu] if self.gpu else [])]
        self.peaks = {}

    def size(self, full, short):
        return short if self.short else full

    def seconds(self, case, device, **how):
        """The smallest time of some calls; the first call is the caller's."""
        return side_by_side({"": case}, clock=CLOCK.get(device, "cuda"), **how)[""]

    def row(self, name, make, *, flop=0.0, moved=0.0, cpu=True, unlike=difference, repeats=3):
        """One case on both devices; ``TimeoutError`` if the minutes are over.

        ``make`` is device -> the case with its data, loaded; a call does ``flop``, where products
        are most of it, and has to read and write ``moved`` bytes. The CPU is left out if it takes
        too long (not ``cpu``), but for the short form and where there is no GPU. ``unlike`` says
        how much two results differ, if not as arrays do.
        """
        if time.monotonic() > self.until:
            raise TimeoutError("the minutes are over")
        spent, results = {}, {}
        for device in self.devices if cpu or self.short or not self.gpu else [self.gpu]:
            case = make(device)
            results[device] = case()
            spent[device] = last = self.seconds(case, device, repeats=repeats)
            del case
            if device != "cpu":
                torch.cuda.empty_cache()
        found = {"case": name, "CPU s": spent.get("cpu")}
        if self.gpu is not None:
            gain = spent["cpu"] / last if "cpu" in spent else None
            found |= {"GPU s": last, "times as fast": gain}
            if len(results) == 2:
                found["difference"] = unlike(results[self.gpu], results["cpu"])
        peak = self.peaks.get(device, {})
        if flop:
            found["TFLOP/s"] = flop / last / 1e12
            known = {f"of the {kind} product": peak[kind] for kind in PRODUCTS if kind in peak}
            found |= {of: flop / last / most for of, most in known.items()}
        if moved:
            found["GB/s"] = moved / last / 1e9
            found |= {"of the copy": moved / last / peak["copy"]} if peak else {}
        return found


def differing(a, b):
    """The share of entries that differ."""
    return float((a.cpu() != b.cpu()).float().mean())


def peaks(run):
    """Peaks: square products and a copy"""
    for device in run.devices:
        size = run.size(2048 if device == "cpu" else 8192, 256)
        found = run.peaks.setdefault(device, {})
        for kind, dtype in PRODUCTS.items():
            if kind == "tf32" and (device == "cpu" or torch.cuda.get_device_capability() < (8, 0)):
                continue
            torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
            try:
                found[kind] = gemm_rate(dtype, size, device, CLOCK.get(device, "cuda"))
            finally:
                torch.set_float32_matmul_precision("highest")
        a = torch.ones(run.size(2**26 if device == "cpu" else 2**28, 2**16), device=device)
        b = torch.empty_like(a)
        found["copy"] = 2 * 4 * a.numel() / run.seconds(partial(b.copy_, a), device)
        row = {"device": device, "product of, at most": size}
        row |= {f"{kind}, TFLOP/s": found.get(kind, 0) / 1e12 or None for kind in PRODUCTS}
        yield row | {"copy, GB/s": found["copy"] / 1e9}


def tests(run):
    """Tests that need a GPU"""
    files = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "cuda" in path.read_text(encoding="utf-8").lower() and "benchmarks" not in path.name
    ]
    command = [sys.executable, "-m", "pytest", "-k", "cuda", "-rf", "--tb=line"]
    command += ["-p", "no:cacheprovider", "--continue-on-collection-errors", *files]
    how = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    how["timeout"] = max(20.0, min(180.0, run.until - time.monotonic()))
    done = subprocess.run(command, capture_output=True, text=True, **how)
    said = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()
    yield {"test": "all", "result": said[-1]}
    for line in said:
        if line.startswith(("FAILED", "ERROR")):
            yield {"test": line.split()[1], "result": line}
    if done.returncode:
        raise RuntimeError(f"pytest ended with {done.returncode}")


def wikipedia(run):
    """MCGCN at Wikipedia's size, 30 % of the labels, default settings"""
    sizes = run.size(training_step.TRAIN, training_step.SHORT)
    mcgcn = recipe("mcgcn", label_rate=RATE, **({"k": 5} if run.short else {}))
    data = mcgcn.transforms(training_step.features(sizes, queries=run.size(693, 30)))
    for device in run.devices:
        epochs = run.size(3, 2) if device == "cpu" else run.size(80, 3)
        there = data.clone().to(device)
        model = mcgcn.model(there)
        train = partial(fit, model, there, mcgcn.optimizers(model), progress=False)
        train(epochs=1)
        if device != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        seconds = run.seconds(partial(train, epochs=epochs), device, repeats=1, at_least=0)
        found = evaluate(model, there)
        row = {"device": device, "epochs": epochs + 1, "s an epoch": seconds / epochs}
        row |= {"i2t": found.i2t, "t2i": found.t2i}
        if device != "cpu":
            row["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
            row["reserved GB"] = torch.cuda.max_memory_reserved() / 1e9
        yield row


def _at(call, *data):
    """What :meth:`Run.row` makes a case of: a call, and its tensors."""
    return lambda device: partial(call, *(x.to(device) for x in data))


def neighbours(run):
    """kNN, k = 20, each row among the others"""
    for n, width, cpu in (
        (run.size(5_000, 300), run.size(4_096, 32), True),
        (run.size(20_000, 500), run.size(512, 16), True),
        (run.size(50_000, 600), run.size(4_096, 32), False),
    ):
        if cpu or run.gpu or run.short:
            about, x = f"{n:,} x {width:,}", normalize(image_features(n, width))
            how = {"flop": 2.0 * n * n * width, "moved": 4.0 * n * width, "cpu": cpu}
            find = _at(lambda x: knn(x, x, K, exclude_self=True)[1], x)
            yield run.row(f"knn, {about}", find, unlike=differing, **how)
            find = _at(lambda x: [(a @ x.T).topk(K + 1).values for a in x.split(512)], x)
            yield run.row(f"product and topk, {about}", find, **how)


def graphs(run):
    """Propagation, forward and backward"""
    n = run.size(10_000, 300)
    widths = propagation.SHORT_WIDTHS if run.short else propagation.WIDTHS
    for name in (propagation.REFERENCE, propagation.OURS, propagation.CACHED):
        make = partial(propagation.convolutions, name, n, widths)
        yield run.row(f"{name}, {n:,} nodes, {' -> '.join(f'{w}' for w in widths)}", make)
    width = propagation.LABEL_WIDTH
    for n, cpu in ((run.size(10_000, 300), True), (run.size(200_000, 600), False)):
        graph = partial(propagation.label_graph, "hubs", n, RATE, propagation.neighbour_edges(n))
        # forward and backward: a row an edge read, a row a node written, an index and a weight
        entries = graph("cpu").num_entries
        moved = 2 * (entries * (4.0 * width + 8) + 4.0 * n * width)
        how = {"flop": 2 * 2.0 * entries * width, "moved": moved, "cpu": cpu}
        name = f"operator with hubs, {n:,} nodes x {width}"
        yield run.row(name, lambda device, g=graph: propagation.cliques(g(device), width), **how)


def likelihood(run):
    """Pair likelihood with gradients, 64 bits"""
    few, many = run.size(8_000, 300), run.size(50_000, 600)
    for name, n, cpu in (("autograd", few, True), ("fused", few, True), ("fused", many, False)):
        # three products; the tiles of a pair's inner product written and read again
        how = {"flop": 6.0 * n * n * losses.BITS, "moved": 8.0 * n * n, "cpu": cpu, "repeats": 2}
        yield run.row(f"{name}, n = {n:,}", partial(losses.step, name, n, False), **how)


def hamming_map(run):
    """mAP@all of 64-bit codes"""
    mir = run.size(1_000, 30), run.size(18_015, 500), True
    nus = run.size(2_000, 30), run.size(186_221, 900), False
    for name, (queries, n, cpu) in (("sorted rows", mir), ("counts", mir), ("counts", nus)):
        # a product a pair; its distance written and read again
        pairs = queries * n
        how = {"flop": 2.0 * pairs * BITS, "moved": 8.0 * pairs, "cpu": cpu, "repeats": 2}
        make = partial(map.prepare, name, queries, n, BITS)
        yield run.row(f"{name}, {queries:,} queries, {n:,} items", make, **how)


def step(run):
    """A training step at Wikipedia's size, all labels, the paper's widths"""
    sizes = run.size(training_step.FULL, training_step.SHORT)
    data = training_step.pairs(sizes, 1.0)
    shapes = training_step.product_shapes("MCGCN", sizes, sizes.pairs)
    flop = training_step.products(shapes, torch.float32)[1]
    known = run.peaks.get("cpu", {})
    makes = {
        "its products": lambda device, p: training_step.products(shapes, DTYPES[p], device)[0],
        "step": lambda device, p: training_step.step("MCGCN", sizes, data.clone().to(device), p),
    }
    for precision, (name, make) in product(DTYPES, makes.items()):
        # some processors would take many minutes in bfloat16
        cpu = precision == "fp32" or known.get("bf16", 0) > known.get("fp32", 0)
        if cpu or run.short or run.gpu:
            how = {"unlike": lambda a, b: None, "flop": flop, "cpu": cpu, "repeats": 2}
            yield run.row(f"{name}, {precision}", partial(make, p=precision), **how)


def graph_size(run):
    """A step of graph convolutions, 128 -> 128 -> 64, 30 % labelled"""

    def make(method, n, device):
        return graph_scale.prepare(method, graph_scale.make(n, RATE, device))

    for method, n, cpu in (
        ("hubs", run.size(20_000, 500), True),
        ("edge_index", run.size(10_000, 300), True),
        ("dense", run.size(10_000, 300), True),
        ("hubs", run.size(1_000_000, 800), False),
    ):
        yield run.row(f"{method}, {n:,} nodes", partial(make, method, n), cpu=cpu, repeats=2)


def new_items(run):
    """Codes of 2,000 new images, anchors of Wikipedia's size"""
    sizes = run.size(training_step.TRAIN, training_step.SHORT)
    data = training_step.pairs(sizes, RATE)
    x = torch.rand(run.size(2_000, 20), sizes.image, generator=torch.Generator().manual_seed(1))

    def make(name, items, device):
        torch.manual_seed(0)
        model = encode.MODELS[name](sizes).to(device).attach(data.clone().to(device)).eval()
        return partial(model.encode_image, items.to(device))

    for name, items in product(encode.MODELS, (x, x[:1])):
        yield run.row(f"{name}, {len(items):,} items", partial(make, name, items), unlike=differing)


def hamming_search(run):
    """Hamming search, k = 100, 100 queries of 64 bits"""
    n, k = run.size(1_000_000, 2_000), run.size(100, 10)
    database, query = search.codes(n, BITS, 0), search.codes(run.size(100, 10), BITS, 1)
    index = HammingIndex(BITS, backend="torch")
    index.add(database)
    # the index packs its codes and stays on the CPU: this is what there is to compare with
    case = partial(index.search, query, k)
    case()
    yield {"case": "HammingIndex, torch", "CPU s": run.seconds(case, "cpu")}
    find = _at(lambda q, d: hamming_distance(q, d).topk(k, largest=False).values, query, database)
    moved = float(len(query)) * n * 8
    yield run.row("distances and topk", find, flop=2.0 * len(query) * n * BITS, moved=moved)


PARTS = {  # name -> seconds that it is taken to need, and what yields the rows of its table
    "peaks": (5, peaks),
    "tests": (40, tests),
    "wikipedia": (40, wikipedia),
    "knn": (30, neighbours),
    "propagation": (30, graphs),
    "losses": (30, likelihood),
    "map": (40, hamming_map),
    "training_step": (40, step),
    "graph_scale": (40, graph_size),
    "encode": (20, new_items),
    "search": (15, hamming_search),
}


@benchmark("CPU and GPU", all_threads=True, picture=False, device="cuda", minutes=8.0)
def main(record, args):
    """Run the parts one after the other; what is done is written at once."""
    there = torch.cuda.is_available()
    device = args.device if there or not args.short else "cpu"  # make bench is for all
    if device != "cpu" and not there:
        sys.exit("benchmarks.gpu: no CUDA GPU was found; --device cpu measures the CPU alone")
    run = Run(device, args.short, time.monotonic() + 60 * args.minutes)
    states = []
    record.tables.append({"title": "Parts", "rows": states, "note": ""})
    for name, (needed, part) in PARTS.items():
        start = time.monotonic()
        left = run.until - start
        state, rows = "done", []
        try:
            if left < (0 if args.short else needed):
                state = f"skipped: needs about {needed:.0f} s, {max(0, left):.0f} are left"
            else:
                rows.extend(part(run))  # those before a failure are kept
        except Exception as error:  # a part that fails must not take the others with it
            traceback.print_exc()
            state = f"failed: {type(error).__name__}: {error}".splitlines()[0][:200]
        states.append({"part": name, "state": state, "seconds": time.monotonic() - start})
        if rows:
            record.table(part.__doc__, rows)
        record.save()
        gc.collect()
        with suppress(RuntimeError):  # of a GPU that a part has left in disorder
            torch.cuda.empty_cache()
