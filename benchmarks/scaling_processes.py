"""Cost against processes: mini-batch training and encoding shared out.

    python -m benchmarks.scaling_processes [--short]

MCGCN (its default widths, 32 bits) on 50,000 pairs with 128-d images and texts, k = 10, 30 % of the
pairs labelled (the synthetic graph of scaling.py), in mini-batches of 512 seeds in cells of 64.
Whatever the number of processes, an epoch has the same batches and the same steps: a step averages
as many batches as there are processes at most, several of them in one process where there are
fewer. Encoding makes codes of 20,000 new pairs' images, each process a part, gathered on all.
Processes run on this machine, one thread each, joined by gloo; runs take turns and
the smallest time counts. CPU seconds are those of the busiest process, communication included:
what a machine of its own would spend. Wall time says the same only where each process has a core.
"""

import os
import tempfile
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.measure import difference, in_ranks, measured
from benchmarks.record import benchmark
from benchmarks.scaling import CLASSES, block_graph
from pyg_hash.models import MCGCN
from pyg_hash.sampling import InstanceLoader
from pyg_hash.training.fit import ALL, Steps, train_epoch
from pyg_hash.training.ranks import Ranks, encode_sharded, process_group
from pyg_hash.utils.files import load_json, save_json

SIZES = {False: (50_000, 20_000, 512), True: (500, 100, 64)}  # nodes, new items, batch
TURNS = 2


def work(short, accumulate, out):
    """What each process does: train an epoch, encode, write how long it took."""
    nodes, new, batch = SIZES[short]
    with process_group():
        _epoch(block_graph(500), 128, accumulate)  # load what the first step loads
        data = block_graph(nodes)
        model, times = _epoch(data, batch, accumulate)
        model.attach(data)
        x = data["image"].x[:new] + 0.1
        encode_sharded(model, x[:100], "image")
        times |= _timed("encode", lambda: encode_sharded(model, x, "image"))
        rank = Ranks.of(model).rank
        if rank == 0:
            save_file(model.state_dict(), out / "model.safetensors")
    save_json(out / f"{rank}.json", times)


def _epoch(data, batch, accumulate):
    torch.manual_seed(0)
    model = MCGCN(data.num_features, CLASSES, 32)
    adam = {ALL: torch.optim.Adam(model.parameters(), lr=1e-3)}
    loader = InstanceLoader(data, (5, 3), 256, batch_size=batch, cell_size=64, shuffle=True)
    steps = Steps(loader, accumulate, Ranks.of(model))
    return model, _timed("epoch", lambda: train_epoch(model, None, adam, 0, steps, lambda _: None))


def _timed(name, case):
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    spent = measured(case)
    return {f"{name} CPU s": spent.cpu_seconds, f"{name} wall s": spent.wall_seconds}


@benchmark("Cost against processes")
def main(record, args):
    most = 2 if args.short else max(2, min(16, os.cpu_count() or 2))
    counts = [count for count in (1, 2, 4, 8, 16) if count <= most]
    best, parameters = {}, {}
    for _, count in product(range(1 if args.short else TURNS), counts):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            in_ranks(count, work, args.short, counts[-1] // count, out)
            times = [load_json(out / f"{rank}.json") for rank in range(count)]
            parameters[count] = load_file(out / "model.safetensors")
        slowest = {name: max(each[name] for each in times) for name in times[0]}
        before = best.get(count, slowest)
        best[count] = {name: min(before[name], slowest[name]) for name in slowest}
    rows, lines = [], {"epoch": [], "encode": [], "ideal": [(n, 1 / n) for n in counts]}
    for count, times in best.items():
        row = {"processes": count, **times}
        for name in ("epoch", "encode"):
            share = times[f"{name} CPU s"] / best[1][f"{name} CPU s"]
            row[f"{name}: share of one"] = share
            lines[name].append((count, share))
        both = (torch.cat([p.flatten() for p in parameters[n].values()]) for n in (count, 1))
        rows.append({**row, "difference": difference(*both)})
    record.table(
        "An epoch and an encoding",
        rows,
        "Share of one: CPU time of the busiest process by that of one process alone; ideal is 1 "
        "by the number of processes. Difference: of the parameters after the epoch from those of "
        "one process, largest over largest.",
    )
    for name in ("epoch", "encode"):
        count, share = lines[name][-1]
        record.goal(f"{name}: CPU of {count} processes against one", share * count, at_most=1.2)
    worst = max(row["difference"] for row in rows)
    record.goal("difference of the parameters from one process", worst, at_most=1e-3)
    record.plot("CPU time of a process", lines, x="processes", y="share of one alone")
