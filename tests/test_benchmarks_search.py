"""benchmarks/search.py compares searches that find the same, and writes its page."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("faiss")


@pytest.mark.parametrize("bits", [16, 64])
def test_all_exact_ways_find_the_same_distances(bits):
    from benchmarks.search import cases

    calls = cases(3000, 60, bits, 20)
    want = np.asarray(calls["IndexBinaryFlat"]()[0])
    for name in ("HammingIndex", "HammingIndex, no FAISS", "distance matrix and topk"):
        np.testing.assert_array_equal(np.asarray(calls[name]()[0]), want, err_msg=name)
    approximate = np.asarray(calls["IndexBinaryIVF"]()[0])
    assert approximate.shape == want.shape and bool((approximate >= want).all())


def test_codes_are_random_and_repeatable():
    from benchmarks.search import codes

    x = codes(1000, 32, 0)
    assert x.dtype == torch.int8 and set(x.unique().tolist()) == {-1, 1}
    assert abs(float(x.float().mean())) < 0.05
    assert torch.equal(x, codes(1000, 32, 0)) and not torch.equal(x, codes(1000, 32, 1))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_short_form(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.search import main

    main(["--short", "--out", str(tmp_path)])
    stored = json.loads((tmp_path / "search.json").read_text())
    assert stored["short"] and len(stored["tables"]) == 3 and len(stored["goals"]) == 2
    recall = {row["method"]: row["recall"] for row in stored["tables"][0]["rows"]}
    assert recall["HammingIndex"] == recall["HammingIndex, no FAISS"] == 1.0
    assert 0 < recall["IndexBinaryIVF"] <= 1.0
    assert (tmp_path / "search.png").exists()
