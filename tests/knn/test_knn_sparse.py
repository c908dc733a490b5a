"""knn of CSR features, and of dense ones that are mostly zeros, against the dense search."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from oracles import assert_same_neighbours
from torch import Tensor

from pyg_hash.knn import knn, sparse
from pyg_hash.utils.csr import csr_matrix

METRICS = ["cosine", "ip", "l2"]


def bag_of_words(rows: int, words: int = 200, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, words, generator=generator)
    x = torch.where(torch.rand(rows, words, generator=generator) < 0.04, x, 0.0)
    x[:, 0] += 0.1  # no row is zero
    return x


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("csr", ["both", "query", "database", "none"])
def test_equals_the_dense_search(metric: str, exclude_self: bool, csr: str) -> None:
    database = bag_of_words(150)
    query = database if exclude_self else bag_of_words(40, seed=1)
    want = knn(query, database, 9, metric=metric, exclude_self=exclude_self, backend="torch")
    b = database.to_sparse_csr() if csr in ("both", "database") else database
    a = b if exclude_self else query.to_sparse_csr() if csr in ("both", "query") else query
    backend = "sparse" if csr == "none" else "auto"
    scores, index = knn(a, b, 9, metric=metric, exclude_self=exclude_self, backend=backend)
    torch.testing.assert_close(scores, want[0], rtol=1e-5, atol=1e-6)
    assert torch.equal(index, want[1])
    assert scores.dtype == torch.float32 and scores.is_contiguous()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("sizes", [(40, 100, 1), (64, 1 << 12, 1 << 12), (1 << 20, 7, 1 << 30)])
def test_block_sizes_do_not_matter(
    metric: str, sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = bag_of_words(300).repeat(2, 1).to_sparse_csr()
    want = knn(x, x, 7, metric=metric, exclude_self=True)
    original = sparse.CSRScores.__init__

    def init(self: sparse.CSRScores, query: Any, database: Any, **options: Any) -> None:
        original(self, query, database, **options)
        self.rows, self.columns = sizes[:2]

    monkeypatch.setattr(sparse.CSRScores, "__init__", init)
    monkeypatch.setattr(sparse, "ELEMENTS", sizes[2])
    got = knn(x, x, 7, metric=metric, exclude_self=True)
    assert_same_neighbours(got, want)  # the product rounds by the width of its block


@pytest.mark.parametrize("metric", METRICS)
def test_equal_rows_are_ordered_by_index(metric: str) -> None:
    order = torch.randperm(240, generator=torch.Generator().manual_seed(0))
    x = bag_of_words(20).repeat(12, 1)[order].to_sparse_csr()
    scores, index = knn(x, x, 30, metric=metric, exclude_self=True)
    ties = scores[:, 1:] == scores[:, :-1]
    assert bool((index[:, 1:] > index[:, :-1])[ties].all())
    assert int(ties.sum()) > 240 * 20
    assert not bool((index == torch.arange(240)[:, None]).any())


def test_l2_of_equal_rows_is_zero() -> None:
    x = (1000 * bag_of_words(50)).repeat(2, 1).to_sparse_csr()
    scores, index = knn(x, x, 1, metric="l2", exclude_self=True)
    assert bool((scores == 0).all())
    assert index.squeeze(1).tolist() == [*range(50, 100), *range(50)]


def test_stored_zeros_and_float64() -> None:
    x = bag_of_words(60).double()
    start, column = torch.arange(0, 60 * 200 + 1, 200), torch.arange(200).repeat(60)
    full = csr_matrix(start, column, x.flatten(), 200)  # every zero is stored
    for metric in METRICS:
        want = knn(x, x, 5, metric=metric, exclude_self=True, backend="torch")
        scores, index = knn(full, full, 5, metric=metric, exclude_self=True)
        assert torch.equal(index, want[1])
        torch.testing.assert_close(scores, want[0], rtol=1e-5, atol=1e-6)


def test_zero_rows_have_inner_products_and_distances() -> None:
    x = bag_of_words(30)
    x[3] = 0
    for metric in ("ip", "l2"):
        want = knn(x, x, 29, metric=metric, exclude_self=True, backend="torch")[1]
        c = x.to_sparse_csr()
        assert torch.equal(knn(c, c, 29, metric=metric, exclude_self=True)[1], want)
    with pytest.raises(ValueError, match=r"database: 1 of 30 rows are zero vectors.*row 3"):
        knn(c, c, 3)


def test_bad_csr() -> None:
    good = bag_of_words(10).to_sparse_csr()
    broken = good.clone()
    broken.values()[0] = float("nan")
    with pytest.raises(ValueError, match=r"database: 1 of 10 rows contain NaN or inf.*row 0"):
        knn(good, broken, 2)
    wild = torch.sparse_csr_tensor(
        good.crow_indices(), good.col_indices() + 199, good.values(), good.shape,
        check_invariants=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="query: no valid CSR matrix"):
        knn(wild, good, 2)
    with pytest.raises(ValueError, match=r"query: expected shape \[n, d\], got \[2, 10, 200\]"):
        knn(torch.stack([good.to_dense()] * 2).to_sparse_csr(), good, 2)
    with pytest.raises(TypeError, match="query: expected a floating-point tensor"):
        knn(good.to_dense().long().to_sparse_csr(), good, 2)
    for backend in ("torch", "faiss"):
        with pytest.raises(ValueError, match=f"database: '{backend}' needs dense rows"):
            knn(good, good, 2, backend=backend)
    with pytest.raises(ValueError, match="database: 'pca' needs dense rows"):
        knn(good, good, 2, approximate="pca")
    with pytest.raises(ValueError, match="exclude_self: needs query to be the database"):
        other = bag_of_words(10, seed=5).to_sparse_csr()
        knn(good, other, 2, exclude_self=True)
    assert torch.equal(
        knn(good, good.clone(), 2, exclude_self=True)[1], knn(good, good, 2, exclude_self=True)[1]
    )


def test_integer_ties_have_the_lowest_indices() -> None:
    counts = torch.randint(0, 2, (700, 6), generator=torch.Generator().manual_seed(0)).float()
    x = torch.cat((counts, torch.eye(700) * 2), 1)  # rows differ, most scores are equal
    exact = x.double() @ x.double().T
    want = exact.sort(dim=1, descending=True, stable=True)
    c = x.to_sparse_csr()
    scores, index = knn(c, c, 6, metric="ip")
    assert torch.equal(index, want.indices[:, :6])
    assert torch.equal(scores.double(), want.values[:, :6])


def test_rows_taken_from_csr() -> None:
    x = bag_of_words(40)
    c = x.to_sparse_csr()
    picked = torch.tensor([5, 5, 0, 39])
    assert torch.equal(sparse.take(c, picked).to_dense(), x[picked])
    assert torch.equal(sparse.take(c, slice(7, 12)).to_dense(), x[7:12])
    assert torch.equal(sparse.to_csr(x).to_dense(), x)


def test_auto_sees_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    original = sparse.CSRScores.tile
    monkeypatch.setattr(sparse.CSRScores, "tile", lambda *a: (used.append(True), original(*a))[1])
    x = bag_of_words(300)
    knn(x, x, 3)
    assert not used  # too little work to look
    monkeypatch.setattr(sys.modules["pyg_hash.knn.knn"], "_SMALL", 0)
    knn(x, x, 3)
    assert used
    used.clear()
    knn(x + 0.5, x, 3)
    assert not used


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("metric", METRICS)
def test_cuda(metric: str) -> None:
    x = bag_of_words(300)
    want = knn(x, x, 10, metric=metric, exclude_self=True, backend="torch")
    c = x.cuda().to_sparse_csr()
    got = knn(c, c, 10, metric=metric, exclude_self=True)
    assert got[0].is_cuda and torch.equal(got[1].cpu(), want[1])
