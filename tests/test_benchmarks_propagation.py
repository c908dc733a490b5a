"""benchmarks/propagation.py compares ways that give the same numbers, and writes its page."""

from __future__ import annotations

import json
import sys

import pytest
import torch


def test_all_ways_give_the_same_output_and_gradients():
    from benchmarks.propagation import NAMES, REFERENCE, convolutions, difference

    expected = convolutions(REFERENCE, 150, (12, 8, 5))()
    assert [tuple(t.shape) for t in expected] == [(150, 5), (8, 12), (5, 8)]
    for name in NAMES:
        step = convolutions(name, 150, (12, 8, 5))
        assert difference(step(), expected) < 1e-5, name
        assert difference(step(), expected) < 1e-5, f"{name}, again"


@pytest.mark.parametrize("labeled", [0.3, 1.0])
def test_hubs_and_edges_are_the_same_graph(labeled):
    from benchmarks.propagation import cliques, difference, label_graph, neighbour_edges

    edges = neighbour_edges(200)
    hubs, plain = (label_graph(form, 200, labeled, edges, "cpu") for form in ("hubs", "edges"))
    torch.testing.assert_close(hubs.to_dense(), plain.to_dense(), rtol=1e-5, atol=1e-7)
    assert difference(cliques(hubs, 4)(), cliques(plain, 4)()) < 1e-5
    assert hubs.num_bytes < plain.num_bytes
    assert hubs.is_symmetric
    if labeled == 1.0:
        assert hubs.num_entries == 0


def test_neighbour_edges():
    from benchmarks.propagation import neighbour_edges

    source, target = neighbour_edges(300)
    assert bool((source != target).all())
    pairs = set(zip(source.tolist(), target.tolist(), strict=True))
    assert len(pairs) == source.numel()
    assert all((b, a) in pairs for a, b in pairs)
    assert 35 < source.numel() / 300 < 40


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_short_form(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from benchmarks.propagation import main

    main(["--short", "--out", str(tmp_path)])
    content = json.loads((tmp_path / "propagation.json").read_text())
    layers, cliques, large = (table["rows"] for table in content["tables"])
    assert layers[0]["times as fast"] == 1
    assert all(row["largest difference"] < 1e-5 for row in (*layers, *cliques))
    assert large[0]["hubs MB"] > 0
    assert [goal["met"] for goal in content["goals"]] == ["short form"] * 6
    assert (tmp_path / "propagation.png").exists()
