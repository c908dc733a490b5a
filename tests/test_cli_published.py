"""The command line on the published data sets, in small."""

from __future__ import annotations

import pytest
from published_sets import shrink_nus, shrink_nus10k, write_corr_ae, write_nus

from pyg_hash.cli import main
from pyg_hash.runs import Run

SMALL = ("--k=3", "--num_bits=8", "--epochs=2")


def train(name, root, *options):
    words = ["train", f"--dataset={name}", f"--root={root}", f"--out={root}/run", *SMALL]
    return main(words + [f"--dataset_options.{option}" for option in options])


def test_nuswide_with_words(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    arrays = write_nus(tmp_path / "raw")
    shrink_nus(monkeypatch, arrays)
    assert train("nuswide", tmp_path, "text=bow2000", "protocol=per_label", "seed=1") == 0
    run = Run.open(tmp_path / "run")
    assert run.items().labels[0] and run.items().ids[0].startswith("folder")
    capsys.readouterr()
    assert main(["search", f"{tmp_path}/run", "--text", "sky and sea", "-k", "2"]) == 0
    assert "folder" in capsys.readouterr().out


def test_nuswide10k_by_its_feature_file(tmp_path, monkeypatch):
    write_corr_ae(tmp_path / "raw")
    shrink_nus10k(monkeypatch)
    assert train("nuswide10k", tmp_path, "layout=features", "protocol=dscmr") == 0
    assert Run.open(tmp_path / "run").items().labels[0] == ["class 0"]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("nuswide", "Groundtruth/AllLabels/Labels_sky.txt"),
        ("nuswide10k", "NUS_WID_Tags/AllTags1k.txt"),
        ("mirflickr25k", "mirflickr25k-lall.mat"),
        ("mscoco", "MSCOCO_deep_doc2vec_data_rand.h5py"),
    ],
)
def test_what_is_missing(tmp_path, capsys, name, place):
    layout = [] if name.startswith("nus") else ["layout=features"]
    assert train(name, tmp_path, *layout) == 1
    error = capsys.readouterr().err
    assert "cannot be downloaded" in error and place in error and "Traceback" not in error


def test_pictures_of_the_default_are_missing(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    assert train("mscoco", tmp_path) == 1
    assert "train2014/*.jpg  (82,783 files)" in capsys.readouterr().err
