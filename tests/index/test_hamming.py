"""HammingIndex against brute force, with and without FAISS."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from store_cases import random_codes
from torch import Tensor

from pyg_hash.index import HNSW, IVF, Flat, HammingIndex, lookup
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.files import CorruptFileError, save_tensors


@pytest.fixture(params=["faiss", "torch"])
def backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "faiss":
        pytest.importorskip("faiss")
    return request.param


def brute_force(query: Tensor, database: Tensor, ids: Tensor) -> list[list[tuple[int, int]]]:
    """All (distance, id) of each query, sorted."""
    distance = (query[:, None] != database[None]).sum(2)
    return [sorted(zip(row.tolist(), ids.tolist(), strict=True)) for row in distance]


def rows(distances: Tensor, ids: Tensor) -> list[list[tuple[int, int]]]:
    pairs = zip(distances.tolist(), ids.tolist(), strict=True)
    return [list(zip(d, i, strict=True)) for d, i in pairs]


@pytest.mark.parametrize("num_bits", [1, 8, 13, 64, 100])
def test_search_equals_brute_force(backend: Any, num_bits: int) -> None:
    database, query = random_codes(300, num_bits), random_codes(40, num_bits, 1)
    ids = torch.randperm(1000, generator=torch.Generator().manual_seed(2))[:300] - 500
    index = HammingIndex(num_bits, backend=backend)
    for part in (slice(0, 100), slice(100, 101), slice(101, 300)):  # ids in no order
        index.add(database[part], ids[part])
    assert len(index) == 300 and torch.equal(index.ids, ids.sort().values)
    want = brute_force(query, database, ids)
    for k in (1, 2, 10, 299, 300):
        distances, found = index.search(query, k)
        assert distances.dtype == torch.int32 and found.dtype == torch.int64
        assert rows(distances, found) == [row[:k] for row in want]


def test_ties_at_the_cut_keep_the_lower_id(backend: Any) -> None:
    """2,000 items in 4 buckets: every k cuts a bucket."""
    database, query = random_codes(2000, 3), random_codes(16, 3, 1)
    index = HammingIndex(3, backend=backend)
    index.add(database)
    want = brute_force(query, database, torch.arange(2000))
    for k in (1, 7, 100, 999, 1500):
        assert rows(*index.search(query, k)) == [row[:k] for row in want]


def test_torch_over_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_TILE_QUERIES", 3)
    monkeypatch.setattr(lookup, "_TILE_DATABASE", 7)
    database, query = random_codes(50, 10), random_codes(11, 10, 1)
    index = HammingIndex(10, backend="torch")
    index.add(database)
    want = brute_force(query, database, torch.arange(50))
    assert rows(*index.search(query, 20)) == [row[:20] for row in want]
    limits, distances, ids = index.range_search(query, 4)
    for i in range(11):
        part = slice(int(limits[i]), int(limits[i + 1]))
        got = list(zip(distances[part].tolist(), ids[part].tolist(), strict=True))
        assert got == [pair for pair in want[i] if pair[0] <= 4]


def test_range_search_includes_the_radius(backend: Any) -> None:
    database, query = random_codes(200, 13), random_codes(30, 13, 1)
    query[0] = database[17]
    ids = torch.arange(200).flip(0) * 3
    index = HammingIndex(13, backend=backend)
    index.add(database, ids)
    want = brute_force(query, database, ids)
    for radius in (0, 1, 3, 13, 50):
        limits, distances, found = index.range_search(query, radius)
        assert limits.dtype == found.dtype == torch.int64 and distances.dtype == torch.int32
        assert limits.shape == (31,) and limits[-1] == found.numel()
        for i in range(30):
            part = slice(int(limits[i]), int(limits[i + 1]))
            got = list(zip(distances[part].tolist(), found[part].tolist(), strict=True))
            assert got == [pair for pair in want[i] if pair[0] <= radius]
        assert (int(distances[0]), int(found[0])) == (0, int(ids[17]))


def test_integers_of_numpy_and_beyond_the_size(backend: Any) -> None:
    codes = random_codes(20, 16)
    index = HammingIndex(16, backend=backend)
    index.add(codes)
    for kind in (np.int64, np.int32, np.uint8):
        for got, wanted in zip(index.search(codes, kind(3)), index.search(codes, 3), strict=True):
            assert torch.equal(got, wanted)
        pairs = zip(index.range_search(codes, kind(4)), index.range_search(codes, 4), strict=True)
        assert all(torch.equal(got, wanted) for got, wanted in pairs)
    every = index.search(codes, 5, rescore=codes.float(), oversample=10**30)
    assert torch.equal(every.scores, index.search(codes, 5, rescore=codes.float(), oversample=4)[2])


@pytest.mark.parametrize("way", [Flat(), IVF(np.int64(1), nprobe=np.int32(1)), HNSW(np.uint8(4))])
def test_integers_of_numpy_are_kept_in_a_file(way: Any, tmp_path: Any) -> None:
    pytest.importorskip("faiss")
    index = HammingIndex.create(tmp_path / "a.store", np.int64(24), index=way)
    index.add(random_codes(60, 24))
    assert index.measure_recall(random_codes(5, 24), np.int64(2)) > 0
    index.save()
    again = HammingIndex.open(tmp_path / "a.store")
    assert again.num_bits == 24 and again.index == way and again.recall == index.recall


def test_masked_values_are_not_read(backend: Any) -> None:
    codes, ids = random_codes(3, 16).numpy(), np.ma.masked_equal([1, 2, 3], 2)
    index = HammingIndex(16, backend=backend)
    index.add(np.ma.array(codes), np.ma.array([1, 2, 3]))  # which hides nothing
    for call in (index.remove, index.contains, index.metadata, index.codes):
        with pytest.raises(ValueError, match="ids: 1 values are masked; fill them"):
            call(ids)
    with pytest.raises(ValueError, match="codes: 16 values are masked"):
        index.search(np.ma.array(codes, mask=[[True] * 16, [False] * 16, [False] * 16]), 1)
    assert len(index) == 3


def test_remove_and_default_ids(backend: Any) -> None:
    codes = random_codes(10, 16)
    index = HammingIndex(16, backend=backend)
    index.add(codes)
    index.remove([9, 2, 2])
    assert index.ids.tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
    assert 2 not in index.search(codes, 8)[1]
    index.add(codes[:1])  # a number is not used again
    assert index.ids.tolist()[-1] == 10
    index.add(codes[2:3], [2])
    assert index.search(codes[2:3], 1)[1].tolist() == [[2]]
    index.remove(index.ids)
    assert len(index) == 0
    index.add(codes[:2], torch.tensor([-5, 2**62]))
    assert index.ids.tolist() == [-5, 2**62]


def test_codes_of_items(backend: Any) -> None:
    codes = random_codes(10, 13)
    index = HammingIndex(13, backend=backend)
    index.add(codes, range(0, 30, 3))
    assert torch.equal(index.codes([27, 0, 6, 0]), codes[[9, 0, 2, 0]])
    assert index.codes([]).shape == (0, 13)
    with pytest.raises(ValueError, match=r"ids: 1 are not in the index \(first: 4\)"):
        index.codes([3, 4])


def test_save_and_load(backend: Any, tmp_path: Path) -> None:
    codes, query = random_codes(120, 20), random_codes(9, 20, 1)
    index = HammingIndex(20, backend=backend)
    index.add(codes, torch.arange(120) * 7)
    index.remove([0, 833])
    path = tmp_path / "new" / "codes.index"
    index.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["codes.index"]
    for other in ("auto", "torch"):
        loaded = HammingIndex.load(path, backend=other)  # type: ignore[arg-type]
        assert (len(loaded), loaded.num_bits) == (118, 20)
        assert rows(*loaded.search(query, 30)) == rows(*index.search(query, 30))
        loaded.add(codes[:1])
        assert loaded.ids[-1] == 834
    index.save(path)  # over the old one
    assert len(HammingIndex.load(path)) == 118


def test_empty_index(backend: Any, tmp_path: Path) -> None:
    index = HammingIndex(9, backend=backend)
    index.add(random_codes(0, 9))
    index.add(random_codes(0, 9), [])
    index.remove([])
    assert len(index) == 0 and "items=0" in repr(index)
    limits, distances, ids = index.range_search(random_codes(2, 9), 3)
    assert limits.tolist() == [0, 0, 0] and distances.numel() == ids.numel() == 0
    index.save(tmp_path / "empty")
    assert len(HammingIndex.load(tmp_path / "empty", backend=backend)) == 0
    assert rows(*index.search(random_codes(1, 9), 1)) == [[(-1, -1)]]
    index.add(random_codes(5, 9))  # and no queries
    distances, ids = index.search(random_codes(0, 9), 2)
    assert distances.shape == ids.shape == (0, 2)
    assert index.range_search(random_codes(0, 9), 2)[0].tolist() == [0]


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "index"
    index = HammingIndex(32)
    index.add(random_codes(50, 32))
    index.save(path)
    content = path.read_bytes()
    for keep in (0, 4, 100, 400):
        path.write_bytes(content[:keep])
        with pytest.raises(CorruptFileError, match=r"index: truncated or not a safetensors"):
            HammingIndex.load(path)


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with pytest.raises(FileNotFoundError, match="no such file"):
        HammingIndex.load(path)
    save_tensors(path, {"x": torch.ones(1)})
    with pytest.raises(CorruptFileError, match=r"is not a file that HammingIndex.save\(\) wrote"):
        HammingIndex.load(path)
    good = {"format": "pyg_hash.HammingIndex", "version": 3, "num_bits": 8, "next_id": 2}
    good |= {"ids": "int", "fields": {}, "index": {"kind": "Flat"}, "recall": None, "model": None}
    codes = torch.zeros(2, 1, dtype=torch.uint8)
    ids = torch.tensor([0, 1])
    for tensors, change, message in [
        (
            {"codes": codes, "ids": ids},
            {"version": 2},
            "has version 2, this pyg_hash reads 3",
        ),
        ({"codes": codes}, {}, "is damaged"),
        ({"codes": codes, "ids": ids}, {"num_bits": "8"}, "is damaged"),
        ({"codes": codes, "ids": ids}, {"num_bits": 9}, r"9 bits take shape \[n, 2\]"),
        ({"codes": codes + 1, "ids": ids}, {"num_bits": 7}, "bits after bit 7 are not zero"),
        ({"codes": codes, "ids": torch.tensor([0])}, {}, r"codes do not fit: uint8 \[2, 1\]"),
        ({"codes": codes, "ids": ids.int()}, {}, r"ids do not fit: int32 \[2\] in place of int64"),
    ]:
        save_tensors(path, tensors, {**good, **change})
        with pytest.raises(CorruptFileError, match=message):
            HammingIndex.load(path)


def test_bad_arguments_leave_the_index_unchanged(backend: Any) -> None:
    codes = random_codes(3, 8)
    index = HammingIndex(8, backend=backend)
    index.add(codes)
    calls = [
        (lambda: index.add(codes.float()), TypeError, "codes: expected int8"),
        (lambda: index.add(codes * 0), ValueError, "codes: entries must be"),
        (lambda: index.add(random_codes(3, 9)), ValueError, "codes: has 9 bits, expected 8"),
        (lambda: index.add(codes, [7, 8]), ValueError, "ids: 2 ids for 3 codes"),
        (lambda: index.add(codes, [7, 8, 7]), ValueError, "ids: 7 is given more than once"),
        (lambda: index.add(codes, [7, 8, 2]), ValueError, r"1 are in the index.*first: 2"),
        (lambda: index.add(codes, [7, 8, 2**63]), TypeError, "ids: expected integers"),
        (lambda: index.add(codes, ["a", "b", "c"]), TypeError, "ids: expected integers"),
        (lambda: index.add(codes, [0.5, 1.0, 2.0]), TypeError, "ids: expected integers, got"),
        (lambda: index.add(codes, torch.ones(3, 1).long()), ValueError, "ids: expected shape"),
        (lambda: index.remove([1, 5]), ValueError, r"ids: 1 are not in the index \(first: 5"),
        (lambda: index.search(codes, 0), ValueError, "k: expected a positive integer"),
        (lambda: index.search(codes, 1.0), TypeError, "k: expected a positive integer"),
        (lambda: index.search(random_codes(1, 9), 1), ValueError, "codes: has 9 bits"),
        (lambda: index.range_search(codes, -1), ValueError, "radius: expected 0 or more"),
        (lambda: index.range_search(codes, 1.5), TypeError, "radius: expected an integer"),
        (lambda: index.count_at(codes[:1], torch.tensor([-1])), ValueError, "distances: expected"),
        (lambda: index.count_at(codes[:1], torch.ones(1)), TypeError, "distances: expected an int"),
        (lambda: index.count_at(codes, 3), TypeError, "distances: expected 3 integers.* got 3"),
    ]
    for call, error, message in calls:
        with pytest.raises(error, match=message):
            call()
        assert index.ids.tolist() == [0, 1, 2]
    assert torch.equal(index.search(codes, 1)[0], torch.zeros(3, 1, dtype=torch.int32))


def test_ids_of_a_kind_of_str() -> None:
    class Name(str):
        """As those of enumerations."""

    index = HammingIndex(8, ids=str)
    index.add(random_codes(2, 8), [Name("a"), "b"])
    assert index.ids.tolist() == ["a", "b"] and index.contains([Name("b"), "c"]) == [True, False]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("way", [None, lookup.MultiIndex(), lookup.IVF(4), lookup.HNSW()])
def test_one_in_memory_is_copied(way: Any, copied: Any, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    codes = random_codes(99, 8)
    index = HammingIndex(8, index=way, ids=str, fields={"tags": list})
    index.add(codes, [*map(str, range(99))], {"tags": [["a"]] * 99}, relaxed=codes * 0.5)
    index.save(tmp_path / "store")
    for own in (index, HammingIndex.load(tmp_path / "store"), HammingIndex(8, index=way)):
        other = copied(own)
        for a, b in zip(own.search(codes[:9], 5), other.search(codes[:9], 5), strict=True):
            assert a.tolist() == b.tolist()
        other.remove(other.ids[:9])
        assert len(own) in (0, 99) and len(other) in (0, 90)
    with pytest.raises(TypeError, match=r"store: .*cannot be copied; save\(\) it, and open\(\)"):
        copied(HammingIndex.open(tmp_path / "store"))


def test_constructor_and_missing_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="num_bits: expected a positive"):
        HammingIndex(0)
    with pytest.raises(ValueError, match="backend: 'milvus' is not known"):
        HammingIndex(8, backend="milvus")  # type: ignore[arg-type]
    monkeypatch.setattr(_faiss, "is_installed", lambda: False)
    assert HammingIndex(8).backend == "torch"
