"""benchmarks/knn.py compares searches that find the same, and writes its page."""

from __future__ import annotations

import json
import sys

import pytest
import torch

pytest.importorskip("faiss")


@pytest.mark.parametrize("own", [True, False])
def test_all_exact_ways_find_the_same(own):
    from benchmarks.knn import image_features, searches

    x = image_features(300, 32)
    query = x if own else image_features(40, 32, seed=1)
    calls = searches(query, x)
    want = calls["knn, torch"]()[1]
    flat = torch.from_numpy(calls["faiss.knn"]()[1])
    if own:  # it finds the row itself first
        flat = flat[:, 1:]
    for found in (flat, calls["three lines"](), calls["knn, auto"]()[1]):
        assert float((found == want).float().mean()) > 0.99


def test_features_are_repeatable_and_as_described():
    from benchmarks.knn import bags_of_words, image_features, recall

    x = image_features(200, 50)
    assert torch.equal(x, image_features(200, 50)) and bool((x >= 0).all())
    assert not torch.equal(x, image_features(200, 50, seed=1))
    words = bags_of_words(200, 620)
    assert 0.005 < int(words.count_nonzero()) / words.numel() < 0.02
    assert recall(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 1], [5, 4]])) == 0.75


def test_gpu_cases_leave_out_what_needs_the_host(monkeypatch):
    from benchmarks.knn import image_features, searches

    x = image_features(60, 8)
    assert len(searches(x, x)) == 4
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    assert list(searches(x, x)) == ["three lines", "knn, torch", "knn, auto"]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_short_form(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.knn import main

    main(["--short", "--out", str(tmp_path)])
    stored = json.loads((tmp_path / "knn.json").read_text())
    assert stored["short"] and len(stored["tables"]) == 6 and len(stored["goals"]) == 4
    for table in stored["tables"][:2]:
        assert all(row["recall"] in (None, 1.0) for row in table["rows"])
    assert all(row["recall"] > 0.9 for row in stored["tables"][-1]["rows"])
    assert (tmp_path / "knn.png").exists()
