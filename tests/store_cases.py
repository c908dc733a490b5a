"""The stores that every test of the interface runs on, and what their answers must be."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from pyg_hash.codes import binarize
from pyg_hash.stores import (
    IVF,
    CodeStore,
    FaissStore,
    Flat,
    LanceStore,
    MilvusStore,
    MultiIndex,
)


class Case(NamedTuple):
    """One kind of store.

    ``create(folder, num_bits, **arguments)`` and ``open(folder)``; ``needs``: a package it cannot
    do without; ``refuses``: strings that cannot be ids; ``missing``: fields may be None.
    """

    create: Callable[..., CodeStore]
    open: Callable[[Path], CodeStore]
    needs: str
    refuses: Callable[[str], bool] = lambda name: False
    missing: bool = True


def faiss_case(index: Any) -> Case:
    return Case(
        lambda folder, num_bits, **more: FaissStore.create(
            folder / "store", num_bits, index=index, **more
        ),
        lambda folder: FaissStore.open(folder / "store"),
        needs="faiss",
    )


def milvus_uri(folder: Path) -> str:
    path = str(folder / "m.db")  # a socket lies beside it: long paths do not fit
    assert len(path) < 90
    return path


CASES = {
    "flat": faiss_case(Flat()),
    "multi_index": faiss_case(MultiIndex()),
    "ivf": faiss_case(IVF(nlist=1, nprobe=1)),  # one group: exact, and all of its code runs
    "lance": Case(
        lambda folder, num_bits, **more: LanceStore.create(folder / "db", num_bits, **more),
        lambda folder: LanceStore.open(folder / "db"),
        needs="lancedb",
    ),
    "milvus": Case(
        lambda folder, num_bits, **more: MilvusStore.create(milvus_uri(folder), num_bits, **more),
        lambda folder: MilvusStore.open(milvus_uri(folder)),
        needs="milvus_lite",
        refuses=lambda name: name == "" or "'" in name or "\n" in name,
        missing=False,
    ),
}


def case_or_skip(name: str) -> Case:
    """The case, or the test is skipped and says what is missing."""
    case = CASES[name]
    if importlib.util.find_spec(case.needs) is None:
        more = "; see tests/stores/test_milvus_environment.py" if name == "milvus" else ""
        pytest.skip(f"{case.needs} is not installed{more}")
    if name == "milvus" and not importlib.metadata.version("milvus-lite").startswith("2.5."):
        pytest.skip("milvus-lite 3 has no binary vectors")
    return case


def random_codes(n: int, num_bits: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return binarize(torch.randn(n, num_bits, generator=generator))


def distances_between(query: Tensor, database: Tensor) -> Tensor:
    """Hamming distances ``[q, n]``, bit by bit."""
    return (query[:, None] != database[None]).sum(2)


def id_list(ids: Any) -> list[Any]:
    return ids.tolist()


def check_search(store: CodeStore, query: Tensor, codes: Tensor, ids: list[Any], k: int) -> None:
    """Sorted distances equal brute force, and each is the true distance of its id."""
    true = distances_between(query, codes)
    position = {name: i for i, name in enumerate(ids)}
    distances, found = store.search(query, k)
    assert distances.dtype == torch.int32 and distances.shape == (len(query), k)
    assert torch.equal(distances.long(), true.sort(dim=1).values[:, :k])
    for row, names in enumerate(id_list(found)):
        assert len(set(names)) == k
        assert distances[row].tolist() == [int(true[row, position[name]]) for name in names]


def check_range(
    store: CodeStore, query: Tensor, codes: Tensor, ids: list[Any], radius: int
) -> None:
    """Exactly the items with distance <= radius, nearest first, with their distances."""
    true = distances_between(query, codes)
    limits, distances, found = store.range_search(query, radius)
    assert limits.dtype == torch.int64 and distances.dtype == torch.int32
    assert limits[0] == 0 and limits[-1] == len(distances) == len(found)
    names = id_list(found)
    for row in range(len(query)):
        start, end = int(limits[row]), int(limits[row + 1])
        got = list(zip(distances[start:end].tolist(), names[start:end], strict=True))
        assert [d for d, _ in got] == sorted(d for d, _ in got)
        want = [
            (int(d), name) for d, name in zip(true[row].tolist(), ids, strict=True) if d <= radius
        ]
        assert sorted(got) == sorted(want)


def ids_of(n: int, seed: int = 2) -> list[int]:
    order = torch.randperm(3 * n, generator=torch.Generator().manual_seed(seed))[:n]
    return [int(value) - n for value in order]
