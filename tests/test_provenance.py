"""What belongs together is known: data, run, model, index, encoders, stores (K1, K5)."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pyg_hash import metrics
from pyg_hash.cli import main
from pyg_hash.cli.build import load_model
from pyg_hash.datasets import SyntheticCrossModal, write_feature_file
from pyg_hash.index import HammingIndex
from pyg_hash.recipes import recipe
from pyg_hash.runs import CHECKPOINT, RECORD, ROWS, Run
from pyg_hash.stores import FaissStore, read_codes
from pyg_hash.utils import checksums
from pyg_hash.utils.digests import digest_of
from pyg_hash.utils.files import load_json, save_json
from pyg_hash.utils.locks import Lock

N = 120


def content(seed=0):
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 3, N)
    image, text = (
        draw.normal(size=(3, width))[y] * 2 + draw.normal(size=(N, width)) for width in (10, 12)
    )
    return {"image": image, "text": text, "labels": y}


def write(path, rows=None, **more):
    """A file of three classes whose first 90 rows are training rows."""
    values = {**content(), **more}
    if rows is not None:
        values = {name: value[rows] for name, value in values.items()}
    train, query = np.arange(90), np.arange(90, N)
    write_feature_file(path, **values, train=train, query=query)


def train(file, out, *more):
    return main(["train", f"--dataset={file}", f"--out={out}", "--num_bits=16", *more])


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A file and two runs of it, of as many bits."""
    folder = tmp_path_factory.mktemp("k1")
    write(folder / "x.h5")
    assert train(folder / "x.h5", folder / "one", "--model=cmfh") == 0
    assert train(folder / "x.h5", folder / "two", "--model=imh") == 0
    return folder


@pytest.fixture
def folder(stored, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(stored / name, tmp_path / name)
    write(tmp_path / "x.h5")
    np.save(tmp_path / "q.npy", content()["text"][90:])
    return tmp_path


def words(folder, run, *more):
    source = [f"--features={folder}/q.npy", "--source=text"]
    return [str(folder / run), *source, *more]


def test_the_record_of_a_run(stored):
    run = Run.open(stored / "one")
    record = run.record()
    model = load_model(run).digest()
    assert record["model"] == model == run.index("image").model == run.index("text").model
    whole = {"format", "version", "pyg_hash", "data", "settings", "model", "items", "metrics"}
    assert set(record) == whole
    query = record["metrics"]["query"]
    assert {name: query[name] for name in ("model", "data")} == {
        name: record[name] for name in ("model", "data")
    }
    assert query["values"] == digest_of({}, run.metrics()["query"])
    assert record["model"] != Run(stored / "two").record()["model"]
    assert record["data"] == Run(stored / "two").record()["data"]
    rows = run.rows()
    assert rows["image.train"].sum() == 90 and rows["text.query"].sum() == 30
    assert len(rows["image"]) == len(rows["text.labels"]) == N


def test_an_index_is_of_one_modality(folder, tmp_path):
    run = Run.open(folder / "one")
    assert run.index("image").modality == "image"
    shutil.copy(run.index_file("image"), run.index_file("text"))
    with pytest.raises(ValueError, match="index_text.*holds codes of the other modality, image"):
        run.index("text")
    catalog = Run(tmp_path / "built")
    (catalog.path / "catalog").mkdir(parents=True)
    for modality, said in (("image", "image"), ("text", None)):  # None: of an earlier version
        store = HammingIndex.create(catalog.catalog_file(modality), 8)
        store.modality = said
        store.save()
        assert catalog.catalog(modality).modality == said
    shutil.copy(catalog.catalog_file("image"), catalog.catalog_file("text"))
    with pytest.raises(ValueError, match="text.store: holds codes of the other modality, image"):
        catalog.catalog("text")


# stores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["store", "lance"])
def test_a_store_is_of_one_model(folder, ending, capsys):
    pytest.importorskip("faiss" if ending == "store" else "lancedb")
    store = f"{folder}/s.{ending}"
    assert main(["encode", *words(folder, "one", f"--out={store}")]) == 0
    query = ["search", *words(folder, "one", f"--store={store}", "-k3", "--json")]
    assert main(query) == 0
    own = capsys.readouterr().out
    for command in ("search", "encode"):
        where = f"--store={store}" if command == "search" else f"--out={store}"
        assert main([command, *words(folder, "two", where)]) == 1
        error = capsys.readouterr().err
        assert f"store: {store}: is of another model (" in error and "--force" in error
    assert main(query) == 0 and capsys.readouterr().out.endswith(own.splitlines()[-1] + "\n")
    assert main(["search", *words(folder, "two", f"--store={store}", "--force")]) == 0


def test_a_store_says_whose_codes_a_forced_put_left_in_it(folder, monkeypatch, capsys):
    pytest.importorskip("faiss")
    monkeypatch.setattr(checksums, "_said", set())
    one, two = (Run(folder / name).record()["model"] for name in ("one", "two"))
    store, ids = folder / "s.store", folder / "ids.txt"

    def put(run, lines, *more):
        np.save(folder / "some.npy", content()["text"][: len(lines)])
        ids.write_text("\n".join(lines))
        given = [f"--features={folder}/some.npy", "--source=text", f"--ids={ids}"]
        return main(["encode", str(folder / run), *given, f"--out={store}", *more])

    def search(run, *more):
        status = main(["search", *words(folder, run, f"--store={store}", "-k3"), *more])
        return status, capsys.readouterr().err

    assert put("one", list("abcdef")) == 0 and FaissStore.open(store).model == one
    assert put("two", list("abc"), "--force") == 0
    with pytest.warns(checksums.UncheckedWarning, match="holds codes of several models"):
        assert FaissStore.open(store).model == "mixed"
    assert FaissStore.load(store).model == "mixed"  # what journal and file say
    for run in ("one", "two"):
        status, error = search(run)
        assert status == 1 and "holds codes of several models" in error
        checksums._said.clear()  # said once a process
        status, error = search(run, "--force")
        assert status == 0 and error.count("holds codes of several models") == 1
    assert put("one", list("ab")) == put("two", list("abcdef")) == 1
    assert put("one", list("ab"), "--force") == 0 and FaissStore.open(store).model == "mixed"
    assert put("two", list("abcdef"), "--force") == 0 and FaissStore.open(store).model == two
    assert search("two")[0] == 0
    status, error = search("one")
    assert status == 1 and "is of another model" in error


def test_a_database_that_cannot_say_so_takes_no_codes_of_another_model(monkeypatch):
    store = HammingIndex(16, ids=str, model="one")
    monkeypatch.setattr(HammingIndex, "_renames_model", False)
    code = torch.ones(1, 16, dtype=torch.int8)
    with pytest.raises(ValueError, match="model: this index was made for codes of another"):
        store.replace(code, ["a"], model="two", force=True)
    assert len(store) == 0 and store.replace(torch.ones(1, 2).byte(), ["a"], model="one") == 0


def test_codes_of_another_model_are_refused_where_it_is_told(tmp_path):
    ours, theirs = (torch.full((2, 12), bit, dtype=torch.int8) for bit in (1, -1))
    index = HammingIndex(12)
    index.add(theirs, model="two")
    index.export(tmp_path / "two.npz")
    index = HammingIndex(12, ids=str, model="one")
    index.add(ours, ["a", "b"], model="one")
    read = read_codes(tmp_path / "two.npz")
    refused = [
        lambda: index.add(theirs, ["c", "d"], model="two"),
        lambda: index.replace(theirs, ["a", "c"], model="two"),
        lambda: index.search(theirs, 1, model="two"),
        lambda: index.add(read.codes, ["c", "d"]),
        lambda: index.search(read.codes, 1),
        lambda: index.range_search(read.codes, 1),
    ]
    for call in refused:
        with pytest.raises(ValueError, match="index: is of another model .one. than this one .two"):
            call()
    assert len(index) == 2 and index.search(ours, 1, model="one")[0].tolist() == [[0], [0]]
    assert index.replace(theirs, ["a", "c"], model="two", force=True) == 1
    assert index.model == "mixed"
    with pytest.raises(ValueError, match="index: holds codes of several models"):
        index.search(ours, 1, model="one")
    with pytest.raises(ValueError, match="better, use codes.clone"):
        index.search(read.codes, 1)
    own = HammingIndex(12)
    own.add(read.codes)  # it is theirs from then on
    assert own.model == "two"


@pytest.mark.parametrize("name", ["dcmh", "cca"])
def test_a_model_that_was_just_trained_knows_its_training_rows(name):
    data = SyntheticCrossModal(120)[0]
    found = recipe(name, num_bits=8, epochs=1) if name == "dcmh" else recipe(name, num_bits=8)
    model = found.model(data)
    found.fit(model, data, progress=False)
    assert not any("training" in note for note in metrics.evaluate(model.to("cpu"), data).notes)
    for m in ("image", "text"):  # half of the queries were trained on
        query = data[m].query_mask.nonzero().flatten()
        train = data[m].train_mask.nonzero().flatten()[: len(query) // 2]
        moved = torch.zeros_like(data[m].query_mask)
        moved[torch.cat([train, query[len(train) :]])] = True
        data[m].update(query_mask=moved, train_mask=~moved, database_mask=~moved)
    with pytest.warns(metrics.OddDataWarning, match="training rows among the queries"):
        told = metrics.evaluate(model, data).notes
    assert told == [f"training rows among the queries: {len(train)} of them"]


def test_a_command_takes_one_digest_of_its_model(folder, monkeypatch):
    calls, real = [], digest_of
    monkeypatch.setattr("pyg_hash.models.base.digest_of", lambda *a: calls.append(a) or real(*a))
    assert main(["encode", *words(folder, "one", f"--out={folder}/digests.store")]) == 0
    assert len(calls) == 1


def test_an_empty_store_is_for_the_first_model(folder, capsys):
    pytest.importorskip("faiss")
    FaissStore.create(folder / "s.store", 16, ids=str).save()
    assert main(["encode", *words(folder, "one", f"--out={folder}/s.store")]) == 0
    assert FaissStore.open(folder / "s.store").model == Run(folder / "one").record()["model"]


def test_a_store_of_an_earlier_version_warns_once(folder, monkeypatch, capsys):
    pytest.importorskip("faiss")
    assert main(["encode", *words(folder, "one", f"--out={folder}/s.store")]) == 0
    store = FaissStore.open(folder / "s.store")
    store.model = None
    store.save()
    monkeypatch.setattr(checksums, "_said", set())
    for _ in range(2):
        assert main(["search", *words(folder, "two", f"--store={folder}/s.store")]) == 0
    texts = re.findall("^pyg-hash: warning: .*", capsys.readouterr().err, re.MULTILINE)
    assert len(texts) == 1 and "does not say which model it is of" in texts[0]


@pytest.mark.parametrize("ending", [".npz", ".h5", ".parquet"])
def test_exported_codes_say_which_model(folder, ending):
    pytest.importorskip("faiss")
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    model = Run(folder / "one").record()["model"]
    assert main(["encode", *words(folder, "one", f"--out={folder}/s.store")]) == 0
    FaissStore.open(folder / "s.store").export(folder / f"c{ending}")
    assert read_codes(folder / f"c{ending}").model == model
    assert main(["encode", *words(folder, "one", f"--out={folder}/codes.h5")]) == 0
    with h5py.File(folder / "codes.h5") as file:
        assert file.attrs["model"] == model


# run folders ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ("index_image.safetensors", "index: .* is not the model of the run"),
        ("items.json", "items: .* is not the items of the run"),
    ],
)
def test_a_part_of_another_run_is_refused(folder, part, what, capsys):
    other = folder / "two" / part
    if part == "items.json":
        items = Run(folder / "two").items()
        items.texts[0] = "other"
        Run(folder / "two").save_items(items)
    shutil.copy(other, folder / "one" / part)
    assert main(["search", *words(folder, "one", "-k3")]) == 1
    error = capsys.readouterr().err
    assert re.search(f"^pyg-hash: error: {what}", error)
    assert main(["data", "verify", str(folder / "one")]) == 1
    assert "MIXED" in capsys.readouterr().out


def test_numbers_settings_and_losses_of_another_run_are_not_taken_for_its_own(folder, capsys):
    """A page that compares runs shows them, and they are computed nowhere again."""
    pytest.importorskip("jinja2")
    out = folder / "new"
    assert train(folder / "x.h5", out, "--model=dcmh", "--epochs=1") == 0
    assert train(folder / "x.h5", folder / "other", "--model=dcmh", "--epochs=2", "--seed=3") == 0
    compare = ["report", str(out), str(folder / "two"), f"--out={folder}/c.html"]
    assert main(compare) == 0
    numbers = (out / "metrics.json").read_bytes()
    for part, command in {
        "metrics.json": compare,
        "config.yaml": compare,
        "history.json": ["report", str(out), f"--out={folder}/r.html", "--points=5"],
    }.items():
        own = (out / part).read_bytes()
        shutil.copy(folder / "other" / part, out / part)
        capsys.readouterr()
        assert main(command) == 1, part
        assert f"{out / part}" in capsys.readouterr().err
        assert main(["data", "verify", str(out)]) == 1
        assert "MIXED" in capsys.readouterr().out
        (out / part).write_bytes(own)
    shutil.copy(folder / "other" / "metrics.json", out)
    assert main(["evaluate", str(out)]) == 0  # makes them again, and keeps what was there
    assert "metrics.damaged" in capsys.readouterr().err
    assert (out / "metrics.json").read_bytes() == numbers
    settings = (out / "config.yaml").read_text().strip().rpartition("\n")[0]  # the checksum goes
    shutil.move(folder / "x.h5", folder / "moved.h5")
    (out / "config.yaml").write_text(settings.replace("x.h5", "moved.h5"))
    assert main(compare) == 0 and main(["evaluate", str(out)]) == 0  # the data may move


def test_another_model_in_a_run_is_refused(folder, capsys):
    write_feature_file(folder / "y.h5", **content(1), train=np.arange(90), query=np.arange(90, N))
    assert train(folder / "y.h5", folder / "three", "--model=cmfh") == 0
    shutil.rmtree(folder / "one" / "model")
    shutil.copytree(folder / "three" / "model", folder / "one" / "model")
    capsys.readouterr()
    assert main(["search", *words(folder, "one", "-k3")]) == 1
    assert "is not the model of the run" in capsys.readouterr().err


def test_a_training_that_was_ended_before_its_model_was_noted_goes_on(folder, capsys):
    run = folder / "four"
    assert train(folder / "x.h5", run, "--model=cmfh") == 0
    record = load_json(run / RECORD)
    save_json(run / RECORD, {name: value for name, value in record.items() if name != "model"})
    assert main(["search", *words(folder, "four", "-k3")]) == 1
    assert "go on with pyg-hash train --resume" in capsys.readouterr().err
    assert train(folder / "x.h5", run, "--model=cmfh", "--resume") == 0
    assert load_json(run / RECORD)["model"] == record["model"]


def test_a_run_without_a_record_is_refused(folder, capsys):
    for name in (RECORD, ROWS):
        (folder / "one" / name).unlink()
    for command in (["search", *words(folder, "one", "-k3")], ["evaluate", str(folder / "one")]):
        assert main(command) == 1
        assert f"no {RECORD} says that" in capsys.readouterr().err


# data -----------------------------------------------------------------------------------------


def evaluate(folder, *more):
    return main(["evaluate", str(folder / "one"), f"--data={folder}/x.h5", *more])


def test_the_same_data_elsewhere_are_the_same(folder, capsys):
    before = load_json(folder / "one" / "metrics.json")
    assert evaluate(folder) == 0
    assert "NOTE" not in capsys.readouterr().out
    assert load_json(folder / "one" / "metrics.json") == before


def meanwhile(monkeypatch, change):
    """Have another process do something when the numbers are to be kept."""
    lock = Run.lock

    def late(run, **more):
        change(run)
        return lock(run, **more)

    monkeypatch.setattr(Run, "lock", late)


def test_numbers_are_kept_when_another_process_is_done(folder, monkeypatch):
    others = []
    meanwhile(monkeypatch, lambda run: others.append(Lock(run.path / ".lock", "run")))
    monkeypatch.setattr(
        "pyg_hash.utils.locks.time.sleep", lambda _: others and others.pop().release()
    )
    assert evaluate(folder, "--topk=7") == 0 and not others
    assert any("topk=7" in name for name in Run(folder / "one").metrics())


def test_numbers_of_a_run_that_is_moved_meanwhile_make_no_folder(folder, monkeypatch, capsys):
    meanwhile(monkeypatch, lambda run: run.path.rename(folder / "moved"))
    before = load_json(folder / "one" / "metrics.json")
    assert evaluate(folder, "--topk=7") == 1
    assert f"run: {folder}/one was moved or removed meanwhile" in capsys.readouterr().err
    assert not (folder / "one").exists()
    assert load_json(folder / "moved" / "metrics.json") == before


def test_training_rows_among_the_queries(folder, capsys):
    """The case f02: an honest number must not be overwritten by one on what was learnt."""
    before = load_json(folder / "one" / "metrics.json")
    rows = np.r_[90:N, 0:90]
    write_feature_file(folder / "x.h5", **content(), train=rows[:90], query=rows[90:])
    assert evaluate(folder) == 1
    error = capsys.readouterr().err
    assert "training rows among the queries: 30 of them" in error and "--force" in error
    assert "query: 30 rows are no longer in it and 30 are new" in error
    assert load_json(folder / "one" / "metrics.json") == before
    assert main(["report", str(folder / "one"), f"--data={folder}/x.h5"]) == 1
    capsys.readouterr()
    assert evaluate(folder, "--force") == 0
    assert "NOTE: training rows among the queries: 30" in capsys.readouterr().out
    after = load_json(folder / "one" / "metrics.json")
    assert after["query"] == before["query"]
    (name,) = set(after) - set(before)
    assert after[name]["notes"][0].startswith("training rows among the queries")
    record = Run(folder / "one").record()
    other = record["metrics"][name]
    assert other["model"] == record["model"] and other["data"] != record["data"]
    assert name == f"query on other data ({other['data'][:12]})"
    write(folder / "x.h5", np.random.default_rng(3).permutation(N))
    assert evaluate(folder, "--force") == 0
    both = load_json(folder / "one" / "metrics.json")  # the numbers of before are kept
    assert len(both) == len(after) + 1 and both.items() >= after.items()


def test_shuffled_rows_are_noticed_and_so_are_training_rows_among_them(folder, capsys):
    order = np.random.default_rng(3).permutation(N)
    write(folder / "x.h5", order)
    learnt = int((order[90:] < 90).sum())
    assert evaluate(folder) == 1
    error = capsys.readouterr().err
    assert f"training rows among the queries: {learnt:,} of them" in error
    assert "image features: those of " in error and "text features: those of " in error


@pytest.mark.parametrize("name", ["image", "labels"])
def test_other_features_and_labels_are_noticed(folder, name, capsys):
    value = content()[name].copy()
    value[7] = value[7] + 1 if name == "image" else (value[7] + 1) % 3
    write(folder / "x.h5", **{name: value})
    assert evaluate(folder) == 1
    what = "image features" if name == "image" else "labels"
    assert f"{what}: those of 1 of {N} rows are others" in capsys.readouterr().err


def test_features_that_another_processor_rounded_are_the_same(folder):
    value = content()["image"]
    write(folder / "x.h5", image=value * (1 + 1e-6 * np.sin(np.arange(value.size)).reshape(N, -1)))
    assert evaluate(folder) == 0


def test_more_rows_are_noticed(folder, capsys):
    write_feature_file(
        folder / "x.h5",
        **{name: value[:-1] for name, value in content().items()},
        train=np.arange(90),
        query=np.arange(90, N - 1),
    )
    assert evaluate(folder) == 1
    assert f"rows: {N} then, {N - 1} now" in capsys.readouterr().err


def test_resuming_on_other_data_is_refused(folder, capsys):
    file, out = folder / "x.h5", folder / "new"
    assert train(file, out, "--model=dcmh", "--epochs=1") == 0
    shutil.rmtree(out / "model")
    order = np.random.default_rng(3).permutation(N)
    write(file, order)
    capsys.readouterr()
    assert main(["train", f"--out={out}", "--resume"]) == 1
    error = capsys.readouterr().err
    assert f"are not those that {out} was trained on" in error and "features: those of" in error
    assert not (out / "model").exists()
    write(file)
    assert main(["train", f"--out={out}", "--resume"]) == 0


@pytest.mark.parametrize("other", ["--seed=1", "--lr=0.1", "data"])
def test_the_checkpoint_of_another_run_is_refused(folder, other, capsys):
    file, out, second = folder / "x.h5", folder / "new", folder / "other"
    assert train(file, out, "--model=dcmh", "--epochs=1") == 0
    if other == "data":
        write(file, np.random.default_rng(3).permutation(N))
    more = [] if other == "data" else [other]
    assert train(file, second, "--model=dcmh", "--epochs=1", *more) == 0
    write(file)
    own = (out / CHECKPOINT).read_bytes()
    shutil.rmtree(out / "model")
    shutil.copy(second / CHECKPOINT, out / CHECKPOINT)
    capsys.readouterr()
    assert main(["train", f"--out={out}", "--resume"]) == 1
    assert "checkpoint" in capsys.readouterr().err and not (out / "model").exists()
    (out / CHECKPOINT).write_bytes(own)
    assert main(["train", f"--out={out}", "--resume"]) == 0


def test_a_data_set_that_is_not_there_is_not_built_anew(folder, tmp_path, monkeypatch, capsys):
    run = folder / "one"
    settings = Run(run).config()
    Run.create(folder / "named", {**settings, "dataset": "wikipedia", "dataset_options": {}})
    for name in ("model", "items.json", RECORD):
        move = shutil.copytree if (run / name).is_dir() else shutil.copy
        move(run / name, folder / "named" / name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", str(folder / "named")]) == 1
    assert "there is no folder data/wikipedia" in capsys.readouterr().err
    assert not any((tmp_path / "elsewhere").iterdir())


# identity -------------------------------------------------------------------------------------


def test_row_numbers_of_two_files_do_not_replace_each_other(folder, capsys):
    """The case f09."""
    pytest.importorskip("faiss")
    store = f"--out={folder}/s.store"
    np.save(folder / "tuesday.npy", content()["text"][:20])
    assert main(["encode", *words(folder, "one", store)]) == 0
    capsys.readouterr()
    tuesday = [str(folder / "one"), f"--features={folder}/tuesday.npy", "--source=text", store]
    assert main(["encode", *tuesday]) == 2
    assert "give --ids FILE" in capsys.readouterr().err
    assert len(FaissStore.open(folder / "s.store")) == 30
    ids = folder / "ids.txt"
    for lines, message in ((["a"], "1 lines for 20 items"), (["a"] * 20, "unique")):
        ids.write_text("\n".join(lines))
        assert main(["encode", *tuesday, f"--ids={ids}"]) == 1
        assert message in capsys.readouterr().err
    ids.write_text("".join(f"tuesday {i}\n" for i in range(20)))
    assert main(["encode", *tuesday, f"--ids={ids}"]) == 0
    assert len(FaissStore.open(folder / "s.store")) == 50
    assert main(["encode", *tuesday, f"--ids={ids}"]) == 0
    assert "20 replaced" in capsys.readouterr().out


def test_one_picture_has_one_id(tmp_path, monkeypatch):
    from pyg_hash.cli.build import pictures

    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    ids = {pictures(p).ids[0] for p in ("p", "./p", "p/../p", str(tmp_path / "p"), "p/*.png")}
    assert ids == {str(tmp_path / "p" / "a.png")}


# moved pictures -------------------------------------------------------------------------------


def test_pictures_may_move(folder, capsys):
    run = Run(folder / "one")
    items = run.items()
    paths = [str(folder / "pictures" / f"{i % 3}" / f"{i}.png") for i in range(len(items))]
    items.image_paths[:] = [*paths[:-1], None]
    run.save_items(items)
    kept = json.loads((folder / "one" / "items.json").read_text())
    assert kept["images_root"] == str(folder / "pictures")
    assert kept["image_paths"][:2] == ["0/0.png", "1/1.png"] and kept["image_paths"][-1] is None
    assert run.items() == items
    there = folder / "there"
    with pytest.raises(NotADirectoryError, match="images_root: .*there is no folder"):
        run.items(there)
    there.mkdir()
    assert run.items(there).image_paths[1] == f"{there}/1/1.png"
    words_ = words(folder, "one", "-k1", "--modality=image", "--json", f"--images-root={there}")
    assert main(["search", *words_]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])["answers"][0]
    assert first["path"].startswith(f"{there}/")


# whole files ----------------------------------------------------------------------------------


def test_verify_says_in_one_line_that_a_file_has_no_checksum(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checksums, "_said", set())
    h5py.File(tmp_path / "a.h5", "w").close()
    assert main(["data", "verify", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "1 have no checksum" in out
    assert err.startswith(f"pyg-hash: warning: {tmp_path}/a.h5: has no checksum")
    assert err.count("\n") == 1


def test_verify_names_the_damaged_file(folder, capsys):
    assert main(["data", "verify", str(folder / "one")]) == 0
    assert " 0 problems, 0 have no checksum" in capsys.readouterr().out
    path = Path(folder / "one" / "index_text.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)
    assert main(["data", "verify", str(folder / "one")]) == 1
    assert f"DAMAGED   {path}: truncated, damaged or" in capsys.readouterr().out
    assert main(["data", "verify", str(folder / "q.npy")]) == 1
    assert "no file that pyg_hash writes" in capsys.readouterr().err


def test_a_run_that_lost_its_rows_is_not_evaluated_on_any_data(folder, capsys):
    (folder / "one" / ROWS).unlink()
    assert main(["evaluate", f"{folder}/one"]) == 1
    assert "rows.safetensors is gone" in capsys.readouterr().err


def test_verify_names_what_belongs_to_another_run(folder, capsys):
    shutil.copy(folder / "two" / ROWS, folder / "one" / ROWS)
    assert main(["data", "verify", f"{folder}/one"]) == 0  # of the same data
    shutil.rmtree(folder / "one" / "model")
    shutil.copytree(folder / "two" / "model", folder / "one" / "model")
    assert main(["data", "verify", f"{folder}/one"]) == 1
    assert "MIXED" in capsys.readouterr().out
    (folder / "two" / "record.json").unlink()
    assert main(["data", "verify", f"{folder}/two"]) == 1
    assert "MIXED     model: no record.json says that" in capsys.readouterr().out


def test_codes_replace_codes_alone(folder, tmp_path, capsys):
    write(tmp_path / "mine.h5")
    HammingIndex(8, model="a" * 64).export(tmp_path / "store.h5")
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file.attrs["model"] = "resnet50"
    command = ["encode", f"{folder}/one", f"--features={tmp_path}/mine.h5"]
    for name in ("mine.h5", "store.h5", "theirs.h5"):
        assert main([*command, f"--out={tmp_path}/{name}"]) == 2
        assert f"{name} is there already, and no earlier one" in capsys.readouterr().err
    for _ in range(2):  # codes replace codes
        assert main([*command, f"--out={tmp_path}/codes.h5"]) == 0
