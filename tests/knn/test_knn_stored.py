"""knn of features that stay in an HDF5 file."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import pytest
import scipy.sparse as sp
import torch
from oracles import assert_same_neighbours
from torch import Tensor

from benchmarks.measure import measured
from pyg_hash.datasets import StoredMatrix, open_feature_file
from pyg_hash.knn import knn

METRICS = ["cosine", "ip", "l2"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["pyg_hash.knn.knn"]
    monkeypatch.setattr(module, "_QUERY_ELEMENTS", 70 * 12)
    monkeypatch.setattr(module, "_DATABASE_ELEMENTS", 31 * 12)


def features() -> Tensor:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(120, 12), torch.randn(6, 12).repeat(5, 1)])
    return x * (torch.rand_like(x) < 0.5) + torch.eye(1, 12)


def write(path: Path, image: Tensor, text: Tensor) -> Path:
    """Images dense, texts as CSR."""
    with h5py.File(path, "w") as file:
        file["image"] = image.numpy()
        matrix = sp.csr_matrix(text.numpy())
        group = file.create_group("text")
        for part in ("data", "indices", "indptr"):
            group[part] = getattr(matrix, part)
        group.attrs["shape"] = matrix.shape
    return path


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["image", "text"])
def test_equals_the_search_in_memory(tmp_path: Path, metric: str, name: str) -> None:
    x = features()
    query = torch.randn(33, 12)
    with open_feature_file(write(tmp_path / "f.h5", x, x)) as file:
        stored = StoredMatrix(file, name)
        cases = [
            (stored, stored, x, x, True),
            (stored, stored, x, x, False),
            (query, stored, query, x, False),
            (stored, query, x, query, False),
        ]
        for a, b, a_here, b_here, own in cases:
            got = knn(a, b, 11, metric=metric, exclude_self=own)
            want = knn(a_here, b_here, 11, metric=metric, exclude_self=own)
            torch.testing.assert_close(got[0], want[0], rtol=1e-5, atol=1e-5)
            assert torch.equal(got[1], want[1])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("backend", ["torch", "sparse", "auto"])
def test_backends_and_ties_across_blocks(tmp_path: Path, metric: str, backend: str) -> None:
    x = torch.randint(-1, 2, (150, 12), generator=torch.Generator().manual_seed(0)).float()
    x[:, 0] = 2
    with open_feature_file(write(tmp_path / "f.h5", x, x)) as file:
        stored = StoredMatrix(file, "image")
        got = knn(stored, stored, 20, metric=metric, backend=backend)
    want = knn(x, x, 20, metric=metric, backend=backend)
    torch.testing.assert_close(got[0], want[0])
    ties = got[0][:, 1:] == got[0][:, :-1]
    assert bool((got[1][:, 1:] > got[1][:, :-1])[ties].all())
    if metric != "cosine":  # sums of integers are exact
        assert torch.equal(got[1], want[1])


def test_k_larger_than_a_block(tmp_path: Path) -> None:
    x = features()
    with open_feature_file(write(tmp_path / "f.h5", x, x)) as file:
        stored = StoredMatrix(file, "image")
        assert_same_neighbours(knn(stored, stored, 150), knn(x, x, 150))


def test_errors_name_the_rows(tmp_path: Path) -> None:
    x = features()
    x[40, 3] = float("nan")
    text = features()
    text[100] = 0
    with open_feature_file(write(tmp_path / "f.h5", x, text)) as file:
        image, words = StoredMatrix(file, "image"), StoredMatrix(file, "text")
        with pytest.raises(ValueError, match=r"database\[31:62\]: 1 of 31 .*first: row 9"):
            knn(features(), image, 3)
        with pytest.raises(ValueError, match=r"query\[70:140\]: 1 of 70 rows are zero vectors"):
            knn(words, features(), 3)
        with pytest.raises(ValueError, match="12 and 5 features"):
            knn(words, torch.ones(3, 5), 3)
        with pytest.raises(ValueError, match="only 150.*use k <= 150"):
            knn(features(), words, 151)
        with pytest.raises(ValueError, match="exclude_self: needs query to be the database"):
            knn(features(), words, 3, exclude_self=True)
        with pytest.raises(ValueError, match="approximate: stored rows are searched exactly"):
            knn(words, words, 3, approximate="pca")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """134 MB of features, of which the file holds one chunk, searched in blocks of 4 MB."""
    for name in ("_QUERY_ELEMENTS", "_DATABASE_ELEMENTS"):
        monkeypatch.setattr(sys.modules["pyg_hash.knn.knn"], name, 1 << 20)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        node = file.create_dataset("image", (2048, 16384), "f4", chunks=(64, 16384), fillvalue=1.0)
        node[5] = torch.randn(16384).numpy()
    query = torch.randn(4, 16384)
    with open_feature_file(tmp_path / "f.h5") as file:
        stored = StoredMatrix(file, "image")
        spent = measured(lambda: knn(query, stored, 3, backend="torch"))
    assert spent.extra_bytes < 60e6
