"""``pyg-hash build``: one command from what people have to a run that finds all of it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pyg_hash.cli import catalogue, main
from pyg_hash.cli.build import load_model, own_function
from pyg_hash.cli.command import parse
from pyg_hash.cli.options import Build, Serve
from pyg_hash.datasets import FeatureFile, write_feature_file
from pyg_hash.datasets.sources import Source
from pyg_hash.features import OwnEncoder, load_image
from pyg_hash.index import HammingIndex
from pyg_hash.runs import Run
from pyg_hash.serve import SearchEngine
from pyg_hash.typing import binarize
from pyg_hash.utils.files import load_json, save_json

COLORS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}
QUICK = ["--num_bits=16", "--epochs=3"]
CALLS, REFUSED = [], set()


def mean_colors(paths):
    """A list of rows, one a picture."""
    CALLS.extend(paths)
    if any(str(path) in REFUSED for path in paths):
        raise ValueError("not to my taste")
    return [load_image(path, 4).float().flatten(1).mean(1).tolist() for path in paths]


def letters(texts):
    """An array: how often each letter is in a text."""
    return np.array(
        [[text.count(letter) for letter in "abcdefghijklmnoprstuvwz"] for text in texts]
    )


def same_letters(texts):
    return letters(texts)


noisy = torch.nn.Sequential(torch.nn.Dropout())


OWN = ["--image_encoder=own_encoders:mean_colors", "--text_encoder=own_encoders:letters"]


@pytest.fixture(autouse=True)
def own(monkeypatch):
    monkeypatch.setitem(sys.modules, "own_encoders", sys.modules[__name__])
    CALLS.clear()
    REFUSED.clear()


def make_shop(folder):
    """30 rows: 24 pairs, 4 pictures alone, 2 texts alone."""
    rng, names = np.random.default_rng(0), list(COLORS)
    with open(folder / "shop.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "photo", "description", "category", "price"])
        for i in range(30):
            color = names[i % 3]
            pixels = np.clip(np.array(COLORS[color]) + rng.integers(-20, 20, (6, 6, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
            text = "" if 24 <= i < 28 else f"{color} {'cup' if i % 2 else 'bag'} number {i}"
            rows.writerow([f"s{i}", f"{i}.png" if i < 28 else "", text, color, i / 2])
    return folder


@pytest.fixture
def shop(tmp_path):
    return make_shop(tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The shop, a run of it, and what the command printed."""
    shop, printed = make_shop(tmp_path_factory.mktemp("shop")), io.StringIO()
    sys.modules["own_encoders"] = sys.modules[__name__]
    with contextlib.redirect_stdout(printed):
        assert build(shop / "shop.csv", f"--out={shop}/run", *OWN) == 0
    return shop, shop / "run", printed.getvalue()


def build(*words):
    return main(["build", *map(str, words), *QUICK])


def test_everything_is_indexed_with_what_is_known_of_it(built):
    shop, run, printed = built
    assert "train on 22 of 24 pairs (3 classes), hold out 2" in printed
    assert "then index 28 pictures and 26 texts" in printed
    assert "example: the text " in printed and " finds\n  score " in printed
    scores = [float(x) for x in re.findall(r"  score +(\S+)  distance +\d+  s\d", printed)]
    assert len(scores) == 4 and scores == sorted(scores, reverse=True)
    assert f"pyg-hash serve {run}   (http://127.0.0.1:8765)" in printed
    about = load_json(run / "catalog" / "about.json")
    model = load_model(Run(run))
    assert (about["images_root"], about["model"]) == (str(shop), model.digest())
    image = HammingIndex.open(run / "catalog" / "image.store")
    text = HammingIndex.open(run / "catalog" / "text.store")
    assert (len(image), len(text), image.id_type, image.model) == (28, 26, str, model.digest())
    assert image.has_relaxed and text.has_relaxed
    assert dict(image.fields) == {
        "text": str,
        "image": str,
        "labels": list,
        "price": float,
    }
    # codes are those of the model, for rows of the training and for others
    ids = ["s0", "s5", "s25"]
    x = torch.tensor(mean_colors([shop / f"{i[1:]}.png" for i in ids]))
    assert torch.equal(image.codes(ids), binarize(model.relax_image(x)))
    x = torch.from_numpy(letters(["blue bag number 29".replace("bag", "cup")])).float()
    assert torch.equal(text.codes(["s29"]), binarize(model.relax_text(x)))
    assert image.metadata(["s25", "s3"]) == {
        "text": [None, "red cup number 3"],
        "image": ["25.png", "3.png"],
        "labels": [["green"], ["red"]],
        "price": [12.5, 1.5],
    }
    assert text.metadata(["s28"])["image"] == [None]
    assert not (run / ".build.tmp").exists()


def test_search_finds_in_the_catalogue_and_filters(built, capsys):
    shop, run, _ = built
    asked = ["search", str(run), "--text=red bag", "-k5", *OWN]
    assert main([*asked, "--where=price >= 3 and labels has 'red'", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    answers = found["answers"]
    # red are 0, 3, 6, ...; 24 and 27 have no text, so an id stands for a name
    assert len(answers) == 5 and found["tied"] >= 1
    for answer in answers:
        row = int(answer["id"][1:])
        assert row % 3 == 0 and row >= 6 and answer["labels"] == ["red"]
        assert answer["metadata"] == {"price": row / 2}
        assert answer["path"] == str(shop / f"{row}.png")
        assert answer["name"].startswith("red") or answer["name"] == answer["id"]
    assert main([*asked, "--where=price > 1000"]) == 0
    assert "no answer" in capsys.readouterr().out
    assert main([*asked, "--where=colour = 1"]) == 1
    said = capsys.readouterr().err
    assert "where: 'colour' is not known" in said and "was made with" not in said
    assert main([*asked, "--text_encoder=own_encoders:same_letters"]) == 0
    said = "own_encoders:same_letters: the run was made with 'letters', whose"
    assert f"warning: text_encoder: {said}" in capsys.readouterr().err
    not_needed = run / "encoders/text/encoder.json"
    assert load_json(not_needed)["name"] == OwnEncoder(letters, 23).name
    kept = not_needed.read_bytes()
    not_needed.write_text("{")
    assert main(asked) == 0 and "was made with" not in capsys.readouterr().err
    not_needed.write_bytes(kept)


def test_a_module_of_ones_own_encodes_in_evaluation_mode(built):
    own_function("own_encoders:noisy", "text_encoder")
    assert not noisy[0].training


def test_again_says_that_it_is_done_and_other_settings_or_data_are_refused(built, capsys):
    shop, run, _ = built
    words = [shop / "shop.csv", f"--out={run}", *OWN]
    made = (run / "catalog" / "image.store").read_bytes()
    assert build(*words) == 0
    assert "all of it is done already" in capsys.readouterr().out and not CALLS
    assert (run / "catalog" / "image.store").read_bytes() == made
    assert build(*words, "--seed=1") == 1
    said = capsys.readouterr().err
    assert "begun with other settings or data (seed)" in said and "Rows that" not in said
    kept = shutil.copy2(shop / "shop.csv", shop / "kept.csv")
    (shop / "shop.csv").write_text(kept.read_text().replace("14.5", "9"))
    assert build(*words) == 1
    said = capsys.readouterr().err
    assert "(the source has changed, or this version reads it otherwise)" in said
    assert f"Rows that came later: pyg-hash encode {run} --images DIR (or --texts, " in said
    kept.replace(shop / "shop.csv")


def test_a_catalogue_that_names_no_model_is_another_ones(built, tmp_path, capsys):
    _, run, _ = built
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    path = copy / "catalog" / "image.store"
    with HammingIndex.open(path) as store:
        ids, kinds = store.list(limit=None), dict(store.fields)
        codes, values = store.codes(ids), store.metadata(ids)
    path.unlink()
    other = HammingIndex.create(path, codes.size(1), fields=kinds, ids=str)
    other.add(-codes, ids, values)
    other.save()
    other.close()
    assert main(["search", str(copy), "--text=red", *OWN]) == 1
    assert "is not the model of the run" in capsys.readouterr().err
    (copy / "record.json").unlink()
    assert main(["search", str(copy), "--text=red", *OWN]) == 1
    assert "go on with pyg-hash build" in capsys.readouterr().err


def test_the_same_bytes_are_the_same_data_whenever_they_were_written(shop, capsys, monkeypatch):
    run, words = shop / "run", [shop / "shop.csv", f"--out={shop}/run", *OWN]
    assert build(*words) == 0
    for path in (shop / "shop.csv", shop / "1.png", shop / "2.png"):
        os.utime(path, ns=(1, 1))
    (run / "catalog" / "text.store").unlink()
    assert build(*words) == 0 and "text.store is gone" in capsys.readouterr().out
    read, real = [], catalogue.files.sha256
    monkeypatch.setattr(
        catalogue.files, "sha256", lambda *parts: read.append(parts) or real(*parts)
    )
    assert build(*words) == 0  # the new times are known
    assert build(shop / "shop.csv", f"--out={run}", *OWN, "--seed=1") == 1  # refused at once
    assert not [part for parts in read for part in parts if isinstance(part, Path)]
    content = (shop / "1.png").read_bytes()
    (shop / "1.png").write_bytes(content[:-1] + b"x")
    what = f"1 of the files changed, first {shop}/1.png"
    assert build(*words) == 1 and what in capsys.readouterr().err
    (shop / "1.png").write_bytes(content)
    assert build(*words) == 0
    told = load_json(run / "build.json")
    save_json(run / "build.json", {name: told[name] for name in told if name != "files"})
    assert build(*words) == 1 and "written by an earlier version" in capsys.readouterr().err


def test_times_of_feature_files_do_not_count_and_their_bytes_do(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", image=rng.random((40, 4)), text=rng.random((40, 3)))
    words = [tmp_path / "x.npz", f"--out={tmp_path}/run"]
    assert build(*words) == 0
    os.utime(tmp_path / "x.npz", ns=(1, 1))
    assert build(*words) == 0 and "done already" in capsys.readouterr().out
    np.savez(tmp_path / "x.npz", image=rng.random((40, 4)), text=rng.random((40, 3)))
    what = f"1 of the files changed, first {tmp_path}/x.npz"
    assert build(*words) == 1 and what in capsys.readouterr().err


def test_a_picture_that_changes_before_it_is_all_encoded_is_encoded_again(shop, monkeypatch):
    words = [shop / "shop.csv", f"--out={shop}/run", *OWN]

    def stop(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pyg_hash.datasets.write_feature_file", stop)
        assert build(*words) == 130
    Image.new("RGB", (6, 6), (1, 2, 3)).save(shop / "1.png")
    assert build(*words) == 0
    dataset = FeatureFile(shop / "run" / "data.h5")
    x = dataset[0]["image"].x[dataset.ids.index("s1")]
    np.testing.assert_allclose(x, mean_colors([shop / "1.png"])[0])


def test_rows_that_come_later_are_added_to_a_built_run(built, tmp_path, capsys):
    shop, run, _ = built
    run = shutil.copytree(run, tmp_path / "run")
    (tmp_path / "new").mkdir()
    Image.new("RGB", (16, 16), (200, 10, 10)).save(tmp_path / "new" / "n1.png")
    (tmp_path / "ids.txt").write_text("N-1\n")
    (tmp_path / "texts.txt").write_text("red cup\n")
    sent = f"catalog/added/{'0a' * 16}.jpg"  # as serve keeps a picture; before, with its folder
    (run / sent).parent.mkdir()
    (run / sent).touch()
    (tmp_path / "new.csv").write_text(f"id;text;price;image\nN-1;red cup;9.5;/gone/{sent}\n")
    given = {"image": f"--images={tmp_path}/new", "text": f"--texts={tmp_path}/texts.txt"}
    for modality, items in given.items():
        store = run / "catalog" / f"{modality}.store"
        before = len(HammingIndex.open(store))
        words = [str(run), items, f"--ids={tmp_path}/ids.txt", f"--out={store}", *OWN]
        assert main(["encode", *words]) == 0
        assert len(HammingIndex.open(store)) == before + 1
    assert f"note: 1 of 1 pictures lie outside of {shop}, the" in capsys.readouterr().err
    assert HammingIndex.open(store).metadata(["N-1"])["text"] == ["red cup"]
    (tmp_path / "ids.txt").write_text("s1\n")  # again, as build has it
    store = run / "catalog" / "image.store"
    before = HammingIndex.open(store).metadata(["s1"])
    words = [f"--images={shop}/1.png", f"--ids={tmp_path}/ids.txt", f"--out={store}", *OWN]
    assert main(["encode", str(run), *words]) == 0 and "note" not in capsys.readouterr().err
    assert HammingIndex.open(store).metadata(["s1"]) == before
    found = HammingIndex.open(store).metadata(["N-1"])
    assert found["image"] == [f"{tmp_path}/new/n1.png"] and found["text"] == [None]
    assert before["image"] == ["1.png"]
    assert main(["store", "update", str(run), f"--metadata={tmp_path}/new.csv"]) == 0
    for modality in given:
        index = HammingIndex.open(run / "catalog" / f"{modality}.store")
        assert index.metadata(["N-1"])["price"] == [9.5]
    capsys.readouterr()
    asked = ["search", str(run), "--text=red", "--json", "--k=50", "--where=id = 'N-1'", *OWN]
    assert main(asked) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert [(answer["id"], answer["path"]) for answer in answers] == [("N-1", f"{run}/{sent}")]


@pytest.mark.parametrize("command", [["data", "verify"], ["store", "delete", "--where=id = 's1'"]])
def test_no_class_that_only_a_run_names_is_imported(built, tmp_path, monkeypatch, capsys, command):
    run = shutil.copytree(built[1], tmp_path / "run")
    (tmp_path / "planted_by_others.py").write_text("raise SystemExit('code of a file was run')")
    monkeypatch.syspath_prepend(tmp_path)
    config = Run(run).config()
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "model": "planted_by_others:Hash"}))
    record = load_json(run / "record.json")
    save_json(run / "record.json", {k: v for k, v in record.items() if k != "settings"})
    assert main([*command[:2], str(run), *command[2:]]) == (2 if command[0] == "store" else 0)
    said = "".join(capsys.readouterr())
    assert "planted_by_others" not in sys.modules and "code of a file was run" not in said
    assert "code that only a file names is not run" in said
    assert HammingIndex.open(run / "catalog" / "text.store").contains(["s1"])[0]


def test_the_two_stores_of_a_run_are_listed_as_one(built, capsys):
    stores = [HammingIndex.open(built[1] / "catalog" / f"{m}.store") for m in ("image", "text")]
    image, text = (dict.fromkeys(index.list(limit=None), index) for index in stores)
    every = [*(image | text)]
    assert len(every) > len(image) > 0 and len(every) > len(text)  # each has items alone
    for words in ([], ["--start=5", "--limit=7"], ["--start=25"], ["--where=price >= 14"]):
        assert main(["store", "list", str(built[1]), "--json", *words]) == 0
        said = capsys.readouterr()
        rows = [json.loads(line) for line in said.out.splitlines()]
        names, want = [row["id"] for row in rows], every
        if "where" in str(words):
            want = [n for n in every if n in {*stores[0].list(words[0][8:], limit=None)}]
            want += [n for n in stores[1].list(words[0][8:], limit=None) if n not in want]
        start = int(words[0][8:]) if "start" in str(words) else 0
        assert names == want[start : start + (7 if len(words) == 2 else 20)]
        for row in rows:
            known = (image | text)[row["id"]].metadata([row["id"]])
            assert {**row} == {"id": row["id"], **{name: one for name, [one] in known.items()}}
        assert said.err.endswith(f"of {len(image)} items (image) and {len(text)} items (text)\n")
    assert main(["store", "list", str(built[1] / "catalog"), "--limit=1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(every[0])


def test_both_stores_of_a_run_change_alike(built, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(built[1], tmp_path / "run")
    table, ids = tmp_path / "new.csv", tmp_path / "ids.txt"

    def stores():
        return [HammingIndex.open(run / "catalog" / f"{m}.store") for m in ("image", "text")]

    table.write_text("id,price,labels\ns0,7.5,\ns24,1,x;y\n")  # s24 has a picture alone
    assert main(["store", "update", str(run), f"--metadata={table}"]) == 0
    assert capsys.readouterr().out == "2 items changed, in each store that has them\n"
    image, text = stores()
    assert image.metadata(["s0", "s24"])["price"] == [7.5, 1.0]
    assert text.metadata(["s0", "s1"])["price"] == [7.5, 0.5] and not text.contains(["s24"])[0]
    table.write_text("id,price\ns0,8\nnone,1\n")
    assert main(["store", "update", str(run), f"--metadata={table}"]) == 1
    assert "'none' is not in the database" in capsys.readouterr().err
    table.write_text("id,price\ns0,8\ns0,1\n")
    assert main(["store", "update", str(run), f"--metadata={table}"]) == 1
    assert "an id is given twice" in capsys.readouterr().err
    assert [store.metadata(["s0"])["price"] for store in stores()] == [[7.5], [7.5]]
    ids.write_text("s0\ns24\n")
    assert main(["store", "delete", str(run / "catalog"), f"--ids={ids}"]) == 0
    said = "image: 2 of 28 items deleted\ntext: 1 of 26 items deleted\n"
    assert capsys.readouterr().out == said
    assert main(["store", "delete", str(run), "--where=price >= 14"]) == 0  # a text alone is one
    said = "image: 0 of 26 items deleted\ntext: 2 of 25 items deleted\n"
    assert capsys.readouterr().out == said
    remove = SearchEngine.remove

    def meanwhile(engine, names):
        """Somebody adds items after the stores were opened."""
        for index in stores():
            some, relaxed = ["s1", "s2"], index.relaxed(["s1", "s2"])
            index.add(index.codes(some), ["late 1", "late 2"], relaxed=relaxed)
            index.save()
        return remove(engine, names)

    with monkeypatch.context() as patch:
        patch.setattr(SearchEngine, "remove", meanwhile)
        assert main(["store", "delete", str(run), "--where=id = 's3'"]) == 0
    said = "image: 1 of 26 items deleted\ntext: 1 of 23 items deleted\n"
    assert capsys.readouterr().out == said
    assert [len(store) for store in stores()] == [27, 24]
    assert main(["store", "delete", str(run), "--where=id in ('late 1', 'late 2')"]) == 0
    capsys.readouterr()
    save, calls = HammingIndex.save, []

    def full(index):
        calls.append(index)
        if len(calls) == 2:  # the second store, once
            raise OSError("disk full")
        save(index)

    monkeypatch.setattr(HammingIndex, "save", full)
    assert main(["store", "delete", str(run), "--where=id = 's1'"]) == 1
    assert all(store.contains(["s1"])[0] for store in stores())
    capsys.readouterr()
    assert main(["store", "delete", str(run / "catalog" / "image.store"), "--where=id = 's1'"]) == 0
    assert f"to change both: pyg-hash store delete {run}\n" in capsys.readouterr().err
    assert [store.contains(["s1"])[0] for store in stores()] == [False, True]


def test_one_store_is_changed_after_a_killed_change_of_both_is_taken_back(
    built, tmp_path, monkeypatch, capsys
):
    run, table = shutil.copytree(built[1], tmp_path / "run"), tmp_path / "a.csv"
    store, save = run / "catalog" / "text.store", HammingIndex.save
    table.write_text("id,price\ns0,1\n")

    class Killed(BaseException):
        pass

    def dies(index):
        save(index)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(HammingIndex, "save", dies)
        main(["store", "update", str(run), f"--metadata={table}"])
    assert (run / "catalog" / "image.store.before").is_file()
    table.write_text("id,price\ns0,2\n")
    config = (run / "config.yaml").rename(tmp_path / "away.yaml")
    assert main(["store", "update", str(store), f"--metadata={table}"]) == 1
    assert "is incomplete, it lacks config.yaml; finish it" in capsys.readouterr().err
    config.rename(run / "config.yaml")
    assert main(["store", "update", str(store), f"--metadata={table}"]) == 0
    assert not list(store.parent.glob("*.before*"))
    table.write_text("id,price\ns1,3\n")
    assert main(["store", "update", str(run), f"--metadata={table}"]) == 0
    assert HammingIndex.open(store).metadata(["s0", "s1"])["price"] == [2.0, 3.0]
    capsys.readouterr()


def test_a_folder_of_pictures_that_is_none_is_refused(built, capsys):
    _, run, _ = built
    for words in (["search", run, "--text=red"], ["serve", run, "--port=0"], ["report", run]):
        assert main([*map(str, words), "--images_root=nowhere"]) == 1
        assert capsys.readouterr().err == "pyg-hash: error: images_root: nowhere is no folder\n"
    with pytest.raises(NotADirectoryError, match="images_root: nowhere is no folder"):
        Run(run).pictures_root("nowhere")


def test_a_report_says_how_many_pictures_have_moved(built, undrawn, tmp_path, capsys):
    shop, run, _ = built
    words = ["report", str(run), f"--out={tmp_path}/report.html", "--points=5"]
    (shop / "moved").mkdir()
    (shop / "1.png").rename(shop / "moved" / "1.png")
    try:
        assert main(words) == 0
        said = capsys.readouterr().err
        assert f"1 of 24 pictures are not there (first: {shop}/1.png); if they have" in said
        assert main([*words, f"--images_root={shop}/moved"]) == 0
        assert "note: 23 of 24 pictures are not there" in capsys.readouterr().err
    finally:
        (shop / "moved" / "1.png").rename(shop / "1.png")
    assert main(words) == 0
    assert "not there" not in capsys.readouterr().err


def test_stopped_anywhere_it_goes_on(built, shop, monkeypatch, capsys):
    """What was encoded is not encoded again, and the result is that of a run in one go."""
    monkeypatch.setattr(catalogue, "SHARD", {"image": 5, "text": 5})
    run, save, shards = shop / "run", catalogue.save_shard, iter(range(99))

    def stop(*args, **options):
        raise KeyboardInterrupt

    def stop_third(*args):
        save(*args) if next(shards) < 2 else stop()

    for place, name, how in (
        ("pyg_hash.cli.catalogue", "save_shard", stop_third),
        ("pyg_hash.datasets", "write_feature_file", stop),
        ("pyg_hash.cli.train", "save_indexes", stop),
        ("pyg_hash.cli.catalogue", "write_catalog", stop),
        ("pyg_hash.index.HammingIndex", "save", stop),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"{place}.{name}", how)
            assert build(shop / "shop.csv", f"--out={run}", *OWN) == 130
        assert "stopped; the same command goes on" in capsys.readouterr().err
    (run / "catalog").mkdir(exist_ok=True)
    HammingIndex(32, model="somebody's").save(mine := run / "catalog" / "image.store")
    (theirs := run / "catalog" / "text.store").write_text("precious")
    for foreign in (mine, theirs):
        assert build(shop / "shop.csv", f"--out={run}", *OWN) == 1
        assert f"out: {foreign} is damaged, or none of this build's" in capsys.readouterr().err
        foreign.unlink()
    assert build(shop / "shop.csv", f"--out={run}", *OWN) == 0
    assert len({path for path in CALLS if CALLS.count(path) > 1}) <= 5  # the third shard's
    for name in ("image.store", "text.store"):
        ours, theirs = (HammingIndex.open(f / "catalog" / name) for f in (run, built[1]))
        ids = theirs.list(limit=100)
        assert list(ours.list(limit=100)) == list(ids)
        assert torch.equal(ours.codes(ids), theirs.codes(ids))


def test_what_no_build_wrote_is_refused_by_name_or_stays(built, shop, monkeypatch, capsys):
    run, words = shop / "run", [shop / "shop.csv", f"--out={shop}/run", *OWN]
    for name in ("data.h5", "data.h5.encoders", "catalog", "history.json", ".build.tmp"):
        run.mkdir()
        (run / name).symlink_to(shutil.copytree(built[1], shop / "other", dirs_exist_ok=True))
        assert build(*words) == 1 and not CALLS
        assert f"out: {run} holds {name}, which no build wrote" in capsys.readouterr().err
        assert os.listdir(run) == [name]
        shutil.rmtree(run)
    (run / "build").mkdir(parents=True)
    (run / "build" / "image-result.txt").touch()
    assert build(*words) == 0 and os.listdir(run / "build") == ["image-result.txt"]
    store = run / "catalog" / "image.store"
    shutil.copy(store, f"{store}.bak")
    store.rename(f"{store}.mine")
    assert build(*words) == 0 and "image.store is gone; it is made" in capsys.readouterr().out
    assert Path(f"{store}.bak").is_file() and Path(f"{store}.mine").is_file()
    (run / ".build.tmp").symlink_to(shop / "other")
    assert build(*words) == 1 and ".build.tmp is a link; remove it" in capsys.readouterr().err
    (run / ".build.tmp").unlink()
    assert build(*words, "--seed=1", f"--out={shop}/next") == 0
    for part in ("data.h5", "data.h5.encoders"):  # other rows under the same ids
        replaced = run / part
        shutil.rmtree(replaced) if replaced.is_dir() else replaced.unlink()
        (shop / "next" / part).rename(replaced)
    (run / "catalog" / "about.json").unlink()
    assert build(*words) == 1
    assert f"out: {run}/data.h5 is not what this build wrote" in capsys.readouterr().err


def test_a_stopped_run_names_the_command_that_finishes_it(shop, monkeypatch, capsys):
    run = shop / "a run"
    words = ["shop.csv", "--out=a run", "--images_root=.", *OWN]
    monkeypatch.chdir(shop)

    def stop(*args, **options):
        raise KeyboardInterrupt

    def refused(status, *words):
        assert main([*map(str, words)]) == status
        error = capsys.readouterr().err
        assert f"pyg-hash build {shop}/shop.csv --out '{run}' --images_root={shop} " in error
        return shlex.split(error.partition("with: pyg-hash ")[2])

    for place, lacks in (
        ("pyg_hash.cli.train.save_indexes", "index_image.safetensors"),
        ("pyg_hash.cli.catalogue.write_catalog", "catalog/about.json"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, stop)
            assert build(*words) == 130
        capsys.readouterr()
        found = refused(1, "search", run.name, "--text=red", *OWN)
        with pytest.raises(FileNotFoundError, match=f"lacks .*{lacks}"):
            Run(run).searched("image")
    refused(1, "export", run, "--to=csv", f"--out={shop}/codes")
    assert refused(2, "train", f"--out={run}", "--resume") == found
    run.rename(shop / "moved")  # its data and its checkpoint go with it
    (shop / "elsewhere").mkdir()
    monkeypatch.chdir(shop / "elsewhere")
    assert main([word.replace(str(run), f"{shop}/moved") for word in found]) == 0
    assert len(HammingIndex.open(shop / "moved" / "catalog" / "image.store")) == 28


def test_again_it_counts_what_is_stored_and_makes_a_lost_store_again(built, tmp_path, capsys):
    shop, run = built[0], shutil.copytree(built[1], tmp_path / "run")
    words = [shop / "shop.csv", f"--out={run}", *OWN]
    store = HammingIndex.open(run / "catalog" / "image.store")
    own = ["s1", "s2"]
    store.add(store.codes(own), ["new", "newer"], relaxed=store.relaxed(own))
    store.save()
    lost = run / "catalog" / "text.store"
    before = HammingIndex.load(lost)
    store = HammingIndex.open(lost)
    store.remove([load_json(run / "catalog" / "about.json")["example"]])
    store.save()
    assert build(*words) == 0
    said = capsys.readouterr().out
    assert "done already" in said and "30 pictures and 25 texts" in said and "example: " in said
    lost.unlink()
    assert main(["search", str(run), "--image", f"{shop}/1.png", *OWN]) == 1
    assert "text.store is gone; make it again with: pyg-hash build" in capsys.readouterr().err
    assert build(*words) == 0
    said = capsys.readouterr().out
    assert "text.store is gone" in said and "30 pictures and 26 texts" in said
    again = HammingIndex.open(lost)
    ids = before.list(limit=100)
    assert list(again.list(limit=100)) == list(ids)
    assert torch.equal(again.codes(ids), before.codes(ids))
    for name in ("image", "text"):
        store = HammingIndex.open(run / "catalog" / f"{name}.store")
        store.remove(store.list(limit=100))
        store.save()
    assert build(*words) == 0
    assert "0 pictures and 0 texts" in capsys.readouterr().out


def test_a_run_that_has_moved_reads_its_own_data(built, tmp_path, capsys):
    copy = shutil.copytree(built[1], tmp_path / "copy")
    (copy / "data.h5").unlink()
    assert main(["evaluate", str(copy)]) == 1  # although the original is there
    assert f"path: {copy}/data.h5 is no file" in capsys.readouterr().err
    shutil.copy(built[1] / "data.h5", copy / "data.h5")
    moved = copy.rename(tmp_path / "moved")
    assert main(["evaluate", str(moved), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["i2t"] == load_json(built[1] / "metrics.json")["query"]["i2t"]
    assert main(["evaluate", str(moved), f"--data={tmp_path}/none.h5"]) == 1
    assert "none.h5 is no file" in capsys.readouterr().err


def test_all_problems_are_listed_before_any_work(shop, capsys):
    (shop / "3.png").write_bytes(b"no picture")
    (shop / "4.png").write_bytes((shop / "4.png").read_bytes()[:60])
    (shop / "7.png").unlink()
    text = (
        (shop / "shop.csv").read_text().replace("s9,", "s8,").replace("green cup number 1,", "!,")
    ).replace("10.png", "10\0.png")
    (shop / "shop.csv").write_text(text)
    run = shop / "run"
    assert build(shop / "shop.csv", f"--out={run}", *OWN) == 1
    error = capsys.readouterr().err
    assert "6 problems, and nothing was done" in error and "--skip_bad" in error
    for part in (
        "'s3'",
        "'s4'",
        "7.png: no such file",
        "has the id of line 10",
        "has no word",
        r"0\x00.png",
    ):
        assert part in error
    assert not CALLS and not (run / "data.h5").exists()
    assert build(shop / "shop.csv", f"--out={run}", "--skip_bad", *OWN) == 0
    assert "left out: 6" in capsys.readouterr().out
    image = HammingIndex.open(run / "catalog" / "image.store")
    found = image.contains([f"s{i}" for i in range(10)])
    assert found == [True, True, True, False, False, True, True, False, True, False]
    assert HammingIndex.open(run / "catalog" / "text.store").contains(["s3", "s1"]) == [True, False]


@pytest.mark.parametrize("wrong", ["--epochs=0", "--num_bits=0", "--seed=-1", "--train_rows=0"])
def test_wrong_settings_are_refused_before_the_folder_is_made(shop, capsys, wrong):
    words = ["build", str(shop / "shop.csv"), f"--out={shop}/run", *OWN, wrong]
    assert main(words) == 2
    name = wrong[2:].partition("=")[0]
    assert f"{name}: expected" in capsys.readouterr().err
    assert not CALLS and not (shop / "run").exists()


@pytest.mark.parametrize("out", [".", "photos/run"])
def test_a_run_is_not_written_into_its_source(shop, capsys, out):
    assert build(shop, f"--out={shop / out}", *OWN) == 2
    assert f"is in the source {shop}" in capsys.readouterr().err
    assert not (shop / "photos").exists()


@pytest.mark.parametrize("gone", ["config.yaml", "build.json"])
def test_a_run_is_not_written_into_another(built, tmp_path, capsys, gone):
    shop, run = built[0], shutil.copytree(built[1], tmp_path / "run")
    (run / gone).unlink()
    for out in (run / "model", run / "new" / "deep"):
        said = f"out: {out} is inside the run {run}"
        assert build(shop / "shop.csv", f"--out={out}", *OWN) == 2
        assert said in capsys.readouterr().err
        assert main(["train", "--dataset=synthetic", "--dataset_options.n=9", f"--out={out}"]) == 2
        assert said in capsys.readouterr().err
    assert not (run / "new").exists() and not (run / "model" / ".lock").exists()


def test_a_run_that_an_earlier_version_began_in_another_can_be_finished(built, tmp_path):
    words = ["train", "--dataset=synthetic", "--dataset_options.n=60", "--model=cmfh"]
    assert main([*words, f"--out={tmp_path}/inner", "--num_bits=8"]) == 0
    run = shutil.copytree(built[1], tmp_path / "run")
    inner = shutil.move(tmp_path / "inner", run / "inner")
    assert main(["train", f"--out={inner}", "--resume"]) == 0


def test_files_of_a_run_that_hold_something_else(built, tmp_path, capsys):
    shop, run = built[0], tmp_path / "run"
    record = '{"format": "pyg_hash.run", "version": 1, "metrics": [1]}'
    again = ["build", shop / "shop.csv", f"--out={run}", *OWN, *QUICK]
    for name, content, words, said in (
        (
            "catalog/about.json",
            "[]",
            ["search", run, "--text=red", *OWN[1:]],
            "expected a dict, got []",
        ),
        ("build.json", '{"a": 1}', again, "build.json: not what pyg-hash build writes"),
        ("record.json", record, ["evaluate", run], "record.json: not the record of a run"),
        ("history.json", '["x"]', ["report", run], "history.json: not the history of a training"),
    ):
        shutil.copytree(built[1], run)
        (run / name).write_text(content)
        if name == "history.json":  # else it is that of another run
            known = load_json(run / "record.json")
            save_json(run / "record.json", {k: v for k, v in known.items() if k != "history"})
        assert main([*map(str, words)]) == 1
        assert said in capsys.readouterr().err
        shutil.rmtree(run)


def test_a_wrong_folder_of_pictures_is_named(shop, capsys):
    words = [shop / "shop.csv", f"--out={shop}/run", "--images_root=nope", "--skip_bad", *OWN]
    assert build(*words) == 1
    assert capsys.readouterr().err == "pyg-hash: error: images_root: nope is no folder\n"
    assert not (shop / "run").exists()
    for kind, words in ((Build, ["build", "x", "--out=y"]), (Serve, ["serve", "x"])):
        args = parse([*words, "--images_root="])[words[0]]  # a script's variable that is not set
        assert kind.of(args).images_root is None


def test_lines_that_do_not_fit_are_listed_before_too_few_pairs(tmp_path, capsys):
    lines = ["caption,price", *[f"a cup, really {i},{i}" for i in range(30)], "a cup,3"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    words = [tmp_path / "t.csv", f"--out={tmp_path}/run", *OWN]
    assert build(*words) == 1
    error = capsys.readouterr().err
    assert "30 problems" in error and "t.csv, line 2: 3 cells, the head has 2" in error
    assert build(*words, "--skip_bad") == 1
    assert "0 rows have a picture, 1 a text" in capsys.readouterr().err


def test_what_an_encoder_refuses_is_named_or_left_out(shop, capsys):
    REFUSED.update({f"{shop}/5.png", f"{shop}/25.png"})  # one that trains, and one without a text
    words = [shop / "shop.csv", *OWN]
    assert build(*words, f"--out={shop}/run") == 1
    error = capsys.readouterr().err
    assert "1 items cannot be encoded" in error and "5.png': not to my taste" in error
    CALLS.clear()
    assert build(*words, f"--out={shop}/run", "--skip_bad") == 0
    assert len(CALLS) <= 10  # the five that are left, together and one by one
    assert "not indexed: image of line 27 ('s25'): not to my taste" in capsys.readouterr().out
    image = HammingIndex.open(shop / "run" / "catalog" / "image.store")
    assert image.contains(["s4", "s5", "s24", "s25"]) == [True, False, True, False]
    text = HammingIndex.open(shop / "run" / "catalog" / "text.store")
    assert text.contains(["s4", "s5"]) == [True, True]


def test_pictures_alone_find_pictures_and_too_few_pairs_are_refused(shop, capsys):
    folder = shop / "photos"
    folder.mkdir()
    for i in range(12):
        (shop / f"{i}.png").rename(folder / f"{i}.png")
    assert build(folder, f"--out={shop}/run", OWN[0]) == 0
    printed = capsys.readouterr().out
    assert "there are no texts" in printed and "index 12 pictures and 0 texts" in printed
    assert len(HammingIndex.open(shop / "run" / "catalog" / "text.store")) == 0
    search = ["search", f"{shop}/run", f"--image={folder}/3.png", OWN[0], "-k1", "--json"]
    for more in ([], ["--modality=image"]):
        assert main([*search, *more]) == 0
        assert '"distance": 0' in capsys.readouterr().out
    assert main([*search, "--modality=text"]) == 1
    assert "has no items of text" in capsys.readouterr().err
    (shop / "a.txt").write_text("red\n")
    why = "no text encoder, for it was built of pictures alone, without texts; build it again with"
    for words in ([*search[:2], "--text=red"], ["encode", search[1], f"--texts={shop}/a.txt"]):
        out = [f"--out={shop}/a.h5"] if words[0] == "encode" else []
        assert main([*words, *out]) == 1
        assert why in capsys.readouterr().err
    (folder / "2.txt").write_text("a red one")
    assert build(folder, f"--out={shop}/other", OWN[0]) == 1
    assert "12 rows have a picture, 1 a text, and 1 both" in capsys.readouterr().err


def test_a_few_names_of_pictures_are_no_texts(shop, capsys):
    (shop / "photos").mkdir()
    for i in range(12):
        (shop / f"{i}.png").rename(shop / "photos" / f"IMG_{i:04}.png")
    (shop / "12.png").rename(shop / "photos" / "sunset at the beach.png")
    (shop / "photos" / "zebra in snow.png").write_bytes(b"none")
    assert build(shop / "photos", f"--out={shop}/run", OWN[0], "--skip_bad") == 0
    printed = capsys.readouterr().out
    assert "none (2 from names of the files: too few to learn from)" in printed
    assert "index 13 pictures and 0 texts" in printed


def test_a_bad_picture_of_a_folder_leaves_no_text(shop, capsys):
    (shop / "photos").mkdir()
    for i, name in enumerate(
        ["azure", "blond", "coral", "denim", "ebony", "fawns", "green", "hazel", "ivory", "jaded"]
    ):
        (shop / f"{i}.png").rename(shop / "photos" / f"{name}.png")
    (shop / "photos" / "zebra.png").write_bytes(b"none")
    if hasattr(os, "mkfifo"):
        os.mkfifo(shop / "photos" / "pipes.png")  # nobody writes to it
    assert build(shop / "photos", f"--out={shop}/run", *OWN, "--skip_bad") == 0
    assert "index 10 pictures and 10 texts" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")
def test_a_name_that_is_no_text_is_to_be_changed(shop, capsys):
    (shop / "2.png").rename(shop / "\udcff.png")
    assert build(shop, f"--out={shop.parent}/run", *OWN) == 1
    assert "('\\udcff.png'): its name is not valid UTF-8; rename it" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")
def test_names_that_the_locale_does_not_know_are_not_to_be_changed(shop, capsys, monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    (shop / "2.png").rename(shop / "\udcff.png")
    assert build(shop, f"--out={shop.parent}/run", *OWN) == 1
    assert "its name is not in ascii; set a UTF-8 locale, or" in capsys.readouterr().err


def test_a_side_is_left_out(shop, capsys):
    assert build(shop / "shop.csv", f"--out={shop}/run", OWN[0], "--text_column=") == 0
    assert "index 28 pictures and 0 texts" in capsys.readouterr().out
    words = [f"--out={shop}/other", "--text_column=", "--image_column="]
    assert build(shop / "shop.csv", *words) == 1
    assert "nothing tells which column holds pictures" in capsys.readouterr().err


def test_nothing_that_an_encoder_can_encode(shop, capsys):
    REFUSED.update(str(shop / f"{i}.png") for i in range(28))
    assert build(shop / "shop.csv", f"--out={shop}/run", *OWN, "--skip_bad") == 1
    assert "none of its images can be encoded; the first: " in capsys.readouterr().err


def test_embeddings_go_through_without_an_encoder(tmp_path, capsys):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(4, 6))[np.arange(60) % 4] + rng.normal(size=(60, 6))
    np.savez(tmp_path / "e.npz", image_emb=image.astype("f4"), text_emb=image[:, ::-1].copy())
    run = tmp_path / "run"
    assert build(tmp_path / "e.npz", f"--out={run}", "--train_rows=20") == 0
    assert "train on 20 of 60 pairs (no labels), hold out 12 (seed" in capsys.readouterr().out
    text = HammingIndex.open(run / "catalog" / "text.store")
    x = torch.from_numpy(image[:, ::-1].copy()).float()
    model = load_model(Run(run))
    assert torch.equal(text.codes([str(i) for i in range(60)]), binarize(model.relax_text(x)))
    image[7, 2] = np.nan
    np.savez(tmp_path / "bad.npz", image_emb=image, text_emb=image[:, :3] * 0)
    assert build(tmp_path / "bad.npz", f"--out={tmp_path}/bad") == 1
    assert "row 7 ('7'): its image features are not finite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pairs", "labelled", "held_out", "judged"),
    [(12, 0, 2, 0), (188, 30, 20, 3), (188, 188, 18, 18), (400, 0, 40, 0), (400, 12, 40, 1)],
)
def test_enough_pairs_are_held_out_and_few_labels(pairs, labelled, held_out, judged):
    labels = [["a", "b"][i % 2 : i % 2 + 1] if i < labelled else [] for i in range(pairs)]
    names = [f"{i}" for i in range(pairs)]
    plan = catalogue.Plan.of(Source(names, [*names], [*names], labels), 10**6, 0)
    query, train, database = (plan.splits[name] for name in ("query", "train", "database"))
    assert len(query) == held_out and (query < labelled).sum() == judged
    assert np.array_equal(np.union1d(query, train), np.arange(pairs))
    assert len(np.intersect1d(query, train)) == 0
    assert np.array_equal(database, train[train < labelled] if labelled else train)
    if labelled:
        assert np.array_equal(plan.splits["labeled"], database)
    assert (f", {judged} of them labelled" in plan.text) == (0 < judged < held_out)


def test_pair_recall_is_of_all_that_is_held_out_and_map_of_those_with_labels(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(100, 5))
    labels = [str(i % 2) if i < 20 else "" for i in range(100)]
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"image_emb": x.tolist(), "text_emb": (x + 1).tolist(), "label": labels}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    assert build(tmp_path / "t.parquet", f"--out={tmp_path}/run") == 0
    printed = capsys.readouterr().out
    assert "train on 80 of 100 pairs (2 classes), hold out 20, 2 of them labelled" in printed
    assert "18 queries have no label: mAP and NDCG are of the other 2" in printed
    found = load_json(tmp_path / "run" / "metrics.json")["query"]
    assert found["num_queries"] == 20 and found["unanswered"] == 0 and found["i2t"] > 0


def test_splits_that_a_file_declares_are_kept(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5)).astype("f4")
    splits = {"query": range(30, 36), "train": range(20), "labeled": range(5, 15), "val": [20, 21]}
    write_feature_file(tmp_path / "f.h5", image=x, text=x, labels=np.arange(40) % 2, **splits)
    run = tmp_path / "run"
    assert build(tmp_path / "f.h5", f"--out={run}") == 0
    assert "train on 20 of 40 pairs (2 classes), hold out 6" in capsys.readouterr().out
    dataset = FeatureFile(run / "data.h5")
    store = dataset[0]["image"]
    for name, rows in {**splits, "database": [*range(30), *range(36, 40)]}.items():
        found = [int(i) for i, own in zip(dataset.ids, store[f"{name}_mask"], strict=True) if own]
        assert found == list(rows), name
    assert len(HammingIndex.open(run / "catalog" / "image.store")) == 40


def test_demo_encoders_and_a_folder_without_texts_or_labels(shared_data, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i}.jpg").symlink_to(shared_data / "coco" / "images" / f"{i}.jpg")
        (folder / f"{i}.txt").write_text(f"a picture of {'men' if i % 2 else 'a horse'}, {i}")
    assert build(folder, f"--out={tmp_path}/run") == 0
    capsys.readouterr()
    assert main(["search", f"{tmp_path}/run", "--text=a horse", "-k2"]) == 0
