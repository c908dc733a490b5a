"""The examples run, on a data set small enough for a test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import pyg_hash.datasets
from pyg_hash.datasets import SyntheticCrossModal
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import recipe

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name, folder=EXAMPLES):
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small_emoji(monkeypatch, tmp_path):
    from shapes import Shapes

    monkeypatch.setattr(pyg_hash.datasets, "Emoji", Shapes)
    monkeypatch.chdir(tmp_path)


def test_all_examples_are_tested():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    source = Path(__file__).read_text()
    names -= {"onnx_encode", "own_dataset"}  # in test_cli_export.py and test_cli_methods.py
    assert {name for name in names if f'"{name}"' not in source} == set()


def test_quickstart(small_emoji, two_epochs, capsys):
    load("quickstart")
    out = capsys.readouterr().out
    assert "inductive" in out
    assert "i2t" in out


def test_own_method(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    data = SyntheticCrossModal(200)[0]
    module = "own_method"  # as an example
    made = recipe(f"{module}:Smooth", k=5, num_bits=16, label_rate=1.0)
    data = made.transforms(data)
    assert data["image", "intra", "image"].edge_index.size(1) >= 5 * 200
    model = made.model(data)
    made.fit(model, data, progress=False)
    result = evaluate(model, data)
    assert result.protocol == "inductive" and min(result.i2t, result.t2i) > 0.6
    model.save("model")
    assert torch.equal(type(model).load("model").encode(data, "text"), model.encode(data, "text"))


def test_own_graph_method(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    raw, module = SyntheticCrossModal(200)[0], "own_graph_method"
    made = recipe(f"{module}:Attentive", k=5, num_bits=16, label_rate=1.0)
    data = made.transforms(raw.clone())
    model = made.model(data)
    made.fit(model, data, progress=False)
    result = evaluate(model, data)
    assert result.protocol == "inductive" and min(result.i2t, result.t2i) > 0.8
    model.save(tmp_path / "model")
    model = type(model).load(tmp_path / "model").eval()
    query = data["image"].query_mask
    for m, relax in (("image", model.relax_image), ("text", model.relax_text)):
        assert (relax(raw[m].x[query]) - model(data)[m][query]).abs().max() < 1e-5


def test_demo(small_emoji, undrawn, monkeypatch, tmp_path, capsys):
    demo = load("demo")
    plain = tuple(word for word in demo.RUNS["taught"] if word not in demo.TEXTS_WITH_MEANING)
    monkeypatch.setitem(demo.RUNS, "taught", plain)  # without options that only emoji know
    monkeypatch.setattr(demo, "TEXTS", ("red box",))
    monkeypatch.setattr(demo, "PICTURES", ("blue-tile",))
    monkeypatch.setattr(sys, "argv", ["demo.py", "--root=data", "--epochs=2"])
    (tmp_path / "runs" / "demo").mkdir(parents=True)  # an earlier run, which is not touched
    demo.main()
    out = capsys.readouterr().out
    for expected in (
        "$ pyg-hash train",
        "inductive",
        "--model taughthash",
        "--model mcgcn",
        "pair recall",
        "--text 'red box'",
        "blue-tile",
        f"Open in a browser: {Path('runs/demo-2/taught/report.html')}",
    ):
        assert expected in out
    assert (tmp_path / "runs/demo-2/taught/report.html").is_file()
    assert not any((tmp_path / "runs" / "demo").iterdir())


def test_demo_stops_at_the_first_error(small_emoji):
    with pytest.raises(SystemExit) as stop:
        load("demo").run("train", "--dataset=nothing", "--out=x")
    assert stop.value.code == 2


def test_custom_dataset(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    load("custom_dataset").main()
    assert "i2t" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["gch", "sgch", "sgeh", "large_graph"])
def test_one_script_a_method(name, small_emoji, monkeypatch, capsys):
    small = {
        "gch": ["--label-rate=0.5"],
        "sgch": ["--k=3"],
        "sgeh": ["--k=3", "--num-clusters=4"],
        "large_graph": ["--k=3", "--batch-size=8", "--cell-size=4"],
    }
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--root=data", "--epochs=2", *small[name]])
    load(name).main()
    out = capsys.readouterr().out
    assert "i2t" in out and "inductive" in out
