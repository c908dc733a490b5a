"""Whatever a user may reasonably hand over is taken, and means what it says."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from pyg_hash.cli import main
from pyg_hash.datasets import FeatureFile, check_feature_file, write_feature_file
from pyg_hash.datasets.feature_write import as_matrix
from pyg_hash.transforms import LabelRate

N = 12
Y = np.arange(N) % 3
X = np.round(np.random.default_rng(0).standard_normal((N, 4)), 1).astype(np.float32)
GOOD = {"image": X, "text": X[:, :3], "train": range(8), "query": range(8, N), "labels": Y}
WORDS = ["cat", "ant", "bee"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.h5"


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.tolist(),
        lambda x: x.astype(np.float64),
        lambda x: torch.from_numpy(x).requires_grad_(),
        lambda x: torch.from_numpy(x).to_sparse(),
        lambda x: torch.from_numpy(x).to_sparse_csr(),
        sp.csc_matrix,
        sp.lil_matrix,
        sp.dok_array,
        lambda x: x[:, ::-1][:, ::-1],
        np.asfortranarray,
    ],
)
def test_features(path, make):
    write_feature_file(path, **{**GOOD, "image": make(X)})
    assert np.array_equal(FeatureFile(path)[0]["image"].x.numpy(), X)


def test_bfloat16(path):
    write_feature_file(path, **{**GOOD, "image": torch.from_numpy(X).bfloat16()})
    expected = torch.from_numpy(X).bfloat16().float()
    assert torch.equal(FeatureFile(path)[0]["image"].x, expected)


def test_sparse_rows_without_an_entry_are_no_fault():
    x = sp.csr_matrix(np.diag([0.0, 1.0, 0.0, np.nan, 0.0]))
    with pytest.raises(ValueError, match="1 of 5 rows .*row 3"):
        as_matrix(x, "image")
    assert as_matrix(sp.csr_matrix((3, 4)), "image").shape == (3, 4)


@pytest.mark.parametrize(
    "labels",
    [
        [WORDS[c] for c in Y],
        np.array([WORDS[c] for c in Y]),
        np.array([WORDS[c] for c in Y], object),
        np.array([WORDS[c] for c in Y])[:, None],
    ],
)
def test_words_are_classes(path, labels):
    write_feature_file(path, **{**GOOD, "labels": labels})
    data = FeatureFile(path)
    assert data.class_names == sorted(WORDS)
    assert [data.class_names[c] for c in data[0]["image"].y] == [WORDS[c] for c in Y]
    write_feature_file(path, **{**GOOD, "labels": labels}, class_names=[*WORDS, "dog"])
    assert FeatureFile(path)[0]["image"].y.tolist() == Y.tolist()


def test_lists_of_words_are_several_labels(path):
    labels = [["cat"], ["ant", "bee"], []] * 4
    write_feature_file(path, **{**GOOD, "labels": labels})
    y = FeatureFile(path)[0]["image"].y
    assert y[:3].tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "labels",
    [Y[:, None], Y.astype(float), Y.astype(np.uint8), torch.from_numpy(Y), Y.tolist(), list(Y)],
)
def test_whole_numbers_are_class_indices(path, labels):
    write_feature_file(path, **{**GOOD, "labels": labels})
    assert FeatureFile(path)[0]["image"].y.tolist() == Y.tolist()
    assert FeatureFile(path).class_names == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize("make", [lambda y: y + 1, lambda y: (y + 1)[:, None], lambda y: y * 10**9])
def test_numbers_that_are_no_indices_name_the_classes(path, make):
    write_feature_file(path, **{**GOOD, "labels": make(Y)})
    data = FeatureFile(path)
    assert data[0]["image"].y.tolist() == Y.tolist() and data.num_classes == 3
    assert data.class_names == [str(v) for v in np.unique(make(Y))]


@pytest.mark.parametrize("make", [sp.csr_matrix, lambda y: torch.tensor(y).to_sparse(), np.asarray])
def test_sparse_labels(path, make):
    hot = np.eye(3)[Y]
    write_feature_file(path, **{**GOOD, "labels": make(hot)})
    assert np.array_equal(FeatureFile(path)[0]["image"].y.numpy(), hot)


def test_a_column_of_zeros_and_ones_is_what_class_names_say(path):
    column = (Y > 1)[:, None].astype(int)
    write_feature_file(path, **{**GOOD, "labels": column}, class_names=["no", "yes"])
    assert FeatureFile(path)[0]["image"].y.dim() == 1
    write_feature_file(path, **{**GOOD, "labels": column}, class_names=["yes"])
    assert FeatureFile(path)[0]["image"].y.shape == (N, 1)


def test_ids_texts_and_paths(path):
    texts = ["a", None, float("nan"), np.nan, *["b"] * 8]
    paths = [path.parent / "p.png", None, *["q.png"] * 10]
    write_feature_file(path, **GOOD, ids=np.arange(N) + 7, texts=texts, image_paths=paths)
    data = FeatureFile(path)
    assert data.ids == [str(i + 7) for i in range(N)]
    assert data.texts[:5] == ["a", None, None, None, "b"]
    assert data.image_paths[:2] == [str(path.parent / "p.png"), None]


@pytest.mark.parametrize("make", [list, np.array, torch.tensor, lambda r: np.isin(np.arange(N), r)])
def test_rows(path, make):
    write_feature_file(path, **{**GOOD, "train": make(range(8)), "query": make(range(8, N))})
    assert int(FeatureFile(path)[0]["image"].train_mask.sum()) == 8


def test_what_a_file_lets_be_labelled_wins(path):
    write_feature_file(path, **GOOD, labeled=range(6))
    for rate in (0.5, 1.0):
        mask = LabelRate(rate)(FeatureFile(path)[0])["image"].labeled_mask
        assert int(mask.sum()) == 6 * rate and not bool(mask[6:].any())
    write_feature_file(path, **GOOD, labeled=np.zeros(N, bool))
    with pytest.raises(ValueError, match="lets no label be used"):
        LabelRate(0.3)(FeatureFile(path)[0])
    assert not bool(LabelRate(0)(FeatureFile(path)[0])["image"].labeled_mask.any())


def test_the_rows_that_a_file_holds_out_are_the_validation(path, tmp_path, capsys):
    write_feature_file(path, **{**GOOD, "train": range(6)}, val=[6, 7])
    store = FeatureFile(path)[0]["text"]
    assert store.val_mask.nonzero().flatten().tolist() == [6, 7]
    assert "val 2" in str(check_feature_file(path))
    words = ["train", f"--dataset={path}", f"--out={tmp_path}/run", "--num_bits=4", "--k=3"]
    assert main([*words, "--label_rate=1", "--epochs=2", "--patience=1"]) == 0
    assert "6 labels read, label rate 1\n" in capsys.readouterr().out
    assert main(["evaluate", f"{tmp_path}/run", "--split=val"]) == 0
    assert "split val, 2 queries" in capsys.readouterr().out


def test_attributes_of_fixed_length(path):
    write_feature_file(path, **GOOD)
    with h5py.File(path, "r+") as file:  # as R, Julia, MATLAB and C write texts
        file.attrs["format"] = np.bytes_(file.attrs["format"])
    assert check_feature_file(path).ok


def test_a_file_that_is_open_elsewhere_is_not_called_damaged(path):
    write_feature_file(path, **GOOD)
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print(1, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes) as other:
        assert other.stdout.readline()
        with pytest.raises(OSError, match="another process has it open for writing"):
            check_feature_file(path)
        other.communicate(b"\n")
    assert check_feature_file(path).ok


def test_ending_in_capitals(path, tmp_path):
    write_feature_file(tmp_path / "X.H5", **GOOD)
    words = [f"--dataset={tmp_path}/X.H5", f"--out={tmp_path}/run", "--model=lsh", "--num_bits=4"]
    assert main(["train", *words]) == 0


def test_the_check_names_what_is_odd(path):
    x = np.random.default_rng(1).standard_normal((40, 6)).astype(np.float32)
    x[7] *= 1e5
    x[:, 2] = 1.0
    text = np.random.default_rng(2).standard_normal((40, 5)) * [1, 1, 1, 1, 1e4]
    y = np.zeros((40, 3), int)
    y[:, 0], y[np.arange(40), 1 + (np.arange(40) >= 30)] = 1, 1
    rows = {"train": range(30), "query": range(30, 40), "labels": y}
    write_feature_file(path, image=x, text=text, **rows)
    found = "\n".join(check_feature_file(path).warnings)
    for part in (
        "image: 1 of 40 rows are over 20 times as long as the median row (first: row 7",
        "image: 1 of 6 columns are constant (first: 2)",
        "text: 1 of 5 columns are over 20 times as wide as the median column (first: 4)",
        "labels: every row has the class class 0",
    ):
        assert part in found
    write_feature_file(path, image=x * 1e-30, text=text, **{**rows, "labels": y[:, 1:]})
    found = "\n".join(check_feature_file(path).warnings)
    assert "image: rows have lengths of about" in found and "beyond float32" in found
    assert "labels: 10 of 10 queries share no label with any database item" in found


def test_queries_that_nothing_answers_are_in_the_result(tmp_path, capsys):
    x, y = np.random.default_rng(0).standard_normal((40, 8)), np.arange(40) % 4
    y[35:] = 4
    file = write_feature_file(
        tmp_path / "x.h5", image=x, text=x, labels=y, train=range(30), query=range(30, 40)
    )
    words = [f"--dataset={file}", f"--out={tmp_path}/run", "--model=lsh", "--num_bits=8"]
    assert main(["train", *words]) == 0
    printed = capsys.readouterr()
    assert "5 queries share no label with any database item" in printed.out
    assert "0 labels read\n" in printed.out
    assert "pyg-hash: warning: labels: 5 of 10 queries share no label" in printed.err
    assert "mAP cannot exceed 0.500" in printed.err


def test_a_zero_query_is_named(path, tmp_path, capsys):
    write_feature_file(path, **GOOD)
    words = [f"--dataset={path}", f"--out={tmp_path}/run", "--model=lsh", "--num_bits=4"]
    assert main(["train", *words]) == 0
    np.save(tmp_path / "q.npy", X[:2, :3] * [[0], [1]])
    words = [f"{tmp_path}/run", f"--features={tmp_path}/q.npy", "--source=text"]
    capsys.readouterr()
    assert main(["search", *words]) == 0
    note, *lines = capsys.readouterr().err.splitlines()
    assert note.endswith("q.npy: text row 0: note: all zeros, so its code is arbitrary")
    assert not any("note" in line for line in lines)


def test_an_outlier_is_named_at_every_training(path, tmp_path, capsys):
    x = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    rows = {
        "text": x.copy(),
        "labels": np.arange(40) % 4,
        "train": range(30),
        "query": range(30, 40),
    }
    words = ["--model=itq", "--num_bits=8", f"--dataset={path}"]
    x[5] *= 1e5
    write_feature_file(path, image=x, **rows)
    for name in ("a", "b"):  # the second one reads the stored graph
        capsys.readouterr()
        assert main(["train", *words, f"--out={tmp_path}/{name}"]) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if "over 20 times" in line]
        assert len(lines) == 1 and lines[0].startswith("pyg-hash: warning: image: 1 of 40")
