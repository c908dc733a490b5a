"""IntraKNN against brute force, with its anchors, weights, nearest edges and errors."""

import json
import sys

import pytest
import torch
import torch_geometric.transforms as T
from oracles import neighbours
from torch import Tensor
from torch_geometric.testing import withCUDA
from toy import toy_data

from pyg_hash.graph import protocol
from pyg_hash.knn import knn
from pyg_hash.models.graph import AnchorBank
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate


def scores(x: Tensor, metric: str) -> Tensor:
    """Higher is nearer, ``[N, N]`` in float64."""
    x = x.double()
    if metric == "cosine":
        x = torch.nn.functional.normalize(x, dim=1)
    if metric == "l2":
        return -(x[:, None] - x[None]).square().sum(-1)
    return x @ x.T


def nearest(x: Tensor, k: int, metric: str, is_anchor: Tensor) -> list[set[int]]:
    """The k anchors nearest to each row, by a plain loop; ties by lower index."""
    score = scores(x, metric)
    found = []
    for row in range(len(x)):
        others = [j for j in range(len(x)) if is_anchor[j] and j != row]
        others.sort(key=lambda j: (-score[row, j].item(), j))
        found.append(set(others[:k]))
    return found


def dense(store) -> Tensor:
    """Rows receive: ``[N_target, N_source]``."""
    size = int(store.edge_index.max()) + 1 if store.edge_index.numel() else 0
    out = torch.zeros(max(size, 60), max(size, 60))
    out[store.edge_index[1], store.edge_index[0]] = store.edge_weight
    return out


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("anchors", ["train", "all"])
@pytest.mark.parametrize("k", [1, 4, 47])
def test_brute_force(metric, anchors, k):
    data = IntraKNN(k=k, metric=metric, anchors=anchors, weight="binary")(toy_data())
    is_anchor = data["image"].train_mask | (anchors == "all")
    for m in ("image", "text"):
        assert torch.equal(data[m].anchor_mask, is_anchor)
        near = nearest(data[m].x, k, metric, is_anchor)
        expected = torch.zeros(60, 60)
        for target in range(60):
            for source in range(60):
                mutual = bool(is_anchor[target] and is_anchor[source]) and target in near[source]
                expected[target, source] = float(source in near[target] or mutual)
        edges = data[m, "intra", m]
        assert torch.equal(dense(edges), expected)
        assert edges.edge_index.size(1) == int(expected.sum()), "no parallel edges"
        own = torch.zeros(60, 60)
        for target in range(60):
            own[target, list(near[target])] = 1.0
        assert torch.equal(dense(data[m, "nearest", m]), own)
        assert data[m, "nearest", m].edge_index.size(1) == 60 * k


def test_edges_are_sorted_and_typed():
    data = IntraKNN(k=4, weight="binary")(toy_data())
    source, target = data["image", "intra", "image"].edge_index
    key = target * 60 + source
    assert bool((key[1:] > key[:-1]).all())
    assert source.dtype == torch.int64
    assert data["image", "intra", "image"].edge_weight.dtype == torch.float32
    assert data.graph == {
        "k": 4,
        "metric": "cosine",
        "weight": "binary",
        "neighbor_weight": 1.0,
        "intra_anchors": "train",
    }
    assert protocol(data) == "inductive"


def test_neighbor_weight_scales_every_edge_of_the_graph():
    graphs = [
        T.Compose([IntraKNN(4, anchors="all", neighbor_weight=w), InterKNN("train", "none")])(
            toy_data()
        )
        for w in (1.0, 0.25)
    ]
    types = [kind for kind in graphs[0].edge_types if "edge_weight" in graphs[0][kind]]
    assert {kind[1] for kind in types} >= {"intra", "nearest", "joint", "inter"}
    for kind in types:
        full, less = (graph[kind] for graph in graphs)
        assert torch.equal(full.edge_index, less.edge_index)
        assert torch.equal(0.25 * full.edge_weight, less.edge_weight)


def test_other_nodes_send_nothing():
    data = IntraKNN(k=5)(toy_data())
    for m in ("image", "text"):
        for kind in ("intra", "nearest"):
            source, target = data[m, kind, m].edge_index
            assert bool(data[m].train_mask[source].all())
            assert torch.equal(target.unique(), torch.arange(60))
        received = data[m, "intra", m].edge_index[1].bincount(minlength=60)
        assert torch.equal(received[48:], torch.full((12,), 5))


@pytest.mark.parametrize(
    ("metric", "weight"), [("cosine", "similarity"), ("ip", "binary"), ("l2", "binary")]
)
def test_default_weight(metric, weight):
    default, named = IntraKNN(k=3, metric=metric), IntraKNN(k=3, metric=metric, weight=weight)
    assert repr(default) == repr(named)
    data = default(toy_data())
    assert data.graph == named(toy_data()).graph
    assert data.graph["weight"] == weight


@pytest.mark.parametrize("anchors", ["train", "all"])
def test_similarity_weights(anchors):
    data = IntraKNN(k=35, anchors=anchors, weight="similarity")(toy_data(noise=2.0))
    is_anchor = data["image"].train_mask | (anchors == "all")
    between = is_anchor[:, None] & is_anchor[None]
    for m in ("image", "text"):
        near = neighbours(data[m].x, 35, is_anchor)
        cosine = scores(data[m].x, "cosine").clamp(min=0)
        assert bool((near * scores(data[m].x, "cosine") < 0).any()), "the case is tested"
        own = near * cosine
        expected = torch.where(between, torch.maximum(near, near.T) * cosine, own)
        for kind, matrix in (("intra", expected), ("nearest", own)):
            got = data[m, kind, m]
            assert bool((got.edge_weight > 0).all())
            torch.testing.assert_close(dense(got).double(), matrix, rtol=0, atol=1e-6)
        symmetric = dense(data[m, "intra", m])[between]
        assert torch.equal(symmetric, dense(data[m, "intra", m]).T[between])


def test_opposite_rows_have_no_similar_neighbour():
    data = toy_data(8, num_queries=2, features=(2, 2))
    x = torch.tensor([[1.0, 0]] * 3 + [[-1.0, 0]] * 1 + [[0.0, 1]] * 2 + [[0.0, -1], [-1.0, 0]])
    data["image"].x = data["text"].x = x
    graph = IntraKNN(k=4, weight="similarity")(data)["image", "intra", "image"]
    pairs = set(map(tuple, graph.edge_index.T.tolist()))
    ones = {(a, b) for a in range(3) for b in range(3) if a != b}
    assert pairs == ones | {(4, 5), (5, 4), (3, 7)}


def test_duplicates_are_neighbours_and_self_is_not():
    data = toy_data()
    data["image"].x[[5, 17, 50]] = data["image"].x[3].clone()
    edges = IntraKNN(k=2)(data)["image", "nearest", "image"]
    near = {t: set(edges.edge_index[0, edges.edge_index[1] == t].tolist()) for t in (3, 5, 17, 50)}
    assert near[3] == {5, 17}
    assert near[5] == {3, 17}
    assert near[17] == {3, 5}
    assert near[50] == {3, 5}  # an equal score goes to the lower index
    assert bool((edges.edge_index[0] != edges.edge_index[1]).all())


def test_all_rows_equal():
    data = toy_data()
    data["text"].x = torch.ones(60, 3)
    edges = IntraKNN(k=3, anchors="all")(data)["text", "nearest", "text"]
    assert edges.edge_index[0, edges.edge_index[1] == 0].sort().values.tolist() == [1, 2, 3]
    assert edges.edge_index[0, edges.edge_index[1] == 9].sort().values.tolist() == [0, 1, 2]


def test_scale_of_rows_does_not_matter_for_cosine():
    data = toy_data()
    before = IntraKNN(k=4)(data)["image", "intra", "image"].edge_index
    data["image"].x = data["image"].x * torch.logspace(-12, 12, 60)[:, None]
    assert torch.equal(before, IntraKNN(k=4)(data)["image", "intra", "image"].edge_index)


def test_query_features_move_only_the_edges_they_receive():
    data = toy_data()
    before = IntraKNN(k=4)(data)
    data["image"].x = data["image"].x.clone()
    data["image"].x[59] = -data["image"].x[59]
    after = IntraKNN(k=4)(data)
    rest = []
    for graph in (before, after):
        edge_index = graph["image", "intra", "image"].edge_index
        rest.append(edge_index[:, edge_index[1] != 59])
        assert int((edge_index[1] == 59).sum()) == 4
    assert torch.equal(*rest)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_float_types(dtype):
    data = toy_data()
    for m in ("image", "text"):
        data[m].x = data[m].x.to(dtype)
    edges = IntraKNN(k=3, weight="similarity")(data)["image", "intra", "image"]
    assert edges.edge_weight.dtype == torch.float32


@pytest.mark.parametrize(("anchors", "size"), [("train", 48), ("all", 60)])
def test_k_must_be_smaller_than_the_anchors(anchors, size):
    with pytest.raises(ValueError, match=f"k: {size} neighbours .* only {size} anchors"):
        IntraKNN(k=size, anchors=anchors)(toy_data())
    IntraKNN(k=size - 1, anchors=anchors)(toy_data())


def test_no_anchors():
    with pytest.raises(ValueError, match="k: 1 neighbours .* only 0 anchors"):
        IntraKNN(k=1)(toy_data(num_queries=60))


@pytest.mark.parametrize("row", [2, 58], ids=["anchor", "query"])
@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize(
    ("value", "message"),
    [(float("nan"), "NaN or inf"), (float("-inf"), "NaN or inf"), (0.0, "zero vectors")],
)
def test_bad_rows(row, modality, value, message):
    data = toy_data()
    data[modality].x[row] = value
    with pytest.raises(ValueError, match=rf"data\['{modality}'\].x: .*{message}"):
        IntraKNN(k=3)(data)


def test_zero_rows_have_distances():
    data = toy_data()
    data["image"].x[2] = 0
    for metric in ("l2", "ip"):
        assert "graph" in IntraKNN(k=3, metric=metric)(data)


def test_rows_that_do_not_match():
    data = toy_data()
    data["text"].x = data["text"].x[:-1]
    with pytest.raises(ValueError, match="60 and 59 rows; row i of both"):
        IntraKNN(k=3)(data)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, "k: expected a positive integer, got 0"),
        ({"k": 2.0}, TypeError, "k: expected a positive integer"),
        ({"k": True}, TypeError, "k: expected a positive integer"),
        ({"metric": "hamming"}, ValueError, "metric: 'hamming' is not known; use one of 'cosine'"),
        ({"anchors": "test"}, ValueError, "anchors: 'test' is not known"),
        ({"backend": "gpu"}, ValueError, "backend: 'gpu' is not known"),
        ({"approximate": "lsh"}, ValueError, "approximate: 'lsh' is not known"),
        ({"approximate": "pca", "backend": "torch"}, ValueError, "two ways to search"),
        ({"neighbor_weight": 0}, ValueError, "neighbor_weight: 0 leaves no kNN edge"),
        ({"neighbor_weight": -1.0}, ValueError, "neighbor_weight"),
        ({"weight": "gauss"}, ValueError, "weight: 'gauss' is not known"),
        ({"weight": "similarity", "metric": "l2"}, ValueError, "'similarity' needs metric='cos"),
    ],
)
def test_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        IntraKNN(**arguments)


@pytest.mark.parametrize("steps", [[], [InterKNN()], [InterKNN(), LabelHub()]])
def test_never_over_an_existing_graph(steps):
    data = IntraKNN(k=3)(LabelRate(0.5)(toy_data()))
    for step in steps:
        data = step(data)
    with pytest.raises(ValueError, match="IntraKNN: the graph exists already"):
        IntraKNN(k=4)(data)


@pytest.mark.parametrize("backend", ["torch", "sparse", "faiss"])
def test_backends_build_one_graph(backend):
    want, got = IntraKNN(k=4)(toy_data()), IntraKNN(k=4, backend=backend)(toy_data())
    assert got.graph == want.graph
    for m in ("image", "text"):
        for kind in ("intra", "nearest"):
            assert torch.equal(got[m, kind, m].edge_index, want[m, kind, m].edge_index)
            weights = got[m, kind, m].edge_weight, want[m, kind, m].edge_weight
            torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_approximate_graphs_say_their_recall(monkeypatch):
    exact, near = IntraKNN(k=4)(toy_data()), IntraKNN(k=4, approximate="pca")(toy_data())
    assert near.graph == exact.graph | {
        "approximate": "pca",
        "recall": {"image": 1.0, "text": 1.0},  # narrow features are searched exactly
    }
    json.dumps(near.graph)

    def poor(query, database, k, way):  # finds every row's last neighbours
        return (-(query.x @ database.x.T)).topk(k, dim=1)

    monkeypatch.setattr(sys.modules["pyg_hash.knn.knn"], "approximate_neighbours", poor)
    graph = IntraKNN(k=4, approximate="pca")(toy_data()).graph
    assert 0 <= graph["recall"]["image"] < 0.5


def test_joint_edges_are_approximate_too():
    data = InterKNN("train")(IntraKNN(k=4, anchors="all", approximate="pca")(toy_data()))
    assert data.graph["joint_recall"] == {"image": 1.0, "text": 1.0}
    assert "joint_recall" not in InterKNN("train")(IntraKNN(k=4, anchors="all")(toy_data())).graph


def test_new_items_meet_their_true_neighbours(monkeypatch):
    data = LabelHub()(InterKNN()(IntraKNN(k=4, approximate="pca")(LabelRate(0.5)(toy_data()))))
    bank = AnchorBank.from_graph(data, {}, {})
    monkeypatch.setattr(
        sys.modules["pyg_hash.knn.knn"],
        "approximate_neighbours",
        lambda *a: pytest.fail("an approximate search"),
    )
    x = data["text"].x[50:]
    source, target, _ = bank._nearest(x, "text", torch.ones_like(bank.joint))
    want = knn(x, bank.tensors["x.text"], 4)[1]
    assert torch.equal(source.view(-1, 4), want)
    assert torch.equal(target, torch.arange(10).repeat_interleave(4))


@withCUDA
def test_every_device_has_the_same_edges(device):
    for anchors in ("train", "all"):
        here = IntraKNN(k=4, anchors=anchors)(toy_data())
        there = IntraKNN(k=4, anchors=anchors)(toy_data().to(device))
        for kind in ("intra", "nearest"):
            edges = there["text", kind, "text"]
            assert edges.edge_index.device == edges.edge_weight.device == torch.device(device)
            assert torch.equal(edges.edge_index.cpu(), here["text", kind, "text"].edge_index)
