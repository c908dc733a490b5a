"""No label outside the mask, and nothing of a query, reaches what it must not reach."""

import copy

import pytest
import torch
import torch_geometric.transforms as T
from small import (
    PROTOCOLS,
    adam,
    assert_same_codes,
    assert_same_state,
    small_graph,
    small_model,
)
from toy import toy_data

from pyg_hash.graph import anchor_view
from pyg_hash.training import fit
from pyg_hash.transforms import LabelRate, ValidationSplit
from pyg_hash.typing import MODALITIES, other

HONEST = ("inductive", "strict")
QUERIES = slice(-12, None)


def fitted(data, epochs=4, **kwargs):
    model = small_model(data, **kwargs)
    fit(model, data, adam(model), epochs=epochs, progress=False)
    return model


def with_features(modality, rows, values):
    data = toy_data()
    data[modality].x[rows] = values
    return data


def relaxed(model, data):
    model.eval()
    with torch.no_grad():
        return model(data)


def poison_labels(data):
    """Make the labels that nobody may read unreadable."""
    for modality in MODALITIES:
        store = data[modality]
        hidden = ~store.labeled_mask
        y = store.y.clone()
        y[hidden] = float("nan") if y.is_floating_point() else 10**9
        store.y = y


# labels


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("variant", ["full", "S", "IT", "A", "C"])
def test_hidden_labels_leave_the_loss_identical(name, multi_label, variant):
    data = small_graph(name, multi_label=multi_label)
    poisoned = copy.copy(data)
    poison_labels(poisoned)
    assert not torch.equal(poisoned["image"].y, data["image"].y)
    model = small_model(data, variant=variant)
    gradients = []
    for graph in (data, poisoned):
        model.zero_grad()
        terms = model.loss(model(graph), graph)
        terms["loss"].backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        assert all(torch.isfinite(term) for term in terms.values())
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert torch.equal(model.loss(model(data), data)["loss"], terms["loss"])


@pytest.mark.parametrize("multi_label", [True, False])
def test_hidden_labels_can_be_poisoned_before_the_graph_is_built(multi_label):
    clean = small_graph(multi_label=multi_label)
    raw = toy_data(multi_label=multi_label)
    for modality in MODALITIES:
        store = raw[modality]
        y = store.y.clone()
        y[store.query_mask] = float("nan") if multi_label else 99
        store.y = y
    poisoned = small_graph(data=raw)
    assert_same_state(fitted(clean), fitted(poisoned))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_permuted_query_labels_change_nothing(name):
    raw = toy_data()
    for modality in MODALITIES:
        raw[modality].y = raw[modality].y.clone()
        raw[modality].y[QUERIES] = raw[modality].y[QUERIES].roll(1)
    first, second = small_graph(name), small_graph(name, data=raw)
    assert not torch.equal(first["image"].y, second["image"].y)
    one, two = fitted(first), fitted(second)
    assert_same_state(one, two)
    for modality in MODALITIES:
        assert torch.equal(one.encode(first, modality), two.encode(second, modality))


def test_labels_are_read_where_they_are_known():
    """The tests above would pass for a model that reads no label at all."""
    data = small_graph()
    changed = copy.copy(data)
    for modality in MODALITIES:
        changed[modality].y = (data[modality].y + data[modality].labeled_mask) % 4
        changed[modality].y[1] = 0
    model = small_model(data)
    assert model.loss(model(data), data)["loss"] != model.loss(model(changed), changed)["loss"]


# the other modality of a query


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("variant", ["full", "S", "IT", "A"])
def test_nan_in_the_other_modality_of_a_query(name, modality, variant):
    data = small_graph(name)
    model = small_model(data, variant=variant)
    expected = relaxed(model, data)[modality]
    codes = model.encode(data, modality)
    poisoned = copy.copy(data)
    hidden = other(modality)
    poisoned[hidden].x = data[hidden].x.clone()
    poisoned[hidden].x[QUERIES] = float("nan")
    out = relaxed(model, poisoned)
    assert out[hidden][QUERIES].isnan().all()  # the poison works
    reached = out[modality].isnan().any(dim=1)
    assert not reached[QUERIES].any()
    assert torch.equal(out[modality][QUERIES], expected[QUERIES])
    if name == "inductive":
        assert torch.equal(out[modality], expected)
        assert torch.equal(model.encode(poisoned, modality), codes)


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_transductive_leak_exists(modality):
    """The papers' protocol does use a query's other modality; the tests above have teeth."""
    data = small_graph("transductive")
    model = small_model(data)
    poisoned = copy.copy(data)
    hidden = other(modality)
    poisoned[hidden].x = data[hidden].x.clone()
    poisoned[hidden].x[QUERIES] = float("nan")
    assert relaxed(model, poisoned)[modality][QUERIES].isnan().any()


@pytest.mark.parametrize("modality", MODALITIES)
def test_other_modality_changed_before_the_graph_is_built(modality):
    """Under ``'train'`` neither values nor choice of neighbours come from there."""
    values = torch.randn(12, 9 if modality == "image" else 12)
    first = small_graph()
    second = small_graph(data=with_features(other(modality), QUERIES, values))
    model = small_model(first)
    assert torch.equal(relaxed(model, first)[modality], relaxed(model, second)[modality])
    assert_same_state(fitted(first), fitted(second))


def test_strict_choice_of_neighbours_ignores_the_other_modality():
    values = torch.randn(9, generator=torch.Generator().manual_seed(1))
    first = small_graph("strict")
    second = small_graph("strict", data=with_features("text", -1, values))
    model = small_model(first)
    assert torch.equal(relaxed(model, first).image[-1], relaxed(model, second).image[-1])


# queries and the database


@pytest.mark.parametrize("validation", [False, True])
def test_queries_change_nothing_at_all(validation):
    """Under ``'train'`` a graph without queries gives the same parameters and database codes.

    Parameters bit for bit, as both train on 48 rows; codes up to rounding, of 60 rows and of 48.
    """
    masks = [LabelRate(0.5, seed=1)] + ([ValidationSplit(0.3)] if validation else [])
    raw = T.Compose(masks)(toy_data())
    cut = raw.subgraph({m: ~raw[m].query_mask for m in MODALITIES})
    with_queries, without = (small_graph(rate=None, data=data) for data in (raw, cut))
    assert (with_queries["image"].num_nodes, without["image"].num_nodes) == (60, 48)
    one, two = fitted(with_queries), fitted(without)
    assert_same_state(one, two)
    for modality in MODALITIES:
        database = one.encode(with_queries, modality)[:48]
        assert_same_codes(database, two.encode(without, modality), relaxed(two, without)[modality])
        torch.testing.assert_close(
            one.intake.messages[modality][1], two.intake.messages[modality][1]
        )
        new = toy_data()[modality].x[QUERIES]
        encode = (lambda m: m.encode_image) if modality == "image" else (lambda m: m.encode_text)
        known = relaxed(one, with_queries)[modality][QUERIES]
        assert_same_codes(encode(one)(new), encode(two)(new), known)


@pytest.mark.parametrize("modality", MODALITIES)
def test_query_features_change_no_database_code(modality):
    values = 5 * torch.randn(12, 12 if modality == "image" else 9)
    first, second = small_graph(), small_graph(data=with_features(modality, QUERIES, values))
    model = small_model(first)
    for each in MODALITIES:
        a, b = relaxed(model, first)[each], relaxed(model, second)[each]
        assert torch.equal(a[:48], b[:48])
    assert not torch.equal(relaxed(model, first)[modality], relaxed(model, second)[modality])


def test_transductive_queries_do_change_database_codes():
    first = small_graph("transductive")
    second = small_graph("transductive", data=with_features("image", QUERIES, 5 * torch.randn(12)))
    model = small_model(first)
    a, b = relaxed(model, first).image, relaxed(model, second).image
    assert not torch.equal(a[:48], b[:48])


def test_training_sees_the_anchors_only():
    data = small_graph()
    view = anchor_view(data)
    assert view["image"].num_nodes == 48
    assert not view["image"].query_mask.any()
    model = small_model(data)
    seen = []

    def note(model, args):
        if model.training:
            seen.append(args[0]["image"].num_nodes)

    model.register_forward_pre_hook(note)
    fit(model, data, adam(model), epochs=2, progress=False)
    assert seen == [48, 48]


@pytest.mark.parametrize("name", HONEST)
def test_own_pair_is_not_in_the_rows_of_a_query(name):
    data = small_graph(name)
    for edge_type in (("image", "inter", "text"), ("text", "inter", "image")):
        source, target = data[edge_type].edge_index
        queries = data["image"].query_mask
        assert not queries[source].any()
        assert not (source == target)[queries[target]].any()


def test_validation_labels_do_not_train():
    data = small_graph(validation=True)
    store = data["image"]
    assert not (store.val_mask & (store.labeled_mask | store.anchor_mask)).any()
    poisoned = copy.copy(data)
    for modality in MODALITIES:
        y = data[modality].y.clone()
        y[store.val_mask] = 10**9
        poisoned[modality].y = y
    assert_same_state(fitted(data), fitted(poisoned))
