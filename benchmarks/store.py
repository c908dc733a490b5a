"""The store in a file beside raw FAISS: build, save, load, search, and lookups within a radius.

    python -m benchmarks.store [--short]

1,000,000 codes of 64 bits with integer ids. Raw FAISS is what one would write without the store:
IndexBinaryIDMap2 over IndexBinaryFlat, given packed codes as the store is; saving is to write a
temporary file, to force it to disk (fsync) and to rename it; the search is that of IndexBinaryFlat
in memory, without ids. The store is opened mapped. "Codes alone" is FAISS without ids, mapped: less
than a store must do. The codes are in 1,000 groups, an eighth of the bits of each flipped,
and the queries are drawn in the same way ("grouped"); "random" codes are the other extreme. The
flat scan of the radius lookup is IndexBinaryFlat.range_search, and all answers must be the same.
Approximate indexes are measured on fewer codes; recall counts answers as near as the exact k-th.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import options, side_by_side
from benchmarks.record import Record
from pyg_hash.stores import HNSW, IVF, FaissStore, MultiIndex

BITS, K, RADIUS = 64, 10, 2


def packed_codes(n: int, kind: str, seed: int) -> Tensor:
    """Packed codes, ``'grouped'`` around 1,000 centres or ``'random'``."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 256, (n, BITS // 8), dtype=np.uint8)
    if kind == "grouped":
        noise = codes & np.roll(codes, 1, axis=0) & np.roll(codes, 2, axis=0)  # an eighth is 1
        centres = np.random.default_rng(99).integers(0, 256, (1000, BITS // 8), dtype=np.uint8)
        codes = centres[generator.integers(0, 1000, n)] ^ noise
    return torch.from_numpy(codes)


def replaced(write: Callable[[str], Any], path: Path) -> None:
    """Write a file so that it is the old or the new one, whatever happens."""
    temporary = path.with_suffix(".tmp")
    write(str(temporary))
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def build_and_files(folder: Path, n: int, queries: int) -> list[dict[str, Any]]:
    """Rows of the first table."""
    import faiss

    codes, query = packed_codes(n, "grouped", 0), packed_codes(queries, "grouped", 1)
    ids = torch.arange(n) * 3
    raw_codes, raw_query, raw_ids = codes.numpy(), query.numpy(), ids.numpy()

    def raw_build() -> Any:
        index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(BITS))
        index.add_with_ids(raw_codes, raw_ids)
        return index

    def raw_codes_only() -> Any:
        index = faiss.IndexBinaryFlat(BITS)
        index.add(raw_codes)
        return index

    def build() -> FaissStore:
        store = FaissStore.create(folder / "new", BITS)
        store.add(codes, ids)
        return store

    flat, with_ids = raw_codes_only(), raw_build()
    store = FaissStore.create(folder / "store", BITS)
    store.add(codes, ids)
    store.save()
    faiss.write_index_binary(flat, str(folder / "flat"))
    faiss.write_index_binary(with_ids, str(folder / "ids"))
    write = partial(faiss.write_index_binary, with_ids)
    mapped = faiss.IO_FLAG_MMAP_IFC if hasattr(faiss, "IO_FLAG_MMAP_IFC") else 0
    opened = FaissStore.open(folder / "store")
    same = np.array_equal(opened.search(query, K)[0].numpy(), flat.search(raw_query, K)[0])
    assert same, "the two searches differ"

    def load_raw(name: str) -> Any:
        return faiss.read_index_binary(str(folder / name), mapped)

    def load() -> FaissStore:
        return FaissStore.open(folder / "store")

    def one(index: Any, asked: Any) -> Any:
        return index.search(asked[:1], K)

    save_raw = partial(replaced, write, folder / "new_ids")
    asked = partial(flat.search, raw_query, K), partial(opened.search, query, K)
    steps: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "build": (raw_build, build),
        "save": (save_raw, store.save),
        "save, with the disk": (save_raw, store.save),
        "load, mapped": (lambda: load_raw("ids"), load),
        f"search, {queries} queries": asked,
        "load and search one": (
            lambda: one(load_raw("ids"), raw_query),
            lambda: one(load(), query),
        ),
        "codes alone: build": (raw_codes_only, build),
        "codes alone: load, mapped": (lambda: load_raw("flat"), load),
        "codes alone: load and search one": (
            lambda: one(load_raw("flat"), raw_query),
            lambda: one(load(), query),
        ),
    }
    rows = []
    for name, (raw, ours) in steps.items():
        repeats = 60 if name.startswith("save") and n > 100_000 else 20  # disks are the noisiest
        clock = "wall" if name.endswith("disk") else "cpu"
        times = side_by_side({"raw": raw, "store": ours}, repeats=repeats, clock=clock)
        row = {"step": name, "clock": clock, "raw FAISS ms": 1000 * times["raw"]}
        row |= {"store ms": 1000 * times["store"], "store / raw": times["store"] / times["raw"]}
        rows.append(row)
    return rows


def radius_rows(folder: Path, n: int, queries: int) -> list[dict[str, Any]]:
    """Rows of the second table."""
    import faiss

    rows = []
    for kind in ("grouped", "random"):
        codes, query = packed_codes(n, kind, 0), packed_codes(queries, kind, 1)
        query[::2] = codes[:: max(1, n // len(query[::2]))][: len(query[::2])]
        query[::4, 0] ^= 3  # items themselves, items at distance 2, and others
        raw_query = query.numpy()
        flat = faiss.IndexBinaryFlat(BITS)
        flat.add(codes.numpy())
        theirs = faiss.IndexBinaryMultiHash(BITS, 4, 16)  # exact to radius 3 without flips
        theirs.add(codes.numpy())
        store = FaissStore.create(folder / kind, BITS, index=MultiIndex())
        store.add(codes, torch.arange(n))
        store.save()
        store = FaissStore.open(folder / kind)
        single = [query[i : i + 1] for i in range(queries)]
        limits, distances, ids = store.range_search(query, RADIUS)
        want = flat.range_search(raw_query, RADIUS + 1)  # FAISS means <
        starts = want[0].astype(np.int64)
        assert np.array_equal(limits.numpy(), starts), "not the same matches"
        order = np.lexsort((want[2], want[1], np.repeat(np.arange(queries), np.diff(starts))))
        assert np.array_equal(ids.numpy(), want[2][order]), "not the same matches"
        cases = {
            "flat scan": partial(flat.range_search, raw_query, RADIUS + 1),
            "IndexBinaryMultiHash": partial(theirs.range_search, raw_query, RADIUS + 1),
            "store": partial(store.range_search, query, RADIUS),
            "store, one at a time": lambda s=store, q=single: [
                s.range_search(one, RADIUS) for one in q
            ],
        }
        times = side_by_side(cases, repeats=20)
        for name, seconds in times.items():
            row = {"codes": kind, "method": name, "us a query": 1e6 * seconds / queries}
            row["times as fast as the scan"] = times["flat scan"] / seconds
            rows.append(row | {"matches a query": len(distances) / queries})
    return rows


def approximate_rows(folder: Path, n: int, queries: int) -> list[dict[str, Any]]:
    """Rows of the third table."""
    import faiss

    rows = []
    for kind in ("grouped", "random"):
        codes, query = packed_codes(n, kind, 0), packed_codes(queries, kind, 1)
        flat = faiss.IndexBinaryFlat(BITS)
        flat.add(codes.numpy())
        stores = {}
        for index in (IVF(nprobe=4), IVF(nprobe=64), HNSW(m=16), HNSW(m=32, ef_search=256)):
            store = FaissStore.create(folder / f"{kind}{len(stores)}", BITS, index=index)
            store.add(codes, torch.arange(n))
            store.measure_recall(query, K)
            stores[repr(index)] = store
        cases = {name: partial(store.search, query, K) for name, store in stores.items()}
        times = side_by_side({"raw": partial(flat.search, query.numpy(), K), **cases})
        for name, store in stores.items():
            row = {"codes": kind, "index": name, "recall@10": (store.recall or {}).get("value")}
            row["us a query"] = 1e6 * times[name] / queries
            row["times as fast as the scan"] = times["raw"] / times[name]
            rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    args = options(__doc__, arguments)
    n, few, queries = (20_000, 5_000, 50) if args.short else (1_000_000, 50_000, 200)
    record = Record("store", "Store of codes", args)
    with tempfile.TemporaryDirectory() as folder:
        rows = build_and_files(Path(folder), n, queries)
        record.table(f"Beside raw FAISS, {n:,} codes of {BITS} bits", rows)
        found = radius_rows(Path(folder), n, queries)
        record.table(
            f"Within radius {RADIUS}, {n:,} codes of {BITS} bits, exact",
            found,
            f"{queries} queries a call; 'one at a time' is mostly what a call costs in Python.",
        )
        record.table(
            f"Approximate, {few:,} codes, k = {K}",
            approximate_rows(Path(folder), few, queries),
        )
    for row in rows:
        if row["step"].startswith("codes alone"):
            continue
        record.goal(f"{row['step']}: store / raw FAISS", row["store / raw"], at_most=1.1)
    for row in found:
        if row["method"].startswith("store"):
            alone = ", one at a time" if row["method"] != "store" else ""
            text = f"radius {RADIUS}, {row['codes']} codes{alone}: times as fast as a flat scan"
            record.goal(text, row["times as fast as the scan"], at_least=20)
    record.bars(
        f"Radius {RADIUS}: times as fast as a flat scan",
        {f"{row['method']} ({row['codes']})": row["times as fast as the scan"] for row in found},
        x="times as fast",
    )
    record.save()


if __name__ == "__main__":
    main()
