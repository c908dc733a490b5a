"""LabelHub, LabelCliques and the dense formula: weights, label sets, storage, errors."""

import oracles
import pytest
import torch
import torch_geometric.transforms as T
from label_cliques import LabelCliques
from torch import Tensor
from toy import toy_data

from pyg_hash.graph import graph_operator
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate
from pyg_hash.transforms.graphs import _sharing, check_graph, label_sets
from pyg_hash.typing import MODALITIES

FORMS = [LabelHub, LabelCliques]


def build(
    data, form, *, rate=0.4, k=5, weight="binary", pairs="all", loops="clean", match="shared"
):
    steps = [LabelRate(rate, seed=3), IntraKNN(k=k, weight=weight), InterKNN(pair_edges=pairs)]
    return T.Compose([*steps, form(self_loops=loops, match=match)])(data)


def check_dense(data, *, k=5, pairs="all", loops="clean", match="shared"):
    for m in ("image", "text"):
        expected = oracles.dense_intra(data, m, k, "train", loops, match)
        got = graph_operator(data, m).to_dense().double()
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    expected = oracles.dense_joint(data, k, ("train", "train"), loops, match, pairs)
    got = graph_operator(data).to_dense().double()
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def similarity_graph(data, modality: str, k: int, anchors: str, match: str) -> Tensor:
    """SGCH Eq. 1: neighbours weigh their cosine, equal labels 1."""
    graph = BINARY(data, modality, k, anchors, match)
    store = data[modality]
    x = torch.nn.functional.normalize(store.x.double(), dim=1)
    labelled = store.labeled_mask[:, None] & store.labeled_mask[None, :]
    return torch.where(labelled, graph, graph * (x @ x.T).clamp(min=0))


BINARY = oracles.intra_graph


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", ["single", "shared", "equal"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("loops", "pairs"), [("clean", "all"), ("literal", "labeled"), ("clean", "none")]
)
def test_similarity_weights(monkeypatch, form, labels, rate, loops, pairs):
    monkeypatch.setattr(oracles, "intra_graph", similarity_graph)
    match = "equal" if labels == "equal" else "shared"
    options = {"k": 30, "loops": loops, "pairs": pairs, "match": match}
    data = toy_data(multi_label=labels != "single", noise=2.0)
    check_dense(build(data, form, rate=rate, weight="similarity", **options), **options)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("match", ["shared", "equal"])
@pytest.mark.parametrize("loops", ["clean", "literal"])
@pytest.mark.parametrize("pairs", ["all", "labeled", "none"])
def test_empty_label_sets(form, match, loops, pairs):
    """Nodes without a label share none, not even with themselves; but their vectors are equal."""
    data = toy_data(multi_label=True)
    data["image"].y[::5] = 0
    options = {"loops": loops, "pairs": pairs, "match": match}
    graph = build(data, form, rate=0.6, **options)
    bare = graph["image"].labeled_mask & (graph["image"].y.sum(1) == 0)
    assert int(bare.sum()) > 2
    check_dense(graph, **options)
    among = graph_operator(graph).to_dense()[:60, :60][bare][:, bare]
    assert bool((among.fill_diagonal_(0) > 0).any()) == (match == "equal")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_no_labelled_node(form, multi_label):
    data = toy_data(multi_label=multi_label)
    graph = build(data, form, rate=0.0)
    check_dense(graph)
    plain = InterKNN()(IntraKNN(k=5, weight="binary")(data))
    for edge_type in plain.edge_types:
        if edge_type[1] != "nearest":
            for key, value in plain[edge_type].items():
                assert torch.equal(graph[edge_type][key], value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loops", ["clean", "literal"])
def test_one_class(form, loops):
    data = toy_data(num_classes=1)
    graph = build(data, form, rate=1.0, loops=loops)
    check_dense(graph, loops=loops)
    row = graph_operator(graph, "image").to_dense()[0]
    expected = torch.full((48,), 1 / 48) if loops == "clean" else torch.full((48,), 1 / 49)
    if loops == "literal":
        expected[0] = 2 / 49
    torch.testing.assert_close(row[:48], expected)
    assert torch.equal(row[48:], torch.zeros(12))


@pytest.mark.parametrize("form", FORMS)
def test_every_node_its_own_class(form):
    data = toy_data(60, 60)
    graph = build(data, form, rate=1.0, pairs="labeled")
    check_dense(graph, pairs="labeled")
    identity = graph_operator(graph, "text").to_dense()[:48, :48]
    torch.testing.assert_close(identity, torch.eye(48))


def test_different_labels_are_never_joined():
    data = toy_data()
    noise = torch.randn(60, 9, generator=torch.Generator().manual_seed(0))
    x = torch.eye(9)[torch.arange(60) // 2 % 9] + 0.01 * noise
    data["image"].x = data["text"].x = x
    for form in FORMS:
        graph = build(data, form, rate=1.0, k=3)
        dense = graph_operator(graph).to_dense()[:60, :60]
        different = data["image"].y[:48, None] != data["image"].y[None, :48]
        assert torch.equal(dense[:48, :48][different], torch.zeros(int(different.sum())))


@pytest.mark.parametrize("match", ["shared", "equal"])
def test_hub_storage_is_linear(match):
    data = build(toy_data(3000, 6, num_queries=20), LabelHub, rate=1.0, k=4, match=match)
    stored = sum(v.numel() for s in data.edge_stores for v in s.values() if torch.is_tensor(v))
    assert stored < 36 * 3000
    cliques = 2980 * 2979 / 6
    assert data["image", "intra", "image"].edge_index.size(1) == 20 * 4 < cliques / 1000
    assert data["image", "in", "class"].edge_index.shape == (2, 2980)
    assert data["class"].num_nodes == 6


@pytest.mark.parametrize("match", ["shared", "count"])
@pytest.mark.parametrize("pairs", ["all", "labeled", "none"])
def test_hubs_join_different_instances_alone(match, pairs):
    """So that no edge has to take anything back."""
    graph = build(toy_data(multi_label=True), LabelHub, rate=0.6, pairs=pairs, match=match)
    for m in ("image", "text"):
        assert torch.equal(graph[m].self_loop, torch.ones(60))
    for store in graph.edge_stores:
        assert "edge_weight" not in store or bool((store.edge_weight > 0).all())
    graph["text"].self_loop = 1.0 - graph["text"].labeled_mask.float()  # as hubs were made before
    with pytest.raises(ValueError, match="self_loop: below 1, so the graph is of an earlier"):
        check_graph(graph)


def test_hub_edges_name_the_class():
    data = build(toy_data(), LabelHub)
    nodes, hubs = data["text", "in", "class"].edge_index
    assert torch.equal(nodes, data["text"].labeled_mask.nonzero().flatten())
    assert torch.equal(hubs, data["text"].y[nodes])
    assert ("class", "overlap", "class") not in data.edge_types
    assert data.graph["self_loops"] == "clean"
    assert data.graph["match"] == "shared"


def test_label_sets():
    y = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
    for match in ("shared", "equal", "count"):
        for labels in (y, y.bool(), y.float(), y.to(torch.uint8), y.half()):
            sets = label_sets(labels, 3, match)
            members, overlap = (
                torch.zeros(5, sets.num_sets),
                torch.zeros(sets.num_sets, sets.num_sets),
            )
            members[sets.row, sets.hub], overlap[tuple(sets.overlap)] = 1.0, 1.0
            same = members @ overlap @ members.T
            expected = y @ y.T if match == "count" else oracles.same_label(y.double(), match)
            assert torch.equal(same.double(), expected.double())
            assert sets.num_sets == (3 if match == "count" else 4)
            assert sets.overlap.dtype == torch.int64
            assert bool((sets.overlap[0] == sets.overlap[1]).all()) == (match != "shared")
    for match in ("shared", "equal", "count"):
        sets = label_sets(torch.tensor([2, 0], dtype=torch.int32), 3, match)
        assert sets.hub.dtype == torch.int64
        assert torch.equal(sets.overlap, torch.arange(3).expand(2, -1))
        assert sets.num_sets == 3


def test_overlap_in_chunks():
    """Thousands of label sets are compared a few at a time."""
    sets = (torch.rand(50, 12, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    expected = (sets @ sets.T > 0).nonzero().T
    for size in (1, 7, 50, 64):
        assert torch.equal(_sharing(sets, chunk_size=size), expected)
    assert _sharing(sets[:0]).shape == (2, 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_other_label_types(form, dtype):
    multi_label = dtype == torch.bool
    expected = graph_operator(build(toy_data(multi_label=multi_label), form)).to_dense()
    data = toy_data(multi_label=multi_label)
    for m in ("image", "text"):
        data[m].y = data[m].y.to(dtype)
    assert torch.equal(graph_operator(build(data, form)).to_dense(), expected)


@pytest.mark.parametrize("form", FORMS)
def test_nearest_edges_end_at_labelled_nodes(form):
    before = IntraKNN(k=3)(LabelRate(0.4)(toy_data()))
    after = form()(before)
    labeled = before["image"].labeled_mask
    kept = before["text", "nearest", "text"].edge_index
    kept = kept[:, labeled[kept[1]]]
    assert torch.equal(after["text", "nearest", "text"].edge_index, kept)
    assert kept.size(1) == 3 * int(labeled.sum())


@pytest.mark.parametrize("form", FORMS)
def test_order_and_input(form):
    name = form.__name__
    data = toy_data()
    with pytest.raises(ValueError, match=f"{name}: the data has no intra edges; apply IntraKNN"):
        form()(data)
    graph = IntraKNN(k=3)(data)
    for twice in FORMS:
        with pytest.raises(ValueError, match=f"{name}: label edges exist already; apply it once"):
            form()(twice()(graph))
    bare = IntraKNN(k=3)(data)
    del bare["image"].y
    with pytest.raises(ValueError, match=f"{name}: the data set has no labels"):
        form()(bare)
    for arguments, message in (
        ({"self_loops": "none"}, "self_loops: 'none' is not known; use one of 'clean', 'literal'"),
        ({"match": "any"}, "match: 'any' is not known; use one of 'shared', 'equal', 'count'"),
    ):
        with pytest.raises(ValueError, match=message):
            form(**arguments)


@pytest.mark.parametrize("form", FORMS)
def test_labels_that_are_none(form):
    graph = IntraKNN(k=3)(toy_data())
    for m in MODALITIES:
        graph[m].labeled_mask = torch.ones(60, dtype=torch.bool)
    with pytest.raises(ValueError, match="labelled nodes must be training nodes"):
        form()(graph)
    for value in (-1, 4):
        graph = IntraKNN(k=3)(toy_data())
        graph["text"].y = graph["image"].y = graph["image"].y.clone()
        graph["image"].y[59] = value  # nobody reads a query's label
        form()(graph)
        graph["image"].y[5] = value
        with pytest.raises(ValueError, match="y: class indices run from"):
            form()(graph)
    hot = IntraKNN(k=3)(toy_data(multi_label=True))
    hot["text"].y = hot["image"].y = hot["image"].y * 0.5
    with pytest.raises(ValueError, match="y: multi-hot labels must be 0 or 1"):
        form()(hot)
