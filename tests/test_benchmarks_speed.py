"""Benchmarks of speed: each runs, writes a whole page, and compares what gives the same answers."""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from label_cliques import LabelCliques
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import HeteroData
from torch_geometric.transforms import Compose

from benchmarks import (
    affinity,
    encode,
    graph_scale,
    knn,
    map,
    propagation,
    scaling,
    search,
    serve_load,
    store,
    training_step,
)
from benchmarks.measure import difference, num_bytes, recall
from pyg_hash.index import HammingIndex
from pyg_hash.metrics import mean_average_precision
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate
from pyg_hash.typing import MODALITIES

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
BENCHMARKS = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if re.search("^from benchmarks.record import .*benchmark", path.read_text(), re.M)
)
NEEDS = {"knn": "faiss", "search": "faiss", "store": "faiss", "serve_load": "uvicorn"}

# --- all of them ----------------------------------------------------------------------------------


def test_make_bench_runs_all():
    listed = re.search(r"^BENCHMARKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(listed[1].split()) == BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_is_explained(name):
    assert f"``{name}.py``" in (ROOT / "docs" / "performance.rst").read_text()
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    assert f"python -m benchmarks.{name}" in ast.get_docstring(tree)
    last = tree.body[-1]  # @benchmark calls it, so that nothing may stand below
    assert last.name == "main"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_results_are_whole(name):
    path = FOLDER / "results" / f"{name}.json"
    if not path.exists():
        pytest.skip("not committed")
    content = json.loads(path.read_text())
    assert not content["short"], "the short form decides nothing"
    assert content["about"]["command"].startswith(f"python -m benchmarks.{name}")
    assert {"processor", "versions"} <= set(content["about"])
    assert path.with_suffix(".md").exists()
    assert path.with_suffix(".png").exists() == bool(content["plots"])
    assert f".. results:: {name}" in (ROOT / "docs" / "performance.rst").read_text()


def short(name, folder, *words):
    """The tables of a short form, by title, and its goals."""
    if sys.platform != "linux":
        pytest.skip("memory is measured on Linux only")
    pytest.importorskip("matplotlib")
    pytest.importorskip(NEEDS.get(name, "torch"))
    importlib.import_module(f"benchmarks.{name}").main(["--short", "--out", str(folder), *words])
    content = json.loads((folder / f"{name}.json").read_text())
    assert content["short"] and (folder / f"{name}.md").exists()
    assert content["about"]["threads"] == "1"
    assert (folder / f"{name}.png").exists() == bool(content["plots"])
    assert {goal["met"] for goal in content["goals"]} <= {"short form", "not measured"}
    for row in (row for table in content["tables"] for row in table["rows"]):
        assert row.get("largest difference", 0) < 1e-5
    return [table["rows"] for table in content["tables"]], content["goals"]


# --- each -----------------------------------------------------------------------------------------


def test_affinity(tmp_path):
    (row,), (beside,) = short("affinity", tmp_path)[0]
    assert (row["pairs"], row["clusters"]) == (120, 4) and 0 <= row["extra MiB"] < 200
    assert beside["same components"] == "in every turn"
    assert beside["largest difference of Z"] < 1e-6
    views = affinity.features(150, 4, 1.0)
    z, counts = affinity.dense_search(views, 4)
    graph = affinity.sparse_search(views, 4)
    assert counts == [turn["num_components"] for turn in graph.history]
    np.testing.assert_allclose(z, graph.to_dense(), atol=1e-8)


def test_encode(tmp_path):
    ((*rows,),), goals = short("encode", tmp_path)
    assert len(rows) == 2 * (len(encode.MODELS) + 1) and len(goals) == len(encode.MODELS)
    assert all(row["new items a second"] > 0 and row["one, ms"] > 0 for row in rows)


def test_graph_scale(tmp_path):
    tables, goals = short("graph_scale", tmp_path, "--limit_gb", "0.02")
    times, memory = tables[2][-1], tables[3][-1]
    assert times["nodes"] == 1000 and times["hubs, s"] > 0
    assert times["edge_index / hubs"].startswith("needs 0.03")
    assert memory["edge_index, MB"].startswith("needs") and memory["hubs, MB"] > 0
    assert goals[0]["met"] == "not measured"


@pytest.mark.parametrize("labeled", [0.0, 0.3, 1.0])
def test_all_graphs_give_the_same_step(labeled):
    graph = graph_scale.make(300, labeled)
    results = {
        method: graph_scale.stepper(graph)(build(graph))
        for method, build in graph_scale.METHODS.items()
    }
    expected = results["edge_index"]
    assert [part.numel() for part in expected] == [300 * 64, 128 * 128, 128 * 64]
    for method, result in results.items():
        assert difference(result, expected) < 1e-5, method
    step, built = graph_scale.stepper(graph), graph_scale.METHODS["hubs"](graph)
    assert difference(step(built), step(built)) == 0


@pytest.mark.parametrize("labeled", [0.0, 0.3])
def test_edges_are_as_many_as_predicted(labeled):
    graph = graph_scale.make(3000, labeled)
    source, target = graph.edge_index
    assert bool((source % 30 == target % 30).all()) and bool((source != target).all())
    assert not bool(((graph.label[source] >= 0) & (graph.label[target] >= 0)).any())
    edges, cliques = graph_scale.expected_edges(3000, labeled)
    assert source.numel() == pytest.approx(edges, rel=0.03)
    found = graph_scale.with_cliques(graph)[0].size(1) - source.numel()
    assert found == pytest.approx(cliques, rel=0.15, abs=1)
    for method in graph_scale.METHODS:
        n = graph_scale.largest(method, 0.3, 24e9)
        assert graph_scale.predicted(method, 0.9 * n, 0.3) < 24e9
        assert 2 * graph_scale.predicted(method, 1.2 * n, 0.3) > 24e9


def test_knn(tmp_path):
    tables, goals = short("knn", tmp_path)
    assert len(tables) == 6 and len(goals) == 4
    assert all(row["recall"] in (None, 1.0) for table in tables[:2] for row in table)
    assert all(row["recall"] > 0.9 for row in tables[-1])


@pytest.mark.parametrize("own", [True, False])
def test_all_exact_ways_find_the_same(own):
    pytest.importorskip("faiss")
    x = knn.image_features(300, 32)
    query = x if own else knn.image_features(40, 32, seed=1)
    calls = knn.searches(query, x)
    want = calls["knn, torch"]()[1]
    flat = torch.from_numpy(calls["faiss.knn"]()[1])[:, own:]  # it finds the row itself first
    for found in (flat, calls["three lines"](), calls["knn, auto"]()[1]):
        assert float((found == want).float().mean()) > 0.99


def test_features_are_repeatable_and_as_described():
    x = knn.image_features(200, 50)
    assert torch.equal(x, knn.image_features(200, 50)) and bool((x >= 0).all())
    assert not torch.equal(x, knn.image_features(200, 50, seed=1))
    words = knn.bags_of_words(200, 620)
    assert 0.005 < int(words.count_nonzero()) / words.numel() < 0.02
    assert recall(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 1], [5, 4]])) == 0.75


def test_losses(tmp_path):
    tables, goals = short("losses", tmp_path)
    assert len(tables) == 4 and len(goals) == 3
    for row in tables[0] + tables[2]:
        if row["method"] != "GEMM floor":
            assert row["loss, relative difference"] < 1e-6 and row["gradients"] < 1e-5


def test_map(tmp_path):
    tables, goals = short("map", tmp_path)
    assert [row["metric"] for row in tables[0]] == list(map.METRICS) and len(goals) == 3


def test_the_loop_of_map_is_map():
    """Item i is at distance i of one query and 60 - i of the other; else it is between bounds."""
    database = 1 - 2 * torch.ones(61, 60, dtype=torch.int8).tril(-1)
    query = torch.stack([torch.ones(60), -torch.ones(60)]).to(torch.int8)
    g = torch.Generator().manual_seed(0)
    database_y = (torch.rand(61, 4, generator=g) < 0.3).float()
    case = query, database, torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 0]]), database_y
    assert map.sorted_rows(*case) == pytest.approx(mean_average_precision(*case), abs=1e-6)
    case = map.make(20, 500, 12)
    low, high = (mean_average_precision(*case, ties=t) for t in ("pessimistic", "optimistic"))
    assert low < map.sorted_rows(*case) < high
    query, database, query_y, database_y = map.make(50, 1000, 64)
    query_y[0] = 0  # a query without hits counts as zero
    want = mean_average_precision(query, database, query_y, database_y)
    assert want > 0.2
    assert map.sorted_rows(query, database, query_y, database_y) == pytest.approx(want, abs=0.02)


def test_propagation(tmp_path):
    (layers, _), goals = short("propagation", tmp_path)
    assert [row["method"] for row in layers] == list(propagation.NAMES)
    assert layers[0]["times as fast"] == 1 and len(goals) == 5


@pytest.mark.parametrize("labeled", [0.3, 1.0])
def test_hubs_and_edges_are_the_same_graph(labeled):
    edges = propagation.neighbour_edges(200)
    hubs, plain = (propagation.label_graph(form, 200, labeled, edges) for form in ("hubs", "edges"))
    torch.testing.assert_close(hubs.to_dense(), plain.to_dense(), rtol=1e-5, atol=1e-7)
    assert num_bytes(hubs) < num_bytes(plain)


def test_scaling(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "LARGEST", {"cells": 1000, "whole graph": 500})
    monkeypatch.setattr(scaling, "SHORT", (500, 1000))
    (rows,), goals = short("scaling", tmp_path)
    expected = [("cells", 500), ("whole graph", 500), ("cells", 1000)]
    assert [(row["method"], row["nodes"]) for row in rows] == expected and len(goals) == 2
    for row in rows:
        assert row["us a node"] > 0 and row["training GB"] > 0
        assert row["peak GB"] > 0.99 * row["training GB"]  # the kernel counts pages in batches
        assert row["nodes a seed"] >= 1


def test_one_block_is_an_exact_knn_graph():
    data = scaling.block_graph(scaling.BLOCK, width=16, k=4)
    bare = HeteroData()
    bare.num_classes = data.num_classes
    for m in MODALITIES:
        for name in ("x", "y", "train_mask", "labeled_mask"):
            bare[m][name] = data[m][name]
    exact = LabelHub()(InterKNN()(IntraKNN(4)(bare)))
    assert data.edge_types == exact.edge_types
    for kind in data.edge_types:
        first, second = data[kind], exact[kind]
        order, other = (e.edge_index.mul(torch.tensor([[1], [10_000]])).sum(0).argsort() for e in
                        (first, second))  # fmt: skip
        assert torch.equal(first.edge_index[:, order], second.edge_index[:, other])
        if "edge_weight" in first:
            torch.testing.assert_close(first.edge_weight[order], second.edge_weight[other])
    source, target = scaling.block_graph(2000, width=16, k=3)["image", "intra", "image"].edge_index
    assert float((source - target).abs().float().mean()) > 400  # nodes are shuffled


def test_scaling_processes(tmp_path):
    (rows,), goals = short("scaling_processes", tmp_path)
    assert [row["processes"] for row in rows] == [1, 2] and len(goals) == 3
    assert rows[0]["epoch: share of one"] == 1 and rows[0]["difference"] == 0
    assert rows[1]["difference"] < 1e-4


def test_search(tmp_path):
    tables, goals = short("search", tmp_path)
    assert len(tables) == 4 and len(goals) == 2
    curve = [row["int8 codes: recall@10"] for row in tables[3]]
    assert curve == sorted(curve) and curve[-1] > 0.95 > tables[3][-1]["bits: recall@10"]
    calls = search.cases(3000, 60, 16, 20)
    want = np.asarray(calls["IndexBinaryFlat"]()[0])
    for name in calls:
        np.testing.assert_array_equal(np.asarray(calls[name]()[0]), want, err_msg=name)


def test_store(tmp_path, monkeypatch):
    (_, changes, found, approximate), goals = short("store", tmp_path)
    assert len(goals) == 10 + sum("filtered / all" in row for row in changes)
    assert {row["codes"] for row in found} == {"grouped", "random"}
    assert all(row["matches a query"] >= 0.5 for row in found)  # half were made to match
    assert all(0 < row["recall@10"] <= 1 for row in approximate)

    def wrong(self, codes, radius):
        limits = torch.zeros(len(codes) + 1, dtype=torch.int64)
        return limits, torch.empty(0, dtype=torch.int32), torch.empty(0, dtype=torch.int64)

    monkeypatch.setattr(store.FaissStore, "range_search", wrong)
    with pytest.raises(AssertionError, match="not the same matches"):
        store.within_radius(None, tmp_path, 2000, 10)


def test_checks(tmp_path):
    (rows,), goals = short("checks", tmp_path)
    assert len(rows) == len(goals) == 6
    assert all(row["ms"] > 0 and row["share of checks"] < 1 for row in rows)


def test_codes_of_the_store_are_in_groups():
    nearest = {}
    for kind in ("grouped", "random"):
        bits = np.unpackbits(store.packed_codes(4000, kind, 0).numpy(), axis=1)
        distances = [(bits[i] != np.delete(bits, i, 0)).sum(1).min() for i in range(20)]
        nearest[kind] = np.mean(distances)
    # an eighth of both codes flipped: 14 of 64 bits, the nearest of several is nearer
    assert nearest["grouped"] < 15 < nearest["random"]


# --- the search page ------------------------------------------------------------------------------


def test_serve_load(tmp_path):
    (rows,), goals = short("serve_load", tmp_path)
    assert [(row["at a time"], row["errors"]) for row in rows] == [(1, 0), (20, 0)]
    assert goals[0]["reached"] == 0


def test_every_kind_of_failure_is_an_error():
    answers = iter(
        (
            b'HTTP/1.1 200 OK\r\n\r\n{"answers": [1]}',
            b'HTTP/1.1 200 OK\r\n\r\n{"answers": []}',
            b'HTTP/1.1 200 OK\r\n\r\n{"answers": [1',
            b'HTTP/1.1 503 Busy\r\n\r\n{"error": "busy"}',
            b"",
        )
    )

    async def measured():
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(next(answers))
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ask = lambda i: serve_load.message("GET", "/")  # noqa: E731
        seen = await serve_load.load(port, ask, 1, 5)
        server.close()
        await server.wait_closed()
        return seen, await serve_load.load(port, ask, 2, 1)

    row, gone = asyncio.run(measured())
    assert (row["requests"], row["errors"]) == (5, 4)
    assert row["p50, ms"] == row["p99, ms"] == row["slowest, ms"]
    assert (gone["requests"], gone["errors"]) == (2, 2)


def test_requests_are_those_the_run_can_answer(monkeypatch, tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    index = HammingIndex(8, ids=str, fields={"text": str, "image": str})
    fields = {"text": ["a b", None], "image": ["a.png", None]}
    index.add(torch.ones(2, 8, dtype=torch.int8), ["x/0", "x/1"], fields)
    root = lambda: str(tmp_path)  # noqa: E731
    run = SimpleNamespace(searched=lambda modality: index, has_catalog=True, pictures_root=root)
    monkeypatch.setattr(serve_load, "get", lambda port, path: {"queries": ["image", "text"]})
    asks = serve_load.kinds(1, run)
    assert list(asks) == ["words", "picture", "similar item"]
    assert asks["words"](2).startswith(b"GET /api/search?text=a%20b HTTP/1.1\r\n")
    assert asks["picture"](5).endswith(b"Content-Length: 7\r\n\r\npicture")
    assert asks["similar item"](3).startswith(b"GET /api/similar?id=x%2F1 ")
    monkeypatch.setattr(serve_load, "get", lambda port, path: {"queries": []})
    assert list(serve_load.kinds(1, run)) == ["similar item"]


# --- a training step ------------------------------------------------------------------------------


def test_training_step(tmp_path):
    tables, goals = short("training_step", tmp_path)
    cases = {(row["model"], row["case"]) for row in tables[0]}
    assert ("MCGCN", "products, fp32") in cases and ("SGCH", "step, bf16") in cases
    assert len(goals) == 2


class DenseProducts(TorchDispatchMode):
    """Counts the FLOP of dense products; torch's own counter takes CSR matrices for dense ones."""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_"):
            a, b = args[0:2] if name == "mm" else args[1:3]
            if a.layout == torch.strided:
                self.flops += 2 * a.size(0) * a.size(1) * b.size(1)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["MCGCN", "SGCH"])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_products_are_those_of_the_step(name, rate):
    """Small heads apart; few rows of a view are projected twice, which spares a propagation."""
    sizes = training_step.SHORT._replace(image=400, text=300, latent=200, hidden=160, shared=120)
    data = training_step.pairs(sizes, rate)
    labeled = int(data["image"].labeled_mask.sum())
    shapes = training_step.product_shapes(name, sizes, labeled)
    _, floor = training_step.products(shapes, torch.float32)
    run = training_step.step(name, sizes, data)
    with DenseProducts() as counter:
        run()
    assert 1.0 <= counter.flops / floor < (1.05 if rate == 1.0 else 1.2)


@pytest.mark.parametrize("name", ["MCGCN", "SGCH"])
def test_forms_of_the_cliques_train_alike(name):
    found = []
    data = training_step.features(training_step.SHORT)
    for form in (LabelHub, LabelCliques):
        graph = Compose([LabelRate(0.5), IntraKNN(5), InterKNN(), form()])(data.clone())
        torch.manual_seed(0)
        model = training_step.MODELS[name](training_step.SHORT).train()
        (objective,) = model.objectives(graph, 0)
        found.append(objective.terms["loss"])
    torch.testing.assert_close(*found)
