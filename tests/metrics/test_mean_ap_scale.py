"""mAP of large rankings: no digits lost, no large arrays."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from metric_oracles import codes_of_relevance, random_case
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_hash.metrics import (
    hash_lookup,
    mean_ap,
    mean_average_precision,
    ndcg,
    precision_at_n,
)


def test_large_database_stays_exact() -> None:
    """200,000 equal codes against the closed form; one hit at the end of a long ranking."""
    n, r = 200_000, 1_000
    labels = torch.ones(n, dtype=torch.int64)
    labels[:r] = 0
    query, database = torch.ones(2, 8, dtype=torch.int8), torch.ones(n, 8, dtype=torch.int8)
    p = (r - 1) / (n - 1)
    want = p + (1 - p) * math.fsum(1 / i for i in range(1, n + 1)) / n
    query_y = torch.zeros(2, dtype=torch.int64)
    value = mean_average_precision(query, database, query_y, labels)
    assert value == pytest.approx(want, rel=1e-12)
    labels[:] = 1
    labels[-1], database[-1] = 0, -1
    value = mean_average_precision(query, database, query_y, labels, ties="optimistic")
    assert value == pytest.approx(1 / n, rel=1e-9)


class LargestTensor(TorchDispatchMode):
    """Bytes of the largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.largest = max(self.largest, x.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize(
    ("metric", "multi_label"),
    [
        (lambda *case: mean_average_precision(*case, topk=500), True),
        (lambda *case: precision_at_n(*case, topn=[1, 500]), False),
        (hash_lookup, False),  # by way of pr_curve
        (ndcg, False),
    ],
)
def test_no_array_of_queries_times_database(metric: Any, multi_label: bool) -> None:
    case = random_case(11, 1000, 20_000, 16, 4, multi_label)  # 20 million pairs
    with LargestTensor() as mode:
        metric(*case)
    assert 1e6 < mode.largest < 4e6


@pytest.mark.parametrize("denominator", ["hits", "dcmh"])
def test_large_divided_bucket(denominator: Any) -> None:
    """One bucket of 20,000: by symmetry cuts have simple bounds, and nothing overflows."""
    n, r, k = 20_000, 6_000, 3_000
    case = codes_of_relevance([[1] * r + [0] * (n - r)])
    value = mean_average_precision(*case, topk=k, denominator=denominator)
    assert 0.3 < value < 0.3 + 0.01  # precision of a random order is r / n, a bit more early on


def test_harmonic() -> None:
    for start in (0, 1, 31, 32, 33, 1000, 10**6):
        for count in (0, 1, 2, 500):
            want = math.fsum(1 / i for i in range(start + 1, start + count + 1))
            got = mean_ap.harmonic(
                torch.tensor(float(start), dtype=torch.float64),
                torch.tensor(float(count), dtype=torch.float64),
            )
            assert float(got) == pytest.approx(want, rel=1e-12 if start < 32 else 1e-14, abs=1e-15)
