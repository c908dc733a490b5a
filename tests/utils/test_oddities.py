"""What `data check` finds odd, training says too: in the same words, once each."""

import re
import warnings

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T

from pyg_hash import datasets
from pyg_hash.cli import main
from pyg_hash.datasets import FeatureFile, check_feature_file, write_feature_file
from pyg_hash.recipes import recipe
from pyg_hash.utils.oddities import OddDataWarning, odd_features, odd_labels, say_odd_data

N = 90


def content():
    draw = np.random.default_rng(0)
    y = np.arange(N) % 3
    image, text = (
        draw.normal(size=(3, w))[y] * 2 + draw.normal(size=(N, w)).astype(np.float32)
        for w in (12, 10)
    )
    splits = {"train": range(60), "query": range(60, N)}
    return {"image": image, "text": text, "labels": y, **splits}


def wide_column(values):
    values["image"][:, 3] *= 1e4


def constant_column(values):
    values["text"][:, 2] = 5


def zero_row(values):
    values["image"][7] = 0


def zero_query(values):
    values["image"][80] = 0


def far_column(values):
    values["text"][:, 2] += 1e6  # which are not centred


def long_row(values):
    values["text"][5] *= 1e3


def one_class(values):
    values["labels"] = np.zeros(N, int)


def every_class(values):
    values["labels"] = np.ones((N, 3))


CASES = {
    wide_column: "image: 1 of 12 columns are over 20 times as wide as the median column",
    far_column: "text: 1 of 10 columns are over 20 times as far from 0 as the median column",
    constant_column: "text: 1 of 10 columns are constant",
    zero_row: "image: 1 zero rows have no cosine (first: row 7)",
    zero_query: "image: 1 zero rows have no cosine (first: row 80)",
    long_row: "text: 1 of 90 rows are over 20 times as long",
    one_class: "labels: every row has the class 0, so that every item is relevant",
    every_class: "labels: every row has the 3 classes 0, 1, 2, so that every item is relevant",
}


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def odd(request, tmp_path):
    """A file with something odd, and what is to be said of it."""
    values = content()
    request.param(values)
    return write_feature_file(tmp_path / "x.h5", **values), CASES[request.param]


def test_train_asks_for_no_centring_where_it_centres(tmp_path, capsys):
    values = content()
    values["image"][:, 2] += 1e6
    file = write_feature_file(tmp_path / "x.h5", **values)
    words = [f"--dataset={file}", "--model=lsh", "--num_bits=8", f"--out={tmp_path}/out"]
    assert main(["train", *words]) == 0
    assert "subtract their means" not in capsys.readouterr().err


@pytest.mark.parametrize("method", ["mcgcn --epochs=1 --k=3", "lsh"])
def test_train_says_once_what_data_check_finds(odd, method, tmp_path, capsys):
    file, message = odd
    for name in ("one", "again"):  # the second one reads the stored graph
        words = ["train", f"--dataset={file}", "--num_bits=8", f"--out={tmp_path}/{name}"]
        assert main([*words, *f"--model={method}".split()]) == 0
        said = re.findall("pyg-hash: warning: (.*)", capsys.readouterr().err)
        assert [line.startswith(message) for line in said].count(True) == 1, said
        found = check_feature_file(file).warnings
        assert sum(message.split(" has ")[0] in line for line in found) >= 1
        if not message.startswith("labels"):  # whose classes have names there
            assert {line for line in found if line.startswith(message)} <= {*said}


def test_python_shows_each_line_once(odd):
    file, message = odd
    made = recipe("lsh", num_bits=8)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default", OddDataWarning)
        data = made.transforms(FeatureFile(file)[0])
        made.fit(made.model(data), data)
    assert [str(w.message).startswith(message) for w in said].count(True) == 1


def test_features_that_were_never_scaled_are_looked_at(odd):
    file, message = odd
    with pytest.warns(OddDataWarning, match=re.escape(message)):
        say_odd_data(FeatureFile(file)[0])


def test_rows_that_are_labeled_and_have_no_label(tmp_path):
    values = content() | {"labels": torch.eye(3).repeat(30, 1), "labeled": [4, 5]}
    values["labels"][5:8] = 0
    message = r"labels: 1 of 2 rows of labeled_mask have none \(first: row 5\)"
    with pytest.warns(OddDataWarning, match=message):
        say_odd_data(FeatureFile(write_feature_file(tmp_path / "x.h5", **values))[0])


def test_nothing_is_said_of_good_data(tmp_path):
    several = {"num_features": (30, 20), "multi_label": True}
    sets = [
        FeatureFile(write_feature_file(tmp_path / "x.h5", **content())),
        datasets.SyntheticCrossModal(200),
        datasets.SyntheticCrossModal(200, 5, **several),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", OddDataWarning)
        for dataset in sets:
            say_odd_data(dataset[0])
            say_odd_data(recipe("mcgcn").transforms(dataset[0]))


def test_features_that_were_changed_after_their_scaling_are_said():
    data = T.NormalizeFeatures()(recipe("dcmh").transforms(datasets.SyntheticCrossModal(200)[0]))
    with pytest.warns(OddDataWarning, match="image: x was changed after ScaleFeatures"):
        say_odd_data(data)


def test_blocks_of_rows_make_no_difference(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=draw)
    x[44] *= 1e3
    x[:, 1] *= 1e4
    x[33] = 0
    whole = odd_features(x, "x")
    assert len(whole) == 3
    monkeypatch.setattr("pyg_hash.utils.oddities._BLOCK", 40)
    assert odd_features(x, "x") == whole


def test_many_classes_are_one_line():
    (line,) = odd_labels(torch.ones(4, 80), [f"n{c}" for c in range(80)])
    assert "the 80 classes n0, n1, " in line and "n9, ..., so" in line and "n10" not in line
    assert odd_labels(torch.eye(4)) == []
