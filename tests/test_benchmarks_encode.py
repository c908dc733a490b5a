"""The benchmark of new items, at tiny sizes."""

from __future__ import annotations

import json

import pytest


def test_cases_give_codes_of_new_items():
    from benchmarks.encode import MODELS, cases
    from benchmarks.training_step import SHORT, pairs

    calls = cases(SHORT, 3, pairs(SHORT, 0.3))
    assert len(calls) == 2 * (len(MODELS) + 1)
    for name, call in calls.items():
        if name.startswith("kNN"):
            assert call()[1].shape == (3, SHORT.k)
        else:
            assert call().shape == (3, SHORT.bits)


def test_short_form(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.encode import main

    main(["--short", "--out", str(tmp_path)])
    stored = json.loads((tmp_path / "encode.json").read_text())
    (table,) = stored["tables"]
    assert stored["short"] and len(table["rows"]) == 10 and len(stored["goals"]) == 4
    assert all(row["new items a second"] > 0 and row["one, ms"] > 0 for row in table["rows"])
    assert (tmp_path / "encode.png").exists()
