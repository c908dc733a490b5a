"""The command line end to end on a small data set with real encoders."""

from __future__ import annotations

import json
import os
import re
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
import yaml
from small import assert_same_codes

from pyg_hash.cli import build, main
from pyg_hash.cli.command import parse
from pyg_hash.cli.search import short_path, table
from pyg_hash.datasets.base import label_names
from pyg_hash.metrics import evaluate
from pyg_hash.runs import PARTS, Run
from pyg_hash.typing import binarize
from pyg_hash.utils.files import load_json
from pyg_hash.utils.settings import SettingError

SETTINGS = ("--dataset=shapes", "--k=3", "--num_bits=16", "--epochs=5", "--label_rate=0.5")


pytestmark = pytest.mark.usefixtures("shapes")


@pytest.fixture(scope="module")
def root(shapes_root):
    return shapes_root


def train(root, out, *more):
    return main(["train", f"--root={root}", f"--out={out}", *SETTINGS, *more])


@pytest.fixture(scope="module")
def trained(shapes_run):
    """Trained by these settings."""
    return shapes_run


def codes(folder):
    run = Run.open(folder, need=PARTS)
    return {
        m: run.index(m).search(-torch.ones(1, 16, dtype=torch.int8), 9) for m in ("image", "text")
    }


def same_codes(a, b):
    a, b = codes(a), codes(b)
    return all(
        torch.equal(torch.as_tensor(x), torch.as_tensor(y))
        for m in a
        for x, y in zip(a[m], b[m], strict=True)
    )


def test_run_folder_is_complete(trained):
    run = Run.open(trained, need=PARTS)
    assert (trained / "history.csv").is_file()
    assert len(load_json(trained / "history.json")) == 5
    items = run.items()
    assert items.ids[0] == "red-square"
    assert items.labels[0] == ["red"]
    assert run.encoder("text")(["red tile"]).shape[0] == 1
    metrics = load_json(run.file("metrics"))["query"]
    assert metrics["protocol"] == "inductive"
    assert 0.5 < metrics["t2i"] <= 1


def test_index_holds_the_database_only(trained, root):
    from shapes import Shapes

    data = Shapes(root)[0]
    for modality in ("image", "text"):
        assert len(Run(trained).index(modality)) == int(data[modality].database_mask.sum())


def test_config_repeats_the_run(trained, tmp_path):
    assert (
        main(["train", f"--config={trained / 'config.yaml'}", f"--out={tmp_path / 'again'}"]) == 0
    )
    assert same_codes(trained, tmp_path / "again")
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    assert settings["epochs"] == 5
    assert settings == yaml.safe_load((tmp_path / "again" / "config.yaml").read_text())


def test_options_override_the_config(trained, tmp_path):
    out = tmp_path / "short"
    arguments = [
        f"--config={trained / 'config.yaml'}",
        "--epochs=2",
        "--model_options.weights.balance=0.5",  # two levels deep
        "--model_options.hidden_channels=[8, 8]",
    ]
    for order in (arguments, arguments[::-1], ["--epochs=2", *arguments[0].split("="), "--lr=1"]):
        assert parse(["train", *order, "--out=x"]).train.epochs == 2  # wherever --config stands
    assert main(["train", *arguments, f"--out={out}"]) == 0
    assert len(load_json(out / "history.json")) == 2
    assert load_json(out / "model" / "config.json")["config"]["weights"]["balance"] == 0.5


def test_options_two_levels_deep_are_read_as_those_of_one(tmp_path):
    given = {"a": "0.5", "b": "[1, 2]", "c": "no", "d": "x", "e": "2020-01-01", "f": "-1"}
    flat = parse(["train", "--out=x", *(f"--model_options.{k}={v}" for k, v in given.items())])
    words = [word for k, v in given.items() for word in (f"--model_options.x.{k}", v)]
    args = parse(["train", *words, "--out=x", "--lr.image.w", "1e-3"])
    assert args.train.model_options == {"x": flat.train.model_options}
    assert args.train.lr == {"image": {"w": 1e-3}} and flat.train.model_options["a"] == 0.5
    for wrong in (["--model_options.x.a", "--resume"], ["--lr.a.b=1", "--lr.a.b.c=2"]):
        with pytest.raises(SettingError, match="expected one argument|another option"):
            parse(["train", "--out=x", *wrong])
    assert parse(["search", "r", "--text=--a.b.c"]).search.text == "--a.b.c"
    (tmp_path / "c.yaml").write_text("model_options: {x: {a: '1.5'}}")
    args = parse(["train", "--out=x", f"--config={tmp_path}/c.yaml"])
    assert args.train.model_options == {"x": {"a": "1.5"}}  # as it stands in a file
    assert parse(["train", "--out=x"]).train.model_options == {}


@pytest.mark.parametrize("option", ["--optimizer", "--lr", "--model_options"])
def test_a_value_that_yaml_cannot_make_is_named(option, capsys):
    assert main(["train", "--out=o", option, "0x_"]) == 2
    assert option in capsys.readouterr().err


def test_an_option_two_levels_deep_leaves_its_neighbours_in_the_config(tmp_path):
    (tmp_path / "c.yaml").write_text("model_options: {width: 8, weights: {a: 1, b: 2}, more: null}")
    given = [
        f"--config={tmp_path}/c.yaml",
        "--model_options.weights.b=3",
        "--model_options.more.c=4",
    ]
    args = parse(["train", "--out=x", *given])
    expected = {"width": 8, "weights": {"a": 1, "b": 3}, "more": {"c": 4}}
    assert args.train.model_options == expected
    (tmp_path / "config.yaml").write_text("model: mcgcn\nmodel_options: {weights: {a: 1}}")
    args = parse(["train", f"--out={tmp_path}", "--resume", "--model_options.weights.b=3"])
    assert args.train.model_options == {"weights": {"a": 1, "b": 3}}
    plain = "--model_options.weights={a: 1}"
    args = parse(["train", "--out=x", plain, "--model_options.weights.b=3"])
    assert args.train.model_options == {"weights": {"a": 1, "b": 3}}
    with pytest.raises(SettingError, match="another option"):
        parse(["train", "--out=x", "--model_options.weights=1", "--model_options.weights.b=3"])
    deep, of = ["--model_options.weights.b", "3"], {"width": 8, "weights": {"a": 1, "b": 3}}
    for later, expected in [  # a whole one after it wins, also over that of a file
        (["--model_options={c: 8}"], {"c": 8}),
        (["--model_options", "{c: 8}", *deep], {"c": 8, "weights": {"b": 3}}),
        ([plain], {**of, "weights": {"a": 1}, "more": None}),
        (["--model_options.weights=1"], {**of, "weights": 1, "more": None}),
        (
            ["--model_options.weightsbeside=1"],
            {**of, "weights": {"a": 1, "b": 3}, "more": None, "weightsbeside": 1},
        ),
        (
            ["--model_options.weights.b={c: 1}"],
            {**of, "weights": {"a": 1, "b": {"c": 1}}, "more": None},
        ),
    ]:
        for words in ([*given[:1], *deep, *later], [*deep, *later, *given[0].split("=")]):
            assert parse(["train", "--out=x", *words]).train.model_options == expected


def test_second_training_into_a_run_is_refused(trained, root, capsys):
    before = (trained / "metrics.json").read_bytes()
    assert train(root, trained) == 1
    assert "--resume" in capsys.readouterr().err
    assert (trained / "metrics.json").read_bytes() == before


def test_interrupted_training_resumes_to_the_same_codes(
    trained, root, tmp_path, monkeypatch, capsys
):
    import pyg_hash.training

    real, out = pyg_hash.training.fit, tmp_path / "stopped"

    def interrupted(*args, **keywords):
        def stop(model, row):
            if row["epoch"] == 3:
                raise KeyboardInterrupt

        return real(*args, **{**keywords, "callbacks": [*keywords["callbacks"], stop]})

    with monkeypatch.context() as patch:
        patch.setattr(pyg_hash.training, "fit", interrupted)
        assert train(root, out) == 130
    assert f"--out {out} --resume" in capsys.readouterr().err
    assert not Run(out).has("model")
    assert main(["train", f"--out={out}", "--resume"]) == 0  # the stored settings are used
    assert same_codes(trained, out)


def test_finished_stages_are_kept(trained, root, tmp_path, monkeypatch):
    import pyg_hash.metrics
    import pyg_hash.training

    out = tmp_path / "late"

    def fail(*args, **keywords):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(pyg_hash.metrics, "evaluate", fail)
        assert train(root, out) == 1
    assert Run(out).has("index_text")
    monkeypatch.setattr(pyg_hash.training, "fit", fail)  # must not be needed again
    assert train(root, out, "--resume") == 0
    assert same_codes(trained, out)


def test_resume_with_other_settings_is_refused(trained, capsys):
    assert main(["train", f"--out={trained}", "--resume", "--lr=1"]) == 1
    assert "lr (0.002 there)" in capsys.readouterr().err


def test_early_stopping_needs_validation(root, tmp_path, capsys):
    assert train(root, tmp_path / "x", "--patience=1") == 2
    assert "--val_rate" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    assert train(root, tmp_path / "x", "--patience=1", "--val_rate=0.2", "--protocol=strict") == 0
    assert load_json(tmp_path / "x" / "metrics.json")["query"]["protocol"] == "strict"
    assert main(["evaluate", str(tmp_path / "x"), "--split=val"]) == 0
    assert {"query", "val"} <= set(load_json(tmp_path / "x" / "metrics.json"))


def test_evaluate_agrees_with_training(trained, tmp_path, capsys):
    stored = load_json(trained / "metrics.json")["query"]
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == stored
    assert main(["evaluate", str(run), "--topk=5", "--denominator=R"]) == 0
    assert "inductive" in capsys.readouterr().out
    assert len(load_json(run / "metrics.json")) == 2


def test_evaluate_by_finer_labels(trained, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["evaluate", str(run), "--relevance=shade"]) == 1
    assert "has no shade" in capsys.readouterr().err

    def shaded(config, plain=build.build_dataset):
        dataset = plain(config)
        data = dataset[0]
        for modality in ("image", "text"):
            data[modality].shade = torch.arange(len(data[modality].y)) % 5
        own = type("Shaded", (list,), {"row_prints": lambda _: dataset.row_prints()})
        return own([data])

    monkeypatch.setattr("pyg_hash.cli.build.build_dataset", shaded)
    assert main(["evaluate", str(run), "--relevance=shade"]) == 0
    printed = capsys.readouterr().out
    assert "relevance=shade" in printed and "pair recall t2i R@1 " in printed
    metrics = load_json(run / "metrics.json")
    assert metrics["query relevance=shade"]["i2t"] < metrics["query"]["i2t"]
    assert metrics["query"]["pair_recall"] == metrics["query relevance=shade"]["pair_recall"]


def test_evaluate_when_the_folder_of_the_data_has_moved(trained, root, tmp_path, capsys):
    shutil.copytree(root, tmp_path / "moved")
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["evaluate", str(run), f"--data={tmp_path / 'moved'}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == load_json(trained / "metrics.json")["query"]


@pytest.mark.parametrize(
    ("flag", "name"), [("--text", "blue blueish box"), ("--image", "red-cube.png")]
)
def test_search_finds_the_colour(trained, root, capsys, flag, name):
    value = str(root / "raw" / name) if flag == "--image" else name
    assert main(["search", str(trained), flag, value, "-k", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"query", "answers", "tied"} and found["query"] == value
    answers = found["answers"]
    assert len(answers) == 3
    assert [a["score"] for a in answers] == sorted((a["score"] for a in answers), reverse=True)
    color = "red" if flag == "--image" else "blue"
    assert sum(a["labels"] == [color] for a in answers) >= 2
    assert set(answers[0]) == {"id", "distance", "score", "name", "labels", "path"}
    index = Run(trained).index("text" if flag == "--image" else "image")
    assert index.has_relaxed and found["tied"] >= 1


def test_search_table(trained, capsys):
    assert main(["search", str(trained), "--text=red", "--modality=text", "-k2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["score", "distance", "name", "label", "id", "path"]
    assert len(lines) == 4
    assert lines[1].endswith(".png")
    assert re.fullmatch(r"(\d+ items are|no other item is) at distance \d+, .*", lines[3])
    words = ["search", str(trained), "--text=red", "--rescore=none"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["distance", "name", "label", "id", "path"]
    assert main([*words, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert set(answers[0]) == {"id", "distance", "name", "labels", "path"}
    assert [a["distance"] for a in answers] == sorted(a["distance"] for a in answers)
    assert main([*words, "--oversample=0"]) == 2
    assert "oversample: expected a positive integer" in capsys.readouterr().err


def test_a_table_has_a_line_an_item_and_no_orders_to_a_terminal():
    odd, shown = "a\nb\x1b]0;\U0001f469\u200d\U0001f4bb\x07", "a b]0;\U0001f469\u200d\U0001f4bb"
    of_a_store = {"id": odd, "distance": 1, "metadata": {"x": odd}}
    of_a_run = {**of_a_store, "name": odd, "labels": [odd], "path": f"/{odd}"}
    for answer, number in ((of_a_store, 2), (of_a_run, 5)):
        head, line = table({"answers": [answer]}).split("\n")
        assert line.count(shown) == number
        assert not {"\x1b", "\x07"} & {*line}


def test_paths_below_the_working_folder_are_short(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert short_path(str(tmp_path / "a" / "b.png")) == "a/b.png"
    assert short_path("/elsewhere/b.png") == "/elsewhere/b.png"
    assert short_path("b.png") == "b.png"


def test_search_unknown_words_are_named(trained, capsys):
    assert main(["search", str(trained), "--text=zebra"]) == 1
    error = capsys.readouterr().err
    assert "zebra" in error
    assert len(error.splitlines()) == 1


def test_search_notes_unknown_words_among_known_ones(trained, capsys):
    assert main(["search", str(trained), "--text=red zebra"]) == 0
    printed = capsys.readouterr()
    note, latency = printed.err.splitlines()
    assert note == "pyg-hash: note: not in the vocabulary: zebra"
    assert re.fullmatch(
        r"pyg-hash: one query: [\d.]+ ms \(features .*, code .*, search .*\)", latency
    )
    assert "distance" in printed.out


def test_texts_that_are_no_unicode_are_refused(trained, capsys):
    assert main(["search", str(trained), "--text=red \udcff"]) == 2
    assert "text: is not in utf-8, in which" in capsys.readouterr().err


def test_no_word_is_known_whatever_stands_between_them(capsys):
    encoder = SimpleNamespace(unknown_words=lambda text: ["hund", "\u00f1u"])
    build.Coder.note_unknown_words(SimpleNamespace(encoder=encoder), "Hund? n\u0303u!")
    assert "no word of 'Hund? n\u0303u!' is known" in capsys.readouterr().err
    build.Coder.note_unknown_words(
        SimpleNamespace(encoder=SimpleNamespace(unknown_words=str.split)), "a, b"
    )
    assert "no word of 'a, b' is known" in capsys.readouterr().err


def test_encode_raw_items(trained, root, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("red box\n\nblue flag\n")
    out = tmp_path / "codes.h5"
    images = ["--images", str(root / "raw" / "red-*.png")]
    texts = ["--texts", str(tmp_path / "texts.txt")]
    assert main(["encode", str(trained), *images, *texts, "--out", str(out)]) == 0
    assert "image: 10 codes of 16 bits" in capsys.readouterr().out
    with h5py.File(out) as file:
        assert file["image/codes"].shape == (10, 16)
        assert file["image/codes"].dtype == np.int8
        assert set(np.unique(file["text/codes"])) <= {-1, 1}
        assert file["text/ids"].asstr()[:].tolist() == ["red box", "blue flag"]
    assert [path.name for path in tmp_path.glob("codes*")] == ["codes.h5"]


def test_encode_folder_equals_search_codes(trained, root, tmp_path):
    from pyg_hash.cli.build import Coder, load_model

    out = tmp_path / "codes.h5"
    assert main(["encode", str(trained), "--images", str(root / "raw"), "--out", str(out)]) == 0
    with h5py.File(out) as file:
        name = file["image/ids"].asstr()[3]
        run = Run(trained)
        coder = Coder(load_model(run), "image", run.encoder("image"))
        relaxed = coder([name])[0]
        codes = torch.from_numpy(file["image/codes"][3])
        assert_same_codes(codes, binarize(relaxed), relaxed)


def test_label_names():
    names = ["a", "b", "c"]
    assert label_names(torch.tensor([2, 0]), names, 2) == [["c"], ["a"]]
    assert label_names(torch.tensor([[1.0, 0, 1], [0, 0, 0]]), names, 2) == [["a", "c"], []]


def test_model_of_the_run_is_the_one_evaluated(trained, root):
    config = build.TrainConfig.from_dict(Run(trained).config())
    result = evaluate(build.load_model(Run(trained)), build.build_dataset(config)[0])
    assert result.to_dict() == load_json(trained / "metrics.json")["query"]


def test_pictures_that_are_none_or_have_no_name(trained, root, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("no picture")
    assert main(["search", str(trained), f"--image={tmp_path / 'bad.png'}"]) == 1
    assert "error: image: " in capsys.readouterr().err
    picture = next(root.rglob("*.png"))
    shutil.copy(picture, tmp_path / "good.png")
    try:
        shutil.copy(picture, os.fsencode(tmp_path) + b"/b\xff.png")
    except OSError:
        pytest.skip("file names are UTF-8 here")
    for out in (tmp_path / "new.h5", tmp_path / "new.store"):
        assert main(["encode", str(trained), f"--images={tmp_path}", f"--out={out}"]) == 0
        assert "b\\udcff.png: its name is not valid UTF-8" in capsys.readouterr().err
