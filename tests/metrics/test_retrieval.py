"""P@N, lookups, PR curve and NDCG against every order of ties spelled out, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from metric_oracles import (
    brute_force,
    clustered_case,
    codes_of_relevance,
    dcg,
    lists,
    random_case,
)

from pyg_hash.metrics import hash_lookup, ndcg, pr_curve, precision_at_n
from pyg_hash.metrics.counts import tied_at


def test_precision_at_n_by_hand() -> None:
    case = codes_of_relevance([[1], [1, 0, 0], [1]])
    got = precision_at_n(*case, topn=[1, 2, 3, 4, 5])
    assert got.dtype == torch.float64
    assert got.tolist() == pytest.approx([1, (1 + 1 / 3) / 2, (1 + 2 / 3) / 3, 2 / 4, 3 / 5])


@pytest.mark.parametrize("multi_label", [False, True])
def test_precision_at_n_equals_brute_force(multi_label: bool) -> None:
    for seed in range(6):
        case = random_case(seed, 3, 6, 2, 2, multi_label)
        for n in range(1, 7):
            want = [
                brute_force(d, r, lambda x: sum(x[:n]) / n, "expected")  # noqa: B023
                for d, r in lists(*case)
            ]
            assert float(precision_at_n(*case, topn=[n])) == pytest.approx(sum(want) / 3)


def test_precision_at_n_bad_input() -> None:
    case = random_case(0, 2, 6, 4)
    with pytest.raises(ValueError, match="topn: 7 is more than the 6 database items"):
        precision_at_n(*case, topn=[1, 7])
    with pytest.raises(ValueError, match="topn: expected a positive integer"):
        precision_at_n(*case, topn=[0])
    with pytest.raises(ValueError, match="query: has no rows"):
        precision_at_n(case[0][:0], case[1], case[2][:0], case[3], topn=[1])


def test_pr_curve_by_hand() -> None:
    """Nothing at distance 0, then 1 of 2, then 2 of 4, of 3 relevant ones."""
    query, database, query_y, database_y = codes_of_relevance([[], [1, 0], [1, 0], [1, 0]])
    curve = pr_curve(query, database, query_y, database_y)
    assert curve.precision.tolist() == [0.0, 0.5, 0.5, 0.5, 0.5]
    assert curve.recall.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert curve.answered.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert curve.found.tolist() == [0.0, 2.0, 4.0, 6.0, 6.0]


@pytest.mark.parametrize("multi_label", [False, True])
def test_pr_curve_and_lookup_equal_brute_force(multi_label: bool) -> None:
    case = random_case(1, 30, 50, 6, 4, multi_label)
    curve = pr_curve(*case)
    for radius in range(7):
        precision, recall, answered, found = 0.0, 0.0, 0, 0
        for distance, relevance in lists(*case):
            hits = [r for d, r in zip(distance, relevance, strict=True) if d <= radius]
            precision += sum(hits) / max(len(hits), 1)
            recall += sum(hits) / max(sum(relevance), 1)
            answered += bool(hits)
            found += len(hits)
        want = [x / 30 for x in (precision, recall, answered, found)]
        parts = (curve.precision, curve.recall, curve.answered, curve.found)
        assert [float(x[radius]) for x in parts] == pytest.approx(want)
        lookup = hash_lookup(*case, radius=radius)
        got = [lookup.precision, lookup.recall, lookup.answered, lookup.found]
        assert got == pytest.approx(want) and lookup.radius == radius


def test_lookup_bad_input() -> None:
    case = random_case(0, 2, 6, 4)
    for radius in (-1, 5):
        with pytest.raises(ValueError, match=r"radius: expected 0 to 4 \(num_bits\)"):
            hash_lookup(*case, radius=radius)
    with pytest.raises(TypeError, match="radius: expected an integer"):
        hash_lookup(*case, radius=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="query_y, database_y: shapes"):
        pr_curve(case[0], case[1], case[2], torch.zeros(6, 2))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("topk", [None, 1, 2, 4, 100])
def test_ndcg_equals_brute_force(topk: int | None, multi_label: bool) -> None:
    for seed in range(6):
        case = random_case(seed, 3, 6, 2, 2, multi_label)
        want = []
        for distance, relevance in lists(*case):
            cut = topk or 6
            best = dcg(sorted(relevance, reverse=True), cut)
            value = brute_force(distance, relevance, lambda x: dcg(x, cut), "expected")  # noqa: B023
            want.append(value / best if best else 0.0)
        assert ndcg(*case, topk=topk) == pytest.approx(sum(want) / 3, abs=1e-12)


def test_ndcg_equals_scikit_learn() -> None:
    """scikit-learn averages tied gains too."""
    metrics = pytest.importorskip("sklearn.metrics")
    case = clustered_case(2, 15, 200, 10, 4)
    rows = list(lists(*case))
    scores = [[-d for d in distance] for distance, _ in rows]
    relevance = [r for _, r in rows]
    for topk in (None, 7, 50):
        want = metrics.ndcg_score(relevance, scores, k=topk)
        assert ndcg(*case, topk=topk) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("topk", [None, 1, 3, 100])
def test_graded_ndcg_equals_brute_force(topk: int | None) -> None:
    """Linear gains: the number of shared labels."""
    for seed in range(6):
        query, database, query_y, database_y = random_case(seed, 3, 6, 2, 5, True)
        want = []
        for code, y in zip(query, query_y, strict=True):
            distance = (code != database).sum(1).tolist()
            gains = (database_y @ y).int().tolist()
            cut = topk or 6
            best = dcg(sorted(gains, reverse=True), cut)
            value = brute_force(distance, gains, lambda x: dcg(x, cut), "expected")  # noqa: B023
            want.append(value / best if best else 0.0)
        got = ndcg(query, database, query_y, database_y, topk=topk, gains="shared")
        assert got == pytest.approx(sum(want) / 3, abs=1e-12)


def test_graded_ndcg_equals_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    query, database, query_y, database_y = random_case(3, 15, 200, 10, 30, True)
    scores, gains = query.int() @ database.int().T, query_y @ database_y.T
    assert gains.max() >= 10
    for topk in (None, 7, 50):
        want = metrics.ndcg_score(gains.numpy(), scores.numpy(), k=topk)
        got = ndcg(query, database, query_y, database_y, topk=topk, gains="shared")
        assert got == pytest.approx(want, abs=1e-9)


def test_two_levels_by_hand() -> None:
    """Two classes, three subclasses; gains 1, 2 and 0 at distances 0, 1 and 2."""
    query, database, *_ = codes_of_relevance([[0], [0], [0]])
    y = torch.tensor([[1, 0, 0, 1, 0], [1, 0, 1, 0, 0], [0, 1, 0, 0, 1]])
    got = ndcg(query, database, torch.tensor([[1, 0, 1, 0, 0]]), y, gains="shared")
    third = 1 / math.log2(3)
    assert got == pytest.approx((1 + 2 * third) / (2 + third))
    assert ndcg(query, database, torch.tensor([0]), torch.tensor([0, 0, 1]), gains="shared") == 1.0


def test_items_tied_at_an_answer_by_hand() -> None:
    items = torch.tensor([[2.0, 0, 3, 4], [0, 0, 0, 9], [1, 1, 1, 1]])
    want = {1: [2, 9, 1], 2: [2, 9, 1], 3: [3, 9, 1], 5: [3, 9, 1], 6: [4, 9, 1], 99: [4, 9, 1]}
    assert {k: tied_at(items, k).tolist() for k in want} == want


def test_ndcg_bad_input() -> None:
    case = random_case(0, 2, 6, 4)
    with pytest.raises(ValueError, match="topk: expected a positive integer"):
        ndcg(*case, topk=0)
    with pytest.raises(TypeError, match="query: expected int8"):
        ndcg(case[0].float(), *case[1:])
    with pytest.raises(ValueError, match="gains: 'graded' is not known; use one of 'binary', 'sh"):
        ndcg(*case, gains="graded")  # type: ignore[arg-type]
