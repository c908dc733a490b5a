"""Filters of every store against the same conditions in Python, on random tables and filters."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from store_cases import Case, distances_between, id_list, random_codes

from pyg_hash.codes import binarize
from pyg_hash.stores import FaissStore

N = 120
FIELDS = {"year": int, "name": str, "w": float, "ok": bool, "tags": list}
NAMES = ["", "a", "it's", 'a "dog"', "back\\slash", "ä☺", "%_", "z"]
VALUES: dict[str, list[Any]] = {
    "year": [-(2**63), 2**63 - 1, -1, 0, 2004, 2005],
    "name": NAMES,
    "w": [-0.5, 0.0, 0.1, 1e300],
    "ok": [True, False],
    "tags": NAMES,
}
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
Row = dict[str, Any]
Filter = tuple[str, Callable[[Row], bool]]


def table(draw: random.Random, missing: bool) -> list[Row]:
    def value(name: str) -> Any:
        if missing and draw.random() < 0.15:
            return None
        some = VALUES[name]
        return draw.sample(some, draw.randrange(4)) if name == "tags" else draw.choice(some)

    return [{name: value(name) for name in FIELDS} for _ in range(N)]


def written(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower()


def condition(draw: random.Random, ids: list[Any]) -> Filter:
    fields, values = {**FIELDS, "id": type(ids[0])}, {**VALUES, "id": ids}
    name = draw.choice(list(fields))
    if draw.random() < 0.15:
        word, there = draw.choice([("", False), ("not ", True)])
        return f"{name} is {word}null", lambda row: (row[name] not in (None, [])) == there
    value, kind = draw.choice(values[name]), fields[name]
    if kind is list:
        return f"{name} has {written(value)}", lambda row: value in (row[name] or [])
    if draw.random() < 0.3:
        some = draw.sample(values[name], 2)
        listed, word = ", ".join(map(written, some)), draw.choice(["", "not "])
        return (
            f"{name} {word}in ({listed})",
            lambda row: row[name] is not None and (row[name] in some) == (word == ""),
        )
    sign = draw.choice(["=", "!=", *(SIGNS if kind is not bool else [])])
    if kind is int:
        value = draw.choice([value, 2004.0, 2003.5, -0.5])
    compare = {"=": operator.eq, "!=": operator.ne, **SIGNS}[sign]
    return (
        f"{name} {sign} {written(value)}",
        lambda row: row[name] is not None and bool(compare(row[name], value)),
    )


def drawn(draw: random.Random, ids: list[Any], depth: int = 3) -> Filter:
    """A filter, and what it means."""
    kind = draw.choice(["and", "or", "not", "one"]) if depth else "one"
    if kind == "one":
        return condition(draw, ids)
    text, holds = drawn(draw, ids, depth - 1)
    if kind == "not":
        return f"not ({text})", lambda row: not holds(row)
    other, also = drawn(draw, ids, depth - 1)
    if kind == "and":
        return f"({text}) and ({other})", lambda row: holds(row) and also(row)
    return f"({text}) or ({other})", lambda row: holds(row) or also(row)


@pytest.mark.parametrize("kind", [int, str])
def test_random_filters_equal_brute_force(case: Case, folder: Path, kind: Any) -> None:
    draw = random.Random(7)
    rows, codes, query = (
        table(draw, case.missing),
        random_codes(N, 6),
        random_codes(4, 6, 1),
    )  # many ties
    ids = [kind(i) for i in draw.sample(range(1000), N)]
    for row, name in zip(rows, ids, strict=True):
        row["id"] = name
    columns = {name: [row[name] for row in rows] for name in FIELDS}
    relaxed = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    near, passed = distances_between(query, codes), 0
    with case.create(folder, 6, ids=kind, fields=FIELDS) as store:
        store.add(codes[:70], ids[:70], {name: values[:70] for name, values in columns.items()})
        store.save()
        store.add(codes[70:], ids[70:], {name: values[70:] for name, values in columns.items()})
        news = ["new", None if case.missing else "newer", "z"]
        store.update(ids[5:8], {"name": news})
        for row, name in zip(rows[5:8], news, strict=True):
            row["name"] = name
        gone = ids[:N:17]
        store.remove(gone)
        assert store.metadata(ids[1:12]) == {f: [row[f] for row in rows[1:12]] for f in FIELDS}
        order = sorted(range(N), key=lambda i: ids[i]) if kind is int else range(N)
        for _ in range(80 if isinstance(store, FaissStore) else 40):
            where, holds = drawn(draw, [*ids[:90:3], kind(1000)])
            if not case.missing and "not (" in where and "has" in where:
                continue  # which Milvus Lite does not know
            keep = [i for i in order if ids[i] not in gone and holds(rows[i])]
            passed += len(keep)
            every = [ids[i] for i in keep]
            assert sorted(id_list(store.list(where, limit=N))) == sorted(every), where
            ranked = [sorted((int(row[i]), place) for place, i in enumerate(keep)) for row in near]
            distances, found = store.search(query, 9, where=where)
            limits, within, names = store.range_search(query, 2, where=where)
            for asked, best in enumerate(ranked):
                far = [d for d, _ in best][:9]
                assert distances[asked].tolist() == far + [-1] * (9 - len(far)), where
                some = slice(int(limits[asked]), int(limits[asked + 1]))
                want = [every[place] for d, place in best if d <= 2]
                assert within[some].tolist() == [d for d, _ in best if d <= 2]
                assert sorted(id_list(names[some])) == sorted(want), where
                if isinstance(store, FaissStore):
                    there = [every[place] for _, place in best[:9]]
                    assert id_list(found[asked])[: len(there)] == there, where
                    assert id_list(names[some]) == want
            best_of = store.search(binarize(relaxed), 200, where=where, rescore=relaxed).ids
            assert {*id_list(best_of[0])} - {-1, None} == {*every}, where
    assert passed > 1000


@pytest.mark.parametrize("kind", [int, str])
def test_the_id_is_a_field(case: Case, folder: Path, kind: Any) -> None:
    a, b, c, d = [kind(i) for i in (7, 3, 9, 5)]
    with case.create(folder, 8, ids=kind) as store:
        store.add(random_codes(4, 8), [a, b, c, d])
        store.replace(random_codes(1, 8), [b])
        store.remove([d])
        shown = [written(name) for name in (a, b, c, d)]
        for where, want in [
            (f"id = {shown[1]}", [b]),
            (f"id in ({', '.join(shown)})", [a, b, c]),
            (f"id != {shown[1]}", [a, c]),
            (f"not id = {shown[1]}", [a, c]),
            (f"id >= {shown[0]}", [a, c]),
            ("id is null", []),
            ("id is not null", [a, b, c]),
            ({"id": [a, d]}, [a]),
            ({"id": None}, []),
        ]:
            assert sorted(id_list(store.list(where))) == sorted(want), where
        with pytest.raises(TypeError, match=f"where: id: expected {kind.__name__}, got True"):
            store.list("id = true")


def test_fields_of_any_name(tmp_path: Path) -> None:
    store = FaissStore.create(tmp_path / "a.store", 8, fields={"größe in cm": int, "and": bool})
    store.add(random_codes(3, 8), None, {"größe in cm": [1, 2, None]})
    store.save()
    store = FaissStore.open(tmp_path / "a.store")
    assert store.list("`größe in cm` > 1 and `and` is null").tolist() == [1]
    assert store.metadata([2]) == {"größe in cm": [None], "and": [None]}


def test_bad_fields_leave_the_store_unchanged(case: Case, folder: Path) -> None:
    codes, fields = random_codes(3, 8), {"n": int, "tags": list}
    with case.create(folder, 8, fields=fields) as store:
        n, tags = (
            ([1, None, 3], [["a"], [], None]) if case.missing else ([1, 2, 3], [["a"], [], []])
        )
        store.add(codes, [0, 1, 2], {"n": n, "tags": tags})
        for call, error, message in [
            (lambda: store.update([0], {"m": [1]}), ValueError, r"metadata: got \['m'\]"),
            (lambda: store.update([0], {"n": [1, 2]}), ValueError, "n has 2 values for 1 items"),
            (lambda: store.update([0], {"n": ["x"]}), TypeError, "n: expected int, got 'x'"),
            (lambda: store.update([0], {"n": [2**63]}), ValueError, "does not fit int64"),
            (lambda: store.update([0], {"tags": ["a"]}), TypeError, "expected a list of str"),
            (lambda: store.update([0], {"tags": [[1]]}), TypeError, "tags: expected str, got 1"),
            (lambda: store.update([0, 7], {"n": [1, 2]}), ValueError, r"not in the store \(first"),
            (lambda: store.update([0, 0], {"n": [1, 2]}), ValueError, "0 is given more than once"),
            (lambda: store.metadata([7]), ValueError, "1 are not in the store"),
            (lambda: store.list("n >"), ValueError, "where: expected a number"),
        ]:
            with pytest.raises(error, match=message):
                call()
        assert store.metadata([2, 0, 1]) == {"n": [3, 1, n[1]], "tags": [tags[2], ["a"], []]}
