"""Hamming search: HammingIndex beside the FAISS index that it wraps, and others.

    python -m benchmarks.search [--short]

The k nearest of random codes, all of them compared. "IndexBinaryFlat" is FAISS alone, given packed
codes; HammingIndex takes codes as models make them, packs them, and answers with ids, equal
distances in order of ids. Rescoring is measured on relaxed codes in 1,000 groups: the
truth is the order of all items by real-valued codes on both sides, recall the share of its first 10
that is found, and oversample 0 stands for no rescoring.
"""

from functools import partial

import torch

from benchmarks.measure import alone, recall, side_by_side
from benchmarks.record import benchmark
from pyg_hash.codes import binarize, hamming_distance, pack_bits
from pyg_hash.index import HammingIndex
from pyg_hash.utils import faiss

FLAT, OURS = "IndexBinaryFlat", "HammingIndex"
BITS, OVERSAMPLE = 64, (0, 1, 2, 4, 8, 16)


def codes(n, bits, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (n, bits), generator=g, dtype=torch.int8).mul_(2).sub_(1)


def cases(n, queries, bits, k):
    database, query = codes(n, bits, 0), codes(queries, bits, 1)
    raw = faiss.load().IndexBinaryFlat(bits)
    raw.add(pack_bits(database).numpy())
    ours, fallback = HammingIndex(bits), HammingIndex(bits, backend="torch")
    ours.add(database)
    fallback.add(database)

    def whole_matrix():  # as scripts do it; 50 queries at a time
        parts = [hamming_distance(part, database) for part in query.split(50)]
        return (torch.cat([part.topk(k, largest=False).values for part in parts]),)

    return {
        FLAT: partial(raw.search, pack_bits(query).numpy(), k),
        OURS: partial(ours.search, query, k),
        "HammingIndex, no FAISS": partial(fallback.search, query, k),
        "distance matrix and topk": whole_matrix,
    }


def prepare_index(n, bits):
    """What an index of n codes holds, codes not counted."""
    HammingIndex(bits).add(codes(10, bits, 1))
    database, index = codes(n, bits, 0), HammingIndex(bits)
    return lambda: index.add(database)


def relaxed_codes(n, seed):
    """Relaxed codes around 1,000 centres, which differ between items of one group."""
    g, centres = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(99)
    near = torch.randn(1000, BITS, generator=centres)[torch.randint(0, 1000, (n,), generator=g)]
    return (near + 0.7 * torch.randn(n, BITS, generator=g)).tanh()


def rescored_rows(n, queries, k=10):
    """What rescoring finds and costs by ``oversample``, the last of which takes in all items."""
    database, query = relaxed_codes(n, 0), relaxed_codes(queries, 1)
    bits, both = HammingIndex(BITS), HammingIndex(BITS)
    bits.add(binarize(database))
    both.add(binarize(database), relaxed=database)
    truth = torch.cat([(part @ database.T).topk(k).indices for part in query.split(50)])

    def search(index, oversample):
        more = {"rescore": query, "oversample": oversample} if oversample else {}
        return index.search(binarize(query), k, **more)

    indexes, sizes = {"bits": bits, "int8 codes": both}, [*OVERSAMPLE, n // k]
    cases = {(name, s): partial(search, i, s) for name, i in indexes.items() for s in sizes}
    seconds = side_by_side(cases)
    rows = {size: {"oversample": size} for size in sizes}
    for (name, size), case in cases.items():
        rows[size][f"{name}: recall@{k}"] = recall(case()[1], truth)
        rows[size][f"{name}: ms a query"] = seconds[name, size] / queries * 1e3
    return list(rows.values())


@benchmark("Hamming search")
def main(record, args):
    n, queries, k = (4000, 20, 10) if args.short else (1_000_000, 100, 100)
    bars = {}
    for bits in (64, 128):
        calls = cases(n, queries, bits, k)
        seconds = side_by_side(calls)
        times = {name: s / seconds[FLAT] for name, s in seconds.items()}
        bars |= {f"{name}, {bits} bits": ratio for name, ratio in times.items()}
        columns = {"ms a query": {name: s / queries * 1e3 for name, s in seconds.items()}}
        columns |= {f"time, {FLAT} = 1": times}
        record.columns(f"{n:,} items, {bits} bits, {queries} queries, k = {k}", "method", columns)
        # the two that the goal compares, alone and often
        close = side_by_side({name: calls[name] for name in (FLAT, OURS)}, repeats=15)
        record.goal(f"{OURS} beside {FLAT}, {bits} bits", close[OURS] / close[FLAT], at_most=1.1)
    spent = alone(prepare_index, n, 64)
    row = {"items": n, "codes alone, MB": n * 8 / 1e6, "extra MB": spent.extra_bytes / 1e6}
    rows = [row | {"CPU seconds": spent.cpu_seconds}]
    note = "The index itself holds packed codes and 8 bytes of id an item; the rest is given back."
    record.table("Adding int8 codes of 64 bits at once", rows, note)
    some, asked = (2000, 20) if args.short else (100_000, 200)
    rows = rescored_rows(some, asked)
    record.table(
        f"Rescoring {some:,} items of {BITS} bits, k = 10",
        rows,
        "The query's real-valued code against the items' bits (no byte more), or against int8 "
        f"codes ({BITS} bytes an item). The last row rescores all items.",
    )
    x, y, names = "ms a query", "recall@10", ("bits", "int8 codes")
    curves = {n: [(row[f"{n}: {x}"], row[f"{n}: {y}"]) for row in rows[:-1]] for n in names}
    record.plot("Rescoring", curves, x=x, y=f"{y} of the real-valued order", log="")
    record.bars("Search time", bars, x=f"{FLAT} = 1")
