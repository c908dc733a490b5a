"""What every store must answer: the conformance test, first part.

It runs on every store. LanceDB is tested where it is installed; for Milvus see
``test_milvus_environment.py``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from store_cases import (
    Case,
    check_range,
    check_search,
    distances_between,
    id_list,
    ids_of,
    random_codes,
)

from pyg_hash.codes import binarize, pack_bits, quantize
from pyg_hash.stores import HNSW, IVF, FaissStore, Flat, MultiIndex


@pytest.mark.parametrize("num_bits", [8, 13, 64, 100])
def test_answers_equal_brute_force(case: Case, folder: Path, num_bits: int) -> None:
    codes, query, ids = random_codes(200, num_bits), random_codes(12, num_bits, 1), ids_of(200)
    query[0] = codes[17]
    with case.create(folder, num_bits) as store:
        for part in (slice(0, 100), slice(100, 101), slice(101, 200)):
            store.add(codes[part], ids[part])
        assert len(store) == 200
        for k in (1, 10, 200):
            check_search(store, query, codes, ids, k)
        for radius in (0, 1, 2, num_bits // 2 - 1, num_bits, num_bits + 5):
            check_range(store, query, codes, ids, radius)


def test_a_radius_includes_its_border(case: Case, folder: Path) -> None:
    code = torch.ones(1, 64, dtype=torch.int8)
    near = code.repeat(65, 1)
    for distance in range(65):
        near[distance, :distance] = -1
    with case.create(folder, 64) as store:
        store.add(near, range(65))
        for radius in (0, 1, 2, 3, 4, 7, 20, 63, 64):
            limits, distances, ids = store.range_search(code, radius)
            assert limits.tolist() == [0, radius + 1]
            assert distances.tolist() == ids.tolist() == list(range(radius + 1))


def test_packed_codes_are_codes(case: Case, folder: Path) -> None:
    codes, query = random_codes(50, 13), random_codes(5, 13, 1)
    with case.create(folder, 13) as store:
        store.add(pack_bits(codes), range(50))
        check_search(store, query, codes, list(range(50)), 10)
        assert torch.equal(store.search(query, 7)[0], store.search(pack_bits(query), 7)[0])
        wrong = pack_bits(query)
        wrong[0, -1] |= 1
        with pytest.raises(ValueError, match="bits after bit 13 are not zero"):
            store.search(wrong, 1)


def test_all_int64_are_ids(case: Case, folder: Path) -> None:
    ids = [-(2**63), 2**63 - 1, -1, 0, 1, -(2**63) + 1, 2**53 + 1, 2**53]
    codes = random_codes(len(ids), 32)
    with case.create(folder, 32) as store:
        store.add(codes, torch.tensor(ids))
        distances, found = store.search(codes, 1)
        assert distances.eq(0).all() and found.dtype == torch.int64
        assert found[:, 0].tolist() == ids
        for name in ids:
            with pytest.raises(ValueError, match="are in the store already"):
                store.add(codes[:1], [name])
        store.remove(ids[::2])
        assert sorted(store.search(codes[:1], 4)[1][0].tolist()) == sorted(ids[1::2])


STRINGS = [
    "a",
    "A",
    "it's",
    'say "hi"',
    "back\\slash",
    "ä ☺ 漢字 🙂",
    "two\nlines\tand a tab",
    "'; DROP TABLE codes; --",
    "%_*?[]{}",
    "",
    " a ",
    "x" * 3000,
    "e\u0301",
    "\u00e9",
]


def test_strings_are_ids(case: Case, folder: Path) -> None:
    strings = [name for name in STRINGS if not case.refuses(name)]
    codes = random_codes(len(strings), 64)
    with case.create(folder, 64, ids=str) as store:
        store.add(codes[:5], strings[:5])
        store.add(codes[5:], strings[5:])
        check_search(store, codes, codes, strings, len(strings))
        check_range(store, codes, codes, strings, 20)
        for name in set(STRINGS) - set(strings):
            with pytest.raises(ValueError, match="which Milvus"):
                store.add(codes[:1], [name])
        for name in strings:
            with pytest.raises(ValueError, match="are in the store already"):
                store.add(codes[:1], [name])
        for i, name in enumerate(strings):
            store.remove([name])
            assert len(store) == len(strings) - 1 - i
            with pytest.raises(ValueError, match="are not in the store"):
                store.remove([name])


def test_remove(case: Case, folder: Path) -> None:
    codes, query, ids = random_codes(120, 20), random_codes(9, 20, 1), ids_of(120)
    with case.create(folder, 20) as store:
        store.add(codes, ids)
        store.remove(torch.tensor([*ids[5:40], ids[5], ids[119]]))
        left = [*range(5), *range(40, 119)]
        assert len(store) == len(left) and store.contains([]) == []
        assert store.contains(ids) == [i in left for i in range(120)]
        check_search(store, query, codes[left], [ids[i] for i in left], 30)
        check_range(store, query, codes[left], [ids[i] for i in left], 6)
        store.add(codes[5:6], [ids[5]])  # an id is free again
        assert store.search(codes[5:6], 1)[1].tolist() == [[ids[5]]]
        store.remove([ids[i] for i in [*left, 5]])
        assert len(store) == 0
        store.remove([])
        store.add(codes, ids)
        check_search(store, query, codes, ids, 120)


@pytest.mark.parametrize("kind", [int, str])
def test_fewer_items_than_asked_for(case: Case, folder: Path, kind: Any) -> None:
    codes, none = random_codes(3, 16), -1 if kind is int else None
    with case.create(folder, 16, ids=kind) as store:
        store.add(codes[:0], [])
        distances, ids = store.search(codes, 2)
        assert distances.tolist() == [[-1, -1]] * 3 and ids.tolist() == [[none, none]] * 3
        limits, distances, ids = store.range_search(codes, 3)
        assert limits.tolist() == [0, 0, 0, 0] and len(distances) == len(ids) == 0
        store.add(codes, [kind(i) for i in range(3)])
        distances, ids = store.search(codes, 5)
        assert distances[:, 3:].eq(-1).all() and distances[:, :3].ge(0).all()
        assert [row[3:] for row in ids.tolist()] == [[none, none]] * 3
        distances, ids = store.search(codes[:0], 4)
        assert distances.shape == ids.shape == (0, 4)
        assert store.range_search(codes[:0], 4)[0].tolist() == [0]


def test_items_are_listed_some_at_a_time(case: Case, folder: Path) -> None:
    with case.create(folder, 8, fields={"n": int}) as store:
        assert len(store.list(limit=None)) == 0
        store.add(random_codes(130, 8), range(130), {"n": [i % 2 for i in range(130)]})
        every = store.list(limit=None).tolist()
        assert sorted(every) == [*range(130)] and len(store.list()) == 100
        assert sorted(store.list("n = 1", limit=None).tolist()) == [*range(1, 130, 2)]
        assert store.list(start=np.int64(7), limit=9).tolist() == every[7:16]
        assert store.list(start=125, limit=None).tolist() == every[125:]
        assert len(store.list(start=130)) == len(store.list(limit=0)) == 0


def test_codes_of_numpy_are_those_of_torch(case: Case, folder: Path) -> None:
    relaxed = torch.rand(12, 9, generator=torch.Generator().manual_seed(3)) * 2 - 1
    codes = binarize(relaxed)
    packed = pack_bits(codes).numpy().copy()
    packed.flags.writeable = False
    with case.create(folder, 9) as store:
        store.add(packed[:6], range(6))
        store.add(np.asfortranarray(codes[6:].numpy()), range(6, 12))
        store.replace(codes[1:2].numpy(), [1])
        check_search(store, codes, codes, [*range(12)], 5)
        wanted = store.search(codes, 5, rescore=relaxed)
        floats = relaxed.numpy().astype(">f4")
        for given in (packed, codes.numpy(), codes.numpy()[:, ::-1][:, ::-1]):
            found = store.search(given, 5, rescore=floats)
            assert all(map(torch.equal, found, wanted))
            assert all(map(torch.equal, store.range_search(given, 2), store.range_search(codes, 2)))
        if isinstance(store, FaissStore):
            other = FaissStore(9)
            other.add(packed, relaxed=floats)
            assert torch.equal(other.relaxed(range(12)), quantize(relaxed).float() / 127)


def test_bad_arguments_leave_the_store_unchanged(case: Case, folder: Path) -> None:
    codes = random_codes(3, 8)
    with case.create(folder, 8) as store:
        store.add(codes, [0, 1, 2])
        calls = [
            (lambda: store.add(codes.float(), [4, 5, 6]), TypeError, "codes: expected int8"),
            (lambda: store.add(codes * 0, [4, 5, 6]), ValueError, "codes: entries must be"),
            (lambda: store.add(random_codes(3, 9), [4, 5, 6]), ValueError, "has 9 bits, exp"),
            (lambda: store.add(codes, [7, 8]), ValueError, "ids: 2 ids for 3 codes"),
            (lambda: store.add(codes, [8, 7, 8]), ValueError, "ids: 8 is given more than once"),
            (lambda: store.add(codes, [7, 8, 2]), ValueError, r"1 are in the store.*first: 2"),
            (lambda: store.add(codes, [7, 8, 2**63]), TypeError, "integer.* that fit int64"),
            (lambda: store.add(codes, ["a", "b", "c"]), TypeError, "has integer ids"),
            (lambda: store.add(codes, [0.5, 1.0, 2.0]), TypeError, "has integer ids"),
            (lambda: store.add(codes, [True, False, True]), TypeError, "has integer ids"),
            (lambda: store.add(codes, torch.ones(3, 1).long()), ValueError, r"shape \[n\]"),
            (lambda: store.add(codes, [4, 5, 6], {"x": [1, 2, 3]}), ValueError, "metadata: got"),
            (lambda: store.remove([1, 5]), ValueError, r"1 are not in the store \(first: 5"),
            (lambda: store.remove(["a"]), TypeError, "has integer ids"),
            (lambda: store.search(codes, 0), ValueError, "k: expected a positive integer"),
            (lambda: store.search(codes, 1.0), TypeError, "k: expected a positive integer"),
            (lambda: store.search(random_codes(1, 9), 1), ValueError, "codes: has 9 bits"),
            (lambda: store.search(codes, 1, where={"x": 1}), ValueError, "where: 'x' is not"),
            (lambda: store.range_search(codes, -1), ValueError, "radius: expected 0 or more"),
            (lambda: store.range_search(codes, 1.5), TypeError, "radius: expected an integer"),
            (lambda: store.list(start=-1), ValueError, "start: expected 0 or more, got -1"),
            (lambda: store.list(start=None), TypeError, "start: expected an integer, got None"),
            (lambda: store.list(limit=-1), ValueError, "limit: expected 0 or more, got -1"),
            (lambda: store.list(limit=1.5), TypeError, "limit: expected an integer, got 1.5"),
            (lambda: store.list(limit=True), TypeError, "limit: expected an integer, got True"),
            (
                lambda: store.add(codes.float().numpy(), [4, 5, 6]),
                TypeError,
                "codes: expected int8",
            ),
            (lambda: store.add(codes.numpy() * 0, [4, 5, 6]), ValueError, "codes: entries must be"),
            (lambda: store.add(codes.numpy().astype(str), [4, 5, 6]), TypeError, "codes: expected"),
            (
                lambda: store.add(codes.numpy().astype(np.longdouble), [4, 5, 6]),
                TypeError,
                f"codes: expected .*, got ndarray of {np.dtype(np.longdouble)}; use",
            ),
            (
                lambda: store.add(codes.numpy() > 0, [4, 5, 6]),
                TypeError,
                r"codes: expected .*; 2 \* bits.to\(torch.int8\) - 1 makes codes",
            ),
            (lambda: store.search(codes.tolist(), 1), TypeError, "codes: expected int8"),
        ]
        for call, error, message in calls:
            with pytest.raises(error, match=message):
                call()  # type: ignore[no-untyped-call]
            assert len(store) == 3
        check_search(store, codes, codes, [0, 1, 2], 3)
        assert "num_bits=8, ids=int, items=3" in repr(store)
    with case.create(Path(tempfile.mkdtemp(dir=folder)), 8, ids=str) as store:
        for wrong, error, message in [
            ([1, 2, 3], TypeError, "has string ids, got int"),
            ("abc", TypeError, "ids: expected a list, .* got one string"),
            ({"a", "b", "c"}, TypeError, "ids: expected a list, .* in their order, got set"),
            (frozenset("abc"), TypeError, "ids: .* got frozenset"),
            (dict.fromkeys("abc"), TypeError, "ids: .* got dict"),
            (["a", "b", "a"], ValueError, "'a' is given more than once"),
            (["a", "b", "c\0"], ValueError, "NUL"),
            (["a", "b", "\ud800"], ValueError, "half a character"),
        ]:
            with pytest.raises(error, match=message):
                store.add(codes, wrong)
            assert len(store) == 0
    fields = {"name": str, "n": int}
    with case.create(Path(tempfile.mkdtemp(dir=folder)), 8, fields=fields) as store:
        for values in ("xyz", {"x", "y", "z"}, b"xyz", dict.fromkeys("xyz")):
            for name in fields:
                with pytest.raises(TypeError, match=f"metadata: {name}: expected a list, .* got "):
                    store.add(codes, [0, 1, 2], {name: values})
        for ids in ({0, 1, 2}, dict.fromkeys(range(3))):
            with pytest.raises(TypeError, match=r"ids: expected a list, .* got (set|dict)"):
                store.add(codes, ids)
        assert len(store) == 0
        store.add(codes, [0, 1, 2], {"name": ["x", "y", "z"], "n": [1, 2, 3]})
        store.remove({0, 2})  # whose order says nothing
        assert store.contains([0, 1, 2]) == [False, True, False]
        store.remove([1])
        store.add(codes, range(3), {"name": np.array(["x", "y", "z"]), "n": torch.arange(3)})
        assert store.metadata((2, 0)) == {"name": ["z", "x"], "n": [2, 0]}
        for wrong in ([], "name", codes):
            with pytest.raises(TypeError, match="metadata: expected a mapping, got"):
                store.add(codes, [4, 5, 6], wrong)
        with pytest.raises(TypeError, match="metadata: n: expected int, got array"):
            store.update([0], {"n": [np.arange(2)]})


def test_columns_of_frames_and_arrays_of_others_are_values(case: Case, folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with case.create(folder, 8, ids=str, fields={"name": str, "tags": list}) as store:
        columns = {"name": ["x", None], "tags": [["a"], ["b", "c"]]}
        table, arrays = pyarrow.table(columns), [np.array(tags) for tags in columns["tags"]]
        names = {"columns": [*columns], "__getitem__": lambda self, name: columns[name]}
        frame = type("Frame", (), names)  # as pandas makes them
        store.add(random_codes(2, 8), pyarrow.array(["p", "q"]), table)
        assert store.metadata(pyarrow.array(["p", "q"])) == columns
        store.replace(random_codes(2, 8), ["p", "q"], frame())
        store.update(["p", "q"], {**columns, "tags": arrays})
        rows = {"isna": None, "ndim": 2, "to_numpy": lambda self: np.array([["x"], ["y"]], object)}
        rows |= {"__iter__": lambda self: iter(["y", "z"]), "__len__": lambda self: 2}
        with pytest.raises(TypeError, match="metadata: name: expected str, got "):  # no column
            store.update(["p", "q"], {"name": type("Frame", (), rows)()})
        assert store.metadata(["p", "q"]) == columns


@pytest.mark.parametrize("id_type", [int, str])
def test_rescored_order_equals_brute_force(case: Case, folder: Path, id_type: type) -> None:
    """Of the nearest and all as far as the last, by score, then distance, then the order of ids."""
    codes, ids = random_codes(120, 13)[torch.arange(240) % 120], ids_of(240)
    names = sorted(map(id_type, ids))  # ids in their own order, the order of adding too
    query = torch.randn(5, 13, generator=torch.Generator().manual_seed(3)).tanh()
    near, scores = distances_between(binarize(query), codes), query.double() @ codes.double().T
    with case.create(folder, 13, ids=id_type) as store:
        store.add(codes, names)
        for k, oversample in ((3, 1), (10, 4), (240, 1), (10, 10**30)):
            if k < 240 and isinstance(getattr(store, "index", None), IVF):
                continue  # cuts ties at the edge as it likes
            found = store.search(binarize(query), k, rescore=query, oversample=oversample)
            for row in range(5):
                edge = near[row].sort().values[min(k * oversample, 240) - 1]
                keys = [
                    (-round(float(scores[row, i]), 9), int(near[row, i]), names[i])
                    for i in range(240)
                    if near[row, i] <= edge
                ]
                best = sorted(keys)[:k]
                assert id_list(found.ids[row]) == [name for _, _, name in best]
                assert found.distances[row].tolist() == [far for _, far, _ in best]
                assert found.scores[row].tolist() == pytest.approx([-s for s, _, _ in best])
        more = store.search(binarize(query), 300, rescore=query)
        assert more.distances[:, 240:].eq(-1).all() and more.scores[:, 240:].eq(-torch.inf).all()
        if not isinstance(store, FaissStore):
            with pytest.raises(ValueError, match="relaxed: .* keeps codes alone"):
                store.add(codes, names, relaxed=codes.double())


@pytest.mark.parametrize("mapped", [False, True])
def test_a_file_keeps_relaxed_codes(folder: Path, mapped: bool) -> None:
    pytest.importorskip("faiss")
    relaxed = torch.randn(90, 20, generator=torch.Generator().manual_seed(0)).tanh()
    query, names = relaxed[:4] * 0.5 + 0.1, [f"n{i}" for i in range(90)]
    for number, index in enumerate((Flat(), MultiIndex(), IVF(nlist=1, nprobe=1), HNSW())):
        store = FaissStore.create(folder / f"{number}.store", 20, ids=str, index=index)
        store.add(binarize(relaxed), names, relaxed=relaxed)
        store.remove(["n7"])
        store.save()
        store = FaissStore.open(folder / f"{number}.store", mapped=mapped)
        assert store.has_relaxed
        found = store.search(binarize(query), 89, rescore=query)
        scores = query.double() @ quantize(relaxed).double().T / 127
        for row in range(4):
            rest = [i for i in scores[row].argsort(descending=True).tolist() if i != 7]
            if not isinstance(index, HNSW):
                assert id_list(found.ids[row]) == [names[i] for i in rest]
            assert found.scores[row, 0] == pytest.approx(float(scores[row, rest[0]]))
        with pytest.raises(ValueError, match="store has relaxed codes of its other items"):
            store.add(binarize(relaxed[:1]), ["new"])


def test_replace_is_one_step(case: Case, folder: Path) -> None:
    store = case.create(folder, 16, ids=str, fields={"n": int})
    codes = binarize(torch.randn(6, 16, generator=torch.Generator().manual_seed(0)))
    assert store.replace(codes[:3], ["a", "b", "c"], {"n": [1, 2, 3]}) == 0  # none was there
    assert store.replace(codes[3:5], ["b", "d"], {"n": [7, 8]}) == 1
    store.save()
    store.close()
    store = case.open(folder)
    assert len(store) == 4
    for row, name in ((0, "a"), (2, "c"), (3, "b"), (4, "d")):
        distances, ids = store.search(codes[row : row + 1], 4)
        nearest = {n for n, d in zip(ids[0], distances[0].tolist(), strict=True) if d == 0}
        assert name in nearest
    assert store.search(codes[3:4], 1, where={"n": 7})[1][0, 0] == "b"
    with pytest.raises(ValueError, match="'a' is given more than once"):
        store.replace(codes[:2], ["a", "a"])
    assert len(store) == 4
    more = {} if case.missing else {"n": [7, 9]}  # a field that is not named stays
    assert store.replace(codes[:2], ["b", "e"], more) == 1
    assert store.metadata(["e", "b", "a"]) == {"n": [None if case.missing else 9, 7, 1]}
    store.close()
