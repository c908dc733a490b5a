"""What reaches a query in each reading and protocol of SGCH's graph."""

import copy

import pytest
import torch
from sgch_cases import READINGS, sgch, sgch_graph
from small import adam, assert_same_state
from toy import toy_data

from pyg_hash.training import fit
from pyg_hash.typing import MODALITIES, other

QUERIES = slice(-12, None)
KINDS = [{"adversary": "reversal"}, {"variant": "v1"}, {"similarity": "linear"}]
NAMES = {
    ("paper", "train"): "inductive",
    ("paper", "all"): "strict",
    ("code", "train"): "inductive",
    ("code", "all"): "transductive",
}
readings = pytest.mark.parametrize(("reading", "anchors"), READINGS)


def fitted(data, **options):
    model = sgch(data, **options)
    fit(model, data, adam(model), epochs=3, progress=False)
    return model


def relaxed(model, data):
    with torch.no_grad():
        return model.eval()(data)


def changed(modality, seed=1):
    data = toy_data()
    width = 12 if modality == "image" else 9
    generator = torch.Generator().manual_seed(seed)
    data[modality].x[QUERIES] = 5 * torch.randn(12, width, generator=generator)
    return data


@readings
def test_the_model_names_the_protocol(reading, anchors):
    data = sgch_graph(reading, anchors)
    assert sgch(data).protocol(data) == NAMES[reading, anchors]


@pytest.mark.parametrize(
    ("reading", "anchors", "options"),
    [*((*way, {}) for way in READINGS[1:]), *((*READINGS[0], options) for options in KINDS)],
)
def test_hidden_labels_train_nothing(reading, anchors, options):
    data = sgch_graph(reading, anchors)
    poisoned = copy.copy(data)
    for m in MODALITIES:
        poisoned[m].y = torch.where(data[m].labeled_mask, data[m].y, 10**9)
    assert_same_state(fitted(data, **options), fitted(poisoned, **options))


def test_labels_are_read_where_they_are_known():
    data = sgch_graph()
    other_labels = copy.copy(data)
    known = data["image"].labeled_mask.nonzero().flatten()
    for m in MODALITIES:
        other_labels[m].y = data[m].y.clone()
        other_labels[m].y[known] = data[m].y[known].roll(1)
    model = sgch(data)
    terms = [model.loss(model(graph), graph)["loss"] for graph in (data, other_labels)]
    assert terms[0] != terms[1]


@readings
@pytest.mark.parametrize("modality", MODALITIES)
def test_the_other_modality_of_a_query(reading, anchors, modality):
    """It chooses no edge and sends no message, but in the transductive protocol."""
    hidden = other(modality)
    first = sgch_graph(reading, anchors, scale=False)
    second = sgch_graph(reading, anchors, scale=False, data=changed(hidden))
    model = sgch(first)
    same = torch.equal(
        relaxed(model, first)[modality][QUERIES], relaxed(model, second)[modality][QUERIES]
    )
    assert same == (NAMES[reading, anchors] != "transductive")


@pytest.mark.parametrize("modality", MODALITIES)
def test_inductive_queries_change_no_parameter_and_no_stored_code(modality):
    first = sgch_graph("code")
    second = sgch_graph("code", data=changed(modality))
    one, two = fitted(first), fitted(second)
    assert_same_state(one, two)
    a, b = relaxed(one, first), relaxed(two, second)
    for m in MODALITIES:
        assert torch.equal(a[m][:48], b[m][:48])
    assert not torch.equal(a[modality][QUERIES], b[modality][QUERIES])


@pytest.mark.parametrize("pair_weight", [0.0, 1.0])
def test_strict_training_never_pairs_a_query(pair_weight):
    """No term reads a query's two codes together: permuting its texts changes no other value."""
    data = sgch_graph("paper", "all")
    model = sgch(data, weights={"pairing": pair_weight})
    out = model(data)
    mixed = copy.copy(out)
    mixed.text = out.text.clone()
    mixed.text[QUERIES] = out.text[QUERIES].roll(1, dims=0)
    first, second = model.loss(out, data), model.loss(mixed, data)
    for name, term in first.items():
        torch.testing.assert_close(term, second[name], rtol=1e-6, atol=1e-7)


def test_transductive_queries_do_change_database_codes():
    for reading in ("paper", "code"):
        first = sgch_graph(reading, "all")
        model = sgch(first)
        second = sgch_graph(reading, "all", data=changed("image"))
        assert not torch.equal(relaxed(model, first).image[:48], relaxed(model, second).image[:48])
