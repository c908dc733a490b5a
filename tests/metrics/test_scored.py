"""Metrics of rankings by score, against every order of ties spelled out and against Hamming's."""

from __future__ import annotations

import pytest
import torch
from metric_oracles import average_precision, brute_force, clustered_case
from torch import Tensor

from pyg_hash.codes import binarize, quantize
from pyg_hash.metrics import (
    mean_average_precision,
    scored,
    scored_average_precision,
    scored_pair_recall,
)


def relaxed_codes(n: int, num_bits: int, seed: int) -> Tensor:
    return torch.randn(n, num_bits, generator=torch.Generator().manual_seed(seed)).tanh()


def ranks(scores: Tensor) -> list[int]:
    """A distance for each score: 0 for the highest, equal ones for equal scores."""
    return torch.unique(-scores, return_inverse=True)[1].tolist()


@pytest.mark.parametrize("kind", ["bits", "int8", "float"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_equals_all_orders(kind: str, multi_label: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 items of 4 different codes, so that a query has up to some thousand rankings."""
    monkeypatch.setattr(scored, "_SCORES", 20)  # two queries at a time
    query, database = relaxed_codes(7, 5, 0), relaxed_codes(4, 5, 1)[[0, 1, 1, 2, 0, 3, 3, 1]]
    generator = torch.Generator().manual_seed(2)
    if multi_label:
        query_y, database_y = (
            (torch.rand(n, 3, generator=generator) < 0.4).float() for n in (7, 8)
        )
        relevant = query_y @ database_y.T > 0
    else:
        query_y, database_y = (torch.randint(5, 8, (n,), generator=generator) for n in (7, 8))
        relevant = query_y[:, None] == database_y
    items = {"bits": binarize(database), "int8": quantize(database), "float": database}[kind]
    true = [[float(q.double() @ x.double()) for x in items] for q in query]
    want = [
        brute_force(
            ranks(torch.tensor(scores).round(decimals=9)),
            hits.int().tolist(),
            lambda order: average_precision(order, None, "hits"),
            "expected",
        )
        for scores, hits in zip(true, relevant, strict=True)
    ]
    found = scored_average_precision(query, items, query_y, database_y)
    assert found == pytest.approx(sum(want) / len(want), abs=1e-12)


def test_of_codes_it_is_the_hamming_ranking() -> None:
    """The score of two codes is num_bits - 2 distance, ties and all."""
    query, database, query_y, database_y = clustered_case(0, 60, 800, 12)
    want = mean_average_precision(query, database, query_y, database_y)
    for items in (database, database.float(), quantize(database.double())):
        found = scored_average_precision(query.float(), items, query_y, database_y)
        assert found == pytest.approx(want, abs=1e-12)


def test_pair_recall_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expected over ties: a pair among b equals behind a better ones: (k - a) / b."""
    database = torch.tensor([[1, 1], [1, 1], [1, -1], [-1, 1]], dtype=torch.int8)
    query = torch.tensor([[0.9, 0.1], [0.5, 0.6], [0.2, -0.7], [0.8, 0.9]])
    # query 0: 1, 1, .8, -.8; 1: 1.1, 1.1, -.1, .1; 2: -.5, -.5, .9, -.9; 3: 1.7, 1.7, -.1, .1
    for height in (1, 100):
        monkeypatch.setattr(scored, "_SCORES", height)
        found = [scored_pair_recall(query, database, k) for k in (1, 2, 3, 9)]
        assert found == pytest.approx([(0.5 + 0.5 + 1 + 0) / 4, 3 / 4, 1, 1])


def test_equal_codes_tie_wherever_they_stand() -> None:
    database = relaxed_codes(30, 24, 0)[torch.arange(3000) % 30]
    query = relaxed_codes(9, 24, 1)
    for items in (binarize(database), quantize(database), database):
        for _, scores in scored.score_tiles(query, items):
            assert all(len(row.unique()) == 30 for row in scores)


def test_bad_arguments() -> None:
    x, y = relaxed_codes(4, 8, 0), torch.tensor([0, 1, 0, 1])
    for call, error, message in (
        (lambda: scored_average_precision(binarize(x), x, y, y), TypeError, "query: expected a fl"),
        (lambda: scored_average_precision(x, x[:, :7], y, y), ValueError, "database: expected sha"),
        (lambda: scored_average_precision(x, x.int(), y, y), TypeError, "database: expected a fl"),
        (lambda: scored_average_precision(x, x, y, y[:3]), ValueError, "database_y"),
        (lambda: scored_average_precision(x[:0], x, y[:0], y), ValueError, "has no rows"),
        (lambda: scored_average_precision(x * torch.nan, x, y, y), ValueError, "query: contains N"),
        (lambda: scored_pair_recall(x, x[:3], 1), ValueError, "query"),
        (lambda: scored_pair_recall(x, x, 0), ValueError, "k: expected a positive integer"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_the_rounding_of_a_mean_of_codes_is_no_value_out_of_range():
    above = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    assert quantize(torch.stack([above, -above])[None]).tolist() == [[127, -127]]
    with pytest.raises(ValueError, match="goes up to 1.01"):
        quantize(torch.tensor([[0.0, -1.01]]))
