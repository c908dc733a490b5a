"""The command line on a feature file: the user's own data without any code."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from pyg_hash.cli import main
from pyg_hash.datasets import FeatureFile, write_feature_file
from pyg_hash.models import MCGCN
from pyg_hash.runs import PARTS, Run


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    return write_feature_file(
        tmp_path_factory.mktemp("data") / "mine.h5",
        image=rng.normal(size=(3, 12))[labels] + 0.3 * rng.normal(size=(60, 12)),
        text=rng.normal(size=(3, 8))[labels] + 0.3 * rng.normal(size=(60, 8)),
        labels=np.eye(3)[labels],
        ids=[f"item {row}" for row in range(60)],
        train=np.arange(60) >= 9,
        query=np.arange(60) < 9,
    )


@pytest.fixture(scope="module")
def trained(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "mine"
    words = ["train", f"--dataset={file}", "--k=4", "--num_bits=8", "--epochs=10", f"--out={out}"]
    assert main(words) == 0
    return out


def test_data_check(file, tmp_path, capsys):
    assert main(["data", "check", str(file)]) == 0
    assert "60 x 12" in capsys.readouterr().out
    with h5py.File(file) as source, h5py.File(tmp_path / "bad.h5", "w") as target:
        target.attrs.update(source.attrs)
        for name in source:
            source.copy(name, target)
        target["image"][3] = np.nan
    assert main(["data", "check", str(tmp_path / "bad.h5")]) == 1
    assert "NaN 1" in capsys.readouterr().out


def test_train_fills_a_run_folder_without_encoders(trained):
    run = Run.open(trained, need=PARTS)
    assert not (trained / "encoders").exists()
    items = run.items()
    assert items.ids[7] == "item 7"
    assert items.labels[7] == ["class 1"]
    assert items.texts[7] is None


def test_evaluate_needs_no_options(trained, capsys):
    assert main(["evaluate", str(trained)]) == 0
    assert "9 queries, 51 database items" in capsys.readouterr().out


def test_evaluate_when_the_data_have_moved(trained, file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere.h5"
    elsewhere.write_bytes(file.read_bytes())
    assert main(["evaluate", str(trained), "--json"]) == 0
    expected = capsys.readouterr().out
    assert main(["evaluate", str(trained), "--json", "--data=elsewhere.h5"]) == 0
    assert capsys.readouterr().out == expected
    assert main(["evaluate", str(trained), "--data=nowhere.h5"]) == 1
    assert "nowhere.h5" in capsys.readouterr().err
    assert main(["evaluate", str(trained), "--data=folder"]) == 2
    assert "or the path of an .h5 file" in capsys.readouterr().err


def test_encode_features(trained, file, tmp_path):
    out = tmp_path / "codes.h5"
    assert main(["encode", str(trained), f"--features={file}", f"--out={out}"]) == 0
    model = MCGCN.load(trained / "model")
    data = FeatureFile(file)[0]
    with h5py.File(out) as codes:
        assert codes["text/ids"].asstr()[2] == "item 2"
        stored = torch.from_numpy(codes["text/codes"][:])
        assert torch.equal(stored, model.encode_text(data["text"].x))
        assert codes["image/codes"].shape == (60, 8)


def test_encode_features_of_one_modality(trained, tmp_path, capsys):
    path, out = tmp_path / "new.h5", tmp_path / "codes.h5"
    with h5py.File(path, "w") as new:
        new["image"] = np.ones((2, 12))
    assert main(["encode", str(trained), f"--features={path}", f"--out={out}"]) == 0
    with h5py.File(out) as codes:
        assert list(codes) == ["image"]
        assert codes["image/ids"].asstr()[:].tolist() == ["0", "1"]
    with h5py.File(path, "w") as new:
        new["image"] = np.ones((2, 5))
    assert main(["encode", str(trained), f"--features={path}", f"--out={out}"]) == 1
    assert "5 features" in capsys.readouterr().err
    with h5py.File(path, "w") as new:
        new["sound"] = np.ones((2, 5))
    assert main(["encode", str(trained), f"--features={path}", f"--out={out}"]) == 1
    assert "neither 'image' nor 'text'" in capsys.readouterr().err


def test_a_query_of_another_s_file_gives_no_orders_to_a_terminal(trained, tmp_path, capsys):
    with h5py.File(tmp_path / "new.h5", "w") as new:
        new["image"], new["ids"] = np.ones((1, 12)), ["a\x1b]0;b"]
    assert main(["search", str(trained), f"--features={tmp_path}/new.h5", "--source=image"]) == 0
    assert capsys.readouterr().out.startswith("query a]0;b\n")


def test_a_report_is_not_written_through_a_link_out_of_the_run(trained, tmp_path, capsys):
    (trained / "report.html").symlink_to(tmp_path / "theirs.html")
    assert main(["report", str(trained)]) == 1
    assert "report.html is a link out of the run, to" in capsys.readouterr().err
    (trained / "report.html").unlink()
    assert not (tmp_path / "theirs.html").exists()


def test_encode_into_an_unwritable_folder(trained, file, tmp_path, capsys):
    (tmp_path / "file").touch()
    words = ["encode", str(trained), f"--features={file}", f"--out={tmp_path}/file/codes.h5"]
    assert main(words) == 1
    assert "out: cannot write to" in capsys.readouterr().err
