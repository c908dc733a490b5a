"""Pair recall against every order of ties spelled out, and by hand."""

from __future__ import annotations

import pytest
import torch
from metric_oracles import brute_force, random_case
from torch import Tensor

from pyg_hash.metrics import pair_recall, scored


def slow(query: Tensor, database: Tensor, k: int) -> float:
    """Mean over the queries, of the mean over all rankings that the distances allow."""
    found = []
    for row, code in enumerate(query):
        own = [int(i == row) for i in range(len(database))]
        distance = (code != database).sum(1).tolist()
        found.append(brute_force(distance, own, lambda x: float(sum(x[:k])), "expected"))
    return sum(found) / len(found)


def test_by_hand() -> None:
    """Distances of the first query 1 (own), 0, 1, 2; of the second 0, 1, 1, 0, its own the 1."""
    database = torch.tensor([[1, -1], [1, 1], [-1, 1], [-1, -1]], dtype=torch.int8)
    query = database[[1, 0]]
    query = torch.cat([query, database[2:]])  # the others find their own at once
    want = {1: (0 + 0 + 2) / 4, 2: (1 / 2 + 1 / 2 + 2) / 4, 3: 1.0, 4: 1.0, 9: 1.0}
    assert {k: pair_recall(query, database, k) for k in want} == want


def test_one_code_for_all_is_chance() -> None:
    same = torch.ones(40, 8, dtype=torch.int8)
    assert pair_recall(same, same, 10) == 0.25
    assert pair_recall(same, same, 41) == 1.0


def test_unequal_codes_that_are_all_different() -> None:
    codes = random_case(0, 50, 50, 64)[0]
    assert pair_recall(codes, codes, 1) == 1.0
    assert pair_recall(codes, -codes, 49) == 0.0  # the own pair is the farthest


@pytest.mark.parametrize("seed", range(6))
def test_equals_brute_force(seed: int) -> None:
    query, database, *_ = random_case(seed, 6, 6, 2)
    for k in range(1, 8):
        assert pair_recall(query, database, k) == pytest.approx(slow(query, database, k))


@pytest.mark.parametrize("scores", [1, 70, 1 << 20])
def test_places_do_not_depend_on_the_tiles(monkeypatch: pytest.MonkeyPatch, scores: int) -> None:
    monkeypatch.setattr(scored, "_SCORES", scores)
    query, database, *_ = random_case(1, 33, 33, 12)
    distance = (query[:, None] != database[None]).sum(2)
    own = distance.diagonal()[:, None]
    nearer, tied = scored.pair_places(query, database)
    assert torch.equal(nearer, (distance < own).sum(1))
    assert torch.equal(tied, (distance == own).sum(1))


def test_places_of_real_scores() -> None:
    scores = torch.tensor([[0.5, 0.25, 0.5], [0.1, 0.3, 0.2]])
    nearer, tied = scored.places_of(scores, torch.tensor([2, 0]))
    assert nearer.tolist() == [0, 2] and tied.tolist() == [2, 1]
    assert scored.expected_recall(nearer, tied, 1) == 0.25


def test_bad_input() -> None:
    query, database, *_ = random_case(0, 5, 5, 8)
    for k, error in ((0, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="k: expected a positive integer"):
            pair_recall(query, database, k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="query and database: 5 and 4 rows"):
        pair_recall(query, database[:4], 1)
    with pytest.raises(ValueError, match="query: has no rows"):
        pair_recall(query[:0], database[:0], 1)
    with pytest.raises(ValueError, match="database: has 7 bits, expected 8"):
        pair_recall(query, database[:, :7], 1)
    with pytest.raises(TypeError, match="query: expected int8 codes"):
        pair_recall(query.float(), database, 1)
    with pytest.raises(ValueError, match="query: entries must be -1 or"):
        pair_recall(query * 0, database, 1)
