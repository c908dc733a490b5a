"""Bad input on the command line: one clear line, no traceback, nothing lost."""

from __future__ import annotations

import io
import json
import runpy
import subprocess
import sys

import pytest
import torch

from pyg_hash.cli import main
from pyg_hash.cli.options import TrainConfig, UsageError
from pyg_hash.index import HammingIndex
from pyg_hash.runs import PARTS, Run

OUT = "--out={tmp}/run"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            [],
            ["a command is missing", "build, train, evaluate, encode, search, export, report"],
        ),
        (["trian"], ["'trian'", "'train', 'evaluate'"]),
        (["train"], ["required: out"]),
        (["train", OUT, "--bits=8"], ["--bits=8", "--num_bits"]),
        (["train", OUT, "--num_bits=many"], ["--num_bits", "int", "many"]),
        (["train", OUT, "--dataset=emojis"], ["dataset: 'emojis'", "emoji", "wikipedia"]),
        (["train", OUT, "--model=gcn"], ["model: 'gcn'", "mcgcn"]),
        (
            ["train", OUT, "--protocol=fair"],
            ["--protocol", "fair", "'inductive', 'strict', 'transductive'"],
        ),
        (["train", OUT, "--dataset_options.a=1"], ["Emoji has no option 'a'", "progress"]),
        (
            ["train", OUT, "--dataset=synthetic", "--recipe=itq"],
            ["dataset_options: SyntheticCrossModal needs 'n'", "give --dataset_options.n"],
        ),
        (["train", OUT, "--model_options.a=1"], ["MCGCN has no option 'a'", "variant"]),
        (["train", OUT, "--config=nowhere.yaml"], ["nowhere.yaml"]),
        (["train", OUT, "--recipe=mcgcn/wiki"], ["recipe: 'mcgcn/wiki'", "mcgcn/wikipedia"]),
        (["train", OUT, "--recipe=sgch/wikipedia", "--model=gch"], ["model: gch", "leave one out"]),
        (["train", OUT, "--recipe=nope"], ["recipe: 'nope' is not known", "mcgcn/wikipedia"]),
        (["train", OUT, "--recipe=nope/wikipedia"], ["recipe: 'nope' is not known"]),
        (["train", OUT, "--recipe=a:B"], ["recipe: a:B is no preset"]),
        (["train", OUT, "--optimizer={{name: Best}}"], ["optimizer:", "'Best'"]),
        (["train", OUT, "--optimizer.momentum=1"], ["optimizer: Adam has no option 'momentum'"]),
        (["train", OUT, "--decay=0"], ["decay: expected a positive"]),
        (["train", OUT, "--epochs=0"], ["epochs: expected a positive integer, got 0"]),
        (["train", OUT, "--num_bits=0"], ["num_bits: expected a positive integer, got 0"]),
        (["train", OUT, "--lr=-1"], ["lr: expected a positive"]),
        (["train", OUT, "--label_rate=2"], ["label_rate: expected a fraction"]),
        (["train", OUT, "--resume"], ["resume:", "holds no run", "leave out --resume"]),
        (["search", "x"], ["--text WORDS or --image FILE or --features"]),
        (["search", "x", "--text=a", "--image=b"], ["--text WORDS or --image FILE or --features"]),
        (
            ["search", "x", "--text=a", "--modality=sound"],
            ["--modality", "'text', got sound"],
        ),
        (["search", "x", "--text=a", "-k0"], ["positive"]),
        (["encode", "x", "--out=y"], ["--images DIR, --texts FILE or --features"]),
        (["encode", "x", "--out=y.csv", "--texts=a"], ["write NAME.store", "pyg-hash export NAME"]),
        (["encode", "x", "--out=y", "--texts=a", "--features=b"], ["either --features or"]),
        (["data"], ["check"]),
    ],
)
def test_usage_errors(words, parts, tmp_path, capsys):
    assert main([word.format(tmp=tmp_path) for word in words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("pyg-hash: error: ")
    for part in parts:
        assert part in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train", "--out={tmp}/file/run"], ["out: cannot write", "Not a directory"]),
        (["train", OUT, "--dataset={tmp}/lost.h5"], ["lost.h5"]),
        (["train", OUT, "--dataset={tmp}/file.h5"], ["file.h5"]),
        (
            ["train", OUT, "--dataset=wikipedia", "--root={tmp}/wiki"],
            ["cannot be downloaded", "wiki"],
        ),
        (
            ["train", OUT, "--dataset=synthetic", "--dataset_options.n=60", "--k=5000"],
            ["k:", "5000"],
        ),
        (
            [
                *["train", OUT, "--dataset=synthetic", "--dataset_options.n=180"],
                *["--dataset_options.num_queries=30", "--label_rate=0.3", "--val_rate=0.1"],
            ],
            ["val_rate: 0.1 of", "of each class", "use at least 0.1", "label_rate"],
        ),
        (["evaluate", "{tmp}/nowhere"], ["nowhere is no folder"]),
        (["evaluate", "{tmp}"], ["lacks config.yaml, model/config.json"]),
        (["search", "{tmp}", "--text=a"], ["lacks config.yaml, model/config.json"]),
        (["encode", "{tmp}", "--texts=a", "--out=b.h5"], ["lacks config.yaml"]),
        (["data", "check", "{tmp}/lost.h5"], ["lost.h5"]),
        (["data", "check", "{tmp}/file.h5"], ["file.h5"]),
    ],
)
def test_errors_in_files(words, parts, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "file.h5").write_bytes(b"\x89HDF\r\n\x1a\n cut short")
    assert main([word.format(tmp=tmp_path) for word in words]) == 1
    error = capsys.readouterr().err
    assert "pyg-hash: error: " in error
    assert "Traceback" not in error
    for part in parts:
        assert part in error


def test_what_the_output_cannot_show_is_escaped_and_a_reader_may_leave(tmp_path, monkeypatch):
    write_store(tmp_path / "a.store")
    for more in ([], ["--json"]):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
        assert main(["store", "list", str(tmp_path / "a.store"), *more]) == 0
        assert rb"gr\u00fcn \u7ea2 \ud83c\udf88" in raw.getvalue()
    assert json.loads(raw.getvalue())["text"] == "grün 红 🎈"
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["store", "list", str(tmp_path / "a.store")]) == 0
    words = [sys.executable, "-m", "pyg_hash", "store", "list", str(tmp_path / "a.store")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 128 + 13


def test_a_pipe_of_somebody_else_that_broke_is_an_error(tmp_path, monkeypatch, capsys):
    def broken(asked):
        raise BrokenPipeError("the helper of an encoder ended")

    monkeypatch.setattr("pyg_hash.cli.store.list_items", broken)
    assert main(["store", "list", str(tmp_path / "a.store")]) == 1
    assert capsys.readouterr().err == "pyg-hash: error: the helper of an encoder ended\n"


def write_store(path):
    index = HammingIndex.create(path, 8, ids=str, fields={"text": str})
    index.add(torch.ones(1, 8, dtype=torch.int8), ["a"], {"text": ["grün 红 🎈"]})
    index.save()


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["evaluate", str(tmp_path / "nowhere"), "--debug"])


def test_console_prints_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pyg-hash", "evaluate", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("pyg_hash", run_name="__main__")  # python -m pyg_hash
    assert stop.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["data", "check", "--help"]])
def test_help(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert "usage: pyg-hash" in capsys.readouterr().out


def test_every_setting_has_a_help_text():
    fields = TrainConfig.__dataclass_fields__.values()
    assert all(field.metadata["help"] for field in fields)


def test_stored_setting_of_another_version(tmp_path):
    with pytest.raises(UsageError, match="colour not known; use some of dataset, root"):
        TrainConfig.from_dict({"colour": "red"})


def test_config_file_with_an_unknown_setting(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("colour: red\n")
    assert main(["train", f"--config={tmp_path / 'config.yaml'}", f"--out={tmp_path / 'run'}"]) == 2
    assert "colour" in capsys.readouterr().err


def test_run_without_encoder_says_what_to_do(tmp_path, capsys):
    out = f"--out={tmp_path / 'run'}"
    small = ["--dataset=synthetic", "--dataset_options.n=80", "--dataset_options.num_queries=20"]
    assert main(["train", out, *small, "--k=3", "--epochs=1", "--num_bits=8"]) == 0
    capsys.readouterr()
    assert main(["search", str(tmp_path / "run"), "--text=red"]) == 1
    assert "no text encoder" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run"), "--split=val"]) == 1
    assert "train with --val_rate" in capsys.readouterr().err
    for name in ("config.json", "model.safetensors"):
        path = tmp_path / "run" / "model" / name
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert main(["evaluate", str(tmp_path / "run")]) == 1
        assert name in capsys.readouterr().err
        path.write_bytes(content)
    Run.open(tmp_path / "run", need=PARTS)
