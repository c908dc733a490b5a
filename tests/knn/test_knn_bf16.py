"""The bfloat16 search finds what the float32 search finds, even where rounding is large."""

from __future__ import annotations

import pytest
import torch
from oracles import assert_same_neighbours
from torch import Tensor

from pyg_hash.knn import _bf16, _blocks, _choose, _flat, _torch, knn

METRICS = ["cosine", "ip", "l2"]


def clusters(rows: int, spread: float, width: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, width, generator=generator)
    own = torch.randint(0, 10, (rows,), generator=generator)
    return centres[own] + spread * torch.randn(rows, width, generator=generator)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spread", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_equals_float32(metric: str, spread: float, exclude_self: bool) -> None:
    x = clusters(800, spread)
    query = x if exclude_self else clusters(100, spread, seed=1)
    want = knn(query, x, 15, metric=metric, exclude_self=exclude_self, backend="torch")
    got = knn(query, x, 15, metric=metric, exclude_self=exclude_self, backend="bf16")
    torch.testing.assert_close(got[0], want[0], rtol=1e-5, atol=1e-5)
    differs = got[1] != want[1]  # neighbours whose float32 scores are equal up to rounding
    assert bool((got[0] - want[0]).abs()[differs].le(1e-5).all())
    assert float(differs.float().mean()) < 1e-3


@pytest.mark.parametrize("metric", METRICS)
def test_each_block_once(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = clusters(800, 0.5)
    want = knn(x, x, 15, metric=metric, exclude_self=True, backend="bf16")
    monkeypatch.setattr(_bf16, "_SYMMETRIC_FROM", 1)
    monkeypatch.setattr(_blocks, "_ROWS", 130)
    got = knn(x, x, 15, metric=metric, exclude_self=True, backend="bf16")
    assert_same_neighbours(got, want)


def test_rounding_alone_would_lose_neighbours() -> None:
    x = torch.nn.functional.normalize(clusters(800, 0.1))
    low = x.bfloat16()
    rounded = (low @ low.T).float().topk(15).indices
    true = knn(x, x, 15, backend="torch")[1]
    found = (true.unsqueeze(2) == rounded.unsqueeze(1)).any(2).float().mean()
    assert float(found) < 0.97


def test_unclear_rows_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.nn.functional.normalize(clusters(800, 0.3))
    monkeypatch.setattr(_bf16, "_MANY", 1.0)
    calls = []
    search_again = _bf16.stable_top_scores
    monkeypatch.setattr(
        _bf16,
        "stable_top_scores",
        lambda s, k, further: (calls.append(s.shape[0]), search_again(s, k, further=further))[1],
    )
    index, scores = _bf16.candidates(x, x, 15, False)
    assert scores is not None and len(calls) == 1 and 0 < calls[0] < 800
    true = knn(x, x, 15, backend="torch")[1]
    assert bool((true.unsqueeze(2) == index.unsqueeze(1)).any(2).all())


def test_everything_in_float32_where_rounding_hides_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.nn.functional.normalize(clusters(800, 0.005))
    index, scores = _bf16.candidates(x, x, 15, False)
    assert scores is None
    assert torch.equal(index, _torch.candidates(x, x, 15, False)[0])


@pytest.mark.parametrize(
    ("seconds", "wide", "narrow"),
    [
        ((1.0, 0.3, 0.8), "bf16", "faiss"),  # bfloat16 instructions
        ((1.0, 0.6, 0.8), "faiss", "faiss"),
        ((1.0, 2.0, 0.95), "torch", "torch"),
        ((1.0, 2.0, float("inf")), "torch", "torch"),  # no FAISS
    ],
)
def test_auto_takes_the_fastest(
    seconds: tuple[float, float, float], wide: str, narrow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = dict(zip(("torch", "bf16", "faiss"), seconds, strict=True))
    monkeypatch.setattr(_choose, "_SMALL", 0)
    monkeypatch.setattr(_choose, "measured", lambda threads: rates)
    monkeypatch.setattr(_flat, "has_gpu", lambda: False)
    assert _choose.choose(torch.ones(9, 600), torch.ones(2500, 600)) == wide
    assert _choose.choose(torch.ones(9, 60), torch.ones(2500, 60)) == narrow
    assert _choose.choose(torch.ones(9, 600), torch.ones(90, 600)) == narrow
    monkeypatch.setattr(_flat, "has_gpu", lambda: True)
    assert _choose.choose(torch.ones(9, 600), torch.ones(2500, 600)) == "faiss"


def test_a_self_join_of_wide_rows_is_cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"torch": 1.0, "bf16": 1.0, "faiss": 0.8}
    monkeypatch.setattr(_choose, "_SMALL", 0)
    monkeypatch.setattr(_choose, "measured", lambda threads: rates)
    monkeypatch.setattr(_flat, "has_gpu", lambda: False)
    x = torch.ones(50, 2048)
    assert _choose.choose(x, x) == "torch"
    assert _choose.choose(x, x.clone()) == "faiss"


def test_measured_once() -> None:
    _choose.measured.cache_clear()
    first = _choose.measured(1)
    assert set(first) == {"torch", "bf16", "faiss"} and min(first.values()) > 0
    assert _choose.measured(1) is first


def test_little_work_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_choose, "measured", lambda threads: pytest.fail("too little work"))
    assert _choose.choose(torch.eye(9), torch.eye(9)) == "torch"
