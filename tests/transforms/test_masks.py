"""LabelRate and ValidationSplit: shares, subsets, seeds and errors."""

import re

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.testing import withCUDA
from torch_geometric.transforms import Compose
from toy import toy_data

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
from pyg_hash.transforms.masks import as_pairs, stratified_sample


def unbalanced():
    """Classes of 40, 9, 2 and 1 training nodes; class 4 occurs among queries alone."""
    data = toy_data(60, num_queries=8)
    sizes = torch.tensor([40, 9, 2, 1])
    y = torch.cat((torch.arange(4).repeat_interleave(sizes), torch.full((8,), 4)))
    data.num_classes = 5
    for m in ("image", "text"):
        data[m].y = y
    return data


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.77, 0.99])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_label_rate_is_stratified(rate, seed):
    data = unbalanced()
    store = LabelRate(rate, seed=seed)(data)["image"]
    mask = store.labeled_mask
    assert mask.dtype == torch.bool
    assert not bool((mask & ~store.train_mask).any())
    counts = torch.bincount(store.y[mask], minlength=5).tolist()
    assert counts == [max(1, round(rate * n)) for n in (40, 9, 2, 1)] + [0]


def test_label_rate_zero_and_one():
    data = unbalanced()
    assert not bool(LabelRate(0)(data)["text"].labeled_mask.any())
    full = LabelRate(1)(data)["text"].labeled_mask
    assert torch.equal(full, data["text"].train_mask)
    assert full is not data["text"].train_mask


def test_label_rate_seeds():
    data = toy_data()
    first, again, other = (LabelRate(0.3, seed=s)(data)["image"].labeled_mask for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_label_rate_leaves_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    LabelRate(0.3, seed=9)(toy_data())
    assert torch.equal(torch.rand(1), expected)


def test_both_modalities_are_labelled_alike():
    data = ValidationSplit(0.3)(LabelRate(0.4)(toy_data()))
    for key in ("labeled_mask", "train_mask", "val_mask"):
        assert torch.equal(data["image"][key], data["text"][key])


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.7])
def test_multi_label_rate(rate):
    data = toy_data(80, num_classes=6, multi_label=True)
    store = data["image"]
    store.y[5:9] = 0  # items without any label
    counts = (store.y[store.train_mask] > 0).sum(0)
    mask = LabelRate(rate, seed=1)(data)["image"].labeled_mask
    assert not bool((mask & ~store.train_mask).any())
    got = (store.y[mask] > 0).sum(0)
    wanted = torch.tensor([max(1, round(rate * int(n))) for n in counts])
    assert bool((got >= wanted).all())
    assert int(mask.sum()) <= int(wanted.sum()) + 4
    assert int(mask[5:9].sum()) == round(rate * 4)


def test_multi_label_of_single_labels_is_the_single_label_choice():
    data = unbalanced()
    y, pool = data["image"].y, data["image"].train_mask
    hot = torch.nn.functional.one_hot(y, 5)
    for y_hot in (hot, hot.bool(), hot.float()):
        assert torch.equal(
            stratified_sample(y, pool, 0.4, seed=2), stratified_sample(y_hot, pool, 0.4, seed=2)
        )


def test_nodes_without_class_are_never_chosen():
    y = torch.tensor([0, 0, -1, -1, 1, 1])
    chosen = stratified_sample(y, torch.ones(6, dtype=torch.bool), 0.5, seed=0)
    assert not bool(chosen[2:4].any())
    assert int(chosen.sum()) == 2


def test_empty_pool():
    pool = torch.zeros(4, dtype=torch.bool)
    assert not bool(stratified_sample(torch.tensor([0, 1, 0, 1]), pool, 0.5, seed=0).any())


@pytest.mark.parametrize("rate", [-0.1, 1.01, float("nan"), float("inf")])
def test_rates_outside_zero_and_one(rate):
    with pytest.raises(ValueError, match="rate: expected a fraction"):
        LabelRate(rate)
    with pytest.raises(ValueError, match="rate: expected a fraction"):
        ValidationSplit(rate)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (LabelRate(0.3), "no labels to learn from"),
        (ValidationSplit(0.3), "a validation needs labels; leave it out"),
    ],
)
def test_data_without_labels(transform, message):
    data = toy_data()
    for m in ("image", "text"):
        del data[m].y
    with pytest.raises(ValueError, match=message):
        transform(data)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("train_mask", torch.ones(60).long(), TypeError, r"train_mask: .*bool.*got torch.int64"),
        ("train_mask", torch.arange(9), TypeError, r"train_mask: .*bool.*got torch.int64 \[9\]"),
        ("train_mask", np.ones(60, bool), TypeError, r"train_mask: .*bool.*got ndarray"),
        ("train_mask", torch.ones(60, 1) > 0, TypeError, r"train_mask: .*got torch.bool \[60, 1\]"),
        ("train_mask", torch.ones(50) > 0, ValueError, r"\['text'\].train_mask: 60 and 50 rows"),
        ("train_mask", torch.ones(60) > 0, ValueError, r"\['text'\].train_mask: differ, but row i"),
        ("x", None, TypeError, r"\['text'\].x: is missing; add it"),
        ("x", np.ones((60, 9)), TypeError, r"\['text'\].x: expected a .*tensor.*, got ndarray"),
        ("x", torch.ones(50, 9), ValueError, r"\['text'\].x: 60 and 50 rows"),
        ("y", torch.arange(60) // 30, ValueError, r"\['text'\].y: differ, but row i"),
        ("y", torch.eye(4)[torch.arange(60) // 15], ValueError, r"\['text'\].y: differ, but row i"),
        ("y", torch.ones(60, 4), ValueError, r"\['text'\].y: differ, but row i"),
        ("labeled_mask", torch.arange(60), TypeError, r"\['text'\].labeled_mask: expected a bool"),
    ],
)
@pytest.mark.parametrize(
    "transform",
    [
        IntraKNN(3),
        LabelRate(0.3),
        SGCHGraph(3),
        ScaleFeatures(),
        UnifiedAffinity(2, progress=False),
        ValidationSplit(0.3),
    ],
)
def test_data_that_are_no_pairs_are_named_at_every_door(transform, name, value, error, message):
    data = toy_data()
    data["text"][name] = value
    with pytest.raises(error, match=message):
        transform(data)
    if value is None:
        del data["text"][name]
        with pytest.raises(error, match=message):
            transform(data)


def same_graphs(one, two):
    """Whether the images of both have the same masks, and all nodes the same edges."""
    masks = [key for key in one["image"].keys() if key.endswith("_mask")]
    assert all(torch.equal(one[m][key], two[m][key]) for m in ("image", "text") for key in masks)
    assert one.edge_types == two.edge_types
    assert all(torch.equal(one[e].edge_index, two[e].edge_index) for e in one.edge_types)


DOORS = {
    "IntraKNN": IntraKNN(3),
    "LabelRate": LabelRate(0.3),
    "LabelHub": Compose([IntraKNN(3), LabelHub()]),
    "SGCHGraph": SGCHGraph(3),
    "ScaleFeatures": ScaleFeatures(),
    "UnifiedAffinity": UnifiedAffinity(2, progress=False),
    "ValidationSplit": ValidationSplit(0.3),
}
READ_NO_LABELS = ("IntraKNN", "ScaleFeatures", "UnifiedAffinity")


@pytest.mark.parametrize("name", DOORS)
def test_masks_of_images_alone_are_those_of_both(name):
    want, data = DOORS[name](toy_data()), toy_data()
    for key in ("train_mask", "labeled_mask") if name not in READ_NO_LABELS else ("train_mask",):
        del data["text"][key]
    same_graphs(want, DOORS[name](data))
    assert "train_mask" not in data["text"]  # what is given stays as it is
    del data["image"].train_mask
    with pytest.raises(TypeError, match=r"\['image'\].train_mask: is missing; add it"):
        DOORS[name](data)


@pytest.mark.parametrize("name", DOORS)
def test_data_of_one_type_alone_are_named(name):
    with pytest.raises(TypeError, match="data: expected HeteroData with 'image' and .* got Data"):
        DOORS[name](Data(x=torch.ones(4, 3)))


@pytest.mark.parametrize("name", DOORS)
def test_forms_of_masks_and_labels_that_say_the_same(name):
    want, data = DOORS[name](toy_data()), toy_data()
    data.num_classes = torch.tensor(4)
    data["text"].y = torch.nn.functional.one_hot(data["text"].y, 4)
    data["text"].train_mask = data["text"].train_mask.byte()
    data["image"].labeled_mask = data["image"].labeled_mask.byte()
    same_graphs(want, DOORS[name](data))


@pytest.mark.parametrize("form", [torch.Tensor.numpy, torch.Tensor.to_sparse])
@pytest.mark.parametrize("name", DOORS)
def test_labels_are_tensors_where_they_are_read(name, form):
    data = toy_data(multi_label=True)
    for m in ("image", "text"):
        data[m].y = form(data[m].y)
    if name in READ_NO_LABELS:
        same_graphs(DOORS[name](toy_data(multi_label=True)), DOORS[name](data))
    else:
        with pytest.raises(TypeError, match=r"\['image'\].y: expected a dense tensor, got "):
            DOORS[name](data)


def test_labels_that_both_sides_share_are_not_compared(monkeypatch):
    data = toy_data(multi_label=True)
    read = []
    monkeypatch.setattr(torch.Tensor, "__eq__", lambda *sides: read.append(sides))
    as_pairs(data, "train_mask", "labeled_mask")
    assert read == []


@pytest.mark.parametrize("transform", [LabelHub(), SGCHGraph(3)])
def test_label_edges_name_what_they_miss(transform):
    for name, message in (
        ("num_classes", "data.num_classes: is missing"),
        ("labeled_mask", r"\['image'\].labeled_mask: is missing"),
    ):
        data = toy_data() if isinstance(transform, SGCHGraph) else IntraKNN(3)(toy_data())
        for store in [data] if name == "num_classes" else [data["image"], data["text"]]:
            delattr(store, name)
        with pytest.raises(TypeError, match=message):
            transform(data)


def test_labels_do_not_change_under_label_edges():
    data = LabelHub()(IntraKNN(k=3)(LabelRate(0.3)(toy_data())))
    with pytest.raises(ValueError, match="LabelRate: label edges exist already"):
        LabelRate(0.6)(data)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_validation_split(rate, multi_label):
    data = LabelRate(0.6, seed=4)(toy_data(multi_label=multi_label))
    before, after = data["image"], ValidationSplit(rate, seed=1)(data)["image"]
    val = after.val_mask
    assert bool(val.any())
    assert not bool((val & ~before.labeled_mask).any()), "only labelled nodes are held out"
    assert torch.equal(after.train_mask | val, before.train_mask)
    assert torch.equal(after.labeled_mask | val, before.labeled_mask)
    assert not bool((val & (after.train_mask | after.labeled_mask | after.query_mask)).any())
    assert not bool((after.labeled_mask & ~after.train_mask).any())
    assert torch.equal(after.query_mask, before.query_mask)
    if not multi_label:
        held, labelled = (before.y[m].bincount(minlength=4) for m in (val, before.labeled_mask))
        assert held.tolist() == [round(rate * int(n)) for n in labelled]


def test_validation_split_seeds():
    data = toy_data()
    first, again, other = (ValidationSplit(0.3, seed=s)(data)["image"].val_mask for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_validation_split_of_nothing_or_everything(rate):
    with pytest.raises(ValueError, match="holds out nothing or everything"):
        ValidationSplit(rate)


def test_validation_split_without_enough_labels():
    with pytest.raises(ValueError, match="val_rate: no node is labelled"):
        ValidationSplit(0.1)(LabelRate(0)(toy_data()))
    one_each = LabelRate(0.01)(toy_data())
    with pytest.raises(ValueError, match="rate: 0.3 of 4 labelled nodes holds out nothing"):
        ValidationSplit(0.3)(one_each)
    with pytest.raises(ValueError, match="rate: 0.9 of 4 labelled nodes leaves none"):
        ValidationSplit(0.9)(one_each)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("label_rate", [0.2, 0.4, 0.7])
def test_validation_split_of_too_little_says_what_would_do(label_rate, multi_label):
    labelled = LabelRate(label_rate)(toy_data(multi_label=multi_label))
    with pytest.raises(ValueError, match="of each class, and the largest has") as error:
        ValidationSplit(0.01)(labelled)
    enough = float(re.search("at least ([0-9.]+)", str(error.value))[1])
    assert ValidationSplit(enough)(labelled)["image"].val_mask.any()


def test_validation_split_twice():
    with pytest.raises(ValueError, match="there is a val_mask already"):
        ValidationSplit(0.2)(ValidationSplit(0.2)(toy_data()))


def test_validation_split_after_the_graph():
    graph = InterKNN()(IntraKNN(k=3)(toy_data()))
    with pytest.raises(ValueError, match="apply it before the graph"):
        ValidationSplit(0.2)(graph)


@withCUDA
def test_every_device_has_the_same_choice(device):
    for multi_label in (False, True):
        data = toy_data(multi_label=multi_label)
        here = ValidationSplit(0.3)(LabelRate(0.5)(data))["image"]
        there = ValidationSplit(0.3)(LabelRate(0.5)(data.clone().to(device)))["image"]
        for key in ("labeled_mask", "val_mask", "train_mask"):
            assert there[key].device == torch.device(device)
            assert torch.equal(there[key].cpu(), here[key])
