"""Ids and fields by row, and the way back, against plain lists."""

from __future__ import annotations

import operator
import sys
import threading

import numpy as np
import pytest
import torch

from pyg_hash.index import HammingIndex
from pyg_hash.index.arrays import Rows, StoredArrays
from pyg_hash.index.columns import Column, Finder, Texts


def ids_of(values):
    return Texts.of(values) if isinstance(values[0], str) else Rows(np.array(values, np.int64))


@pytest.mark.parametrize(
    ("values", "others"),
    [
        ([5, -3, 2**62, 0], [1, 2**63 - 1, -(2**63)]),
        ([1, 2, 3], [0, 4]),
        (["b", "", "ä☺", "a\n"], ["c", "a"]),
        ([f"n{i}" for i in range(60)], ["n", "n600", "m7"]),
        (["x" * n for n in (7, 8, 9, 16, 17, 3000)], ["x" * n for n in (6, 10, 2999)]),
    ],
)
def test_ids_both_ways(values, others):
    ids, n = ids_of(values), len(values)
    find = Finder(ids).find
    dtype = object if isinstance(values[0], str) else np.int64
    assert len(ids) == n and ids.at(np.arange(n)).tolist() == values
    asked = np.array([*others, *reversed(values)], dtype)
    assert find(asked).tolist() == [*([-1] * len(others)), *reversed(range(n))]
    ids.append(ids_of(others))
    places = np.array([[n - 1, n], [1, 0]])
    assert ids.at(places).tolist() == [[values[-1], others[0]], [values[1], values[0]]]
    assert find(asked).tolist() == [*range(n, n + len(others)), *reversed(range(n))]
    ids.append(ids_of(values[:1]))  # once more: the last one counts
    assert find(np.array(values[:1], dtype)).tolist() == [n + len(others)]
    kept = ids.take(np.arange(0, n, 2))
    assert kept.at(np.arange(len(kept))).tolist() == values[::2]
    stored = StoredArrays(ids.arrays("ids"))
    again = Texts.read(stored, "ids") if dtype is object else stored.rows("ids", np.int64)
    assert again.at(np.arange(n)).tolist() == values
    for few in asked.tolist():
        one = np.array([few], dtype)
        assert Finder(again).find(one).tolist() == find(one).tolist()


def test_many_additions_of_ids_in_no_order():
    ids, rows = Rows(np.empty(0, np.int64)), {}
    finder = Finder(ids)
    draw = np.random.default_rng(0)
    for turn in range(300):
        new = draw.integers(-500, 500, 1 + turn % 20)
        for row, name in enumerate(new.tolist(), len(ids)):
            rows[name] = row
        ids.append(Rows(new))
        asked = draw.integers(-600, 600, 30)
        assert finder.find(asked).tolist() == [rows.get(name, -1) for name in asked.tolist()]
    every = ids.at(np.arange(len(ids)))
    assert finder.order().tolist() == np.argsort(every, kind="stable").tolist()


def test_ids_whose_prints_are_equal(monkeypatch):
    monkeypatch.setattr(Texts, "prints", lambda self: np.zeros(len(self), np.int64))
    ids = ids_of(["a", "bb", "c", "a"])
    asked = np.array(["a", "c", "bb", "d", "aa"], object)
    assert Finder(ids).find(asked).tolist() == [3, 2, 1, -1, -1]


def test_ids_compare_as_texts_do():
    values = ["b", "", "ä☺", "a\n", "b"]
    ids = ids_of(values)
    hits = Finder(ids).hits
    for more in ([], ["c"], ["a", "", "z"] * 9):
        if more:
            ids.append(ids_of(more))
            values += more
        for asked in ["", "a", "b", "ä", "😀"]:
            for sign, compare in SIGNS.items():
                assert hits(sign, [asked]).tolist() == [compare(v, asked) for v in values]


DRAW = {
    int: lambda r: int(r.integers(-3, 4)),
    float: lambda r: float(r.integers(-3, 4)) / 2,
    bool: lambda r: bool(r.integers(2)),
    str: lambda r: ["", "a", "b", "ab", "ä", "z"][r.integers(6)],
    list: lambda r: [["x", "y", "zz"][i] for i in r.permutation(3)[: r.integers(4)]],
}
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def drawn(kind, n, draw):
    return [None if draw.random() < 0.2 else DRAW[kind](draw) for _ in range(n)]


@pytest.mark.parametrize("kind", DRAW)
def test_columns_are_lists(kind):
    draw = np.random.default_rng(1)
    rows = drawn(kind, 40, draw)
    column = Column.of(kind, rows)
    for turn in range(8):
        more = drawn(kind, turn, draw)
        column.append(Column.of(kind, more))
        rows += more
        places = draw.permutation(len(rows))[:5]
        other = drawn(kind, 5, draw)
        column.assign(places, Column.of(kind, other))
        for place, value in zip(places.tolist(), other, strict=True):
            rows[place] = value
        assert len(column) == len(rows) and column.at(np.arange(len(rows))) == rows
        some = draw.integers(0, len(rows), 20)
        assert column.take(some).at(np.arange(20)) == [rows[i] for i in some]
        stored = StoredArrays(column.take(np.arange(len(rows))).arrays("f"))
        column = Column.read(kind, stored, "f", len(rows))
        assert column.hits("null", ()).tolist() == [value in (None, []) for value in rows]
        wanted = [v for v in drawn(kind, 40, draw) if v is not None][: 1 + turn % 3]
        if kind is list:
            texts = [text for value in wanted for text in value] or ["x"]
            want = [value is not None and bool({*value} & {*texts}) for value in rows]
            assert column.hits("has", texts).tolist() == want
            continue
        assert column.hits("=", wanted).tolist() == [value in wanted for value in rows]
        for sign, compare in SIGNS.items() if kind is not bool else ():
            want = [value is not None and compare(value, wanted[0]) for value in rows]
            assert column.hits(sign, wanted[:1]).tolist() == want
    with pytest.raises((KeyError, ValueError)):
        Column.read(kind, stored, "f", len(rows) + 1)


@pytest.mark.parametrize("clash", [False, True])
@pytest.mark.parametrize("kind", [str, list])
def test_texts_stay_in_order_while_they_change(kind, clash, monkeypatch):
    """What filters keep from one question to the next, of one column that grows and changes."""
    if clash:
        monkeypatch.setattr(Texts, "prints", lambda self: np.zeros(len(self), np.int64))
    texts = ["", "a", "ab", "b" * 8, "b" * 9, "ä", "￿", "😀"]
    draw = np.random.default_rng(3)

    def some(n):
        found = [texts[i] + str(i % 3) * int(i % 2) for i in draw.integers(0, len(texts), 2 * n)]
        rows = (
            found[:n] if kind is str else [found[i : i + int(draw.integers(3))] for i in range(n)]
        )
        return [None if draw.random() < 0.1 else row for row in rows]

    rows = some(60)
    column = Column.of(kind, rows)
    for turn in range(30):
        new = some(turn % 5)
        column.append(Column.of(kind, new))
        rows += new
        if turn % 4 == 3:
            place = int(draw.integers(len(rows)))
            (rows[place],) = some(1)
            column.assign(np.array([place]), Column.of(kind, rows[place : place + 1]))
        for _ in range(2 if turn % 3 else 1):
            for text in [*texts, "a1", "zz"]:
                if kind is list:
                    want = [row is not None and text in row for row in rows]
                    assert column.hits("has", [text]).tolist() == want
                    continue
                assert column.hits("=", [text]).tolist() == [row == text for row in rows]
                for sign, compare in SIGNS.items():
                    want = [row is not None and compare(row, text) for row in rows]
                    assert column.hits(sign, [text]).tolist() == want, (sign, text)
        if kind is list:
            want = [row is not None and bool({"a", "ab"} & {*row}) for row in rows]
            assert column.hits("has", ["a", "ab"]).tolist() == want


@pytest.fixture
def often():
    """Threads take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often")
def test_threads_filter_at_once(tmp_path):
    """The first to ask prepare the texts, and check the file, at the same time."""
    n, path = 3000, tmp_path / "x.store"
    texts, lists = [f"t{i % 900}" for i in range(n)], [[f"a{i % 70}", f"b{i}"] for i in range(n)]
    saved = HammingIndex.create(path, 8, ids=str, fields={"s": str, "l": list})
    codes = torch.ones(n, 8, dtype=torch.int8)
    saved.add(codes, [f"i{i}" for i in range(n)], {"s": texts, "l": lists})
    saved.save()
    saved.close()
    wanted = {
        "s = 't5'": sum(text == "t5" for text in texts),
        "s < 't5'": sum(text < "t5" for text in texts),
        "l has 'a7'": sum("a7" in row for row in lists),
        "l has 'b7'": 1,
    }
    for _ in range(12):
        store, wrong, start = HammingIndex.open(path), [], threading.Barrier(8)

        def ask(where, store=store, wrong=wrong, start=start):
            start.wait(30)
            for _ in range(3):
                try:
                    found = len(store.list(where, limit=n))
                except Exception as error:
                    found = error
                if found != wanted[where]:
                    wrong.append((where, found))

        threads = [threading.Thread(target=ask, args=(x,), daemon=True) for x in [*wanted] * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads) and wrong == []
        for where, count in wanted.items():
            assert len(store.list(where, limit=n)) == count
        store.close()


@pytest.mark.parametrize("kind", [str, int, float])
def test_many_values_are_looked_for_at_once(kind):
    rows = [kind(i % 90) for i in range(300)]
    wanted = [kind(i) for i in range(0, 90, 2)]
    assert Column.of(kind, rows).hits("=", wanted).tolist() == [row in wanted for row in rows]


def test_numbers_of_any_size_compare_while_they_grow():
    edges = [
        sign * 2**bits + more for bits in (7, 15, 31, 62) for sign in (1, -1) for more in (-1, 0, 1)
    ]
    draw, rows = np.random.default_rng(2), [0, 1, 127]
    column = Column.of(int, rows)
    for most in (2**7, 2**8, 2**15 + 2, 2**31 + 2, 2**62 + 2):
        new = [edge for edge in edges if abs(edge) <= most]
        column.append(Column.of(int, [*new, None]))
        rows += [*new, None]
        place = int(draw.integers(len(rows)))
        for value in (most, 1):  # the widest comes and goes
            column.assign(np.array([place]), Column.of(int, [value]))
            rows[place] = value
            for asked in [*edges, 2**63 - 1, -(2**63)]:
                for sign, compare in SIGNS.items():
                    want = [row is not None and compare(row, asked) for row in rows]
                    assert column.hits(sign, [asked]).tolist() == want, (sign, asked)
                assert column.hits("=", [asked]).tolist() == [row == asked for row in rows]
            for few in (edges, [*edges, *range(40)]):
                assert column.hits("=", few).tolist() == [row in few for row in rows]
        assert column.at(np.arange(len(rows))) == rows
