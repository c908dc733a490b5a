"""mAP against permutations, shuffles, naive sorts, trec_eval and values by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from metric_oracles import (
    average_precision,
    brute_force,
    clustered_case,
    codes_of_relevance,
    lists,
    random_case,
)

from pyg_hash.metrics import counts, mean_ap, mean_average_precision

TIES = ["expected", "index", "optimistic", "pessimistic"]
DENOMINATORS = ["hits", "min_k_R", "R", "dcmh"]


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ([[1], [0], [1], [0]], 5 / 6),
        ([[1, 0]], 0.75),
        ([[0, 0, 0]], 0.0),
        ([[1]], 1.0),
        ([[1], [1, 0, 1], [0, 1]], 0.863889),
        ([[1, 0, 1, 0, 1, 0, 0]], 0.580272),
    ],
)
def test_closed_form_values(buckets: list[list[int]], expected: float) -> None:
    case = codes_of_relevance(buckets)
    assert mean_average_precision(*case) == pytest.approx(expected, abs=5e-7)
    for denominator in DENOMINATORS:  # without a cut all definitions agree
        value = mean_average_precision(*case, denominator=denominator)
        assert value == pytest.approx(expected, abs=5e-7)


def test_all_codes_equal() -> None:
    """p + (1 - p) H_n / n with p = (r - 1) / (n - 1)."""
    for n, r in ((7, 3), (50, 1), (400, 399), (1000, 10)):
        p = (r - 1) / (n - 1)
        want = p + (1 - p) * sum(1 / i for i in range(1, n + 1)) / n
        case = codes_of_relevance([[1] * r + [0] * (n - r)])
        assert mean_average_precision(*case) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize(
    ("denominator", "expected"),
    [("hits", 1 / 2), ("min_k_R", 1 / 6), ("R", 1 / 6), ("dcmh", (1 / 2 + 2 / 4 + 3 / 5) / 3)],
)
@pytest.mark.parametrize("ties", TIES)
def test_denominators_by_hand(denominator: Any, expected: float, ties: Any) -> None:
    """Relevance 0, 1, 0, 1, 1 cut at 3, as in the notes on the field's four definitions."""
    case = codes_of_relevance([[0], [1], [0], [1], [1]])
    value = mean_average_precision(*case, topk=3, ties=ties, denominator=denominator)
    assert value == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_equals_every_order_spelled_out(ties: Any, denominator: Any, multi_label: bool) -> None:
    for seed in range(8):
        bits, n = 1 + seed % 3, (5, 6, 7, 3)[seed % 4]
        case = random_case(seed, 2, n, bits, 2 + seed % 2, multi_label)
        for topk in (None, 1, 2, 3, 5, 100):
            want = [
                brute_force(d, r, lambda x: average_precision(x, topk, denominator), ties)  # noqa: B023
                for d, r in lists(*case)
            ]
            value = mean_average_precision(*case, topk=topk, ties=ties, denominator=denominator)
            assert value == pytest.approx(sum(want) / len(want), abs=1e-12)


@pytest.mark.parametrize("topk", [None, 40])
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_expected_is_the_mean_over_shuffles(topk: int | None, denominator: Any) -> None:
    query, database, query_y, database_y = clustered_case(0, 20, 300, 8, 4)
    generator = torch.Generator().manual_seed(1)
    values = []
    for _ in range(100):
        order = torch.randperm(300, generator=generator)
        values.append(
            mean_average_precision(
                query,
                database[order],
                query_y,
                database_y[order],
                topk=topk,
                ties="index",
                denominator=denominator,
            )
        )
    samples = torch.tensor(values)
    error = float(samples.std()) / math.sqrt(len(values))
    exact = mean_average_precision(
        query, database, query_y, database_y, topk=topk, denominator=denominator
    )
    assert error > 0
    assert abs(exact - float(samples.mean())) < 3 * error


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("topk", [None, 17])
def test_index_order_equals_a_naive_stable_sort(topk: int | None, denominator: Any) -> None:
    case = clustered_case(2, 12, 300, 16, 5)
    want = [
        brute_force(d, r, lambda x: average_precision(x, topk, denominator), "index")
        for d, r in lists(*case)
    ]
    value = mean_average_precision(*case, topk=topk, ties="index", denominator=denominator)
    assert value == pytest.approx(sum(want) / len(want), abs=1e-9)


def test_trec_eval_without_ties() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    generator = torch.Generator().manual_seed(4)
    database = 1 - 2 * torch.ones(101, 100, dtype=torch.int8).tril(-1)
    query = torch.stack([torch.ones(100), -torch.ones(100)]).to(torch.int8)
    labels = torch.randint(0, 3, (101,), generator=generator)
    query_y = torch.tensor([1, 2])
    relevant, run = {}, {}
    for i, (distance, hits) in enumerate(lists(query, database, query_y, labels)):
        relevant[str(i)] = {str(j): hit for j, hit in enumerate(hits)}
        run[str(i)] = {str(j): float(-d) for j, d in enumerate(distance)}
    scores = pytrec_eval.RelevanceEvaluator(relevant, {"map", "map_cut_10"}).evaluate(run)
    got = mean_average_precision(query, database, query_y, labels)
    assert got == pytest.approx(sum(s["map"] for s in scores.values()) / 2, abs=1e-9)
    got = mean_average_precision(query, database, query_y, labels, topk=10, denominator="R")
    assert got == pytest.approx(sum(s["map_cut_10"] for s in scores.values()) / 2, abs=1e-9)


def test_bounds_and_order_of_treatments() -> None:
    case = clustered_case(5, 30, 400, 12)
    for topk in (None, 20):
        for denominator in DENOMINATORS:
            low, mid, high = (
                mean_average_precision(*case, topk=topk, ties=t, denominator=denominator)
                for t in ("pessimistic", "expected", "optimistic")
            )
            assert 0 < low < mid < high <= 1


def test_tiles_do_not_change_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    case = clustered_case(6, 50, 333, 20)
    want = {ties: mean_average_precision(*case, ties=ties) for ties in TIES}
    monkeypatch.setattr(counts, "_PART", 7)
    monkeypatch.setattr(counts, "_TILE_QUERIES", 3)
    monkeypatch.setattr(counts, "_TILE_DATABASE", 50)
    monkeypatch.setattr(mean_ap, "_ELEMENTS", 1)
    monkeypatch.setattr(mean_ap, "_SORTED_QUERIES", 3)
    for ties in TIES:
        assert mean_average_precision(*case, ties=ties) == pytest.approx(want[ties], abs=1e-14)


@pytest.mark.parametrize("ties", TIES)
def test_half_precision_regions_leave_it_exact(ties: Any) -> None:
    case = random_case(12, 30, 400, 300, 4, True)
    want = mean_average_precision(*case, ties=ties)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mean_average_precision(*case, ties=ties) == want


@pytest.mark.parametrize("bits", [255, 256, 300])
def test_long_codes(bits: int) -> None:
    """Distances that do not fit one byte."""
    query, database, query_y, database_y = random_case(7, 3, 60, bits)
    database[0] = -query[0]
    want = [
        brute_force(d, r, lambda x: average_precision(x, None, "hits"), "index")
        for d, r in lists(query, database, query_y, database_y)
    ]
    value = mean_average_precision(query, database, query_y, database_y, ties="index")
    assert value == pytest.approx(sum(want) / 3, abs=1e-12)


def test_query_without_relevant_items_counts_as_zero() -> None:
    query, database, _, database_y = random_case(8, 2, 20, 8, 2)
    alone = mean_average_precision(query[:1], database, torch.tensor([0]), database_y)
    both = mean_average_precision(query, database, torch.tensor([0, 9]), database_y)
    if bool((query[0] == query[1]).all()):
        pytest.fail("the two queries should differ")
    assert both == pytest.approx(alone / 2)


def test_multi_hot_with_one_label_equals_class_index() -> None:
    query, database, query_y, database_y = random_case(9, 10, 100, 8, 4)
    hot = [torch.nn.functional.one_hot(y, 4) for y in (query_y, database_y)]
    want = mean_average_precision(query, database, query_y, database_y)
    for dtype in (torch.float32, torch.int64, torch.bool):
        got = mean_average_precision(query, database, hot[0].to(dtype), hot[1].to(dtype))
        assert got == want


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": torch.ones(4, 8)}, TypeError, "query: expected int8"),
        ({"database": torch.zeros(6, 8, dtype=torch.int8)}, ValueError, "database: entries must"),
        ({"database": torch.ones(6, 9, dtype=torch.int8)}, ValueError, "database: has 9 bits"),
        ({"query": torch.ones(0, 8, dtype=torch.int8)}, ValueError, "query: has no rows"),
        ({"database": torch.ones(0, 8, dtype=torch.int8)}, ValueError, "database: has no rows"),
        ({"query_y": torch.zeros(3, dtype=torch.int64)}, ValueError, "query_y: has 3 rows"),
        ({"query_y": torch.zeros(4)}, TypeError, "query_y: class indices must be integers"),
        ({"query_y": [0, 0, 0, 0]}, TypeError, "query_y: expected a tensor"),
        ({"database_y": torch.full((6,), -1)}, ValueError, "database_y: class indices"),
        ({"database_y": torch.zeros(6, 3)}, ValueError, "query_y, database_y: shapes"),
        (
            {"query_y": torch.zeros(4, 2), "database_y": torch.zeros(6, 3)},
            ValueError,
            r"query_y, database_y: shapes \[4, 2\] and \[6, 3\]",
        ),
        (
            {"query_y": torch.full((4, 2), 0.5), "database_y": torch.zeros(6, 2)},
            ValueError,
            "query_y: multi-hot labels must be 0 or 1",
        ),
        ({"topk": 0}, ValueError, "topk: expected a positive integer"),
        ({"topk": 2.5}, TypeError, "topk: expected a positive integer"),
        ({"ties": "random"}, ValueError, "ties: 'random' is not known; use one of 'expected'"),
        ({"denominator": "k"}, ValueError, "denominator: 'k' is not known"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "query": torch.ones(4, 8, dtype=torch.int8),
        "database": torch.ones(6, 8, dtype=torch.int8),
        "query_y": torch.zeros(4, dtype=torch.int64),
        "database_y": torch.zeros(6, dtype=torch.int64),
    }
    with pytest.raises(error, match=message):
        mean_average_precision(**{**arguments, **change})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("ties", TIES)
def test_cuda_tensors(ties: Any) -> None:
    case = clustered_case(10, 100, 5000, 32)
    want = mean_average_precision(*case, topk=100, ties=ties)
    got = mean_average_precision(*(x.cuda() for x in case), topk=100, ties=ties)
    assert got == pytest.approx(want, abs=1e-12)
