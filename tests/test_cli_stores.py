"""Stores on the command line: encode fills them, search looks there."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from small import relaxed_of_new

from pyg_hash.cli import build, main
from pyg_hash.cli.build import Coder, load_model
from pyg_hash.cli.search import table
from pyg_hash.runs import Run
from pyg_hash.stores import FaissStore, MultiIndex
from pyg_hash.typing import binarize

pytest.importorskip("faiss")
pytestmark = pytest.mark.usefixtures("shapes")


@pytest.fixture
def store(shapes_run, shapes_root, tmp_path, capsys):
    path = str(tmp_path / "new.store")
    pattern = f"--images={shapes_root}/raw/*.png"
    assert main(["encode", str(shapes_run), pattern, f"--out={path}", "--index=multiindex"]) == 0
    return path


def test_a_store_is_filled_and_searched(shapes_run, shapes_root, store, capsys):
    count = len(list((shapes_root / "raw").glob("*.png")))
    printed = f"image: {count} codes of 16 bits -> {store} ({count} items)\n"
    assert capsys.readouterr().out == printed
    assert FaissStore.open(store).index == MultiIndex()
    words = ["search", str(shapes_run), "--text=red box", f"--store={store}", "-k", "3"]
    assert main([*words, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert len(answers) == 3 and all(set(a) == {"id", "distance", "score"} for a in answers)
    run = Run.open(shapes_run)
    text, pictures = (Coder(load_model(run), m, run.encoder(m)) for m in ("text", "image"))
    text = binarize(text(["red box"]))
    for answer in answers:  # the true distance of each
        features = pictures.features([answer["id"]])
        true = int((binarize(pictures.relax(features)) != text).sum())
        # coded with others, a bit whose relaxed value is nearly zero may be another
        unsure = int((relaxed_of_new(pictures.model, features, "image").abs() < 1e-5).sum())
        assert abs(true - answer["distance"]) <= unsure < 2
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["score", "distance", "id"]


def test_a_store_keeps_growing_and_replaces_what_it_knows(shapes_run, shapes_root, store, capsys):
    capsys.readouterr()
    pictures = [f"--images={shapes_root}/raw/red-*.png", f"--out={store}"]
    assert main(["encode", str(shapes_run), *pictures]) == 0
    count = len(list((shapes_root / "raw").glob("red-*.png")))
    total = len(list((shapes_root / "raw").glob("*.png")))
    printed = capsys.readouterr().out
    assert f"{count} replaced -> {store} ({total} items)" in printed
    texts = shapes_root / "more.txt"
    texts.write_text("red box\nblue box\n\n")
    assert main(["encode", str(shapes_run), f"--texts={texts}", f"--out={store}"]) == 0
    assert f"text: 2 codes of 16 bits, 1 skipped -> {store} ({total + 2} items)" in (
        capsys.readouterr().out
    )


def test_only_empty_fields_are_filled(shapes_run, shapes_root, tmp_path, capsys):
    path, ids, texts = (str(tmp_path / name) for name in ("own.store", "ids.txt", "texts.txt"))
    with FaissStore.create(path, 16, ids=str, fields={"text": str, "image": str}) as made:
        own = {"text": ["My title", None], "image": ["https://cdn/x.jpg", None]}
        made.add(torch.ones(2, 16, dtype=torch.int8), ["a", "b"], own)
        made.save()
    Path(ids).write_text("new\nb\na\n")
    Path(texts).write_text("red box\nblue box\nred tree\n")
    (tmp_path / "three").mkdir()
    for number, picture in enumerate(sorted((shapes_root / "raw").glob("*.png"))[:3]):
        shutil.copy(picture, tmp_path / "three" / f"{number}.png")
    for items in (f"--texts={texts}", f"--images={tmp_path}/three"):
        words = [items, f"--ids={ids}", f"--out={path}", "--force"]
        assert main(["encode", str(shapes_run), *words]) == 0
        field = "text" if "texts" in items else "image"
        for _ in range(2):  # those of 'b' and 'new' are the same by then
            assert main(["encode", str(shapes_run), *words]) == 0
            told = capsys.readouterr().err
            assert "note: 1 of " in told and "change it with: pyg-hash store update" in told
            assert f"their field {field}, which is not what was encoded (first: 'a')" in told
    found = FaissStore.open(path).metadata(["new", "b", "a"])
    assert found["text"] == ["red box", "blue box", "My title"]
    assert found["image"] == [*(f"{tmp_path}/three/{n}.png" for n in (0, 1)), "https://cdn/x.jpg"]


def test_columns_of_ones_own_stand_beside_those_of_the_answer(shapes_run, tmp_path, capsys):
    fields = {"score": float, "distance": int, "name": str, "distance_": int}
    with FaissStore.create(tmp_path / "own.store", 16, ids=str, fields=fields) as made:
        own = {"score": [float("inf")], "distance": [200], "name": ["N"], "distance_": [300]}
        made.add(torch.ones(1, 16, dtype=torch.int8), ["a"], own)
        made.save()
    words = ["search", str(shapes_run), "--text=red box", f"--store={tmp_path}/own.store"]
    assert main([*words, "--json", "--where="]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    assert answer["distance"] <= 16 and answer["score"] <= 16
    assert answer["metadata"] == {"score": "inf", "distance": 200, "name": "N", "distance_": 300}
    assert main(words) == 0
    head, row = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["score", "distance", "id", "score_", "distance_", "name", "distance__"]
    near = [f"{answer['score']:.2f}", str(answer["distance"])]
    assert row == [*near, "a", "inf", "200", "N", "300"]
    of_run = {**answer, "name": "red", "labels": ["x"], "path": None}
    head, row = (line.split() for line in table({"answers": [of_run]}).splitlines())
    own = ["score_", "distance_", "name_", "distance__"]
    assert head == ["score", "distance", "name", "label", "id", "path", *own]
    assert row == [*near, "red", "x", "a", "-", "inf", "200", "N", "300"]


def test_what_others_change_during_the_encoding_stays(
    shapes_run, shapes_root, store, monkeypatch, capsys
):
    each = Coder.each

    def meanwhile(self, items):
        with FaissStore.open(store) as other:
            other.remove(other.list(limit=1))
            other.save()
        return each(self, items)

    monkeypatch.setattr(Coder, "each", meanwhile)
    texts = shapes_root / "two.txt"
    texts.write_text("red box\nblue box\n")
    total = len(list((shapes_root / "raw").glob("*.png")))
    assert main(["encode", str(shapes_run), f"--texts={texts}", f"--out={store}"]) == 0
    assert f"-> {store} ({total + 1} items)" in capsys.readouterr().out


def test_a_store_that_another_made_during_the_encoding(
    shapes_run, shapes_root, tmp_path, monkeypatch, capsys
):
    path, open_store = str(tmp_path / "new.store"), build.open_store
    texts = {name: shapes_root / f"{name}.txt" for name in ("red", "blue", "green")}
    for name, file in texts.items():
        file.write_text(f"{name} box\n")
    words = {name: ["encode", str(shapes_run), f"--texts={t}"] for name, t in texts.items()}

    def late(address, *more):
        """Both found no store, and the other one was first to save, with relaxed codes."""
        try:
            return open_store(address, *more)
        except FileNotFoundError:
            monkeypatch.setattr(build, "open_store", open_store)
            assert main([*words["red"], "--relaxed", f"--out={path}"]) == 0
            raise

    monkeypatch.setattr(build, "open_store", late)
    assert main([*words["blue"], f"--out={path}"]) == 0
    each = Coder.each

    def meanwhile(self, items):
        monkeypatch.setattr(Coder, "each", each)
        assert main([*words["red"], "--relaxed", f"--out={path}2.store"]) == 0
        return each(self, items)

    monkeypatch.setattr(Coder, "each", meanwhile)
    assert main([*words["green"], f"--out={path}2.store"]) == 0
    assert "(2 items)" in capsys.readouterr().out
    for name in (path, f"{path}2.store"):
        assert len(FaissStore.open(name)) == 2 and FaissStore.open(name).has_relaxed
    (tmp_path / "dangling.store").symlink_to(tmp_path / "nothing")
    capsys.readouterr()
    assert main([*words["blue"], f"--out={tmp_path}/dangling.store"]) == 1
    assert "dangling.store is there, but no store" in capsys.readouterr().err


def test_what_a_store_cannot_take_is_said_first(shapes_run, shapes_root, store, tmp_path, capsys):
    images, texts = f"--images={shapes_root}/raw", f"--texts={tmp_path}/t.txt"
    (tmp_path / "t.txt").write_text("red box\n")
    FaissStore.create(tmp_path / "wide.store", 32, ids=str).save()
    FaissStore.create(tmp_path / "ints.store", 16).save()
    theirs = FaissStore.create(tmp_path / "theirs.store", 16, ids=str)
    theirs.modality = "text"
    theirs.save()
    (tmp_path / "bad.store").write_text("no store")
    (tmp_path / "twice.txt").write_text("red box\nblue box\nred box\n")
    twice = f"--texts={tmp_path}/twice.txt"
    cases = [
        (["encode", twice, f"--out={store}"], 1, "'red box' is that of "),
        (["encode", twice, f"--out={tmp_path}/c.h5", f"--ids={tmp_path}/twice.txt"], 1, "unique"),
        (["encode", images, texts, f"--out={store}"], 2, "call encode for each"),
        (["encode", images, f"--out={tmp_path}/theirs.store"], 1, "keeps the texts of a run"),
        (["encode", images, f"--out={store}", "--index=flat"], 2, "keeps its own"),
        (["encode", images, f"--out={tmp_path}/a.store", "--index=tree"], 2, "'tree' is not known"),
        (["encode", images, f"--out={tmp_path}/a.lance", "--index=flat"], 2, "for NAME.store only"),
        (["encode", images, f"--out={tmp_path}/a.h5", "--index=flat"], 2, "is for --out"),
        (
            ["encode", images, f"--out={tmp_path}/wide.store"],
            1,
            "32 bits, those of the run 16",
        ),
        (["encode", images, f"--out={tmp_path}/ints.store"], 1, "has int ids"),
        (["encode", images, f"--out={tmp_path}/bad.store"], 1, "not a safetensors file"),
        (["search", "--text=red", f"--store={tmp_path}/none.store"], 1, "no such file"),
        (["search", "--text=red", f"--store={tmp_path}/ints.store"], 1, "is empty"),
        (["search", "--text=red", "--store=codes.h5"], 2, "'codes.h5' is none"),
        (["search", "--text=red", f"--store={store}", "--modality=text"], 2, "only its own"),
    ]
    for words, status, message in cases:
        capsys.readouterr()
        assert main([words[0], str(shapes_run), *words[1:]]) == status, words
        assert message in capsys.readouterr().err, words
    assert not (tmp_path / "a.store").exists()


def test_relaxed_codes_are_kept_for_rescoring(shapes_run, shapes_root, tmp_path, capsys):
    path, some = f"{tmp_path}/new.store", f"--images={shapes_root}/raw/red-*.png"
    assert main(["encode", str(shapes_run), some, f"--out={path}", "--relaxed"]) == 0
    more = f"--images={shapes_root}/raw/*.png"
    assert main(["encode", str(shapes_run), more, f"--out={path}"]) == 0  # has them, and gets more
    assert main(["encode", str(shapes_run), more, f"--out={tmp_path}/x.h5", "--relaxed"]) == 0
    assert FaissStore.open(path).has_relaxed
    with h5py.File(tmp_path / "x.h5") as file:
        codes, relaxed = file["image/codes"][:], file["image/relaxed"][:]
        names = file["image/ids"].asstr()[:].tolist()
    assert relaxed.dtype == np.float16 and (codes == np.where(relaxed >= 0, 1, -1)).all()
    capsys.readouterr()
    words = ["search", str(shapes_run), "--text=red box", f"--store={path}", f"-k{len(names)}"]
    assert main([*words, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    run = Run.open(shapes_run)
    text = Coder(load_model(run), "text", run.encoder("text"))(["red box"]).double().numpy()[0]
    true = dict(zip(names, relaxed.astype(float) @ text, strict=True))
    assert all(abs(a["score"] - true[a["id"]]) < 16 * 0.005 for a in answers)
    assert [a["score"] for a in answers] == sorted((a["score"] for a in answers), reverse=True)
    plain = f"--out={tmp_path}/plain.store"
    assert main(["encode", str(shapes_run), some, plain]) == 0
    for out in (plain, f"--out={tmp_path}/new.lance"):
        if out.endswith("lance") and find_spec("lancedb") is None:
            continue
        assert main(["encode", str(shapes_run), some, out, "--relaxed"]) == 2
        assert "keeps codes alone; use a new NAME.store" in capsys.readouterr().err
