"""SGCH: variants, alternating steps, new items, settings."""

import copy

import pytest
import torch
from sgch_cases import READINGS, sgch, sgch_graph
from small import adam, relaxed_of_new
from toy import toy_data

from pyg_hash.losses import adversarial_loss
from pyg_hash.metrics import evaluate
from pyg_hash.models import SGCH
from pyg_hash.training import fit
from pyg_hash.typing import MODALITIES

TERMS = {"similarity", "balance", "quantization", "pairing", "adversarial", "view", "loss"}
KINDS = [{}, {"adversary": "reversal"}, {"variant": "v1"}, {"similarity": "linear"}]


def relaxed_new(model, raw, modality, rows):
    return relaxed_of_new(model, raw[modality].x[rows], modality)


def state(parameters):
    return [p.detach().clone() for p in parameters]


def unchanged(parameters, before):
    return all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))


# what the model is made of


def test_the_hash_layer_is_shared_and_the_gcns_are_not():
    model = sgch(sgch_graph())
    assert {name for name, _ in model.named_children()} == {"channels", "hash", "discriminator"}
    widths = {m: model.channels[m].conv1.lin.weight.shape for m in MODALITIES}
    assert widths == {"image": (12, 12), "text": (12, 9)}
    assert model.channels["image"].conv2.lin.weight.shape == (10, 12)
    assert model.hash.lin.weight.shape == (8, 10)


@pytest.mark.parametrize(
    ("bits", "widths"), [(32, [32, 16, 8, 2]), (8, [8, 4, 2, 2]), (2, [2, 1, 1, 2])]
)
def test_widths_of_the_discriminator(bits, widths):
    """Methods, sec. 1.4: K -> K/2 -> K/4 -> 2."""
    lins = sgch(sgch_graph(), num_bits=bits).discriminator.lins
    assert [lins[0].in_features, *(lin.out_features for lin in lins)] == widths


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_few_bits(bits):
    data = sgch_graph()
    model = sgch(data, num_bits=bits)
    fit(model, data, adam(model), epochs=2, progress=False)
    assert model.encode_text(toy_data()["text"].x).shape == (60, bits)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, set()),
        ({"adversary": "reversal"}, set()),
        ({"variant": "v1"}, {"adversarial"}),
        ({"weights": {"pairing": 0.0}}, {"pairing"}),
        ({"weights": {"view": 0.0}}, {"view"}),
    ],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_terms(options, missing, multi_label):
    data = sgch_graph(multi_label=multi_label)
    model = sgch(data, **options)
    terms = model.loss(model(data), data)
    assert terms.keys() == TERMS - missing
    assert all(torch.isfinite(term) for term in terms.values())


def test_defaults_are_weighted_as_documented():
    data = sgch_graph()
    model = sgch(data)
    terms = model.loss(model(data), data)
    weights = {"similarity": 1, "balance": 10, "quantization": 0.1, "pairing": 1, "view": 1}
    weights["adversarial"] = 0.1
    total = sum(weight * terms[name] for name, weight in weights.items())
    torch.testing.assert_close(terms["loss"], total)


@pytest.mark.parametrize("weight", ["balance", "quantization", "pairing", "adversarial", "view"])
def test_every_weight_counts(weight):
    data = sgch_graph()
    losses = []
    for value in (0.25, 0.75):
        model = sgch(data, weights={weight: value})
        losses.append(model.loss(model(data), data)["loss"].item())
    assert losses[0] != losses[1]


def test_view_only_in_training_and_only_with_weight():
    data = sgch_graph()
    model = sgch(data)
    assert "image_view" in model.train()(data).aux
    assert "image_view" not in model.eval()(data).aux
    without = sgch(data, weights={"view": 0.0})
    assert "image_view" not in without.train()(data).aux
    assert torch.equal(without(data).image, model.train()(data).image)


# the two players


def test_parts():
    data = sgch_graph()
    model = sgch(data)
    assert model.parts().keys() == {"codes", "discriminator"}
    assert len(model.parts()["discriminator"]) == 6
    for options in ({"adversary": "reversal"}, {"variant": "v1"}):
        other = sgch(data, **options)
        assert {n: len(p) for n, p in other.parts().items()} == {
            "model": len(list(other.parameters()))
        }


def test_each_step_changes_its_part_alone():
    data = sgch_graph()
    model = sgch(data)
    view = model.training_view(data)
    optimizers = {name: torch.optim.SGD(p, lr=0.1) for name, p in model.parts().items()}
    order = []
    for terms, part in model.train().objectives(view, 0):
        order.append(part)
        before = {name: state(p) for name, p in model.parts().items()}
        optimizers[part].zero_grad()
        terms["loss"].backward(inputs=model.parts()[part])
        optimizers[part].step()
        for name, parameters in model.parts().items():
            assert unchanged(parameters, before[name]) == (name != part)
    assert order == ["discriminator", "codes"]


def test_plain_backward_reaches_one_player_alone():
    """Constants are detached, so a loop of one's own cannot mix the two."""
    data = sgch_graph()
    model = sgch(data)
    out = model(data)
    model.discriminator_loss(out, data).backward()
    assert all(p.grad is None for p in model.parts()["codes"])
    assert all(p.grad.abs().sum() > 0 for p in model.parts()["discriminator"])
    model.zero_grad()
    model.loss(out, data)["loss"].backward()
    assert all(p.grad is None for p in model.parts()["discriminator"])
    assert all(p.grad.abs().sum() > 0 for p in model.parts()["codes"])


def test_the_codes_descend_the_loss_with_swapped_labels():
    data = sgch_graph()
    model = sgch(data)
    out = model(data)
    seen = data["image"].anchor_mask
    logits = {m: model.discriminator(out[m][seen]) for m in MODALITIES}
    wrong = (
        -torch.log_softmax(logits["image"], 1)[:, 0] - torch.log_softmax(logits["text"], 1)[:, 1]
    )
    right = (
        -torch.log_softmax(logits["image"], 1)[:, 1] - torch.log_softmax(logits["text"], 1)[:, 0]
    )
    torch.testing.assert_close(model.loss(out, data)["adversarial"], wrong.mean())
    torch.testing.assert_close(model.discriminator_loss(out, data), right.mean())
    expected = torch.autograd.grad(wrong.mean(), out.image, retain_graph=True)[0]
    got = torch.autograd.grad(model.loss(out, data)["adversarial"], out.image)[0]
    torch.testing.assert_close(got, expected)


def test_the_codes_meet_the_new_discriminator():
    """The second objective is computed after the first one's step."""
    data = sgch_graph()
    model = sgch(data)
    steps = model.train().objectives(data, 0)
    stale = model.loss(model(data), data)["adversarial"]
    next(steps)
    with torch.no_grad():
        for p in model.discriminator.parameters():
            p.add_(0.5)
    fresh = next(steps).terms["adversarial"]
    assert fresh != stale
    torch.testing.assert_close(fresh, model.loss(model(data), data)["adversarial"])


def test_reversal_equals_the_explicit_min_max():
    data = sgch_graph()
    model = sgch(data, adversary="reversal", weights={"adversarial": 0.7})
    model.loss(model(data), data)["loss"].backward()
    joint = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.discriminator.reversal = None
    terms = model.loss(model(data), data)
    rest = terms["loss"] - 0.7 * terms["adversarial"]
    names, parameters = zip(*model.named_parameters(), strict=True)
    plain = torch.autograd.grad(rest, parameters, retain_graph=True, allow_unused=True)
    against = torch.autograd.grad(terms["adversarial"], parameters)
    for name, a, b in zip(names, plain, against, strict=True):
        if name.startswith("discriminator"):
            torch.testing.assert_close(joint[name], 0.7 * b)
        else:
            torch.testing.assert_close(joint[name], a - 0.7 * b, rtol=1e-4, atol=1e-5)


def test_a_discriminator_that_cannot_tell():
    """Methods, sec. 6: A = 1/2 gives 2 ln 2, swapped or not."""
    data = sgch_graph()
    model = sgch(data)
    with torch.no_grad():
        for p in model.discriminator.parameters():
            p.zero_()
    out = model(data)
    for loss in (model.discriminator_loss(out, data), model.loss(out, data)["adversarial"]):
        assert loss.item() == pytest.approx(1.3862944)
    logits = torch.zeros(3, 2)
    assert adversarial_loss(logits, logits).item() == pytest.approx(1.3862944)


@pytest.mark.parametrize("activation", ["none", "relu", "leaky_relu"])
def test_activation_of_the_discriminator(activation):
    data = sgch_graph()
    model = sgch(data, adv_activation=activation)
    x = torch.randn(5, 8)
    zero = model.discriminator(torch.zeros(1, 8))
    linear = model.discriminator(2 * x) - zero
    is_linear = torch.allclose(linear, 2 * (model.discriminator(x) - zero), atol=1e-6)
    assert is_linear == (activation == "none")


def test_one_optimizer_or_one_a_part():
    data = sgch_graph()
    first, second = sgch(data), sgch(data)
    fit(first, data, torch.optim.SGD(first.parameters(), lr=0.01), epochs=3, progress=False)
    optimizers = {name: torch.optim.SGD(p, lr=0.01) for name, p in second.parts().items()}
    history = fit(second, data, optimizers, epochs=3, progress=False)
    assert unchanged(first.parameters(), state(second.parameters()))
    assert {"codes_similarity", "codes_loss", "discriminator_loss"} <= history[0].keys()


# new items


@pytest.mark.parametrize("reading", ["paper", "code"])
@pytest.mark.parametrize("options", [{}, {"metric": "l2"}, {"k": 9}, {"multi_label": True}])
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_query_alone_gets_the_code_it_has_in_the_graph(reading, options, modality):
    data = sgch_graph(reading, **options)
    model = sgch(data)
    fit(model, data, adam(model), epochs=3, progress=False)
    raw = toy_data(multi_label="multi_label" in options)
    with torch.no_grad():
        expected = model.eval()(data)[modality][-12:]
    alone = relaxed_new(model, raw, modality, slice(-12, None))
    torch.testing.assert_close(alone, expected, rtol=0, atol=3e-6)
    encode = model.encode_image if modality == "image" else model.encode_text
    codes = encode(raw[modality].x[-12:])
    clear = expected.abs() > 1e-5
    assert clear.float().mean() > 0.99
    assert torch.equal(codes[clear], model.encode(data, modality)[-12:][clear])


@pytest.mark.parametrize(("reading", "anchors"), READINGS)
@pytest.mark.parametrize("modality", MODALITIES)
def test_batches_and_single_items_agree(reading, anchors, modality):
    data = sgch_graph(reading, anchors)
    model = sgch(data).attach(data)
    raw = toy_data(seed=5)
    whole = relaxed_new(model, raw, modality, slice(None))
    single = torch.cat([relaxed_new(model, raw, modality, [i]) for i in range(60)])
    torch.testing.assert_close(whole, single, rtol=0, atol=2e-6)


@pytest.mark.parametrize("anchors", ["train", "all"])
def test_what_is_kept_of_the_graph(anchors):
    data = sgch_graph("paper", anchors)
    bank = sgch(data).attach(data).intake
    assert bank.tensors["x.image"].size(0) == (48 if anchors == "train" else 60)
    data = sgch_graph("code", anchors)
    known = data["image"].labeled_mask
    bank = sgch(data).attach(data).intake
    assert torch.equal(bank.tensors["x.text"], data["text"].x[known])
    assert [m.shape for m in bank.messages("text")] == [(int(known.sum()), w) for w in (12, 10)]
    assert torch.equal(data["image"].anchor_mask, data["image"].train_mask | (anchors == "all"))


@pytest.mark.parametrize(
    ("reading", "anchors", "options"),
    [(*READINGS[-1], {})] + [(*READINGS[0], options) for options in KINDS],
)
def test_it_learns(reading, anchors, options):
    data = sgch_graph(reading, anchors, noise=0.3)
    model = sgch(data, num_bits=16, **options)
    fit(model, data, adam(model, 3e-2), epochs=20, progress=False)
    result = evaluate(model, data)
    # the linear loss has one optimum for all bits: two classes on either side
    goal = 0.5 if options.get("similarity") == "linear" else 0.9
    assert min(result.i2t, result.t2i) > goal
    raw = toy_data(noise=0.3)
    codes = model.encode_image(raw["image"].x), model.encode_text(raw["text"].x)
    near = (codes[0][-12:].float() @ codes[1].float().T).argmax(1)
    assert (raw["image"].y[near] == raw["image"].y[-12:]).float().mean() > goal - 0.1


# bad input


def test_labels_that_are_missing():
    data = sgch_graph(rate=0.0)
    model = sgch(data)
    with pytest.raises(ValueError, match="labeled_mask: selects no node"):
        fit(model, data, adam(model), epochs=1, progress=False)
    bare = copy.copy(sgch_graph())
    for m in MODALITIES:
        del bare[m].y
    with pytest.raises(ValueError, match="has no y"):
        fit(model, bare, adam(model), epochs=1, progress=False)


@pytest.mark.parametrize("multi_label", [False, True])
def test_an_empty_class(multi_label):
    raw = toy_data(multi_label=multi_label)
    y = raw["image"].y
    for m in MODALITIES:
        has = y[:, 3] > 0 if multi_label else y == 3
        raw[m].labeled_mask = raw[m].train_mask & ~has
    data = sgch_graph(rate=None, data=raw)
    model = sgch(data)
    with pytest.raises(ValueError, match="y: no labelled node of class 3"):
        fit(model, data, adam(model), epochs=1, progress=False)


def test_graphs_and_features_that_do_not_fit():
    model = sgch(sgch_graph())
    with pytest.raises(ValueError, match="no intra edges"):
        model(toy_data())
    wrong = SGCH((12, 8), 4, 8)
    with pytest.raises(ValueError, match=r"data\['text'\].x: has 9 .* num_features is 8"):
        wrong(sgch_graph())
    with pytest.raises(ValueError, match="y: class indices run from 0 to 3"):
        three = SGCH((12, 9), 3, 8)
        three.loss(three(sgch_graph()), sgch_graph())


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("num_features", None, TypeError),
        ("num_features", (3, 0), ValueError),
        ("num_classes", 0, ValueError),
        ("num_bits", "32", TypeError),
        ("hidden_channels", [3], ValueError),
        ("out_channels", 0, ValueError),
        ("out_channels", 1.5, TypeError),
        ("variant", "v2", ValueError),
        ("similarity", "cosine", ValueError),
        ("adversary", "gan", ValueError),
        ("adv_activation", "tanh", ValueError),
        ("weights", {"balance": -1}, ValueError),
        ("weights", {"quantization": float("nan")}, ValueError),
        ("weights", {"pairing": float("inf")}, ValueError),
        ("weights", {"adversarial": True}, TypeError),
        ("weights", {"view": None}, TypeError),
        ("weights", {"similarity": 2.0}, ValueError),
        ("reduction", "none", ValueError),
        ("match", "count", ValueError),
    ],
)
def test_constructor_errors_name_the_argument(name, value, error):
    settings = {"num_features": (3, 4), "num_classes": 2, name: value}
    with pytest.raises(error, match=name):
        SGCH(**settings)


def test_widths_in_every_form():
    one = SGCH({"image": 5, "text": 6}, 3, hidden_channels=7)
    two = SGCH([5, 6], 3, hidden_channels=(7, 7))
    assert one.config == two.config
    wide = SGCH((5, 6), 3, hidden_channels=(8, 9))
    shapes = [wide.channels[m].conv1.lin.weight.shape for m in MODALITIES]
    assert shapes == [(8, 5), (9, 6)]
