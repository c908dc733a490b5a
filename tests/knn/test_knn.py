"""knn against a float64 brute force; ties, duplicates and bad input."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest
import torch
from oracles import assert_same_neighbours
from torch import Tensor

from pyg_hash.knn import exact, knn, prepare
from pyg_hash.knn.knn import _Heaps
from pyg_hash.utils import faiss as _faiss

BACKENDS = ["torch", "sparse", "faiss"]
METRICS = ["cosine", "ip", "l2"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "faiss":
        pytest.importorskip("faiss")
    return str(request.param)


def brute_force(
    query: Tensor, database: Tensor, k: int, metric: str, exclude_self: bool = False
) -> tuple[Tensor, Tensor]:
    """Float64, all pairs, stable sort."""
    q, d = query.double(), database.double()
    if metric == "cosine":
        q, d = q / q.norm(dim=1, keepdim=True), d / d.norm(dim=1, keepdim=True)
    if metric == "l2":
        scores = (q[:, None] - d[None]).square().sum(2)
    else:
        scores = (q[:, None] * d[None]).sum(2)
    if exclude_self:
        scores.fill_diagonal_(float("inf") if metric == "l2" else -float("inf"))
    scores, index = scores.sort(dim=1, descending=metric != "l2", stable=True)
    return scores[:, :k], index[:, :k]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exclude_self", [False, True])
def test_equals_brute_force(backend: str, metric: str, exclude_self: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(150, 7)
    query = x if exclude_self else torch.randn(40, 7)
    scores, index = knn(query, x, 11, metric=metric, exclude_self=exclude_self, backend=backend)
    want_scores, want = brute_force(query, x, 11, metric, exclude_self)
    assert scores.dtype == torch.float32 and index.dtype == torch.int64
    assert torch.equal(index, want)
    torch.testing.assert_close(scores.double(), want_scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 11, 12, 30, 239])
def test_twelvefold_duplicates_exclude_self_by_index(backend: str, metric: str, k: int) -> None:
    torch.manual_seed(1)
    order = torch.randperm(240)
    x = torch.randn(20, 33).repeat(12, 1)[order]
    scores, index = knn(x, x, k, metric=metric, exclude_self=True, backend=backend)
    source = (order % 20).tolist()
    copies = {row: [j for j in range(240) if source[j] == row] for row in range(20)}
    assert not bool((index == torch.arange(240)[:, None]).any())
    assert bool((index.sort(1).values.diff(dim=1) > 0).all())  # nobody twice
    for i in range(240):
        twins = [j for j in copies[source[i]] if j != i]
        head = index[i, : min(k, 11)].tolist()
        if metric != "ip":  # an inner product may prefer a longer vector to a twin
            assert head == twins[:k]
    ties = scores[:, 1:] == scores[:, :-1]
    assert bool((index[:, 1:] > index[:, :-1])[ties].all())


@pytest.mark.parametrize("metric", METRICS)
def test_integer_ties_take_the_lower_index(backend: str, metric: str) -> None:
    torch.manual_seed(2)
    x = torch.randint(-1, 2, (300, 4)).float()
    x[x.abs().sum(1) == 0] = 1.0
    for shift in (0.0, 64.0) if metric == "l2" else (0.0,):
        scores, index = knn(x + shift, x + shift, 9, metric=metric, backend=backend)
        if metric == "cosine":  # equal directions, not all equal cosines, are exact ties
            assert bool((scores.diff(dim=1) <= 0).all())
            same = scores.diff(dim=1) == 0
            assert bool((index.diff(dim=1) > 0)[same].all())
        else:
            want_scores, want = brute_force(x, x, 9, metric)
            assert torch.equal(index, want)
            assert torch.equal(scores.double(), want_scores)


def test_all_rows_equal(backend: str) -> None:
    scores, index = knn(torch.ones(50, 3), torch.ones(50, 3), 4, metric="ip", backend=backend)
    assert index.tolist() == [[0, 1, 2, 3]] * 50
    assert bool((scores == 3).all())


def test_exclude_self_when_self_is_not_among_the_first(backend: str) -> None:
    x = torch.tensor([[1.0, 0.0], [9.0, 0.0], [8.0, 0.0], [7.0, 0.0]])  # row 0: itself is last
    _, index = knn(x, x, 2, metric="ip", exclude_self=True, backend=backend)
    assert index.tolist() == [[1, 2], [2, 3], [1, 3], [1, 2]]


def test_l2_far_from_the_origin(backend: str) -> None:
    torch.manual_seed(3)
    x = torch.randn(200, 5, dtype=torch.float64)
    shifted = (x + 1e4).float()
    shifted[:, 0] = 5.0  # a constant feature
    scores, index = knn(shifted, shifted, 5, metric="l2", exclude_self=True, backend=backend)
    want_scores, want = brute_force(shifted, shifted, 5, "l2", True)
    assert torch.equal(index, want)
    torch.testing.assert_close(scores.double(), want_scores, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types(backend: str, dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    x = torch.randn(60, 6).to(dtype)
    for metric in METRICS:
        scores, index = knn(x, x, 3, metric=metric, exclude_self=True, backend=backend)
        want_scores, _ = brute_force(x, x, 3, metric, True)
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores.double(), want_scores, rtol=1e-5, atol=1e-5)


def test_cosine_of_huge_and_tiny_rows(backend: str) -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) * torch.tensor([[1e30], [1e-30], [1.0]])
    scores, index = knn(x, x, 2, exclude_self=True, backend=backend)
    assert index.tolist() == [[1, 2], [0, 2], [1, 0]]
    torch.testing.assert_close(scores[0], torch.tensor([0.5**0.5, 0.0]))


def test_k_equals_n_and_noncontiguous_input(backend: str) -> None:
    torch.manual_seed(5)
    x = torch.randn(6, 9).T  # 9 rows, column-major
    _, index = knn(x, x, 9, backend=backend)
    assert torch.equal(index, brute_force(x, x, 9, "cosine")[1])
    _, index = knn(x, x, 8, exclude_self=True, backend=backend)
    assert torch.equal(index, brute_force(x, x, 8, "cosine", True)[1])


def tiles_of(monkeypatch: pytest.MonkeyPatch, rows: int, columns: int, symmetric: bool) -> None:
    """Let dense scores come in tiles of this size."""
    original = exact.DenseScores.__init__

    def init(self: exact.DenseScores, query: Any, database: Any, **options: Any) -> None:
        original(self, query, database, **options)
        self.rows, self.columns = rows, columns
        self.symmetric = symmetric and query is database and not self.l2

    monkeypatch.setattr(exact.DenseScores, "__init__", init)
    monkeypatch.setattr(exact.Largest, "mirrored_from", 1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["torch", "faiss"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_tiles_do_not_matter(
    metric: str, name: str, symmetric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    torch.manual_seed(6)
    x = torch.cat([torch.randn(250, 40), torch.randn(30, 40).repeat(5, 1)])
    want = knn(x, x, 20, metric=metric, exclude_self=True)
    for rows, columns in ((1000, 1000), (100, 104), (7, 64), (64, 7)):
        with monkeypatch.context() as patch:
            tiles_of(patch, rows, columns, symmetric)
            got = knn(x, x, 20, metric=metric, exclude_self=True, backend=name)
        assert_same_neighbours(got, want)


@pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch without oneDNN"
)
@pytest.mark.parametrize("metric", METRICS)
def test_products_of_onednn_and_of_blas_find_the_same(
    backend: str, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(10)
    x = torch.cat([torch.randn(250, 40), torch.randn(30, 40).repeat(5, 1)])
    monkeypatch.setattr(exact, "_ONEDNN_FROM", 1)
    want = brute_force(x, x, 20, metric, True)[0]
    for asked in (x, x[:9]):
        found = []
        for faster in (True, False):
            monkeypatch.setattr(exact, "_onednn_is_faster", lambda faster=faster: faster)
            found.append(knn(asked, x, 20, metric=metric, exclude_self=asked is x, backend=backend))
        assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
        if asked is x:
            torch.testing.assert_close(found[0][0].double(), want, rtol=1e-5, atol=1e-5)


def test_a_large_product_takes_the_faster_way(monkeypatch: pytest.MonkeyPatch) -> None:
    x, made = prepare(torch.randn(64, 64)), []
    monkeypatch.setattr(exact, "_by_onednn", lambda a, b: (made.append(len(a)), a @ b.T)[1])
    monkeypatch.setattr(exact, "_onednn_is_faster", lambda: True)
    for least in (64**3, 64**3 + 1):
        monkeypatch.setattr(exact, "_ONEDNN_FROM", least)
        knn(torch.randn(64, 64), x, 3)
    assert made == [64]


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_integer_ties_in_mirrored_tiles(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    x = torch.randint(-1, 2, (300, 4)).float()
    want = knn(x, x, 9, metric=metric)
    tiles_of(monkeypatch, 32, 96, True)
    got = knn(x, x, 9, metric=metric)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def test_tiles_that_faiss_turns_over_find_the_same() -> None:
    pytest.importorskip("faiss")
    torch.manual_seed(2)
    x = torch.cat([torch.randn(1000, 128), torch.randn(50, 128).repeat(4, 1)])  # 3 x 3 tiles
    want = knn(x, x, 20, exclude_self=True, backend="torch")
    assert_same_neighbours(knn(x, x, 20, exclude_self=True, backend="faiss"), want)


@pytest.mark.parametrize(("kind", "d"), [(exact.Largest, 1024), (_Heaps, 128)])
def test_a_symmetric_search_computes_each_tile_once(
    kind: type[exact.Largest], d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    x = prepare(torch.randn(100, d))
    scores = exact.DenseScores(x, x)
    scores.rows, scores.columns = 10, 2048
    made = []
    tile = scores.tile
    monkeypatch.setattr(
        scores, "tile", lambda r, c: (made.append((c.stop - c.start) * 10), tile(r, c))[1]
    )
    exact.candidates(scores, 5, kind)
    assert sum(made) == 100 * 110 // 2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-4, 0.1])
def test_near_ties_are_ranked_pair_by_pair(backend: str, metric: str, spread: float) -> None:
    """Rows that rounding cannot tell apart: the answer is that of all pairs scored alone."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 64, generator=generator)
    x = centres[torch.randint(0, 4, (300,), generator=generator)]
    x = x + spread * torch.randn(300, 64, generator=generator)
    got = knn(x, x, 9, metric=metric, backend=backend)
    every = knn(x, x, 300, metric=metric, backend=backend)
    if backend == "sparse":  # its products round by the width of a tile
        torch.testing.assert_close(got[0], every[0][:, :9], rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(got[0], every[0][:, :9]) and torch.equal(got[1], every[1][:, :9])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [1, 3, 4, 15, 16])
def test_few_queries_among_rows_nearly_equal(backend: str, metric: str, rows: int) -> None:
    """Each is found with the others that rounding cannot tell from it: one more, or many."""
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(40, 24, generator=generator)
    near = x[:20] * (1 + 1e-7 * torch.randn(20, 24, generator=generator))
    x = torch.cat([x, near, x[:4].repeat(6, 1)])
    for k in (1, 2, 5, 7, len(x) - 2, len(x) - 1, len(x)):
        score, index = knn(x[:rows], x, k, metric=metric, backend=backend)
        all_scores, order = knn(x[:rows], x, len(x), metric=metric, backend="torch")
        torch.testing.assert_close(score, all_scores[:, :k])
        if backend != "sparse":
            assert torch.equal(index, order[:, :k])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("csr", [False, True])
def test_prepared_rows_are_searched_alike(metric: str, csr: bool) -> None:
    torch.manual_seed(9)
    x, query = torch.randn(200, 12), torch.randn(7, 12)
    rows = prepare(x.to_sparse_csr() if csr else x, metric)
    for q in (query, query[:1]):
        got, want = knn(q, rows, 5, metric=metric), knn(q, x, 5, metric=metric)
        torch.testing.assert_close(got[0], want[0], rtol=1e-5, atol=1e-5)
        assert torch.equal(got[1], want[1])
    with pytest.raises(ValueError, match="database: prepared for"):
        knn(query, rows, 5, metric="ip" if metric != "ip" else "l2")


def test_rows_prepared_dense_stay_dense_whatever_the_queries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["pyg_hash.knn.knn"], "_SMALL", 1)  # a look at the zeros
    torch.manual_seed(8)
    x, query = (torch.rand(n, 60) * (torch.rand(n, 60) < 0.03) for n in (80, 50))
    x[:, 0], query[:, 0] = 1.0, 1.0
    assert_same_neighbours(knn(query, prepare(x), 4), knn(query, x, 4, backend="torch"))
    for sparse in ({"query": query.to_sparse_csr()}, {"query": query, "backend": "sparse"}):
        with pytest.raises(ValueError, match="database: was prepared from dense rows"):
            knn(database=prepare(x), k=4, **sparse)


def test_auto_without_faiss_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def no_faiss(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "faiss":
            raise ImportError("No module named 'faiss'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_faiss)
    x = torch.eye(4)
    with pytest.raises(ImportError, match=r"is installed, but its import fails \(No module named"):
        knn(x, x, 1, backend="faiss")
    monkeypatch.setattr(_faiss, "is_installed", lambda: False)
    with pytest.raises(ImportError, match=r"pyg_hash\[cpu\].*pyg_hash\[gpu\]"):
        knn(x, x, 1, backend="faiss")
    assert knn(x, x, 1)[1].squeeze().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": 0}, ValueError, "k: expected a positive integer"),
        ({"k": 2.0}, TypeError, "k: expected a positive integer"),
        ({"k": True}, TypeError, "k: expected a positive integer"),
        ({"k": 6}, ValueError, "k: 6 neighbours.*only 5.*use k <= 5"),
        ({"k": 5, "exclude_self": True}, ValueError, "only 4 candidates besides the row itself"),
        ({"database": torch.ones(5, 4)}, ValueError, "3 and 4 features"),
        ({"query": torch.ones(0, 3)}, ValueError, "query: has no rows"),
        ({"database": torch.ones(0, 3)}, ValueError, "database: has no rows"),
        ({"query": torch.ones(3)}, ValueError, "query: expected shape"),
        ({"query": torch.ones(2, 3).long()}, TypeError, "query: expected a floating-point"),
        ({"query": [[1.0]]}, TypeError, "query: expected a floating-point"),
        ({"database": torch.ones(5, 3).to_sparse()}, TypeError, "database: .*to_dense"),
        ({"database": torch.full((5, 3), float("nan"))}, ValueError, "database: 5 of 5 rows"),
        ({"query": torch.full((2, 3), float("inf"))}, ValueError, "query: 2 of 2 rows"),
        ({"query": torch.zeros(2, 3)}, ValueError, "query: 2 of 2 rows are zero vectors"),
        ({"database": torch.eye(5, 3)}, ValueError, "database: 2 of 5 rows are zero vectors"),
        ({"metric": "manhattan"}, ValueError, "metric: 'manhattan' is not known"),
        ({"backend": "gpu"}, ValueError, "backend: 'gpu' is not known"),
        ({"query": torch.ones(2, 3), "exclude_self": True}, ValueError, "exclude_self: needs"),
        ({"database": torch.full((5, 3), 1e30), "metric": "ip"}, ValueError, "database: .*large"),
        ({"query": torch.full((2, 3), 1e30), "metric": "l2"}, ValueError, "query: .*large"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"query": torch.ones(5, 3), "database": torch.ones(5, 3), "k": 2}
    with pytest.raises(error, match=message):
        knn(**{**arguments, **change})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("metric", METRICS)
def test_cuda_tensors_stay_on_the_gpu(metric: str) -> None:
    torch.manual_seed(8)
    x = torch.randn(500, 16)
    want = knn(x, x, 10, metric=metric, exclude_self=True, backend="torch")
    got = knn(x.cuda(), x.cuda(), 10, metric=metric, exclude_self=True)
    assert got[0].is_cuda and got[1].is_cuda
    assert torch.equal(got[1].cpu(), want[1])
