"""What is special about the store in LanceDB; the rest is in the conformance test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from store_cases import check_search, random_codes

from pyg_hash.codes import pack_bits
from pyg_hash.index.where import parse
from pyg_hash.stores import LanceStore, databases
from pyg_hash.utils.files import CorruptFileError


def test_without_lancedb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lancedb", None)
    for call in (lambda: LanceStore.create(tmp_path, 8), lambda: LanceStore.open(tmp_path)):
        with pytest.raises(ImportError, match=r"pip install 'pyg_hash\[lancedb\]'"):
            call()


def test_many_ids_are_looked_for_at_once(tmp_path: Path) -> None:
    """More than fit a condition; a part of them is there."""
    pytest.importorskip("lancedb")
    codes = random_codes(2 * databases._NAMES + 10, 16)
    ids = [f"n{i}" for i in range(len(codes))]
    with LanceStore.create(tmp_path / "db", 16, ids=str) as store:
        store.add(codes[:1500], ids[:1500])
        for wrong in (ids[1490:], [*ids[1500:], ids[0]][-(len(codes) - 1490) :]):
            with pytest.raises(ValueError, match="are in the store already"):
                store.add(codes[: len(wrong)], wrong)
            assert len(store) == 1500
        store.add(codes[1500:], ids[1500:])
        with pytest.raises(ValueError, match=r"1 are not in the store \(first: 'x'"):
            store.remove([*ids, "x"])
        got = [np.concatenate(column) for column in zip(*store.items(700), strict=True)]
        order = np.argsort(np.array([int(name[1:]) for name in got[1]]))
        assert torch.equal(torch.from_numpy(got[0][order]), pack_bits(codes))
        store.remove(ids[5:])
        check_search(store, codes[:3], codes[:5], ids[:5], 5)


def test_several_tables_in_one_folder(tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    for name, n in (("image", 3), ("text", 4)):
        with LanceStore.create(tmp_path, 8, name=name) as store:
            store.add(random_codes(n, 8), range(n))
    assert [len(LanceStore.open(tmp_path, name=name)) for name in ("image", "text")] == [3, 4]
    with pytest.raises(FileExistsError, match="table 'text' already"):
        LanceStore.create(tmp_path, 8, name="text")
    with pytest.raises(FileNotFoundError, match="no table 'codes'"):
        LanceStore.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        LanceStore.open(tmp_path / "none")


def test_tables_of_others(tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb")
    lancedb.connect(str(tmp_path)).create_table("codes", [{"id": 1, "vector": [0.5, 0.5]}])
    with pytest.raises(CorruptFileError, match="was not made by LanceStore"):
        LanceStore.open(tmp_path)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({"n": [1, -2]}, "(`n` IN (1, -2))"),
        ({"n": [-(2**63), 5]}, "(`n` IN ((-9223372036854775807 - 1), 5))"),
        ({"Name": ["it's", 'a"b\\']}, "(`Name` IN ('it''s', 'a\"b\\'))"),
        ({"ok": [True, False], "w": 0.1}, "(`ok` IN (true, false) and `w` IN (0.1))"),
        ("n > -9223372036854775808", "`n` > (-9223372036854775807 - 1)"),
        ("not (w < 1 and n is null)", "((`w` >= 1.0 or `w` is null) or `n` is not null)"),
        ("Name != 'x'", "`Name` NOT IN ('x')"),
        ("tags has 'a''b'", "(coalesce(array_has(`tags`, 'a''b'), false))"),
    ],
)
def test_conditions(where: Any, text: str) -> None:
    fields = {"n": int, "Name": str, "ok": bool, "w": float, "tags": list}
    assert LanceStore(8, int, fields, None)._scope(parse(where, fields)) == text
