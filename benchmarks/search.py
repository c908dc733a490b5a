"""Hamming search: HammingIndex beside the FAISS index that it wraps, and others.

    python -m benchmarks.search [--short]

The k nearest of random codes, all of them compared. "IndexBinaryFlat" is FAISS alone, given packed
codes; HammingIndex takes codes as models make them, packs them, and answers with ids, equal
distances in order of ids. "IndexBinaryIVF" (1,024 lists, 16 visited) finds some of the neighbours
only: recall is the share of its answers that are no farther than the exact k-th. The codes are
random, the worst case of such an index.
"""

from functools import partial

import numpy as np
import torch

from benchmarks.measure import alone, side_by_side
from benchmarks.record import benchmark
from pyg_hash.codes import hamming_distance, pack_bits
from pyg_hash.index import HammingIndex

LISTS, VISITED = 1024, 16


def codes(n, bits, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (n, bits), generator=g, dtype=torch.int8).mul_(2).sub_(1)


def whole_matrix(query, database, k):
    """All distances, then topk, as scripts do it; 50 queries at a time."""
    parts = [hamming_distance(part, database) for part in torch.split(query, 50)]
    return torch.cat([part.topk(k, largest=False).values for part in parts])


def cases(n, queries, bits, k):
    """Each way to search, ready to run; all return distances first."""
    import faiss

    database, query = codes(n, bits, 0), codes(queries, bits, 1)
    packed, asked = pack_bits(database).numpy(), pack_bits(query).numpy()
    raw = faiss.IndexBinaryFlat(bits)
    raw.add(packed)
    lists = min(LISTS, n // 40)
    quantizer = faiss.IndexBinaryFlat(bits)
    ivf = faiss.IndexBinaryIVF(quantizer, bits, lists)
    ivf.nprobe = VISITED
    ivf.cp.niter = 5
    ivf.train(packed[: 40 * lists])
    ivf.add(packed)
    ivf.quantizer_ = quantizer  # lives as long as the index
    ours, fallback = HammingIndex(bits), HammingIndex(bits, backend="torch")
    ours.add(database)
    fallback.add(database)
    return {
        "IndexBinaryFlat": partial(raw.search, asked, k),
        "HammingIndex": partial(ours.search, query, k),
        "HammingIndex, no FAISS": partial(fallback.search, query, k),
        "distance matrix and topk": lambda: (whole_matrix(query, database, k),),
        "IndexBinaryIVF": partial(ivf.search, asked, k),
    }


def prepare_index(n, bits):
    """What an index of n codes holds, codes not counted."""
    HammingIndex(bits).add(codes(10, bits, 1))
    database, index = codes(n, bits, 0), HammingIndex(bits)
    return lambda: index.add(database)


@benchmark("Hamming search")
def main(record, args):
    n, queries, k = (4000, 20, 10) if args.short else (1_000_000, 100, 100)
    flat, ours = "IndexBinaryFlat", "HammingIndex"
    ratios, bars = {}, {}
    for bits in (64, 128):
        calls = cases(n, queries, bits, k)
        exact = np.asarray(calls[flat]()[0])
        seconds = side_by_side(calls)
        found = {name: np.asarray(call()[0]) <= exact[:, -1:] for name, call in calls.items()}
        times = {name: s / seconds[flat] for name, s in seconds.items()}
        bars |= {f"{name}, {bits} bits": ratio for name, ratio in times.items()}
        columns = {
            "ms a query": {name: s / queries * 1e3 for name, s in seconds.items()},
            "time, IndexBinaryFlat = 1": times,
            "recall": {name: float(near.mean()) for name, near in found.items()},
        }
        title = f"{n:,} items, {bits} bits, {queries} queries, k = {k}"
        record.columns(title, "method", columns)
        # the two that the goal compares, alone and often
        close = side_by_side(
            {flat: calls[flat], ours: calls[ours]}, repeats=3 if args.short else 15
        )
        ratios[bits] = close[ours] / close[flat]
    spent = alone(prepare_index, n, 64)
    row = {"items": n, "codes alone, MB": n * 8 / 1e6, "extra MB": spent.extra_bytes / 1e6}
    record.table(
        "Adding int8 codes of 64 bits at once",
        [row | {"CPU seconds": spent.cpu_seconds}],
        "The index itself holds packed codes and 8 bytes of id an item; the rest is given back.",
    )
    for bits, ratio in ratios.items():
        record.goal(f"HammingIndex beside IndexBinaryFlat, {bits} bits", ratio, at_most=1.1)
    record.bars("Search time", bars, x="IndexBinaryFlat = 1")


if __name__ == "__main__":
    main()
