"""``pyg-hash store``: items of a store listed, deleted and changed; filters of a search."""

from __future__ import annotations

import json

import pytest
import torch

from pyg_hash.cli import main
from pyg_hash.codes import binarize
from pyg_hash.index import HammingIndex

FIELDS = {"year": int, "label": str, "tags": list, "ok": bool, "w": float}


@pytest.fixture(params=[int, str])
def store(request, tmp_path):
    path = tmp_path / "a.store"
    index = HammingIndex.create(path, 8, ids=request.param, fields=FIELDS)
    metadata = {
        "year": [2000, 2001, None, 2003],
        "label": ["cat", "dog", "it's", "x" * 60],
        "tags": [["a", "b"], [], None, ["b"]],
        "ok": [True, False, None, True],
        "w": [0.5, 1.0, None, 2.0],
    }
    codes = binarize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    index.add(codes, list(map(request.param, range(4))), metadata)
    index.save()
    return path


@pytest.mark.parametrize("name", ["a.csv", "b.csv", "c.jsonl"])
def test_a_line_without_end_is_refused(store, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr("pyg_hash.cli.store._LONGEST", 100)
    with open(tmp_path / name, "w") as file:
        file.write("id,year\n" if name == "b.csv" else "")
        file.truncate(1 << 40)  # holes alone
    assert main(["store", "update", str(store), f"--metadata={tmp_path / name}"]) == 1
    assert f"{name}, line 1: from here on a line has over 100 letters" in capsys.readouterr().err


def test_items_are_listed(store, capsys):
    assert main(["store", "list", str(store), "--where=year > 2000 or tags has 'a'", "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == "pyg-hash: 3 of those that pass the filter, of 4 items\n"
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [str(row["id"]) for row in found] == ["0", "1", "3"]
    assert found[0] | {"id": 0} == {
        "id": 0, "year": 2000, "label": "cat", "tags": ["a", "b"], "ok": True, "w": 0.5,
    }  # fmt: skip
    assert main(["store", "list", str(store), "--start=2", "--limit=2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split() for line in out[:2]] == [
        ["id", "year", "label", "tags", "ok", "w"],
        ["2", "-", "it's", "-", "-", "-"],
    ]
    assert "x" * 39 + "…" in out[2] and out[3] == "2 of 4 items"
    assert main(["store", "list", str(store), "--where=label = 'it''s'", "--limit=0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 of those that pass the filter, of 4 items"


def test_an_empty_filter_lists_all_and_deletes_nothing(store, capsys):
    assert main(["store", "list", str(store), "--where= "]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 of 4 items"
    assert main(["store", "delete", str(store), "--where="]) == 1
    assert "where: expected a field" in capsys.readouterr().err
    assert len(HammingIndex.open(store)) == 4


def test_infinite_numbers_are_listed_as_json(store, tmp_path, capsys):
    (tmp_path / "w.csv").write_text("id,w\n0,inf\n1,-inf\n")
    assert main(["store", "update", str(store), f"--metadata={tmp_path}/w.csv"]) == 0
    capsys.readouterr()
    assert main(["store", "list", str(store), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["w"] for line in lines] == ["inf", "-inf", None, 2.0]


def test_items_are_deleted(store, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("3\n0\n", encoding="utf-8-sig")
    assert main(["store", "delete", str(store), f"--ids={tmp_path}/ids.txt"]) == 0
    assert main(["store", "delete", str(store), "--where=label = 'it''s'"]) == 0
    assert main(["store", "delete", str(store), "--where=year = 1"]) == 0
    said = ["2 of 4 items deleted", "1 of 2 items deleted", "0 of 1 items deleted"]
    assert capsys.readouterr().out.splitlines() == said
    assert [str(i) for i in HammingIndex.open(store).ids.tolist()] == ["1"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_fields_are_changed(store, tmp_path, capsys, ending):
    path = tmp_path / f"new.{ending}"
    kind = HammingIndex.open(store).id_type
    rows = [
        {"id": kind(1), "year": 7, "tags": ["p", "q"], "ok": True, "label": " ox"},
        {"id": kind(0), "year": None, "tags": ["r"], "ok": None, "label": None},
    ]
    if ending == "csv":
        path.write_text("tags,id,year,ok,label\np; q,1,7,TRUE, ox\nr,0,,,\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["store", "update", str(store), f"--metadata={path}"]) == 0
    assert capsys.readouterr().out == "2 of 4 items changed\n"
    found = HammingIndex.open(store).metadata([kind(1), kind(0)])
    for name in ("year", "tags", "ok", "label"):
        assert found[name] == [row[name] for row in rows]
    assert found["w"] == [1.0, 0.5]


def test_an_exported_table_is_read_as_it_was_written(store, tmp_path, capsys):
    index = HammingIndex.open(store)
    odd = [["[x]; y", 'say "hi"', "ä"], [], None, ["[", "2"]]
    index.update(index.list(), {"tags": odd, "label": ["a\nb", ";", "\t", "x" * 200_000]})
    index.save()
    before, names, path = index.metadata(index.list()), index.list().tolist(), tmp_path / "all.csv"
    assert main(["export", str(store), "--to=csv", f"--out={path}"]) == 0
    index.update(names, {name: [None] * 4 for name in FIELDS})
    index.save()
    index.close()
    capsys.readouterr()
    assert main(["store", "update", str(store), f"--metadata={path}"]) == 0
    said = capsys.readouterr()
    assert said.out == "4 of 4 items changed\n" and said.err.count("column code is not read") == 1
    before["label"][2] = None  # nothing but blanks is an empty cell
    assert HammingIndex.open(store).metadata(names) == before


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_any_mark_may_stand_between_cells(store, tmp_path, mark):
    path, kind = tmp_path / "new.csv", HammingIndex.open(store).id_type
    lines = [["id", "tags", "year"], ["1", '"p; q"', "7"], ["0", '"[""r;s"", ""t""]"', ""]]
    text = "".join(mark.join(line) + "\r\n" for line in lines)
    path.write_text(text, encoding="utf-8-sig", newline="")
    assert main(["store", "update", str(store), f"--metadata={path}"]) == 0
    found = HammingIndex.open(store).metadata([kind(1), kind(0)])
    assert found["tags"] == [["p", "q"], ["r;s", "t"]] and found["year"] == [7, None]


def test_a_table_in_another_encoding_says_the_remedy(store, tmp_path, capsys):
    (tmp_path / "w.csv").write_bytes(b"id,year\n" + b"1,1\n" * 9 + b"1,\xe9\n")
    assert main(["store", "update", str(store), f"--metadata={tmp_path}/w.csv"]) == 1
    assert "w.csv: line 11 is not in utf-8 (byte 0xe9); save it as UTF-8" in capsys.readouterr().err


def test_errors_change_nothing(store, tmp_path, capsys):
    before = store.read_bytes()
    for name, text in [
        ("ids.txt", "0\n9\n"),
        ("bad.csv", "id,year\n0,5\n1,many\n"),
        ("other.csv", "id,month\n0,5\n"),
        ("none.csv", "year\n5\n"),
        ("bad.jsonl", '{"id": 0}\n\n{"id": 0\n'),
        ("long.csv", 'id,label,year\n0,"two\nlines",1\n\n1,"two\nmore",x\n'),
        ("quote.csv", 'id,label\n0,a\n1,"a"b\n'),
        ("ok.csv", "id,ok\n0,perhaps\n"),
        ("w.csv", "id,w\n0,x\n"),
        ("x.txt", ""),
    ]:
        (tmp_path / name).write_text(text)
    for words, status, message in [
        (["list", str(store), "--where=month = 5"], 1, "where: 'month' is not known"),
        (["list", str(store), "--limit=-1"], 2, "start, limit: expected 0 or more"),
        (["list", str(tmp_path / "none.store")], 1, "no such file"),
        (["list", "a.h5"], 2, "store: 'a.h5' is none"),
        (["delete", str(store)], 2, "give either --ids FILE or --where FILTER"),
        (["delete", str(store), f"--ids={tmp_path}/ids.txt"], 1, "1 are not in the store (first:"),
        (
            ["update", str(store), f"--metadata={tmp_path}/bad.csv"],
            1,
            "bad.csv, line 3: year: expected an integer, got 'many'",
        ),
        (["update", str(store), f"--metadata={tmp_path}/other.csv"], 1, "'month' is not known"),
        (["update", str(store), f"--metadata={tmp_path}/none.csv"], 1, "line 2: there is no id"),
        (["update", str(store), f"--metadata={tmp_path}/bad.jsonl"], 1, "bad.jsonl, line 3: Exp"),
        (
            ["update", str(store), f"--metadata={tmp_path}/ok.csv"],
            1,
            "line 2: ok: expected true or false",
        ),
        (["update", str(store), f"--metadata={tmp_path}/quote.csv"], 1, "quote.csv, line 3: "),
        (["update", str(store), f"--metadata={tmp_path}/long.csv"], 1, "long.csv, line 5: year: "),
        (["update", str(store), f"--metadata={tmp_path}/w.csv"], 1, "w: expected a number, got 'x"),
        (["update", str(store), "--metadata=gone.csv"], 1, "metadata: gone.csv: no such file"),
        (["update", str(store), f"--metadata={tmp_path}/x.txt"], 2, "use FILE.csv or FILE.jsonl"),
    ]:
        assert main(["store", *words]) == status, words
        assert message in capsys.readouterr().err
    assert store.read_bytes() == before and not store.with_name("a.store.log").exists()
