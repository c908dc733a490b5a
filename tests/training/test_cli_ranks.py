"""``pyg-hash train`` on mini-batches, in bf16, and by two processes."""

import multiprocessing
import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from rank_cases import run_command, run_machine
from torch.distributed.run import main as torchrun
from toy import toy_data

from benchmarks.measure import in_ranks
from pyg_hash.cli import main
from pyg_hash.datasets import write_feature_file
from pyg_hash.models import GCH, MCGCN, SGCH
from pyg_hash.runs import PARTS, Run
from pyg_hash.utils.files import load_json

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--num_bits=8", "--k=4", "--epochs=3", "--model_options.hidden_channels=12"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    data = toy_data()
    masks = {name: data["image"][f"{name}_mask"] for name in ("train", "query")}
    path = tmp_path_factory.mktemp("features") / "features.h5"
    write_feature_file(
        path, image=data["image"].x, text=data["text"].x, labels=data["image"].y, **masks
    )
    return path


def words(file, out, *more, model="sgch"):
    return ["train", f"--dataset={file}", f"--out={out}", f"--model={model}", *SMALL, *more]


BATCHES = ("--batch_size=10", "--loader_options.num_neighbors=[3,2]")


def launch(words, said):
    """``torchrun`` without what it prints."""
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torchrun(words)


def test_two_processes_write_one_run(file, tmp_path, monkeypatch):
    """The same codes as one process that averages two batches, by the command of the documents."""
    one, two, said = tmp_path / "one", tmp_path / "two", tmp_path / "said.txt"
    assert main(words(file, one, *BATCHES, "--accumulate=2")) == 0
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = ["--standalone", "--nproc-per-node", "2", "-m", "pyg_hash"]
    launcher = multiprocessing.get_context("fork").Process(  # torch is loaded here
        target=launch, args=([*command, *words(file, two, *BATCHES)], said), daemon=True
    )
    launcher.start()
    launcher.join(300)
    assert launcher.exitcode == 0, said.read_text()[:5000]
    assert said.read_text().count("mAP@all") == 1  # one of them reports
    Run.open(two, need=PARTS)
    a, b = (SGCH.load(out / "model").state_dict() for out in (one, two))
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, rtol=1e-4, atol=1e-6)
    found, expected = (load_json(out / "metrics.json")["query"] for out in (two, one))
    # parameters that differ by rounding may turn a bit
    assert found == {
        k: pytest.approx(v, abs=0.02) if isinstance(v, float) else v for k, v in expected.items()
    }
    # every stage is there: nothing is left to do, by however many
    in_ranks(2, run_command, ["train", f"--out={two}", "--resume"])


def test_settings_are_kept_and_used(file, tmp_path):
    out = tmp_path / "run"
    more = (*BATCHES, "--precision=bf16", "--device=cpu")
    assert main(words(file, out, *more, "--model_options.latent_channels=8", model="mcgcn")) == 0
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["batch_size"] == 10 and settings["precision"] == "bf16"
    assert "device" not in settings  # where a run was made says nothing about what it is
    assert main(["evaluate", str(out), "--device=cpu"]) == 0
    plain = tmp_path / "plain"
    assert main(words(file, plain, "--model_options.latent_channels=8", model="mcgcn")) == 0
    a, b = (MCGCN.load(path / "model").state_dict() for path in (out, plain))
    assert any(not torch.allclose(a[name], b[name], atol=1e-3) for name in a)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said(file, tmp_path, capsys):
    assert main(words(file, tmp_path / "run", "--device=cuda")) == 1
    assert "no CUDA GPU is at hand" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loader_options.num_members=4"], "loader_options: there are no mini-batches"),
        (["--batch_size=4", "--loader_options.depth=4"], "loader_options: .*depth"),
        (["--batch_size=0"], "batch_size: expected a positive integer"),
        (["--accumulate=2"], "batch_size: sgch takes all data at once"),
        (["--accumulate=0"], "accumulate: expected a positive integer"),
        (["--device=tpu"], "device"),
        (["--precision=fp16"], "precision"),
    ],
)
def test_errors_of_the_command_line(file, tmp_path, capsys, options, message):
    assert main(words(file, tmp_path / "run", *options)) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error


def test_methods_with_batches_of_their_own(file, tmp_path, capsys):
    small = [word for word in SMALL if "--k" not in word]
    command = ["train", f"--dataset={file}", "--model=gch", *small]
    assert main([*command, f"--out={tmp_path / 'a'}", "--accumulate=2"]) == 0
    assert main([*command, f"--out={tmp_path / 'b'}", "--batch_size=8"]) == 2
    assert "batch_size: GCH has no such setting" in capsys.readouterr().err


def test_two_machines(file, tmp_path):
    """As torchrun starts them; both machines are this one, each with its own disk."""
    small = [word for word in SMALL if "--k" not in word]
    folders = [tmp_path / "first", tmp_path / "second"]
    commands = [
        ["train", f"--dataset={file}", "--model=gch", f"--out={out}", f"--root={out}", *small]
        for out in folders
    ]
    in_ranks(2, run_machine, commands)
    Run.open(folders[0], need=PARTS)
    assert not any((folders[1] / part).exists() for part in PARTS.values())
    one = tmp_path / "one"
    assert main([*commands[0][:3], f"--out={one}", *small, "--accumulate=2"]) == 0
    a, b = (GCH.load(out / "model").state_dict() for out in (one, folders[0]))
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, rtol=1e-4, atol=1e-6)
