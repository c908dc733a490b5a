"""The benchmark script: its dense search is the library's, and a whole case runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import affinity as script
from pyg_hash.transforms.affinity import unified_affinity


def test_dense_search_takes_the_same_steps():
    views = script.features(150, 4, 1.0)
    z, counts = script.dense_search(views, 4)
    graph = unified_affinity(views, 4, script.K, progress=False)
    assert counts == [row["num_components"] for row in graph.history]
    np.testing.assert_allclose(z, graph.to_dense(), atol=1e-8)


def test_one_case(capfd):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory is measured on Linux only")
    case = {"m": 120, "groups": 3, "spread": 1.0, "c": 4, "compare": True}
    row = script.measure("tiny", case)
    assert json.loads(capfd.readouterr().out) == row
    assert row["same_components"] and row["largest_difference"] < 1e-6
    assert 0 <= row["sparse"]["extra_mb"] < 200
    text = script.table([row, {key: row[key] for key in row if key != "dense"}])
    assert "| tiny | 120 | 4 |" in text
    assert text.count("yes, in every turn") == 1
