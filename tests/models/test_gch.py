"""GCH: its objectives against their equations, in the order of Algorithm 1."""

import pytest
import torch
from small import NUM_CLASSES, adam, assert_same_state, graph_for
from toy import toy_data

from pyg_hash.models import GCH
from pyg_hash.models.gch import VARIANTS
from pyg_hash.training import fit
from pyg_hash.typing import MODALITIES

SMALL = {"num_bits": 6, "hidden_channels": 10, "beacon": {"channels": 9}, "dropout": 0.0}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def gch_data(**kwargs):
    return graph_for(GCH, **kwargs)


def gch(data, *, seed=0, **kwargs):
    torch.manual_seed(seed)
    kwargs["beacon"] = {**SMALL["beacon"], **kwargs.get("beacon", {})}
    return GCH(data.num_features, NUM_CLASSES, **{**SMALL, **kwargs})


def labels_of(data):
    y = data["image"].y[data["image"].labeled_mask]
    return y.double() if y.dim() == 2 else torch.nn.functional.one_hot(y, NUM_CLASSES).double()


def nll(a, b, share, squared=False):
    factor, similar = (1.0, 0.999) if squared else (0.5, 1.0)
    theta = factor * (a @ b.T)
    cost = torch.log1p(theta.exp()) - similar * share * theta
    return (cost.square() if squared else cost).mean()


def mse(a, b):
    return (a - b).square().mean()


def dense_terms(model, data, squared=False):
    """Eq. 3, 5 and 8 and the report's Eq. 11 and 12, from dense matrices in float64."""
    labels = labels_of(data)
    share = ((labels @ labels.T) > 0).double()
    rows = data["image"].labeled_mask
    teacher = model.teacher(labels)
    known = {m: model._encode(data[m].x[rows].double(), m) for m in MODALITIES}
    fx, fy = known["image"].features, known["text"].features
    relation = fx @ fy.T
    relation = relation / relation.max()
    x = 0.5 * (relation.T @ fx + relation @ fy)
    x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    graph = labels @ labels.T + (torch.eye(len(labels)) if model.gcn.add_self_loops else 0)
    graph = graph / (graph.sum(0)[:, None] * graph.sum(0)[None]).sqrt()
    if model.variant == "GCH-A":
        graph = torch.eye(len(labels)).double()
    h = (graph @ model.gcn.lin(x)).relu()
    beacon, logits = (graph @ model.gcn.hash(h)).tanh(), graph @ model.gcn.classifier(h)
    terms = {
        "label_pairwise": nll(teacher.codes, teacher.codes, share, squared),
        "label_prediction": mse(teacher.logits.sigmoid(), labels),
        "gcn_pairwise": nll(teacher.codes if model.guided else beacon, beacon, share, squared),
        "gcn_prediction": mse(logits.sigmoid(), labels),
    }
    for m in MODALITIES:
        own = known[m].codes
        guide = own if model.variant == "Try1" else teacher.codes
        terms[f"{m}_pairwise"] = nll(guide, own, share, squared)
        terms[f"{m}_prediction"] = mse(known[m].logits.sigmoid(), labels)
        terms[f"{m}_beacon"] = mse(own, beacon)
        if model.variant == "Try1":
            distance = (teacher.codes[:, None] - own[None]).square().sum(-1)
            terms[f"{m}_guide"] = (share * distance).mean()
        if model.variant == "Try2":
            terms[f"{m}_alignment"] = mse(fx, fy)
    return terms


@every_variant
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("add_self_loops", [False, True])
@pytest.mark.parametrize("guided", [False, True])
def test_loss_is_eq_9(variant, multi_label, add_self_loops, guided):
    data = gch_data(multi_label=multi_label)
    weights = {"pairwise": 2.0, "prediction": 3.0, "beacon": 0.7, "guide": 0.2, "alignment": 0.2}
    options = {"add_self_loops": add_self_loops, "guided": guided}
    model = gch(data, variant=variant, beacon=options, weights=weights).double().eval()
    for m in MODALITIES:
        data[m].x = data[m].x.double()
    terms = model.loss(model(data), data)
    want = dense_terms(model, data)
    assert terms.keys() == want.keys() | {"loss"}
    for name, value in want.items():
        assert terms[name].item() == pytest.approx(value.item(), abs=1e-12), name
    total = sum(weights[name.split("_")[1]] * value.item() for name, value in want.items())
    assert terms["loss"].item() == pytest.approx(total, abs=1e-10)


def test_squared_likelihood():
    data = gch_data()
    model = gch(data, likelihood="squared_nll").double().eval()
    for m in MODALITIES:
        data[m].x = data[m].x.double()
    terms = model.loss(model(data), data)
    for name, value in dense_terms(model, data, squared=True).items():
        assert terms[name].item() == pytest.approx(value.item(), abs=1e-12), name


def test_factor_and_similarity_of_the_likelihood_are_parameters():
    data = gch_data()
    kind = {"kind": "squared_nll"}
    options = (kind, kind | {"factor": 1.0, "similar": 0.999}, kind | {"factor": 0.5})
    models = [gch(data, likelihood=likelihood).eval() for likelihood in options]
    values = [model.loss(model(data), data)["loss"].item() for model in models]
    assert values[0] == values[1] != values[2]


def test_loss_of_an_output_without_gradients():
    data = gch_data()
    model = gch(data).eval()
    with torch.no_grad():
        out = model(data)
        again = model.loss(out, data)
    assert out.aux == {}
    assert again["loss"].item() == pytest.approx(model.loss(model(data), data)["loss"].item())


@every_variant
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("guided", [False, True])
def test_objectives_have_the_gradients_of_the_loss(variant, grad, guided):
    """One batch of all rows: each part's last objective is its share of Eq. 9, constants alike."""
    data = gch_data()
    beacon = {"grad": grad, "guided": guided}
    model = gch(data, variant=variant, beacon=beacon, batch_size=1000).eval()
    last = {}
    for terms, part in model.objectives(data, 0):
        parameters = model.parts()[part]
        gradients = torch.autograd.grad(terms["loss"], parameters)
        last[part] = dict(zip(map(id, parameters), gradients, strict=True))
    model.loss(model(data), data)["loss"].backward()
    shared = {id(p) for p in model.shared_hash.parameters()} if variant == "Try2" else set()
    for part, parameters in model.parts().items():
        for p in parameters:
            if id(p) in shared:
                want = last["image"][id(p)] + last["text"][id(p)]
            else:
                want = last[part][id(p)]
            assert torch.allclose(p.grad, want, atol=1e-6), part


def test_beacon_grad_decides_whether_the_beacon_is_a_constant():
    data = gch_data()
    gradients = []
    for grad in (False, True):
        weights = {"pairwise": 0.0, "prediction": 0.0}
        model = gch(data, beacon={"grad": grad}, weights=weights, batch_size=1000).eval()
        steps = [s for s in model.objectives(data, 0) if s.part == "image"]
        own = model._encode(data["image"].x[data["image"].labeled_mask], "image").codes
        gradients.append(torch.autograd.grad(steps[1].terms["loss"], model.parts()["image"])[0])
        if not grad:  # then it is the plain squared error to fixed codes
            fixed = [
                model.encoders[m].fixed_features(data[m].x[data[m].labeled_mask])
                for m in MODALITIES
            ]
            beacon = model.gcn(*fixed, labels_of(data).float())[0].detach()
            want = torch.autograd.grad(mse(own, beacon), model.parts()["image"][0])[0]
            assert torch.allclose(gradients[0], want, atol=1e-6)
    assert not torch.allclose(gradients[0], gradients[1], atol=1e-5)


def test_order_of_algorithm_1():
    data = gch_data()
    model = gch(data, batch_size=8, passes={"label": 3, "gcn": 2})
    num_batches = -(-int(data["image"].labeled_mask.sum()) // 8)
    steps = [(part, "beacon" in terms) for terms, part in model.objectives(data, 0)]
    phases = [("label", False)] * 3 + [
        ("image", False),
        ("text", False),
        ("gcn", False),
        ("gcn", False),
        ("image", True),
        ("text", True),
    ]
    assert steps == [phase for phase in phases for _ in range(num_batches)]


@every_variant
def test_a_step_changes_its_part_alone(variant):
    data = gch_data()
    model = gch(data, variant=variant, batch_size=8)
    parts = model.parts()
    optimizers = {name: torch.optim.Adam(p, lr=0.1) for name, p in parts.items()}
    buffers = {"image": "encoders.image.", "text": "encoders.text."}
    for terms, part in model.objectives(data, 0):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        optimizers[part].zero_grad()
        terms["loss"].backward(inputs=parts[part])
        optimizers[part].step()
        mine = {id(p) for p in parts[part]}
        for name, p in model.named_parameters():
            assert torch.equal(p, before[name]) is (id(p) not in mine), (part, name)
        for name, value in model.named_buffers():
            # statistics of batch normalisation were changed before the loss was given out
            assert torch.equal(value, before[name]) or name.startswith(buffers.get(part, "-"))


def test_statistics_of_other_parts_stay():
    """Encoders that only serve as constants do not move their running statistics."""
    data = gch_data()
    model = gch(data)
    state = {k: v.clone() for k, v in model.named_buffers()}
    for _, part in model.objectives(data, 0):
        now = dict(model.named_buffers())
        moved = {k.split(".")[1] for k in now if not torch.equal(now[k], state[k])}
        assert moved <= ({part} if part in MODALITIES else set())
        state = {k: v.clone() for k, v in now.items()}


def test_no_batch_of_one():
    data = toy_data()
    for m in MODALITIES:
        data[m].labeled_mask = torch.arange(60) < 17
    model = gch(data, batch_size=8, passes={"label": 1})  # 8, 8 and 1
    steps = list(model.objectives(data, 0))
    assert len(steps) == 6 * 2
    fit(model, data, adam(model), epochs=2, progress=False)
    with pytest.raises(ValueError, match="batch_size: a batch of one"):
        gch(data, batch_size=1)


def test_one_labelled_row_makes_no_pair():
    data = toy_data(num_classes=1)
    for m in MODALITIES:
        data[m].labeled_mask = torch.arange(60) < 1
    model = GCH(data.num_features, 1, **SMALL)
    with pytest.raises(ValueError, match="labeled_mask: selects one node"):
        fit(model, data, adam(model), epochs=1, progress=False)


def test_an_empty_class():
    data = toy_data()
    for m in MODALITIES:
        data[m].labeled_mask = data[m].labeled_mask & (data[m].y != 2)
    model = gch(data)
    with pytest.raises(ValueError, match="no labelled node of class 2"):
        fit(model, data, adam(model), epochs=1, progress=False)


@pytest.mark.parametrize("key", ["y", "labeled_mask"])
def test_no_labels(key):
    data = toy_data()
    for m in MODALITIES:
        del data[m][key]
    model = gch(data)
    with pytest.raises(ValueError, match=f"has no {key}"):
        fit(model, data, adam(model), epochs=1, progress=False)


@every_variant
def test_rows_without_label_take_no_part(variant):
    """NaN in their features and labels leaves the training bit for bit the same."""
    models = []
    for poison in (False, True):
        data = gch_data(multi_label=True)
        hidden = ~data["image"].labeled_mask
        if poison:
            for m in MODALITIES:
                data[m].x[hidden] = torch.nan
                data[m].y = data[m].y.clone()
                data[m].y[hidden] = torch.nan
        model = gch(data, variant=variant, batch_size=16, dropout=0.5)
        fit(model, data, adam(model), epochs=2, progress=False)
        models.append(model)
    assert_same_state(*models)


@every_variant
def test_training_is_deterministic_and_descends(variant):
    options = {"norm": "softmax", "activation": "sigmoid"} if variant == "full" else {}
    runs = []
    for _ in range(2):
        data = gch_data(multi_label=True)
        model = gch(data, variant=variant, batch_size=16, dropout=0.5, beacon=options)
        history = fit(model, data, adam(model), epochs=3, progress=False)
        assert history[-1]["loss"] < history[0]["loss"]
        runs.append(model)
    assert_same_state(*runs)


def test_an_optimiser_a_part():
    data = gch_data()
    model = gch(data)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    rates = {"label": 1e-2, "image": 0.0, "text": 1e-2, "gcn": 1e-3}
    optimizers = {k: torch.optim.SGD(p, lr=rates[k]) for k, p in model.parts().items()}
    history = fit(model, data, optimizers, epochs=1, progress=False)
    assert {"label_loss", "image_loss", "text_loss", "gcn_loss"} <= set(history[0])
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, start[n])}
    assert not any(n.startswith("encoders.image") for n in moved)
    assert {n.split(".")[0] for n in moved} == {"teacher", "encoders", "gcn"}


@every_variant
def test_saved_and_loaded(variant, tmp_path):
    data = gch_data()
    model = gch(data, variant=variant)
    fit(model, data, adam(model), epochs=1, progress=False)
    model.save(tmp_path / "model")
    again = GCH.load(tmp_path / "model")
    assert_same_state(model, again)
    assert again.config == model.config
    for m in MODALITIES:
        assert torch.equal(again.encode(data, m), model.encode(data, m))


def test_the_hash_layer_of_try_2_is_shared():
    data = gch_data()
    model = gch(data, variant="Try2")
    assert sum("hash" in n and "encoders" in n for n, _ in model.named_parameters()) == 0
    parts = {k: {id(p) for p in v} for k, v in model.parts().items()}
    assert parts["image"] & parts["text"] == {id(p) for p in model.shared_hash.parameters()}


def test_parts_of_try_2_resume(tmp_path):
    """The shared layer is in two optimisers; both go on from a checkpoint as they were."""

    def run(epochs, **kwargs):
        data = gch_data()
        model = gch(data, variant="Try2", batch_size=16, dropout=0.3)
        optimizers = {k: torch.optim.Adam(p, lr=1e-2) for k, p in model.parts().items()}
        fit(model, data, optimizers, epochs=epochs, progress=False, **kwargs)
        return model

    whole = run(3)
    run(2, checkpoint=tmp_path / "state")
    assert_same_state(whole, run(3, checkpoint=tmp_path / "state", resume=True))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"variant": "GCH-B"}, "variant"),
        ({"likelihood": "mse"}, "likelihood"),
        ({"likelihood": {"factor": 0.0}}, r"likelihood\['factor'\]"),
        ({"likelihood": {"similar": 2.0}}, r"likelihood\['similar'\]"),
        ({"likelihood": {"scale": 2.0}}, "likelihood: 'scale'"),
        ({"beacon": {"norm": "l2"}}, "norm"),
        ({"beacon": {"activation": "relu"}}, "activation"),
        ({"beacon": {"channels": 0}}, r"beacon\['channels'\]"),
        ({"beacon": {"width": 8}}, "beacon: 'width'"),
        ({"weights": {"pairwise": -1.0}}, r"weights\['pairwise'\]"),
        ({"weights": {"beacon": float("nan")}}, r"weights\['beacon'\]"),
        ({"weights": {"label": 1.0}}, "no term 'label'"),
        ({"dropout": 1.5}, "dropout"),
        ({"hidden_channels": 0}, "hidden_channels"),
        ({"passes": {"label": 0}}, r"passes\['label'\]"),
        ({"passes": {"gcn": 0}}, r"passes\['gcn'\]"),
        ({"passes": {"teacher": 1}}, "passes: 'teacher'"),
    ],
)
def test_bad_settings(change, match):
    with pytest.raises(ValueError, match=match):
        gch(toy_data(), **change)


def test_features_of_another_width():
    data = gch_data()
    model = gch(data)
    data["text"].x = data["text"].x[:, 1:]
    with pytest.raises(ValueError, match=r"data\['text'\].x: has 8 features"):
        model(data)
    with pytest.raises(ValueError, match=r"data\['text'\].x: has 8 features"):
        fit(model, data, adam(model), epochs=1, progress=False)
