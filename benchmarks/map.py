"""Mean average precision: counts per distance against sorting every row.

    python -m benchmarks.map [--short] [--device cuda]

mAP@all of 64-bit and 16-bit codes that carry their labels with noise, 24 labels of which an item
has several; database sizes of MIRFlickr-25K (18,015) and NUS-WIDE (186,221). "sorted rows" is the
loop that most scripts of the field share: for each query a matrix product, torch.sort, and the
precision at each hit; ties come in whatever order the sort gives. "counts" is
mean_average_precision, the exact mean over all orders of ties. "counts, index order" takes ties in
the order of the database, as a stable sort does. The others are made of the same counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import alone, options, side_by_side
from benchmarks.record import Record
from pyg_hash.metrics import hash_lookup, mean_average_precision, ndcg, pr_curve, precision_at_n

LABELS = 24
Case = tuple[Tensor, Tensor, Tensor, Tensor]


def make(queries: int, n: int, bits: int, device: str = "cpu") -> Case:
    """Codes around a sum of label centres."""
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(LABELS, bits, generator=g)

    def part(rows: int) -> tuple[Tensor, Tensor]:
        y = (torch.rand(rows, LABELS, generator=g) < 0.1).float()
        noisy = y @ centres + 1.5 * torch.randn(rows, bits, generator=g)
        return torch.where(noisy >= 0, 1, -1).to(torch.int8).to(device), y.to(device)

    query, query_y = part(queries)
    database, database_y = part(n)
    return query, database, query_y, database_y


def sorted_rows(query: Tensor, database: Tensor, query_y: Tensor, database_y: Tensor) -> float:
    """The usual loop over queries."""
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


def index_order(*case: Tensor) -> float:
    """Ties in database order."""
    return mean_average_precision(*case, ties="index")


METRICS: dict[str, Callable[..., Any]] = {
    "sorted rows": sorted_rows,
    "counts": mean_average_precision,
    "counts, index order": index_order,
    "P@N at 100 values": lambda *case: precision_at_n(*case, topn=range(1, 101)),
    "PR curve": pr_curve,
    "radius 2": hash_lookup,
    "NDCG": ndcg,
}


def prepare(name: str, queries: int, n: int, bits: int, device: str) -> Callable[[], Any]:
    """A case of :func:`measure.alone`."""
    METRICS[name](*make(2, 200, bits, device))
    case = make(queries, n, bits, device)
    return lambda: METRICS[name](*case)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    args = options(__doc__, arguments, device="cpu")
    record = Record("map", "Mean average precision", args)
    mir, nus = (500, 1500) if args.short else (18_015, 186_221)
    cases = {(mir, 64): 1000, (nus, 64): 200, (nus, 16): 200}
    if args.short:
        cases = dict.fromkeys(cases, 50)
    device = str(args.device)
    ratios, bars = {}, {}
    for (n, bits), queries in cases.items():
        case = make(queries, n, bits, device)
        calls = {name: partial(f, *case) for name, f in METRICS.items()}
        seconds = side_by_side(calls, repeats=2)
        values = {name: METRICS[name](*case) for name in list(METRICS)[:3]}
        rows = [
            {
                "metric": name,
                "seconds": s,
                "ns a pair": s / (queries * n) * 1e9,
                "times as fast as sorted rows": seconds["sorted rows"] / s,
                "mAP": f"{values[name]:.6f}" if name in values else "-",
            }
            for name, s in seconds.items()
        ]
        title = f"{queries:,} queries, {n:,} items, {bits} bits"
        record.table(title, rows)
        ratios[n, bits] = seconds["sorted rows"] / seconds["counts"]
        bars[f"{n:,} items, {bits} bits"] = ratios[n, bits]

    queries = 50 if args.short else 2000
    rows = []
    for name in ("counts", "PR curve", "counts, index order")[: 1 if args.short else 3]:
        asked = min(queries, 50) if name == "counts, index order" else queries
        spent = alone(prepare, name, asked, nus, 64, device)
        rows.append({"metric": name, "extra MB": spent.extra_bytes / 1e6})
        if name == "counts":
            extra = spent.extra_bytes / 1e6
    note = f"A float32 array of queries x items would be {4 * queries * nus / 1e6:,.0f} MB."
    record.table(f"Extra memory, {queries:,} queries, {nus:,} items, 64 bits", rows, note)

    record.goal(
        f"mAP@all, {mir:,} items, 64 bits, against sorted rows", ratios[mir, 64], at_least=12
    )
    record.goal(
        f"mAP@all, {nus:,} items, 64 bits, against sorted rows", ratios[nus, 64], at_least=8
    )
    record.goal(f"extra MB, {queries:,} queries, {nus:,} items", extra, at_most=50)
    record.bars("mAP@all from counts", bars, x="times as fast as sorted rows")
    record.save()


if __name__ == "__main__":
    main()
