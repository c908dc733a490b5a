import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from pyg_hash.datasets import build as build_module
from pyg_hash.datasets import check_feature_file, write_feature_file
from pyg_hash.utils.files import CorruptFileError

N = 10


@pytest.fixture
def content():
    rng = np.random.default_rng(1)
    return {
        "image": rng.standard_normal((N, 4)).astype(np.float32),
        "text": rng.random((N, 3)),
        "train": np.arange(8),
        "query": np.arange(8, N),
        "labels": np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 1]),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "f.h5"


def test_clean_file(path, content):
    write_feature_file(path, **content, class_names=["cat", "dog"])
    report = check_feature_file(path)
    assert report.ok and report.problems == [] and report.warnings == []
    assert report.about is None and "about" not in str(report)
    image = report.matrices["image"]
    assert image.shape == (N, 4) and image.dtype == "float32" and image.storage == "dense"
    assert image.minimum == content["image"].min() and image.maximum == content["image"].max()
    assert report.matrices["text"].dtype == "float64"
    assert report.label_kind == "class index" and report.label_counts == {"cat": 5, "dog": 5}
    assert report.splits == {"train": 8, "query": 2, "database": 8, "labeled": 8}
    assert report.overlaps == {"query & database": 0, "query & train": 0}
    text = str(report)
    for part in (str(path), "10 x 4 float32 dense", "cat 5, dog 5", "query 2", "  ok"):
        assert part in text


def test_what_the_file_says_of_its_features(path, content):
    write_feature_file(path, **content, about="vgg16-fc7 + use512")
    report = check_feature_file(path)
    assert report.about == "vgg16-fc7 + use512"
    assert "about     vgg16-fc7 + use512" in str(report)
    with h5py.File(path, "r+") as file:
        file.attrs["about"] = ""
    report = check_feature_file(path)
    assert [problem.split(" ")[0] for problem in report.problems] == ["attributes:"]


def test_values_are_counted_over_all_blocks(path, content, monkeypatch):
    monkeypatch.setattr(build_module, "_CHUNK_ELEMENTS", 8)  # two or three rows a block
    write_feature_file(path, **content)
    with h5py.File(path, "r+") as file:
        image = file["image"][:]
        image[1, 0] = image[9, 3] = np.nan
        image[5, 2], image[6, 1] = np.inf, -np.inf
        image[7] = 0
        image[3] = image[0]
        image[8] = image[0]  # a query
        file["image"][:] = image
    report = check_feature_file(path)
    found = report.matrices["image"]
    assert (found.num_nan, found.num_inf, found.zero_rows) == (2, 2, 1)
    assert found.duplicate_rows == 2 and found.query_in_database == 1
    finite = image[np.isfinite(image)]
    assert found.minimum == finite.min() and found.maximum == finite.max()
    assert report.problems == ["image: 2 NaN and 2 inf values; clean or drop their rows"]
    assert len(report.warnings) == 3
    told = "\n".join(report.warnings)
    assert "image: 2 rows repeat an earlier one; drop them, or" in told
    assert "1 query rows equal a database row exactly; retrieval of these is no test: drop" in told
    assert "PROBLEM" in str(report) and "will not load" in str(report)


def test_csr_and_dense_reports_agree(path, content):
    dense = np.round(content["text"])
    write_feature_file(path, **{**content, "text": dense})
    first = check_feature_file(path).matrices["text"]
    write_feature_file(path, **{**content, "text": sp.csr_matrix(dense)})
    second = check_feature_file(path).matrices["text"]
    assert second.storage == "csr" and second.density == (dense != 0).mean()
    for name in ("minimum", "maximum", "zero_rows", "duplicate_rows", "query_in_database"):
        assert getattr(first, name) == getattr(second, name)
    assert "csr" in str(second)


def test_negative_zero_is_zero(path, content):
    image = content["image"].copy()
    image[0], image[1] = [0.0, 1, 1, 1], [-0.0, 1, 1, 1]
    write_feature_file(path, **{**content, "image": image})
    assert check_feature_file(path).matrices["image"].duplicate_rows == 1


def test_multi_hot(path, content):
    y = np.zeros((N, 3), dtype=np.uint8)
    y[:9, 0] = 1
    y[:4, 1] = 1
    write_feature_file(path, **{**content, "labels": y})
    report = check_feature_file(path)
    assert report.label_kind == "multi-hot" and report.unlabeled_rows == 1
    assert report.label_counts == {"class 0": 9, "class 1": 4, "class 2": 0}
    assert report.warnings == [
        "labels: 1 rows have no class at all",
        "labels: no row has the class class 2",
    ]
    y[8] = [0, 0, 1]  # the other query has no label, and does not count
    write_feature_file(path, **{**content, "labels": y})
    (_, odd) = check_feature_file(path).warnings
    assert odd.startswith("labels: 1 of 1 queries share no label")


def test_without_labels(path, content):
    write_feature_file(path, **{**content, "labels": None})
    report = check_feature_file(path)
    assert report.ok and report.label_kind == "none" and report.splits["labeled"] == 0


def test_all_problems_at_once(path, content):
    write_feature_file(path, **content)
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "other"
        del file["labels"]
        file["labels"] = np.full(N, 7)
        file["class_names"] = ["a"]
        file["splits/database"] = np.ones(N, dtype=bool)
        file["texts"] = ["x"]
    report = check_feature_file(path)
    found = "\n".join(report.problems)
    for part in ("attributes: format 'other'", "labels: class indices", "query: 2", "texts: has 1"):
        assert part in found
    assert not report.ok and report.overlaps["query & database"] == 2


def test_missing_parts_and_unequal_rows(path, content):
    write_feature_file(path, **content)
    with h5py.File(path, "r+") as file:
        del file["text"]
    assert check_feature_file(path).problems[0].startswith("text: missing")
    with h5py.File(path, "r+") as file:
        file["text"] = np.ones((3, 2))
    assert "image and text: 10 and 3 rows" in check_feature_file(path).problems[0]
    with h5py.File(path, "r+") as file:
        del file["text"], file["image"]
    assert len(check_feature_file(path).problems) == 2


def test_ids_and_pictures(path, content, tmp_path):
    (tmp_path / "here.png").write_bytes(b"x")
    write_feature_file(
        path,
        **content,
        ids=range(N),
        image_paths=["here.png", "gone.png", *[None] * (N - 2)],
    )
    with h5py.File(path, "r+") as file:  # of an earlier version
        file["ids"][:] = "same"
    report = check_feature_file(path)
    assert report.ok and "ids: 9 repeat an earlier one" in report.warnings
    assert f"image_paths: 1 files do not exist (first: {tmp_path / 'gone.png'})" in report.warnings


def test_truncated_or_missing(path, content):
    write_feature_file(path, **content)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptFileError, match="copy or write it again"):
        check_feature_file(path)
    with pytest.raises(FileNotFoundError, match="no such feature file"):
        check_feature_file(path.parent / "none.h5")
