"""Mean average precision: counts per distance against sorting every row.

    python -m benchmarks.map [--short]

mAP@all of 64-bit and 16-bit codes that carry their labels with noise, 24 labels of which an item
has several; database sizes of MIRFlickr-25K (18,015) and NUS-WIDE (186,221). "sorted rows" is the
loop that most scripts of the field share: for each query a matrix product, torch.sort, and the
precision at each hit; ties come in whatever order the sort gives. "counts" is
mean_average_precision, the exact mean over all orders of ties. "counts, index order" takes ties in
the order of the database, as a stable sort does. The others are made of the same counts.
"""

from functools import partial

import torch

from benchmarks.measure import alone, faster, side_by_side
from benchmarks.record import benchmark
from pyg_hash.metrics import hash_lookup, mean_average_precision, ndcg, pr_curve, precision_at_n

LABELS = 24


def make(queries, n, bits, device="cpu"):
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(LABELS, bits, generator=g)

    def part(rows):
        y = (torch.rand(rows, LABELS, generator=g) < 0.1).float()
        noisy = y @ centres + 1.5 * torch.randn(rows, bits, generator=g)
        return torch.where(noisy >= 0, 1, -1).to(torch.int8).to(device), y.to(device)

    query, query_y = part(queries)
    database, database_y = part(n)
    return query, database, query_y, database_y


def sorted_rows(query, database, query_y, database_y):
    total, bits = 0.0, query.size(1)
    codes, others = query.float(), database.float()
    for code, y in zip(codes, query_y, strict=True):
        relevant = (y @ database_y.T > 0).float()
        hits = int(relevant.sum())
        if hits == 0:
            continue
        distance = 0.5 * (bits - code @ others.T)
        order = torch.sort(distance)[1]
        rank = relevant[order].nonzero().squeeze(1) + 1
        total += float((torch.arange(1, hits + 1, device=rank.device) / rank).mean())
    return total / len(query)


METRICS = {
    "sorted rows": sorted_rows,
    "counts": mean_average_precision,
    "counts, index order": lambda *case: mean_average_precision(*case, ties="index"),
    "P@N at 100 values": lambda *case: precision_at_n(*case, topn=range(1, 101)),
    "PR curve": pr_curve,
    "radius 2": hash_lookup,
    "NDCG": ndcg,
}


def prepare(name, queries, n, bits, device="cpu"):
    METRICS[name](*make(2, 200, bits, device))
    case = make(queries, n, bits, device)
    return lambda: METRICS[name](*case)


@benchmark("Mean average precision")
def main(record, args):
    mir, nus, few, many = (500, 1500, 50, 50) if args.short else (18_015, 186_221, 200, 2000)
    bars = {}
    for n, bits, queries in ((mir, 64, 50 if args.short else 1000), (nus, 64, few), (nus, 16, few)):
        case = make(queries, n, bits)
        calls = {name: partial(f, *case) for name, f in METRICS.items()}
        seconds = side_by_side(calls, repeats=2)
        fast = faster(seconds, "sorted rows")
        means = {name: f"{calls[name]():.6f}" for name in list(METRICS)[:3]}
        columns = {
            "seconds": seconds,
            "ns a pair": {name: s / (queries * n) * 1e9 for name, s in seconds.items()},
            "times as fast as sorted rows": fast,
            "mAP": dict.fromkeys(METRICS, "-") | means,
        }
        record.columns(f"{queries:,} queries, {n:,} items, {bits} bits", "metric", columns)
        bars[f"{n:,} items, {bits} bits"] = fast["counts"]

    asked = {"counts": many} | ({} if args.short else {"PR curve": many, "counts, index order": 50})
    extra = {q: alone(prepare, q, of, nus, 64).extra_bytes / 1e6 for q, of in asked.items()}
    note = f"A float32 array of queries x items would be {4 * many * nus / 1e6:,.0f} MB."
    what = f"{many:,} queries, {nus:,} items"
    record.columns(f"Extra memory, {what}, 64 bits", "metric", {"extra MB": extra}, note)

    for n, bound in ((mir, 12), (nus, 8)):
        case = f"{n:,} items, 64 bits"
        record.goal(f"mAP@all, {case}, against sorted rows", bars[case], at_least=bound)
    record.goal(f"extra MB, {what}", extra["counts"], at_most=50)
    record.bars("mAP@all from counts", bars, x="times as fast as sorted rows")
