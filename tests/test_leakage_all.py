"""The poison tests for every model: what no code and no training may depend on."""

import copy

import pytest
import torch
import torch_geometric.transforms as T
from small import MODELS, SOLVED, adam, assert_same_codes, assert_same_state, graph_for, model_for
from toy import toy_data

from pyg_hash.training import fit
from pyg_hash.transforms import LabelRate, ValidationSplit
from pyg_hash.typing import MODALITIES, other

QUERIES = slice(-12, None)
every_model = pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
both_modalities = pytest.mark.parametrize("modality", MODALITIES)


def fitted(kind, data, epochs=3):
    model = model_for(kind, data)
    fit(model, data, adam(model), epochs=epochs, progress=False)
    return model


def relaxed(model, data):
    model.eval()
    with torch.no_grad():
        return model(data)


def poisoned_labels(data, mask):
    """A copy whose labels under ``mask`` nobody can read unpunished."""
    poisoned = copy.copy(data)
    for modality in MODALITIES:
        y = data[modality].y.clone()
        y[data[modality][mask] if isinstance(mask, str) else mask] = (
            float("nan") if y.is_floating_point() else 10**9
        )
        poisoned[modality].y = y
    return poisoned


def with_features(modality, rows, values):
    data = toy_data()
    data[modality].x[rows] = values
    return data


@every_model
@pytest.mark.parametrize("multi_label", [True, False])
def test_hidden_labels_leave_loss_and_training_identical(kind, multi_label):
    data = graph_for(kind, multi_label=multi_label)
    poisoned = poisoned_labels(data, ~data["image"].labeled_mask)
    terms = []
    for graph in (data, poisoned):
        model = model_for(kind, graph)
        view = model.training_view(graph)
        torch.manual_seed(3)  # for models that draw noise
        terms.append(model.loss(model(view), view))
    assert all(torch.isfinite(term) for term in terms[1].values())
    assert all(torch.equal(terms[0][name], terms[1][name]) for name in terms[0])
    assert_same_state(fitted(kind, data), fitted(kind, poisoned))


@every_model
@pytest.mark.parametrize("multi_label", [True, False])
def test_query_labels_can_be_poisoned_before_the_graph_is_built(kind, multi_label):
    raw = toy_data(multi_label=multi_label)
    raw = poisoned_labels(raw, "query_mask")
    clean = graph_for(kind, multi_label=multi_label)
    assert_same_state(fitted(kind, clean), fitted(kind, graph_for(kind, data=raw)))


@pytest.mark.parametrize("kind", MODELS + SOLVED, ids=lambda kind: kind.__name__)
def test_subgroups_reach_nothing(kind):
    """They are there to measure by: neither transforms nor training nor codes know them."""
    raw = toy_data()
    for modality in MODALITIES:
        raw[modality].subgroup = torch.arange(60) // 2
    models = []
    for graph in (graph_for(kind), graph_for(kind, data=raw)):
        if kind in SOLVED:
            models.append(model_for(kind, graph, num_bits=6).solve(graph))
        else:
            models.append(fitted(kind, graph))
    assert graph["image"].subgroup.tolist() == raw["image"].subgroup.tolist()
    assert_same_state(*models)
    for modality in MODALITIES:
        assert torch.equal(*(model.encode(graph, modality) for model in models))


@every_model
def test_validation_labels_do_not_train(kind):
    data = graph_for(kind, validation=True)
    assert_same_state(fitted(kind, data), fitted(kind, poisoned_labels(data, "val_mask")))


@every_model
@both_modalities
def test_nan_in_the_other_modality_of_a_query(kind, modality):
    data = graph_for(kind)
    model = fitted(kind, data)
    expected = relaxed(model, data)[modality]
    poisoned = copy.copy(data)
    hidden = other(modality)
    poisoned[hidden].x = data[hidden].x.clone()
    poisoned[hidden].x[QUERIES] = float("nan")
    out = relaxed(model, poisoned)
    assert out[hidden][QUERIES].isnan().all()  # the poison works
    assert torch.equal(out[modality], expected)


@every_model
@both_modalities
def test_queries_changed_before_the_graph_is_built(kind, modality):
    """Neither parameters nor codes of the database know the queries."""
    width = 12 if modality == "image" else 9
    values = 5 * torch.randn(12, width, generator=torch.Generator().manual_seed(1))
    first = graph_for(kind)
    second = graph_for(kind, data=with_features(modality, QUERIES, values))
    one, two = fitted(kind, first), fitted(kind, second)
    assert_same_state(one, two)
    a, b = relaxed(one, first), relaxed(two, second)
    for each in MODALITIES:
        assert torch.equal(a[each][:48], b[each][:48])
    assert torch.equal(a[other(modality)], b[other(modality)])
    assert not torch.equal(a[modality], b[modality])


@every_model
@pytest.mark.parametrize("validation", [False, True])
def test_data_without_queries_give_the_same_model(kind, validation):
    masks = [LabelRate(0.5, seed=1)] + ([ValidationSplit(0.3)] if validation else [])
    raw = T.Compose(masks)(toy_data())
    cut = raw.subgraph({m: ~raw[m].query_mask for m in MODALITIES})
    with_queries, without = (graph_for(kind, rate=None, data=data) for data in (raw, cut))
    one, two = fitted(kind, with_queries), fitted(kind, without)
    assert_same_state(one, two)
    for modality in MODALITIES:
        database = one.encode(with_queries, modality)[:48]  # of 60 rows, the others of 48
        assert_same_codes(database, two.encode(without, modality), relaxed(two, without)[modality])


@every_model
@both_modalities
def test_new_items_get_the_code_of_the_query_that_they_are(kind, modality):
    data = graph_for(kind)
    model = fitted(kind, data)
    encode = model.encode_image if modality == "image" else model.encode_text
    alone = encode(toy_data()[modality].x[QUERIES])
    known = relaxed(model, data)[modality][QUERIES]
    assert_same_codes(alone, model.encode(data, modality)[QUERIES], known)
