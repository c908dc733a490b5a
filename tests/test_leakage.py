"""No label outside the mask, and nothing of a query, reaches what it must not reach.

First every model, inductive; then MCGCN in each protocol and variant.
"""

import copy
from functools import cache, partial

import pytest
import torch
import torch_geometric.transforms as T
from small import (
    MODELS,
    PROTOCOLS,
    SOLVED,
    adam,
    assert_same_codes,
    assert_same_state,
    graph_for,
    model_for,
    small_graph,
    small_model,
)
from toy import toy_data

from pyg_hash.graph import anchor_view, graph_operator
from pyg_hash.metrics import evaluate
from pyg_hash.models import MCGCN, SGCH
from pyg_hash.models.common import check_labelled
from pyg_hash.training import fit
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate, ValidationSplit
from pyg_hash.transforms.graphs import check_hubs
from pyg_hash.typing import MODALITIES, other

HONEST = ("inductive", "strict")
QUERIES = slice(-12, None)
every_model = pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
both_modalities = pytest.mark.parametrize("modality", MODALITIES)


def fitted(kind, data, epochs=3):
    model = model_for(kind, data)
    fit(model, data, adam(model), epochs=epochs, progress=False)
    return model


@cache
def clean(kind, multi_label=False):
    """A graph as it is, and the model trained on it; tests change neither."""
    data = graph_for(kind, multi_label=multi_label)
    return data, fitted(kind, data)


def new_split(data):
    """Twelve other nodes ask."""
    for m in MODALITIES:
        asks = torch.zeros(len(data[m].x), dtype=torch.bool)
        asks[::5] = True
        data[m].query_mask, data[m].train_mask = asks, ~asks
        data[m].labeled_mask, data[m].database_mask = ~asks, ~asks
    return data


def fewer_labels(data):
    for m in MODALITIES:
        data[m].labeled_mask = data[m].labeled_mask.clone()
        data[m].labeled_mask[data[m].labeled_mask.nonzero()[0]] = False
    return data


@pytest.mark.parametrize("kind", [MCGCN, SGCH], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (new_split, "train_mask: is not that of the graph"),
        (fewer_labels, "labeled_mask: is not that of the graph's label hubs"),
        (T.ToUndirected(), "leads from nodes outside anchor_mask"),
    ],
)
def test_a_graph_of_other_masks_is_refused(kind, change, problem):
    data = graph_for(kind)
    model = model_for(kind, data)
    model.attach(data)
    changed = change(copy.copy(data))
    for work in (partial(fit, optimizer=adam(model), epochs=1, progress=False), evaluate):
        with pytest.raises(ValueError, match=f"{problem}.*; set masks first"):
            work(model, changed)


@pytest.mark.parametrize("kind", MODELS + SOLVED, ids=lambda kind: kind.__name__)
def test_labels_of_rows_that_do_not_train_are_refused(kind):
    data = graph_for(kind, "strict", rate=1.0)
    for m in MODALITIES:
        data[m].train_mask = data[m].train_mask & (torch.arange(60) % 5 > 0)
    model = model_for(kind, data)
    if not kind.reads_labels:
        return check_labelled(model, data)
    with pytest.raises(ValueError, match="labeled_mask: 10 of its rows are not in train_mask"):
        model.solve(data) if kind in SOLVED else fit(model, data, None, epochs=1)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("match", ["shared", "equal", "count"])
def test_a_graph_of_other_labels_trains_nothing(multi_label, match):
    data = small_graph(multi_label=multi_label, match=match)
    y, known = data["image"].y, data["image"].labeled_mask
    hidden = torch.where(known[:, None] if multi_label else known, y, 0)
    all_others = y[torch.arange(60) // 2]
    one_other = y.clone()
    row = known.nonzero()[3]
    one_other[row] = (y[row] + 1) % (2 if multi_label else 4)
    for labels in (hidden, all_others, one_other):
        changed = copy.copy(data)
        for m in MODALITIES:
            changed[m].y = labels
        if labels is hidden:
            check_hubs(changed)
            continue
        with pytest.raises(ValueError, match="label hubs are not those of y.*graph anew"):
            fit(small_model(data), changed, None, epochs=1)


def test_a_compiled_model_is_looked_at_too():
    data = graph_for(MCGCN)
    model = torch.compile(model_for(MCGCN, data), backend="eager")
    with pytest.raises(ValueError, match="set masks first"):
        fit(model, fewer_labels(copy.copy(data)), adam(model), epochs=1, progress=False)


def test_what_tells_nothing_is_no_leak():
    """A node's loops, masks that nobody reads, rows without a label."""
    data = T.AddSelfLoops(attr="edge_weight")(graph_for(MCGCN, multi_label=True))
    model = fitted(MCGCN, data, epochs=1)
    for m in MODALITIES:
        del data[m].train_mask
    assert evaluate(model, data).num_labels is None


def test_class_nodes_of_ones_own_are_no_label_cliques():
    data = T.Compose([LabelRate(0.5, seed=1), IntraKNN(5), InterKNN()])(toy_data())
    plain = graph_operator(data).to_dense()
    for m in MODALITIES:
        data[m, "in", "class"].edge_index = torch.stack((torch.arange(60), data[m].y))
    data["class"].num_nodes = 4
    assert torch.equal(graph_operator(data).to_dense(), plain)
    with pytest.raises(ValueError, match="LabelHub: makes nodes 'class', which the data have"):
        LabelHub()(data)


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
    data, trained = clean(kind, multi_label)
    poisoned = poisoned_labels(data, ~data["image"].labeled_mask)
    terms = []
    for graph in (data, poisoned):
        model = model_for(kind, graph)
        view = model.training_view(graph)
        torch.manual_seed(3)  # for models that draw noise
        terms.append(model.loss(model(view), view))
    assert all(torch.isfinite(term) for term in terms[1].values())
    assert all(torch.equal(terms[0][name], terms[1][name]) for name in terms[0])
    assert_same_state(trained, fitted(kind, poisoned))


@every_model
@pytest.mark.parametrize("multi_label", [True, False])
def test_query_labels_can_be_poisoned_before_the_graph_is_built(kind, multi_label):
    raw = poisoned_labels(toy_data(multi_label=multi_label), "query_mask")
    assert_same_state(clean(kind, multi_label)[1], fitted(kind, graph_for(kind, data=raw)))


@pytest.mark.parametrize("kind", MODELS + SOLVED, ids=lambda kind: kind.__name__)
def test_subgroups_reach_nothing(kind):
    """They are there to measure by: neither transforms nor training nor codes know them."""
    raw = toy_data()
    for modality in MODALITIES:
        raw[modality].subgroup = torch.arange(60) // 2
    graph = graph_for(kind, data=raw)
    if kind in SOLVED:
        graphs = graph_for(kind), graph
        models = [model_for(kind, each, num_bits=6).solve(each) for each in graphs]
    else:
        models = [clean(kind)[1], fitted(kind, graph)]
    assert graph["image"].subgroup.tolist() == raw["image"].subgroup.tolist()
    assert_same_state(*models)
    for modality in MODALITIES:
        assert torch.equal(*(model.encode(graph, modality) for model in models))


@every_model
def test_validation_labels_do_not_train(kind):
    data = graph_for(kind, validation=True)
    assert not (data["image"].val_mask & data["image"].labeled_mask).any()
    assert_same_state(fitted(kind, data), fitted(kind, poisoned_labels(data, "val_mask")))


@every_model
@both_modalities
def test_nan_in_the_other_modality_of_a_query(kind, modality):
    data, model = clean(kind)
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
    first, one = clean(kind)
    second = graph_for(kind, data=with_features(modality, QUERIES, values))
    two = fitted(kind, second)
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
    data, model = clean(kind)
    encode = model.encode_image if modality == "image" else model.encode_text
    alone = encode(toy_data()[modality].x[QUERIES])
    known = relaxed(model, data)[modality][QUERIES]
    assert_same_codes(alone, model.encode(data, modality)[QUERIES], known)


# MCGCN in each protocol and variant


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("variant", ["full", "S", "IT", "A", "C"])
def test_hidden_labels_leave_the_loss_identical(name, multi_label, variant):
    data = small_graph(name, multi_label=multi_label)
    poisoned = poisoned_labels(data, ~data["image"].labeled_mask)
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


@pytest.mark.parametrize("name", PROTOCOLS)
def test_permuted_query_labels_change_nothing(name):
    raw = toy_data()
    for modality in MODALITIES:
        raw[modality].y = raw[modality].y.clone()
        raw[modality].y[QUERIES] = raw[modality].y[QUERIES].roll(1)
    first, second = small_graph(name), small_graph(name, data=raw)
    assert not torch.equal(first["image"].y, second["image"].y)
    one, two = fitted(MCGCN, first), fitted(MCGCN, second)
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


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("variant", ["full", "S", "IT", "A"])
def test_nan_in_the_other_modality_of_a_query_of_mcgcn(name, modality, variant):
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


def test_strict_choice_of_neighbours_ignores_the_other_modality():
    values = torch.randn(9, generator=torch.Generator().manual_seed(1))
    first = small_graph("strict")
    second = small_graph("strict", data=with_features("text", -1, values))
    model = small_model(first)
    assert torch.equal(relaxed(model, first).image[-1], relaxed(model, second).image[-1])


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
