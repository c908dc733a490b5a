"""Four ways of one step give the same numbers, and the benchmark tells what does not fit."""

from __future__ import annotations

import json

import pytest
import torch


@pytest.mark.parametrize("labeled", [0.0, 0.3, 1.0])
def test_all_methods_give_the_same_output_and_gradients(labeled):
    from benchmarks.graph_cases import METHODS, make, stepper

    graph = make(300, labeled)
    results = {m: stepper(m, graph)(build(graph)) for m, (build, _) in METHODS.items()}
    expected = results["edge_index"]
    assert expected.numel() == 300 * 64 + 128 * 128 + 128 * 64
    for method, result in results.items():
        error = (result - expected).abs().max() / expected.abs().max()
        assert error < 1e-5, method


def test_a_second_step_starts_from_fresh_gradients():
    from benchmarks.graph_cases import METHODS, make, stepper

    graph = make(200, 0.3)
    step, built = stepper("hubs", graph), METHODS["hubs"][0](graph)
    assert torch.equal(step(built), step(built))


def test_graph_is_what_it_says():
    from benchmarks.graph_cases import CLUSTER, make

    graph = make(1000, 0.3)
    source, target = graph.edge_index
    clusters = 1000 // CLUSTER
    assert bool((source % clusters == target % clusters).all())
    assert bool((source != target).all())
    pairs = set(zip(source.tolist(), target.tolist(), strict=True))
    assert len(pairs) == source.numel()
    assert all((b, a) in pairs for a, b in pairs)
    both = (graph.label[source] >= 0) & (graph.label[target] >= 0)
    assert not bool(both.any())
    assert float((graph.label >= 0).float().mean()) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(make(1000, 0.3).edge_index, graph.edge_index)


@pytest.mark.parametrize("labeled", [0.0, 0.3])
def test_expected_edges(labeled):
    from benchmarks.graph_cases import make, with_cliques
    from benchmarks.graph_scale import expected_edges

    graph = make(3000, labeled)
    edges, cliques = expected_edges(3000, labeled)
    assert graph.edge_index.size(1) == pytest.approx(edges, rel=0.03)
    found = with_cliques(graph)[0].size(1) - graph.edge_index.size(1)
    assert found == pytest.approx(cliques, rel=0.15, abs=1)


def test_the_largest_graph_is_where_memory_ends():
    from benchmarks.graph_scale import largest, predicted

    for method in ("hubs", "csr", "edge_index", "dense"):
        n = largest(method, 0.3, 24e9)
        assert predicted(method, 0.9 * n, 0.3) < 24e9 < 2 * predicted(method, 1.2 * n, 0.3)
    assert largest("dense", 0.0, 24e9) == pytest.approx((24e9 / 4) ** 0.5, rel=0.05)


def test_short_form(tmp_path, capsys):
    from benchmarks.graph_scale import main

    main(["--short", "--limit_gb", "0.02", "--out", str(tmp_path)])
    content = json.loads((tmp_path / "graph_scale.json").read_text())
    tables = {table["title"]: table["rows"] for table in content["tables"]}
    row = tables["30 % labelled: time of a step"][-1]
    assert row["nodes"] == 1000 and row["hubs, s"] > 0
    assert row["edge_index / hubs"].startswith("needs 0.03")
    memory = tables["30 % labelled: extra memory from edges to the first gradients"][-1]
    assert memory["edge_index, MB"].startswith("needs") and memory["hubs, MB"] > 0
    assert content["goals"][0]["met"] == "not measured"
    assert (tmp_path / "graph_scale.png").exists()
    assert "| nodes | edges | hubs, s |" in capsys.readouterr().out
