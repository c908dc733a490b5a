"""benchmarks/map.py compares like with like, and writes its page."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from pyg_hash.metrics import mean_average_precision


def test_the_loop_is_map_where_nothing_is_tied():
    """Database item i is at distance i of both queries, or at 60 - i."""
    from benchmarks.map import sorted_rows

    database = 1 - 2 * torch.ones(61, 60, dtype=torch.int8).tril(-1)
    query = torch.stack([torch.ones(60), -torch.ones(60)]).to(torch.int8)
    g = torch.Generator().manual_seed(0)
    database_y = (torch.rand(61, 4, generator=g) < 0.3).float()
    query_y = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 0]])
    want = mean_average_precision(query, database, query_y, database_y)
    assert sorted_rows(query, database, query_y, database_y) == pytest.approx(want, abs=1e-6)


def test_the_loop_lies_between_the_bounds_of_ties():
    from benchmarks.map import make, sorted_rows

    case = make(20, 500, 12)
    low, high = (mean_average_precision(*case, ties=t) for t in ("pessimistic", "optimistic"))
    assert low < sorted_rows(*case) < high


def test_a_query_without_hits_counts_as_zero():
    from benchmarks.map import make, sorted_rows

    query, database, query_y, database_y = make(4, 200, 64)
    query_y[0] = 0
    want = mean_average_precision(query, database, query_y, database_y)
    assert sorted_rows(query, database, query_y, database_y) == pytest.approx(want, abs=0.02)


def test_codes_carry_their_labels():
    from benchmarks.map import make

    query, database, query_y, database_y = make(50, 1000, 64)
    assert query.dtype == database.dtype == torch.int8 and database.shape == (1000, 64)
    relevant = query_y @ database_y.T > 0
    products = query.float() @ database.float().T
    assert products[relevant].mean() > products[~relevant].mean() + 5


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_short_form(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.map import METRICS, main

    main(["--short", "--out", str(tmp_path)])
    stored = json.loads((tmp_path / "map.json").read_text())
    assert stored["short"] and len(stored["goals"]) == 3
    assert [row["metric"] for row in stored["tables"][0]["rows"]] == list(METRICS)
    assert (tmp_path / "map.png").exists()
