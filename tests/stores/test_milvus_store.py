"""The parts of the Milvus store that need no Milvus; a real one runs the conformance test."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyg_hash.cli import main
from pyg_hash.index.where import Condition, parse
from pyg_hash.stores import MilvusStore, databases


def test_without_pymilvus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    for call in (
        lambda: MilvusStore.create(tmp_path / "m.db", 8),
        lambda: MilvusStore.open(tmp_path / "m.db"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'pyg_hash\[milvus\]'"):
            call()


def test_a_server_that_is_not_reached_is_named(monkeypatch, capsys) -> None:
    class MilvusException(Exception):
        pass

    def client(uri: str) -> None:
        raise MilvusException("fail connecting")

    fake = SimpleNamespace(MilvusException=MilvusException, MilvusClient=client)
    monkeypatch.setitem(sys.modules, "pymilvus", fake)
    assert main(["store", "list", "http://127.0.0.1:9"]) == 1
    error = capsys.readouterr().err
    assert "http://127.0.0.1:9: Milvus cannot be reached there (fail connecting)" in error
    assert "unexpected" not in error


def test_a_file_without_milvus_lite_says_what_to_install(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", SimpleNamespace())
    monkeypatch.setattr(databases, "find_spec", lambda name: None)
    (tmp_path / "m.db").touch()
    assert main(["store", "list", str(tmp_path / "m.db")]) == 1
    error = capsys.readouterr().err
    assert "pip install milvus-lite==2.5.1 'setuptools<81'" in error and "unexpected" not in error
    assert error.count("\n") == 1
    stores = Path(__file__).parents[2] / "docs" / "stores.rst"
    line = "pip install milvus-lite==2.5.1 pymilvus==2.6.17 'setuptools<81'"
    assert line in stores.read_text(encoding="utf-8")


def test_wrong_settings_are_found_before_anything_is_reached() -> None:
    for arguments, message in [
        ({"index": "HNSW"}, "index: 'HNSW' is not known; use one of 'BIN_FLAT'"),
        ({"nlist": 0}, "nlist: expected a positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            MilvusStore.create("http://127.0.0.1:1", 8, **arguments)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({"x": [1, -2]}, "(x in [1, -2])"),
        ({"x": [-(2**63), 5]}, "(x in [(-9223372036854775807 - 1), 5])"),
        ({"s": ["it's", 'a"b\\']}, '(s in ["it\'s", "a\\"b\\\\"])'),
        ({"ok": [True, False]}, "(ok in [true, false])"),
        ("x >= 5 or not s = 'a'", '(x >= 5 or (s not in ["a"] or s is null))'),
        ("x != 3", "x not in [3]"),
        ("not x != 3", "(x in [3] or x is null)"),
        ("tags has 'a\"'", '(array_contains(tags, "a\\""))'),
    ],
)
def test_conditions(where: Any, text: str) -> None:
    fields = {"x": int, "s": str, "ok": bool, "tags": list}
    store = MilvusStore(8, str, fields, None)
    assert store._scope(parse(where, fields)) == text
    found = store._scope(parse("not id = 'a' and x is null", {**fields, "id": str}))
    assert found == '((id not in ["a"] or (id < "" and id > "")) and x is null)'
    store._lite = True
    found = store._scope(parse("x is null or not s != 'a'", fields))
    never = '(id < "" and id > "")'
    assert found == f'({never} or (s in ["a"] or {never}))'


def test_lists_and_items_come_in_pages_with_their_ids_quoted(monkeypatch) -> None:
    """Milvus gives so many rows to one query; an id may hold what ends a text in a filter."""
    ids = sorted(['a"b', "b\\", "c", 'd"', 'e"\\" or id > "', "f", "g"])
    asked = []

    def query(name: str, filter: str, output_fields: list[str], limit: int, **more: Any) -> Any:
        assert limit <= 3
        asked.append(filter)
        after = filter.partition("id > ")[2]
        left = [i for i in ids if not after or i > json.loads(after)]
        return [{"id": i, "code": [i[:1].encode()]} for i in left[:limit]]

    monkeypatch.setattr(databases, "_MOST", 3)
    store = MilvusStore(8, str, {"x": int}, None)
    store.name, store.client = "codes", SimpleNamespace(query=query)
    assert store.list(limit=100).tolist() == ids
    assert store.list(start=2, limit=4).tolist() == ids[2:6]
    assert store.list(start=7).tolist() == store.list(limit=0).tolist() == []
    asked.clear()
    assert store.list("x > 3", limit=2).tolist() == ids[:2] and asked == ["x > 3"]
    asked.clear()
    assert store.list("x > 3", limit=4).tolist() == ids[:4]
    assert asked == ["x > 3", 'x > 3 and id > "c"']
    assert [i for _, names in store.items(5) for i in names.tolist()] == ids
    assert b"".join(codes.tobytes() for codes, _ in store.items()) == b"abcdefg"


def test_lite_says_that_it_knows_no_not_has() -> None:
    store = MilvusStore(8, str, {"tags": list, "x": int}, None)
    assert store._scope(parse("not tags has 'a'", store.fields))
    store._lite = True
    for where in ("not tags has 'a'", "x = 1 and not (x = 2 or tags has 'a')"):
        with pytest.raises(ValueError, match="where: Milvus Lite knows no not tags has"):
            store._scope(parse(where, store.fields))
    assert store._scope(parse("not not tags has 'a'", store.fields))


def test_strings_that_are_refused() -> None:
    for text, message in [("a\nb", "line break"), ("\r", "line break"), ("é" * 40_000, "longer")]:
        with pytest.raises(ValueError, match=message):
            MilvusStore(8, str, None, None)._scope(Condition("x", "=", (text,)))
    for name in ("", "it's"):
        with pytest.raises(ValueError, match="Milvus Lite cannot delete"):
            databases._check_for_lite(["fine", name], {})
    databases._check_for_lite(["fine", 'a"b', "ä"], {"x": [0, 1]})
    with pytest.raises(ValueError, match="metadata: x is missing, which Milvus Lite"):
        databases._check_for_lite([0, 1], {"x": [1, None]})
