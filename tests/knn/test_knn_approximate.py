"""Approximate searches: exact scores, few neighbours missing, and how many is measured."""

from __future__ import annotations

import sys

import pytest
import torch
from oracles import assert_same_neighbours
from torch import Tensor

from pyg_hash.knn import knn, recall

METRICS = ["cosine", "ip", "l2"]


def features(rows: int, width: int = 200, seed: int = 0) -> Tensor:
    """Rows that few directions explain."""
    generator = torch.Generator().manual_seed(seed)
    plane = torch.randn(20, width, generator=torch.Generator().manual_seed(9))
    x = torch.randn(rows, 20, generator=generator) @ plane
    return x + 0.1 * torch.randn(rows, width, generator=generator)


@pytest.fixture(params=["pca", "ivf", "hnsw"])
def approximate(request: pytest.FixtureRequest) -> str:
    if request.param != "pca":
        pytest.importorskip("faiss")
    return str(request.param)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exclude_self", [False, True])
def test_most_neighbours_are_true(approximate: str, metric: str, exclude_self: bool) -> None:
    x = features(1500)
    query = x if exclude_self else features(200, seed=1)
    options = {"metric": metric, "exclude_self": exclude_self}
    want = knn(query, x, 10, **options)
    scores, index = knn(query, x, 10, approximate=approximate, **options)
    found = (want[1].unsqueeze(2) == index.unsqueeze(1)).any(2)
    assert float(found.float().mean()) > 0.9
    same = want[1] == index
    torch.testing.assert_close(scores[same], want[0][same], rtol=1e-5, atol=1e-4)
    worse = scores - want[0] if metric == "l2" else want[0] - scores
    assert float(worse.min()) > -1e-3  # nothing is nearer than the nearest
    assert bool((index.sort(1).values.diff(dim=1) > 0).all())
    if exclude_self:
        assert not bool((index == torch.arange(1500)[:, None]).any())


def test_recall_is_the_part_that_was_found() -> None:
    x = features(300)
    _, true = knn(x, x, 4, exclude_self=True)
    assert recall(true, x, x, exclude_self=True) == 1.0
    assert recall(true.flip(1), x, x, exclude_self=True) == 1.0
    half = true.clone()
    half[:, 2:] = torch.arange(300)[:, None]  # itself is no neighbour
    assert recall(half, x, x, exclude_self=True) == 0.5
    assert recall(half, x, x, exclude_self=True, sample=3) == 0.5
    some = true.clone()
    some[::2] = -1
    parts = {recall(some, x, x, exclude_self=True, sample=20, seed=s) for s in range(5)}
    assert len(parts) > 1 and all(0.1 < part < 0.9 for part in parts)
    query = features(50, seed=2)
    for metric in METRICS:
        assert recall(knn(query, x, 4, metric=metric)[1], query, x, metric=metric) == 1.0


def test_few_lists_looked_at_are_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(sys.modules["pyg_hash.knn.knn"], "_IVF_PROBE", 1)
    x = features(200)
    found = knn(x, x, 150, approximate="ivf")  # one list has about 14 rows
    assert_same_neighbours(found, knn(x, x, 150))


def test_pca_of_narrow_rows_is_exact() -> None:
    x = features(200, width=30)
    assert torch.equal(knn(x, x, 9, approximate="pca")[1], knn(x, x, 9)[1])


def test_copies_are_neighbours(approximate: str) -> None:
    x = features(150).repeat(4, 1)
    scores, index = knn(x, x, 3, exclude_self=True, approximate=approximate)
    torch.testing.assert_close(scores, torch.ones(600, 3))
    assert bool((index % 150 == torch.arange(600)[:, None] % 150).all())


def test_bad_arguments() -> None:
    x = features(30)
    with pytest.raises(ValueError, match="approximate: 'annoy' is not known; use one of None, 'p"):
        knn(x, x, 2, approximate="annoy")
    with pytest.raises(ValueError, match="approximate: 'pca' and backend='torch' are two ways"):
        knn(x, x, 2, approximate="pca", backend="torch")
    with pytest.raises(ValueError, match=r"index: expected \[q, k\].* 30 queries, got \[29, 2\]"):
        recall(knn(x, x, 2)[1][:29], x, x)
    with pytest.raises(ValueError, match="sample: expected a positive"):
        recall(knn(x, x, 2)[1], x, x, sample=0)
