"""SGCHGraph against dense float64 formulas; protocols, the leak of the code's graph, errors."""

import copy

import oracles
import pytest
import torch
import torch.nn.functional as F
import torch_geometric.transforms as T
from label_cliques import LabelCliques
from toy import toy_data

from pyg_hash.graph import graph_operator, protocol
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate, SGCHGraph
from pyg_hash.typing import MODALITIES, other

QUERIES = slice(-12, None)


def graph(data=None, *, rate=0.4, k=5, **options):
    data = toy_data() if data is None else data
    return T.Compose([LabelRate(rate, seed=3), SGCHGraph(k, **options)])(data)


def hot_labels(data):
    y = data["image"].y
    return (F.one_hot(y, data.num_classes) if y.dim() == 1 else y).double()


def dense_graph(data, modality, k, reading, anchors, omega):
    """W of Eq. 1 with labelled nodes on the diagonal too; rows receive."""
    store = data[modality]
    x = F.normalize(store.x.double(), dim=1)
    is_anchor = store.train_mask | (anchors == "all")
    near = oracles.neighbours(store.x, k, is_anchor & (store.labeled_mask | (reading == "paper")))
    near = omega * near
    between = is_anchor[:, None] & is_anchor[None, :]
    weight = torch.where(between, torch.maximum(near, near.T), near)
    shared = hot_labels(data) @ hot_labels(data).T
    if reading == "paper":
        weight = weight * (x @ x.T).clamp(min=0)
    else:
        shared = (shared > 0).double()
    labelled = store.labeled_mask
    return torch.where(labelled[:, None] & labelled[None, :], shared, weight)


def dense_operator(data, modality, k, reading, anchors, loops, omega):
    weight = dense_graph(data, modality, k, reading, anchors, omega)
    if reading == "code":
        is_anchor = data[modality].train_mask | (anchors == "all")
        mean = (weight + dense_graph(data, other(modality), k, reading, anchors, omega)) / 2
        weight = torch.where(is_anchor[:, None], mean, weight)
    return oracles.normalise(oracles.add_loops(weight, loops))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("anchors", ["train", "all"])
@pytest.mark.parametrize("loops", ["clean", "literal"])
@pytest.mark.parametrize("reading, omega", [("paper", 0.1), ("paper", 1.0), ("code", 0.3)])
def test_operator_equals_dense_formula(multi_label, rate, anchors, loops, reading, omega):
    if reading == "code" and rate == 0.0:
        return  # no labelled node to be joined to, see test_too_few_nodes
    raw = toy_data(multi_label=multi_label, noise=2.0)
    data = graph(
        raw, rate=rate, graph=reading, anchors=anchors, self_loops=loops, neighbor_weight=omega
    )
    for m in MODALITIES:
        expected = dense_operator(data, m, 5, reading, anchors, loops, omega)
        operator = graph_operator(data, m)
        torch.testing.assert_close(operator.to_dense().double(), expected, rtol=0, atol=1e-6)
        x = torch.randn(60, 3, requires_grad=True)
        weight = torch.randn(60, 3)
        ((operator @ x) * weight).sum().backward()
        torch.testing.assert_close(x.grad.double(), expected.T @ weight.double(), rtol=0, atol=2e-6)


def test_counts_by_hand():
    """Two labelled nodes that share one of one and two labels: W = [[2, 1], [1, 1]]."""
    data = toy_data(8, 2, multi_label=True, features=(3, 3), num_queries=2)
    for m in MODALITIES:
        data[m].y[:2] = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
        data[m].labeled_mask = torch.arange(8) < 2
        x = torch.eye(3)[torch.tensor([0, 0, 1, 1, 1, 1, 2, 2])]
        data[m].x = x  # nobody is similar to the two
    literal = graph_operator(SGCHGraph(1, self_loops="literal")(data), "image").to_dense()[:2, :2]
    side = 1 / 12**0.5  # degrees 4 and 3
    torch.testing.assert_close(literal, torch.tensor([[3 / 4, side], [side, 2 / 3]]))
    clean = graph_operator(SGCHGraph(1)(data), "text").to_dense()[:2, :2]
    torch.testing.assert_close(clean, torch.full((2, 2), 0.5))


def test_neighbours_weigh_their_cosine():
    data = toy_data(6, 2, features=(2, 2), num_queries=2)
    angles = torch.tensor([0.0, 60.0, 150.0, 170.0, 10.0, 100.0]).deg2rad()
    for m in MODALITIES:
        data[m].x = torch.stack((angles.cos(), angles.sin()), dim=1)
        data[m].labeled_mask = torch.zeros(6, dtype=torch.bool)
    edges = SGCHGraph(1, neighbor_weight=1.0)(data)["image", "intra", "image"]
    found = {
        (s, t): round(w, 4)
        for (s, t), w in zip(edges.edge_index.T.tolist(), edges.edge_weight.tolist(), strict=True)
    }
    # 0-1 at 60 degrees, 2-3 at 20; the queries receive from their nearest
    expected = {(0, 1): 0.5, (1, 0): 0.5, (2, 3): 0.9397, (3, 2): 0.9397}
    assert found == expected | {(0, 4): 0.9848, (1, 5): 0.766}


@pytest.mark.parametrize("form", [LabelHub, LabelCliques])
@pytest.mark.parametrize("loops", ["clean", "literal"])
@pytest.mark.parametrize("pairs", ["all", "labeled", "none"])
def test_counts_across_modalities(monkeypatch, form, loops, pairs):
    """The same hubs serve the joint graph of MCGCN, with labels that nobody has too."""

    def counts(y, match):
        return (y @ y.T).double()

    monkeypatch.setattr(oracles, "same_label", counts)
    raw = toy_data(multi_label=True)
    raw["image"].y[::5] = 0
    steps = [LabelRate(0.6, seed=3), IntraKNN(5, weight="binary"), InterKNN(pair_edges=pairs)]
    data = T.Compose([*steps, form(self_loops=loops, match="count")])(raw)
    bare = data["image"].labeled_mask & (data["image"].y.sum(1) == 0)
    assert bare.any()
    expected = oracles.dense_joint(data, 5, ("train", "train"), loops, "count", pairs)
    got = graph_operator(data).to_dense().double()
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_storage_is_linear():
    raw = toy_data(2000, 5, num_queries=20, multi_label=True)
    data = graph(raw, rate=1.0, k=4)
    assert data["class"].num_nodes == 5
    assert ("class", "overlap", "class") not in data.edge_types
    labelled = data["image"].labeled_mask
    assert data["image", "in", "class"].edge_index.size(1) == int(raw["image"].y[labelled].sum())
    stored = sum(v.numel() for s in data.edge_stores for v in s.values() if torch.is_tensor(v))
    assert stored < 40 * 2000 < 2000**2 / 5 / 8


@pytest.mark.parametrize(
    ("reading", "anchors", "name"),
    [
        ("paper", "train", "inductive"),
        ("paper", "all", "strict"),
        ("code", "train", "inductive"),
        ("code", "all", "transductive"),
    ],
)
def test_protocols_are_named_for_what_leaks(reading, anchors, name):
    """A query's other modality chooses its edges in the code's transductive graph alone."""
    options = {"graph": reading, "anchors": anchors}
    first = graph(**options)
    assert protocol(first) == name
    raw = toy_data()
    noise = torch.randn(12, 9, generator=torch.Generator().manual_seed(1))
    raw["text"].x[QUERIES] = noise
    second = graph(raw, **options)

    def rows(data):
        return graph_operator(data, "image").to_dense()[QUERIES]

    assert torch.equal(rows(first), rows(second)) == (name != "transductive")
    own = graph()  # a query's own features do choose
    raw["image"].x[QUERIES] = torch.randn(12, 12, generator=torch.Generator().manual_seed(2))
    assert not torch.equal(rows(own), rows(graph(raw)))


@pytest.mark.parametrize("anchors", ["train", "all"])
def test_code_joins_nodes_without_label_to_labelled_ones_alone(anchors):
    data = graph(graph="code", anchors=anchors)
    labelled = data["image"].labeled_mask
    is_anchor = data["image"].anchor_mask
    for m in MODALITIES:
        assert torch.equal(data[m].neighbor_mask, labelled)
        source, target = data[m, "intra", m].edge_index
        assert (labelled[source] | labelled[target]).all()
        assert not (labelled[source] & labelled[target]).any()  # the hubs join these
        assert is_anchor[source].all()
        near = data[m, "nearest", m].edge_index
        assert labelled[near[0]].all() and (near[0] != near[1]).all()
    dense = graph_operator(data, "image").to_dense()[is_anchor][:, is_anchor]
    torch.testing.assert_close(dense, dense.T)
    both = [graph_operator(data, m).to_dense()[is_anchor][:, is_anchor] for m in MODALITIES]
    assert torch.equal(*both)
    weights = data["image", "intra", "image"].edge_weight
    assert set((10 * weights).tolist()) == {0.5, 1.0}  # neighbor_weight=0.1


def test_settings_are_kept():
    kept = graph(k=4, metric="l2").graph
    assert kept == {
        "k": 4,
        "neighbor_weight": 0.1,
        "metric": "l2",
        "weight": "binary",
        "intra_anchors": "train",
        "inter_anchors": "train",
        "self_loops": "clean",
        "match": "count",
        "reading": "paper",
    }
    assert graph().graph["weight"] == "similarity"
    assert graph(graph="code").graph["weight"] == "binary"
    expected = "SGCHGraph(k=20, graph='paper', metric='cosine', anchors='train', "
    expected += "self_loops='clean', neighbor_weight=0.1, backend='auto', approximate=None)"
    assert repr(SGCHGraph()) == expected


def test_hidden_labels_are_not_read():
    raw = LabelRate(0.4, seed=3)(toy_data())
    for m in MODALITIES:
        raw[m].y = torch.where(raw[m].labeled_mask, raw[m].y, 10**9)
    for reading in ("paper", "code"):
        poisoned, clean = SGCHGraph(5, graph=reading)(raw), graph(graph=reading)
        for m in MODALITIES:
            dense = [graph_operator(data, m).to_dense() for data in (poisoned, clean)]
            assert torch.equal(*dense)


def test_input_errors():
    data = toy_data()
    with pytest.raises(ValueError, match="SGCHGraph: the graph exists already"):
        SGCHGraph(3)(IntraKNN(3)(data))
    bare = copy.copy(data)
    for m in MODALITIES:
        del bare[m].y
    with pytest.raises(ValueError, match="SGCHGraph: the data set has no labels"):
        SGCHGraph(3)(bare)
    wrong = toy_data()
    for m in MODALITIES:
        wrong[m].labeled_mask = torch.ones(60, dtype=torch.bool)
    with pytest.raises(ValueError, match="labelled nodes must be training nodes"):
        SGCHGraph(3)(wrong)
    wrong = toy_data()
    wrong["text"].x[3] = 0
    with pytest.raises(ValueError, match=r"data\['text'\].x: 1 of 60 rows are zero vectors"):
        SGCHGraph(3)(wrong)


def test_too_few_nodes():
    with pytest.raises(ValueError, match="k: 48 neighbours asked for, but only 48 anchors"):
        graph(k=48)
    graph(k=14, rate=0.25)
    with pytest.raises(ValueError, match="only 12 labelled anchors .* use k < 12"):
        graph(k=12, rate=0.25, graph="code")
    with pytest.raises(ValueError, match="only 0 labelled anchors"):
        graph(rate=0.0, graph="code")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, "k"),
        ({"k": 2.5}, TypeError, "k"),
        ({"graph": "ours"}, ValueError, "graph: 'ours' is not known; use one of 'paper', 'code'"),
        ({"metric": "dot"}, ValueError, "metric"),
        ({"anchors": "database"}, ValueError, "anchors"),
        ({"self_loops": "none"}, ValueError, "self_loops"),
        ({"neighbor_weight": 0}, ValueError, "neighbor_weight: 0 leaves no kNN edge"),
        ({"neighbor_weight": -1.0}, ValueError, "neighbor_weight"),
    ],
)
def test_argument_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        SGCHGraph(**arguments)
