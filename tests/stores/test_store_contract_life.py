"""What every store must keep: the conformance test, second part.

Restarts, exports, filters, and many who read at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from store_cases import Case, case_or_skip, check_range, check_search, ids_of, random_codes

from pyg_hash.codes import pack_bits


def test_what_was_saved_is_there_again(case: Case, folder: Path) -> None:
    codes, query, ids = random_codes(90, 32), random_codes(9, 32, 1), ids_of(90)
    with case.create(folder, 32) as store:
        store.add(codes[:60], ids[:60])
        store.save()
    with pytest.raises(FileExistsError, match=r"already|exists"):
        case.create(folder, 32)
    with case.open(folder) as store:
        assert (len(store), store.num_bits, store.id_type) == (60, 32, int)
        check_search(store, query, codes[:60], ids[:60], 20)
        check_range(store, query, codes[:60], ids[:60], 12)
        store.remove(ids[:10])
        store.add(codes[60:], ids[60:])
        check_search(store, query, codes[10:], ids[10:], 80)
        store.save()
    with case.open(folder) as store:
        check_search(store, query, codes[10:], ids[10:], 80)
        check_range(store, query, codes[10:], ids[10:], 12)


RESTARTED = """
import sys
from pathlib import Path
from store_cases import CASES, random_codes
store = CASES[sys.argv[1]].create(Path(sys.argv[2]), 32, ids=str)
store.add(random_codes(40, 32), [f"item {i}" for i in range(40)])
store.remove(["item 7"])
store.save()
"""


@pytest.mark.parametrize("name", ["flat", "lance", "milvus"])
def test_another_process_finds_it(name: str, folder: Path) -> None:
    """The process that wrote it has ended, without closing anything."""
    case = case_or_skip(name)
    tests = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", RESTARTED, name, str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    left = [i for i in range(40) if i != 7]
    with case.open(folder) as store:
        codes = random_codes(40, 32)[left]
        check_search(store, codes[:5], codes, [f"item {i}" for i in left], 39)


def test_an_empty_store_is_saved_too(case: Case, folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        case.open(folder)
    with case.create(folder, 9, ids=str) as store:
        store.save()
    with case.open(folder) as store:
        assert (len(store), store.num_bits, store.id_type) == (0, 9, str)
        store.add(random_codes(2, 9), ["b", "a"])
        assert store.search(random_codes(2, 9), 1)[1].tolist() == [["b"], ["a"]]


@pytest.mark.parametrize("kind", [int, str])
def test_items_and_export(case: Case, folder: Path, kind: Any) -> None:
    from pyg_hash.stores import read_codes

    codes = random_codes(70, 13)
    ids = [kind(i) for i in ids_of(70)]
    with case.create(folder, 13, ids=kind) as store:
        store.add(codes, ids)
        got = {}
        for packed, names in store.items(32):
            assert len(packed) == len(names) <= 32
            got.update(zip(names.tolist(), map(bytes, packed), strict=True))
        assert got == dict(zip(ids, map(bytes, pack_bits(codes).numpy()), strict=True))
        store.export(folder / "codes.npz")
    exported = read_codes(folder / "codes.npz")
    again = dict(zip(exported.ids.tolist(), map(bytes, exported.codes.numpy()), strict=True))
    assert again == got and exported.num_bits == 13


def test_filters(case: Case, folder: Path) -> None:
    fields = {"label": str, "Year": int, "weight": float, "ok": bool}
    labels = ["cat", "it's", 'a "dog"', "back\\slash"]
    codes, query = random_codes(100, 24), random_codes(6, 24, 1)
    metadata = {
        "label": [labels[i % 4] for i in range(100)],
        "Year": [2000 + i % 7 for i in range(100)],
        "weight": [0.1 * (i % 3) for i in range(100)],
        "ok": [i % 2 == 0 for i in range(100)],
    }
    ids = [f"item {i}" for i in range(100)]
    with case.create(folder, 24, ids=str, fields=fields) as store:
        store.add(codes, ids, metadata)
        store.save()
    with case.open(folder) as store:
        assert store.fields == fields
        for where in [
            *({"label": label} for label in labels),
            {"label": labels[:2], "Year": 2003},
            {"Year": [2001, 2002, 2003]},
            {"weight": 0.1},
            {"ok": True},
            {"ok": [True, False], "weight": [0.1, 0.2]},
        ]:
            allowed = {
                key: value if isinstance(value, list) else [value] for key, value in where.items()
            }
            keep = [i for i in range(100) if all(metadata[k][i] in v for k, v in allowed.items())]
            assert 0 < len(keep) < 100
            only = _Filtered(store, where)
            names = [ids[i] for i in keep]
            check_search(only, query, codes[keep], names, len(keep))  # type: ignore[arg-type]
            check_range(only, query, codes[keep], names, 9)  # type: ignore[arg-type]
            assert store.search(query, len(keep) + 1, where=where)[0][:, -1].eq(-1).all()
        assert store.search(query, 1, where={"label": "cow"})[0].eq(-1).all()
        for wrong, error, message in [
            ({"label": 3}, TypeError, "where: label: expected str, got 3"),
            ({"label": []}, ValueError, "where: label has no value"),
            ({"Label": "cat"}, ValueError, "where: 'Label' is not known"),
            ({"Year": True}, TypeError, "where: Year: expected int"),
        ]:
            with pytest.raises(error, match=message):
                store.search(query, 1, where=wrong)
        good = {key: values[:2] for key, values in metadata.items()}
        for change, error, message in [
            ({"Year": [1, "x"]}, TypeError, "metadata: Year: expected int, got 'x'"),
            ({"weight": [1.0]}, ValueError, "metadata: weight has 1 values for 2 items"),
            ({"weight": [1.0, float("nan")]}, ValueError, "NaN"),
            ({"more": [1, 2]}, ValueError, "metadata: got .*'more'"),
        ]:
            with pytest.raises(error, match=message):
                store.add(codes[:2], ["x", "y"], {**good, **change})
        assert len(store) == 100
    for name, kind in [("id", str), ("x", dict), ("", str), ("a`; --", int)]:
        with pytest.raises(ValueError, match="fields: "):
            case.create(folder / "new", 8, fields={name: kind})


class _Filtered:
    """A store through a filter."""

    def __init__(self, store: Any, where: Any) -> None:
        self.store, self.where = store, where

    def search(self, query: Any, k: int) -> Any:
        return self.store.search(query, k, where=self.where)

    def range_search(self, query: Any, radius: int) -> Any:
        return self.store.range_search(query, radius, where=self.where)


def test_concurrent_readers(case: Case, folder: Path) -> None:
    """Readers of their own and threads that share one, while the store is written and saved."""
    codes, query = random_codes(300, 32), random_codes(8, 32, 1)
    errors: list[BaseException] = []
    with case.create(folder, 32) as store:
        store.add(codes[:200], range(200))
        store.save()
        shared = case.open(folder)

        def read(own: bool) -> None:
            try:
                for _ in range(4):
                    reader = case.open(folder) if own else shared
                    distances, ids = reader.search(query, 150)
                    true = (query[:, None] != codes[ids]).sum(2)  # any snapshot is a true one
                    assert torch.equal(distances.long(), true)
                    assert bool((distances.diff(dim=1) >= 0).all())
                    limits, distances, ids = reader.range_search(query, 11)
                    rows = torch.arange(8).repeat_interleave(limits.diff())
                    assert torch.equal(distances.long(), (query[rows] != codes[ids]).sum(1))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=read, args=(i % 2 == 0,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for start in range(200, 300, 20):
            store.add(codes[start : start + 20], range(start, start + 20))
            store.save()
        for thread in threads:
            thread.join()
        shared.close()
    assert not errors, errors[0]
    with case.open(folder) as store:
        check_search(store, query, codes, list(range(300)), 50)
