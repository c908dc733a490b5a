"""The benchmark of mini-batches, and the graph that it makes."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub
from pyg_hash.typing import MODALITIES


def test_one_block_is_an_exact_knn_graph():
    from benchmarks.block_graph import BLOCK, block_graph

    # of this seed, no fourth neighbour is as near as the fifth up to rounding
    data = block_graph(BLOCK, width=16, k=4, seed=1)
    bare = HeteroData()
    bare.num_classes = data.num_classes
    for m in MODALITIES:
        for name in ("x", "y", "train_mask", "labeled_mask"):
            bare[m][name] = data[m][name]
    exact = LabelHub()(InterKNN()(IntraKNN(4)(bare)))
    assert data.edge_types == exact.edge_types
    for kind in data.edge_types:
        first = data[kind].edge_index
        n = 10_000
        order, other = (e[1].mul(n).add(e[0]).argsort() for e in (first, exact[kind].edge_index))
        assert torch.equal(first[:, order], exact[kind].edge_index[:, other])
        if "edge_weight" in data[kind]:
            torch.testing.assert_close(
                data[kind].edge_weight[order], exact[kind].edge_weight[other], rtol=1e-5, atol=1e-5
            )


def test_neighbours_stay_in_their_block_and_nodes_are_shuffled():
    from benchmarks.block_graph import block_graph

    data = block_graph(2000, width=16, k=3)
    source, target = data["image", "intra", "image"].edge_index
    component = torch.arange(2000)
    for _ in range(30):
        component = component.scatter_reduce(0, target, component[source], "amin")
    assert component.unique().numel() >= 4
    assert float((source - target).abs().float().mean()) > 400


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_short_form(tmp_path, capsys, monkeypatch):
    from benchmarks import scaling

    monkeypatch.setattr(scaling, "LARGEST", {"cells": 1000, "whole graph": 500})
    monkeypatch.setattr(scaling, "SHORT", (500, 1000))
    scaling.main(["--short", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "scaling.json").read_text())
    rows = result["tables"][0]["rows"]
    assert [(r["method"], r["nodes"]) for r in rows] == [
        ("cells", 500),
        ("whole graph", 500),
        ("cells", 1000),
    ]
    for row in rows:
        assert row["us a node"] > 0 and row["peak GB"] >= row["training GB"] > 0
        assert row["nodes a seed"] >= 1
    assert [goal["met"] for goal in result["goals"]] == ["short form", "short form"]
    assert (tmp_path / "scaling.png").exists()
    assert "goal: cost of a node" in capsys.readouterr().out
