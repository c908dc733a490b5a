"""The self-join that computes each block once equals the plain one."""

from __future__ import annotations

import pytest
import torch
from oracles import assert_same_neighbours

from pyg_hash.knn import _blocks, _torch, knn


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("sizes", [(1 << 24, 512), (1 << 24, 37), (500, 50), (64, 7)])
def test_equals_the_plain_search(
    metric: str, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(200, 8), torch.randn(5, 8).repeat(9, 1)])
    want = knn(x, x, 20, metric=metric, exclude_self=True, backend="torch")
    monkeypatch.setattr(_torch, "SYMMETRIC_FROM", 1)
    monkeypatch.setattr(_blocks, "_BLOCK_ELEMENTS", sizes[0])
    monkeypatch.setattr(_blocks, "_ROWS", sizes[1])
    got = knn(x, x, 20, metric=metric, exclude_self=True, backend="torch")
    assert_same_neighbours(got, want)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_integer_ties(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    x = torch.randint(-1, 2, (300, 4)).float()
    want = knn(x, x, 9, metric=metric, backend="torch")
    monkeypatch.setattr(_torch, "SYMMETRIC_FROM", 1)
    monkeypatch.setattr(_blocks, "_ROWS", 32)
    got = knn(x, x, 9, metric=metric, backend="torch")
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def test_each_block_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(100, 8)
    monkeypatch.setattr(_blocks, "_ROWS", 10)
    scores = _blocks.DenseScores(x, x)
    made = []
    block = scores.block
    monkeypatch.setattr(
        scores, "block", lambda r, c: (made.append((c.stop - c.start) * 10), block(r, c))[1]
    )
    _blocks.top_scores(scores, 5, symmetric=True)
    assert sum(made) == 100 * 110 // 2
