"""The store in a file beside raw FAISS: build, save, load, search, and lookups within a radius.

    python -m benchmarks.store [--short]

1,000,000 codes of 64 bits with integer ids. Raw FAISS is what one would write without the store:
IndexBinaryIDMap2 over IndexBinaryFlat, given packed codes as the store is; saving is to write a
temporary file, to force it to disk (fsync) and to rename it; the search is that of IndexBinaryFlat
in memory, without ids. The store is opened mapped. The codes are in 1,000 groups, an eighth of the
bits of each flipped, and the queries are drawn in the same way ("grouped"); "random" codes are the
other extreme. The flat scan of the radius lookup is IndexBinaryFlat.range_search, and all answers
must be the same.
"Load all" reads a store into memory; "checksums" is the share of their comparison in it.
Approximate indexes are measured on fewer codes; recall counts answers as near as the exact k-th.
"""

import os
import tempfile
import time
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import faster, side_by_side
from benchmarks.record import benchmark
from pyg_hash.index import HNSW, IVF, HammingIndex, MultiIndex
from pyg_hash.stores import FaissStore
from pyg_hash.utils import faiss
from pyg_hash.utils.checksums import Sums

BITS, K, RADIUS = 64, 10, 2
# each keeps one in a hundred
FILTERS = (
    "year = 1950",
    "year >= 1950 and year < 1951",
    "label = 'label 7'",
    "taken >= '2011-01-01' and taken < '2011-04-01'",  # 90 of 9,000 days, to the second
    "tags has 'tag 7'",
)


def packed_codes(n, kind, seed):
    """Packed codes, ``'grouped'`` around 1,000 centres or ``'random'``."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 256, (n, BITS // 8), dtype=np.uint8)
    if kind == "grouped":
        noise = codes & np.roll(codes, 1, axis=0) & np.roll(codes, 2, axis=0)  # an eighth is 1
        centres = np.random.default_rng(99).integers(0, 256, (1000, BITS // 8), dtype=np.uint8)
        codes = centres[generator.integers(0, 1000, n)] ^ noise
    return torch.from_numpy(codes)


def new_store(path, codes, ids=None, **how):
    """A store of codes under their numbers or other ids; nothing is saved."""
    store = FaissStore.create(path, BITS, **how)
    store.add(codes, torch.arange(len(codes)) if ids is None else ids)
    return store


def flat_index(codes):
    index = faiss.load().IndexBinaryFlat(BITS)
    index.add(codes.numpy())
    return index


def beside_faiss(record, folder, n, queries):
    raw = faiss.load()
    codes, query = packed_codes(n, "grouped", 0), packed_codes(queries, "grouped", 1)
    ids = torch.arange(n) * 3

    def raw_build():
        index = raw.IndexBinaryIDMap2(raw.IndexBinaryFlat(BITS))
        index.add_with_ids(codes.numpy(), ids.numpy())
        return index

    def raw_save():
        """So that it is the old or the new file, whatever happens."""
        raw.write_index_binary(with_ids, str(folder / "new_ids.tmp"))
        with open(folder / "new_ids.tmp", "rb+") as file:
            os.fsync(file.fileno())
        os.replace(folder / "new_ids.tmp", folder / "new_ids")

    with_ids, store = raw_build(), new_store(folder / "store", codes, ids)
    store.save()
    raw.write_index_binary(with_ids, str(folder / "ids"))
    mapped = getattr(raw, "IO_FLAG_MMAP_IFC", 0)
    load = partial(FaissStore.open, folder / "store")
    load_raw = partial(raw.read_index_binary, str(folder / "ids"), mapped)
    find = partial(load().search, query, K)
    raw_search = partial(flat_index(codes).search, query.numpy(), K)
    assert np.array_equal(find()[0].numpy(), raw_search()[0]), "the two searches differ"

    def one(load, asked):
        return lambda: load().search(asked[:1], K)

    saves = 60 if n > 100_000 else 20  # disks are the noisiest
    rows = []
    for step, clock, repeats, theirs, ours in (
        ("build", "cpu", 20, raw_build, partial(new_store, folder / "new", codes, ids)),
        ("save", "cpu", saves, raw_save, store.compact),  # save() would find nothing to write
        ("save, with the disk", "wall", saves, raw_save, store.compact),
        ("load, mapped", "cpu", 20, load_raw, load),
        (f"search, {queries} queries", "cpu", 20, raw_search, find),
        ("load and search one", "cpu", 20, one(load_raw, query.numpy()), one(load, query)),
    ):
        pair = {"raw": theirs, "store": ours}
        raw_s, s = side_by_side(pair, repeats=repeats, clock=clock).values()
        record.goal(f"{step}: store / raw FAISS", s / raw_s, at_most=1.1)
        row = {"step": step, "clock": clock, "raw FAISS ms": 1000 * raw_s, "store ms": 1000 * s}
        rows.append(row | {"store / raw": s / raw_s})
    record.table(f"Beside raw FAISS, {n:,} codes of {BITS} bits", rows)


def share_of_checksums(work):
    """Seconds of some work, and the share of what compares bytes with their checksums."""

    def unchecked(check=Sums.check):
        Sums.check = lambda *_: None  # a mock would cost more than it saves
        try:
            return work()
        finally:
            Sums.check = check

    alone, checked = side_by_side({"alone": unchecked, "checked": work}, repeats=20).values()
    return checked, 1 - alone / checked


def changes(record, folder, n, queries):
    codes, query = packed_codes(n + 1000, "grouped", 0), packed_codes(queries, "grouped", 1)
    years = np.random.default_rng(0).integers(1900, 2000, n + 1000).tolist()
    seconds = np.random.default_rng(1).integers(0, 9000 * 86400, n + 1000)
    taken = (np.datetime64("2000-01-01T00:00:00") + seconds).astype(str).tolist()
    fields = {"year": int, "label": str, "text": str, "taken": str, "tags": list}
    store = HammingIndex.create(folder / "fields", BITS, fields=fields)

    def put(start, stop):
        rows = range(start, stop)
        texts = {"label": [f"label {i % 100}" for i in rows], "text": [f"text {i}" for i in rows]}
        texts |= {"taken": taken[start:stop], "tags": [[f"tag {i % 100}", f"of {i}"] for i in rows]}
        store.add(codes[start:stop], rows, {"year": years[start:stop], **texts})

    put(0, n)
    store.save()
    rows = []

    def once(step, *calls):
        start = time.perf_counter()
        for call in calls:
            call()
        rows.append({"step": step, "ms": 1000 * (time.perf_counter() - start)})

    once("add 1,000 and save", lambda: put(n, n + 1000), store.save)
    once("delete 1,000 and save", lambda: store.remove(range(1000)), store.save)
    sevens = {"year": [7] * 1000}
    once("update 1,000 and save", lambda: store.update(range(1000, 2000), sevens), store.save)
    once("open and search one", lambda: HammingIndex.open(folder / "fields").search(query[:1], K))
    seconds, share = share_of_checksums(partial(HammingIndex.load, folder / "fields"))
    rows.append({"step": "load all", "ms": 1000 * seconds, "checksums": share})
    store = HammingIndex.open(folder / "fields")
    for asked, where in product((query[:1], query), FILTERS):
        cases = {w: partial(store.search, asked, K, where=w) for w in (None, where)}
        every, few = side_by_side(cases, repeats=20).values()
        name = f"{len(asked)} queries, {where}"
        rows.append({"step": name, "ms": 1000 * few, "filtered / all": few / every})
        record.goal(f"{name}: filtered / all", few / every, at_most=1.0)
    record.table(f"Changes and filters, {n:,} codes with five fields", rows)


def within_radius(record, folder, n, queries):
    rows, bars = [], {}
    for kind in ("grouped", "random"):
        codes, query = packed_codes(n, kind, 0), packed_codes(queries, kind, 1)
        query[::2] = codes[:: max(1, n // len(query[::2]))][: len(query[::2])]
        query[::4, 0] ^= 3  # items themselves, items at distance 2, and others
        theirs = faiss.load().IndexBinaryMultiHash(BITS, 4, 16)  # exact to radius 3 without flips
        theirs.add(codes.numpy())
        new_store(folder / kind, codes, index=MultiIndex()).save()
        find = FaissStore.open(folder / kind).range_search
        asked = query.numpy(), RADIUS + 1  # FAISS means <
        scan = partial(flat_index(codes).range_search, *asked)
        limits, distances, ids = find(query, RADIUS)
        starts, far, labels = scan()
        starts = starts.astype(np.int64)
        order = np.lexsort((labels, far, np.repeat(np.arange(queries), np.diff(starts))))
        same = np.array_equal(limits.numpy(), starts) and np.array_equal(ids.numpy(), labels[order])
        assert same, "not the same matches"
        cases = {
            "flat scan": scan,
            "IndexBinaryMultiHash": partial(theirs.range_search, *asked),
            "store": partial(find, query, RADIUS),
            "store, one at a time": lambda find=find, q=query: [
                find(a, RADIUS) for a in q.split(1)
            ],
        }
        times = side_by_side(cases, repeats=20)
        fast = faster(times, "flat scan")
        for name, seconds in times.items():
            row = {"codes": kind, "method": name, "us a query": 1e6 * seconds / queries}
            more = {"matches a query": len(distances) / queries}
            rows.append(row | {"times as fast as the scan": fast[name], **more})
            if name.startswith("store"):
                goal = f"radius {RADIUS}, {kind} codes{name.removeprefix('store')}"
                record.goal(f"{goal}: times as fast as a flat scan", fast[name], at_least=20)
            bars[f"{name} ({kind})"] = fast[name]
    note = f"{queries} queries a call; 'one at a time' is mostly what a call costs in Python."
    record.table(f"Within radius {RADIUS}, {n:,} codes of {BITS} bits, exact", rows, note)
    record.bars(f"Radius {RADIUS}: times as fast as a flat scan", bars, x="times as fast")


def approximate(record, folder, n, queries):
    rows = []
    for kind in ("grouped", "random"):
        codes, query = packed_codes(n, kind, 0), packed_codes(queries, kind, 1)
        cases, recall = {"raw": partial(flat_index(codes).search, query.numpy(), K)}, {}
        for index in (IVF(nprobe=4), IVF(nprobe=64), HNSW(m=16), HNSW(m=32, ef_search=256)):
            store = new_store(folder / f"{kind}{len(cases)}", codes, index=index)
            store.measure_recall(query, K)
            cases[repr(index)] = partial(store.search, query, K)
            recall[repr(index)] = (store.recall or {}).get("value")
        times = side_by_side(cases)
        fast = faster(times, "raw")
        for name, value in recall.items():
            row = {"codes": kind, "index": name, "recall@10": value}
            row |= {"us a query": 1e6 * times[name] / queries}
            rows.append(row | {"times as fast as the scan": fast[name]})
    record.table(f"Approximate, {n:,} codes, k = {K}", rows)


@benchmark("Store of codes")
def main(record, args):
    n, few, queries = (20_000, 5_000, 50) if args.short else (1_000_000, 50_000, 200)
    with tempfile.TemporaryDirectory() as folder:
        for part in (beside_faiss, changes, within_radius):
            part(record, Path(folder), n, queries)
        approximate(record, Path(folder), few, queries)
