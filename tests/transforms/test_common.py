"""What all transforms have in common: full repr, untouched input, same result twice."""

import copy
import inspect

import pytest
import torch
import torch_geometric.transforms as T
from label_cliques import LabelCliques
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.testing import withCUDA
from toy import toy_data

import pyg_hash.transforms as transforms
from pyg_hash.graph import anchor_view, graph_operator, protocol
from pyg_hash.models import MCGCN
from pyg_hash.transforms import (
    InterKNN,
    IntraKNN,
    LabelHub,
    LabelRate,
    ScaleFeatures,
    SGCHGraph,
    UnifiedAffinity,
    ValidationSplit,
)

CLASSES = [getattr(transforms, name) for name in transforms.__all__ if name[0].isupper()]
CHANGED = {
    "backend": "torch",
    "approximate": "pca",
    "rate": 0.25,
    "neighbor_weight": 0.7,
    "seed": 7,
    "center": ("text",),
    "text_components": 5,
    "norm": 3.0,
    "k": 6,
    "metric": "l2",
    "anchors": "all",
    "weight": "binary",
    "pair_edges": "none",
    "self_loops": "literal",
    "match": "equal",
    "graph": "code",
    "num_clusters": 3,
    "rank": "gmc",
    "weight_rule": "paper",
    "u_step": "gmc",
    "lam": 2.0,
    "max_iter": 5,
    "progress": False,
}
PIPELINES = [
    [LabelRate(0.4), ValidationSplit(0.3), ScaleFeatures(text_components=4)],
    [LabelRate(0.4), IntraKNN(k=3), InterKNN(), LabelHub()],
    [LabelRate(0.4), IntraKNN(k=3, anchors="all"), InterKNN("train"), LabelCliques("literal")],
    [IntraKNN(k=3, metric="l2"), LabelHub(match="equal")],
    [LabelRate(0.4), SGCHGraph(k=3)],
    [LabelRate(0.4), SGCHGraph(k=3, graph="code", anchors="all")],
    [ScaleFeatures(), UnifiedAffinity(2, progress=False)],
]


def everything(data: HeteroData) -> dict[tuple[str, str], object]:
    return {(str(store._key), key): value for store in data.stores for key, value in store.items()}


def same(a: object, b: object, atol: float = 0.0) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], atol) for k in a)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        close = a.is_floating_point() and a.shape == b.shape
        close = close and bool(torch.isclose(a, b.to(a), rtol=0, atol=atol).all())
        return a.dtype == b.dtype and (close or torch.equal(a, b))
    return bool(a == b)


def same_data(a: HeteroData, b: HeteroData) -> bool:
    return same(everything(a), everything(b))


def required(cls: type) -> dict[str, object]:
    needed = {"rate": 0.5, "num_clusters": 2}
    return {name: needed[name] for name in inspect.signature(cls).parameters if name in needed}


@pytest.mark.parametrize("cls", CLASSES)
def test_repr_names_every_argument(cls):
    parameters = inspect.signature(cls).parameters
    assert parameters, "a transform has arguments"
    for name in parameters:
        default, changed = cls(**required(cls)), cls(**(required(cls) | {name: CHANGED[name]}))
        assert f"{name}={CHANGED[name]!r}" in repr(changed)
        assert repr(default) != repr(changed)
    assert repr(default).startswith(f"{cls.__name__}(")


@pytest.mark.parametrize("cls", CLASSES)
def test_repr_builds_the_same_transform(cls):
    transform = cls(**required(cls))
    rebuilt = eval(repr(transform), {cls.__name__: cls})
    assert vars(rebuilt) == vars(transform)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("steps", PIPELINES)
def test_input_stays_as_it_is(steps, multi_label):
    data = toy_data(multi_label=multi_label)
    for step in steps:
        before = copy.deepcopy(data)
        types = (list(data.node_types), list(data.edge_types))
        after = step(data)
        assert after is not data
        assert same_data(before, data), f"{step} changed its input"
        assert types == (list(data.node_types), list(data.edge_types))
        data = after


@pytest.mark.parametrize("steps", PIPELINES)
def test_same_result_twice(steps):
    once, twice = (T.Compose(steps)(toy_data()) for _ in range(2))
    assert same_data(once, twice)


@pytest.mark.parametrize("steps", PIPELINES[1:3])
def test_graph_settings_are_plain_values(steps):
    graph = T.Compose(steps)(toy_data()).graph
    assert all(isinstance(value, str | int | float) for value in graph.values())
    assert set(graph) >= {"k", "metric", "weight", "intra_anchors", "inter_anchors", "pair_edges"}


def test_protocol_without_graph():
    assert protocol(toy_data()) == "none"
    assert protocol(IntraKNN(k=3, anchors="all")(toy_data())) == "transductive"


@pytest.mark.parametrize("variant", ["full", "S", "IT"])
@pytest.mark.parametrize(
    "steps",
    [
        [LabelRate(0.4), IntraKNN(k=3), InterKNN(), LabelHub()],
        [
            LabelRate(0.4),
            ValidationSplit(0.3),
            IntraKNN(k=3, weight="binary"),
            InterKNN(),
            LabelHub("literal"),
        ],
        [LabelRate(0.4), IntraKNN(k=3, weight="similarity"), InterKNN(), LabelCliques()],
        [LabelRate(0.4), IntraKNN(k=3), InterKNN(pair_edges="none"), LabelHub(match="equal")],
    ],
)
def test_anchor_view_gives_the_anchors_the_same_output(steps, variant):
    data = T.Compose(steps)(toy_data(multi_label=steps[-1].match == "equal"))
    view = anchor_view(data)
    anchors = data["image"].anchor_mask
    assert view["image"].x.size(0) == int(anchors.sum()) < 60
    torch.manual_seed(0)
    model = MCGCN((12, 9), 4, 16, variant=variant)
    full, part = model(data), model(view)
    for m in ("image", "text"):
        torch.testing.assert_close(full[m][anchors], part[m], rtol=0, atol=2e-6)
        torch.testing.assert_close(full.aux[f"{m}_view"], part.aux[f"{m}_view"], rtol=0, atol=2e-6)
    losses = model.loss(full, data), model.loss(part, view)
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


def test_anchor_view_of_scattered_anchors():
    data = toy_data()
    keep = torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.6
    for m in ("image", "text"):
        data[m].train_mask = data[m].labeled_mask = data[m].database_mask = keep
        data[m].query_mask = ~keep
    data = T.Compose([LabelRate(0.5), IntraKNN(k=3), InterKNN(), LabelHub()])(data)
    view = anchor_view(data)
    both = torch.cat((keep, keep))
    joint = graph_operator(data).to_dense()[both][:, both]
    torch.testing.assert_close(graph_operator(view).to_dense(), joint)
    operator = graph_operator(view)
    assert operator._transposes[0] is operator.matrix
    intra = graph_operator(data, "text").to_dense()[keep][:, keep]
    torch.testing.assert_close(graph_operator(view, "text").to_dense(), intra)


def test_anchor_view_of_everything():
    plain = toy_data()
    assert anchor_view(plain) is plain
    graph = LabelHub()(InterKNN("train")(IntraKNN(k=3, anchors="all")(plain)))
    assert anchor_view(graph) is graph


@withCUDA
@pytest.mark.parametrize("steps", PIPELINES[1:])
def test_every_device_has_the_same_graph(device, steps):
    here = T.Compose(steps)(toy_data())
    there = T.Compose(steps)(toy_data().to(device))
    for value in everything(there).values():
        assert not isinstance(value, Tensor) or value.device == torch.device(device)
    assert same(everything(there.cpu()), everything(here), atol=1e-6)  # kernels add in other orders
    nearest = anchor_view(there.to(device)).cpu(), anchor_view(here)
    assert same(*map(everything, nearest), atol=1e-6)
