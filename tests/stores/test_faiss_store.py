"""What only the store in a file promises: order, mapping, approximate indexes, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from store_cases import check_range, check_search, random_codes

from pyg_hash.codes import binarize
from pyg_hash.index import base
from pyg_hash.index.arrays import read_arrays, write_arrays
from pyg_hash.stores import HNSW, IVF, FaissStore, Flat, MultiIndex
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.files import CorruptFileError

pytest.importorskip("faiss")
INDEXES = [Flat(), MultiIndex(), IVF(nlist=8, nprobe=4), HNSW(m=16)]


def clustered(n: int, num_bits: int, seed: int = 0) -> torch.Tensor:
    """Codes in groups, as learned codes are: 20 centres with a sixth of the bits flipped."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(20, num_bits, generator=torch.Generator().manual_seed(99)).sign()
    row = centres[torch.randint(20, (n,), generator=generator)]
    flip = torch.rand(n, num_bits, generator=generator) < 1 / 6
    return binarize(torch.where(flip, -row, row))


def filled(path: Path, index: Any, n: int = 2000, num_bits: int = 64) -> FaissStore:
    store = FaissStore.create(path, num_bits, index=index)
    store.add(clustered(n, num_bits), range(n))
    return store


@pytest.mark.parametrize("kind", [int, str])
@pytest.mark.parametrize("index", [Flat(), MultiIndex()])
def test_equal_distances_are_by_lower_id_or_as_they_were_added(
    tmp_path: Path, index: Any, kind: Any
) -> None:
    codes, query = random_codes(2000, 3), random_codes(20, 3, 1)
    numbers = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    names = [kind(n) for n in numbers.tolist()]
    store = FaissStore.create(tmp_path / "store", 3, ids=kind, index=index)
    store.add(codes[:1500], names[:1500])
    store.save()
    store = FaissStore.open(tmp_path / "store")
    store.add(codes[1500:], names[1500:])
    order = range(2000) if kind is str else numbers.argsort().tolist()
    distance = (query[:, None] != codes[None]).sum(2)
    ranked = [sorted((int(row[i]), place, i) for place, i in enumerate(order)) for row in distance]
    for k in (1, 7, 100, 999):
        want = [[names[i] for _, _, i in row[:k]] for row in ranked]
        assert store.search(query, k)[1].tolist() == want
    limits, _, ids = store.range_search(query, 1)
    for row in range(20):
        want = [names[i] for far, _, i in ranked[row] if far <= 1]
        assert ids[limits[row] : limits[row + 1]].tolist() == want
    kept = [names[i] for i in order]
    assert [name for _, part in store.items(99) for name in part.tolist()] == kept
    assert store.list(start=5, limit=7).tolist() == kept[5:12]


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("index", INDEXES)
def test_opened_again_it_answers_the_same(tmp_path: Path, index: Any, mapped: bool) -> None:
    store, query = filled(tmp_path / "store", index), clustered(30, 64, 1)
    store.save()
    again = FaissStore.open(tmp_path / "store", mapped=mapped)
    assert again.index == index and len(again) == 2000
    assert isinstance(again._items.codes.joined().base, np.memmap) == mapped
    for a, b in zip(store.search(query, 20), again.search(query, 20), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(store.range_search(query, 9), again.range_search(query, 9), strict=True):
        assert torch.equal(a, b)
    again.add(clustered(50, 64, 3), range(2000, 2050))
    again.remove(range(0, 100))
    again.save()  # over the file that is mapped
    codes = torch.cat([clustered(2000, 64), clustered(50, 64, 3)])[100:]
    third = FaissStore.open(tmp_path / "store")
    check_range(third, query, codes, list(range(100, 2050)), 9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store", "store.log"]
    third.compact()
    check_range(FaissStore.open(tmp_path / "store"), query, codes, list(range(100, 2050)), 9)
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("index", [IVF(nlist=8, nprobe=4), HNSW(m=16), IVF()])
def test_approximate_answers_are_true_and_radius_lookups_exact(tmp_path: Path, index: Any) -> None:
    store, query = filled(tmp_path / "store", index), clustered(40, 64, 1)
    codes = clustered(2000, 64)
    distances, ids = store.search(query, 10)
    assert torch.equal(distances.long(), (query[:, None] != codes[ids]).sum(2))
    assert bool((distances.diff(dim=1) >= 0).all())
    check_range(store, query, codes, list(range(2000)), 10)
    true = (query[:, None] != codes[None]).sum(2).sort(dim=1).values[:, 9:10]
    recall = store.measure_recall(query, k=10)
    assert recall == pytest.approx(float((distances <= true).float().mean()))
    assert recall > 0.85
    assert store.recall == {"value": recall, "k": 10, "queries": 40}
    store.save()
    assert FaissStore.open(tmp_path / "store").recall == store.recall
    store.remove([3])
    assert store.recall is None  # it was measured on other items


def test_more_effort_finds_more(tmp_path: Path) -> None:
    query = clustered(60, 64, 1)
    for name, low, high in [
        ("ivf", IVF(nlist=32, nprobe=1), IVF(nlist=32, nprobe=32)),
        ("hnsw", HNSW(m=4, ef_search=10), HNSW(m=32, ef_search=500)),
    ]:
        few, many = (
            filled(tmp_path / f"{name}{i}", index, 3000).measure_recall(query)
            for i, index in enumerate((low, high))
        )
        assert few < many and many >= 0.99
    assert filled(tmp_path / "flat", Flat()).measure_recall(query) == 1.0


def test_an_index_that_finds_too_little_says_so(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", IVF(nlist=50, nprobe=1))
    distances, ids = store.search(clustered(5, 64, 1), 1000)
    missing = distances == -1
    assert missing.any() and torch.equal(missing, ids == -1)
    assert torch.equal(missing, missing.sort(dim=1, stable=True).values)  # at the end of a row


def test_adding_in_parts_equals_adding_at_once(tmp_path: Path) -> None:
    codes, query = clustered(1500, 64), clustered(20, 64, 1)
    for i, index in enumerate(INDEXES):
        store = FaissStore.create(tmp_path / f"{i}", 64, index=index)
        store.add(codes[:1000], range(1000))
        store.search(query, 1)  # whatever is built is built now, and must grow
        for start in range(1000, 1500, 100):
            store.add(codes[start : start + 100], range(start, start + 100))
        assert store.search(codes[1400:], 1)[0].eq(0).float().mean() > 0.9
        if index == Flat() or index == MultiIndex():
            check_search(store, query, codes, list(range(1500)), 30)
            check_range(store, query, codes, list(range(1500)), 9)


def test_the_store_keeps_its_own_copy(tmp_path: Path) -> None:
    packed = torch.zeros(3, 8, dtype=torch.uint8)
    ids = torch.arange(3)
    store = FaissStore.create(tmp_path / "store", 64)
    store.add(packed, ids)
    packed.fill_(255)
    ids.fill_(7)
    assert store.search(torch.zeros(1, 8, dtype=torch.uint8), 3)[0].tolist() == [[0, 0, 0]]
    assert sorted(store.search(packed, 3)[1][0].tolist()) == [0, 1, 2]


def test_what_is_not_saved_is_not_there(tmp_path: Path) -> None:
    with filled(tmp_path / "store", Flat(), 10) as store:
        assert not (tmp_path / "store").exists()
        store.save()
        store.remove([1])
    assert len(store) == 0  # closed
    assert len(FaissStore.open(tmp_path / "store")) == 10


@pytest.mark.parametrize("index", INDEXES)
def test_damaged_stores(tmp_path: Path, index: Any) -> None:
    path = tmp_path / "store"
    filled(path, index).save()
    arrays, metadata = read_arrays(path, "HammingIndex", mapped=False)
    changes: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({}, {"format": "other"}, "is not a file that HammingIndex"),
        ({}, {"version": 99}, "has version 99"),
        ({}, {"num_bits": 0}, "is damaged"),
        ({}, {"num_bits": 72}, "codes do not fit"),
        ({}, {"ids": "float"}, "is damaged"),
        ({}, {"ids": "str"}, "is damaged"),
        ({}, {"fields": "x"}, "is damaged"),
        ({}, {"index": {"kind": "Tree"}}, "is damaged"),
        ({}, {"index": {"kind": "Flat", "more": 1}}, "is damaged"),
        ({"codes": arrays["codes"][1:]}, {}, "codes do not fit"),
        ({"ids": arrays["ids"].astype(np.int32)}, {}, "ids do not fit: int32"),
    ]
    if index == MultiIndex():
        changes += [({"mih_order": arrays["mih_order"][:, 1:]}, {}, "mih_order do not fit")]
    if isinstance(index, (IVF, HNSW)):
        wrong = arrays["index"].copy()
        wrong[len(wrong) // 2] ^= 1
        changes += [({"index": wrong}, {}, "wrong checksum")]
        changes += [({"codes": arrays["codes"][1:], "ids": arrays["ids"][1:]}, {}, "not fit")]
    for other, more, message in changes:
        write_arrays(path, "HammingIndex", {**arrays, **other}, {**metadata, **more})
        with pytest.raises(CorruptFileError, match=message):
            FaissStore.open(path)
    for name in arrays:
        rest = {key: array for key, array in arrays.items() if key != name}
        write_arrays(path, "HammingIndex", rest, metadata)
        with pytest.raises(CorruptFileError, match="is damaged"):
            FaissStore.open(path)
    for name in ("num_bits", "ids", "fields", "index", "mark", "recall", "next_id"):
        about = {key: value for key, value in metadata.items() if key != name}
        write_arrays(path, "HammingIndex", arrays, about)
        with pytest.raises(CorruptFileError, match="is damaged"):
            FaissStore.open(path)


def test_damaged_string_ids(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = FaissStore.create(path, 8, ids=str)
    store.add(random_codes(3, 8), ["a", "bc", "ä"])
    store.save()
    arrays, metadata = read_arrays(path, "HammingIndex", mapped=False)
    for change in ({"ids_data": arrays["ids_data"][1:]}, {"ids_ends": arrays["ids_ends"][:2]}):
        write_arrays(path, "HammingIndex", {**arrays, **change}, metadata)
        with pytest.raises(CorruptFileError, match="is damaged"):
            FaissStore.open(path)


def test_wrong_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store"
    for arguments, error, message in [
        ({"num_bits": 0}, ValueError, "num_bits: expected a positive"),
        ({"num_bits": 8, "ids": float}, ValueError, "ids: .* use int or str"),
        ({"num_bits": 8, "index": "flat"}, TypeError, "index: expected Flat"),
    ]:
        with pytest.raises(error, match=message):
            FaissStore.create(path, **arguments)
    for make, message in [
        (lambda: IVF(nlist=0), "nlist: expected a positive"),
        (lambda: IVF(nprobe=-1), "nprobe"),
        (lambda: HNSW(m=0), "m: expected"),
        (lambda: HNSW(ef_search=0), "ef_search"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    store = FaissStore.create(path, 8)
    with pytest.raises(ValueError, match="k: 0 queries"):
        store.measure_recall(random_codes(0, 8), 1)
    with pytest.raises(OSError):
        FaissStore.create(tmp_path / "store" / "below" if path.exists() else "/proc/x/y", 8)

    def missing() -> Any:
        raise ImportError("FAISS is not installed: pip install 'pyg_hash[cpu]'")

    monkeypatch.setattr(_faiss, "load", missing)
    with pytest.raises(ImportError, match="pyg_hash"):
        FaissStore.create(tmp_path / "new", 8)


@pytest.mark.parametrize("index", [IVF(nlist=4, nprobe=4), HNSW()])
def test_codes_that_many_share_are_one_entry(
    tmp_path: Path, index: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = random_codes(40, 32)
    store = FaissStore.create(tmp_path / "store", 32, index=index)
    store.add(codes.repeat(50, 1), range(2000))
    distances, ids = store.search(codes[:5], 60)
    assert distances[:, :50].eq(0).all() and distances[:, 50].gt(0).all()
    assert torch.equal(ids[:, :50], torch.arange(5)[:, None] + 40 * torch.arange(50))
    monkeypatch.setattr(base, "_PAIRS", 4000)  # two queries at a time
    again = store.search(codes[:5], 60)
    assert torch.equal(again[0], distances) and torch.equal(again[1], ids)
    assert store._tables._index.ntotal == 40
    store.remove(range(0, 2000, 40))  # all of one code: its entry has no row any more
    assert store.search(codes[:1], 3)[0].gt(0).all()
    store.save()
    store = FaissStore.open(tmp_path / "store")
    store.add(codes[:2], [5000, 5001])
    assert store.search(codes[:2], 1)[1].tolist() == [[5000], [1]]
    assert store._tables._index.ntotal in (40, 41)


def test_groups_are_made_again_after_eightfold_growth(tmp_path: Path) -> None:
    codes = random_codes(2000, 64)
    store = FaissStore.create(tmp_path / "store", 64, index=IVF())
    made = []
    for start, stop in ((0, 100), (100, 700), (700, 790), (790, 900), (900, 2000)):
        store.add(codes[start:stop], range(start, stop))
        store.search(codes[:1], 1)
        made.append(store._tables._made)
        store.save()
        store = FaissStore.open(tmp_path / "store")
        assert store.search(codes[:stop], 1)[0].eq(0).float().mean() > 0.9
    assert made == [100, 100, 100, 900, 900]


def test_fewer_codes_than_groups(tmp_path):
    """As many groups as codes, until there are more; a removal can be saved."""
    codes, query = random_codes(40, 16), random_codes(3, 16)
    store = FaissStore.create(tmp_path / "s", 16, index=IVF(nlist=8))
    for rows in (range(3), range(3, 20)):
        store.add(codes[rows.start : rows.stop], rows)
        store.save()
    store.remove(range(15))
    store.save()
    exact = FaissStore(16)
    exact.add(codes[15:20], range(15, 20))
    for found in (store, FaissStore.open(tmp_path / "s")):
        assert torch.equal(found.search(query, 5)[0], exact.search(query, 5)[0])
    store.add(codes[20:], range(20, 40))
    store.save()
    assert len(FaissStore.open(tmp_path / "s")) == 25 and len(store.search(query, 9)[1][0]) == 9
