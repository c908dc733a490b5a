"""MCGCN: variants, new items, settings."""

import pytest
import torch
import torch.nn.functional as F
import torch_geometric.transforms as T
from small import adam, assert_same_codes, relaxed_of_new, small_graph, small_model
from toy import toy_data

from pyg_hash.models import MCGCN
from pyg_hash.training import fit
from pyg_hash.transforms import InterKNN, IntraKNN, LabelRate
from pyg_hash.typing import MODALITIES

TERMS = {"pairwise", "quantization", "balance", "prediction", "reconstruction", "adversarial"}
VARIANTS = ("full", "S", "IT", "A", "C")


def relaxed_new(model, raw, modality, rows):
    return relaxed_of_new(model, raw[modality].x[rows], modality)


@pytest.mark.parametrize(
    ("variant", "parts", "missing"),
    [
        ("full", {"channels", "autoencoders", "cross", "fusions", "discriminator"}, set()),
        ("S", {"channels", "discriminator"}, {"reconstruction"}),
        ("IT", {"autoencoders", "cross", "discriminator"}, set()),
        ("A", {"channels", "autoencoders", "cross", "fusions", "discriminator"}, set()),
        ("C", {"channels", "autoencoders", "cross", "fusions"}, {"adversarial"}),
    ],
)
def test_variants(variant, parts, missing):
    data = small_graph()
    model = small_model(data, variant=variant)
    assert {name for name, _ in model.named_children()} == parts | {"classifiers"}
    terms = model.loss(model(data), data)
    assert terms.keys() == (TERMS - missing) | {"loss", "pairing", "view"}
    for term in terms.values():
        assert torch.isfinite(term)
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("weight", sorted((TERMS | {"pairing", "view", "contrast"}) - {"pairwise"}))
def test_every_weight_counts(weight):
    data = small_graph()
    losses = []
    for value in (0.25, 0.75):
        model = small_model(data, weights={weight: value})
        losses.append(model.loss(model(data), data)["loss"].item())
    assert losses[0] != losses[1]


def test_defaults_are_weighted_as_documented():
    data = small_graph()
    model = small_model(data)
    terms = model.loss(model(data), data)
    weights = {
        "pairwise": 1,
        "quantization": 0.1,
        "balance": 3,
        "prediction": 1,
        "reconstruction": 0.001,
        "adversarial": 0.1,
        "pairing": 10,
        "view": 1,
    }
    total = sum(weight * terms[name] for name, weight in weights.items())
    torch.testing.assert_close(terms["loss"], total)


def test_view_only_in_training_and_only_with_weight():
    data = small_graph()
    model = small_model(data)
    assert "image_view" in model.train()(data).aux
    assert "image_view" not in model.eval()(data).aux
    without = small_model(data, weights={"view": 0.0})
    out = without.train()(data)
    assert "image_view" not in out.aux
    assert torch.equal(out.image, model.train()(data).image)
    terms, more = without.loss(out, data), model.loss(model(data), data)
    assert "view" not in terms
    torch.testing.assert_close(more["loss"] - more["view"], terms["loss"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_label_at_all_trains(variant):
    data = small_graph(rate=0.0, multi_label=variant in ("full", "A"))
    model = small_model(data, variant=variant)
    history = fit(model, data, adam(model), epochs=8, progress=False)
    assert history[0]["pairwise"] == history[0]["prediction"] == history[0]["view"] == 0
    assert history[-1]["loss"] < history[0]["loss"]
    model.encode_image(toy_data()["image"].x)


@pytest.mark.parametrize(
    ("variant", "options"),
    [(variant, {}) for variant in VARIANTS]
    + [
        ("full", options)
        for options in ({"metric": "l2"}, {"weight": "similarity"}, {"neighbor_weight": 0.2})
    ]
    + [("full", {"k": 40})],
)
def test_a_query_alone_gets_the_code_it_has_in_the_graph(variant, options):
    """Inductive: a query only receives, so joining later makes no difference."""
    data = small_graph(**options)
    model = small_model(data, variant=variant)
    fit(model, data, adam(model), epochs=3, progress=False)
    model.eval()
    for modality in MODALITIES:
        with torch.no_grad():
            expected = model(data)[modality][-12:]
        alone = relaxed_new(model, toy_data(), modality, slice(-12, None))
        torch.testing.assert_close(alone, expected, rtol=0, atol=3e-6)
        encode = model.encode_image if modality == "image" else model.encode_text
        codes = encode(toy_data()[modality].x[-12:])
        assert_same_codes(codes, model.encode(data, modality)[-12:], expected)


@pytest.mark.parametrize("protocol", ["inductive", "strict", "transductive"])
@pytest.mark.parametrize("modality", MODALITIES)
def test_batches_and_single_items_agree(protocol, modality, monkeypatch):
    data = small_graph(protocol)
    model = small_model(data).attach(data)
    raw = toy_data(seed=5)
    whole = relaxed_new(model, raw, modality, slice(None))
    single = torch.cat([relaxed_new(model, raw, modality, [i]) for i in range(0, 60, 3)])
    torch.testing.assert_close(whole[::3], single, rtol=0, atol=2e-6)
    encode = model.encode_image if modality == "image" else model.encode_text
    codes = encode(raw[modality].x)
    monkeypatch.setattr("pyg_hash.models.base.BATCH", 7)
    clear = whole.abs() > 1e-5
    assert torch.equal(encode(raw[modality].x)[clear], codes[clear])


@pytest.mark.parametrize("modality", MODALITIES)
def test_new_items_ignore_anchors_that_are_not_joint(modality):
    """Strict: queries are anchors of their own modality, but send nothing across."""
    data = small_graph("strict")
    model = small_model(data, variant="IT").attach(data)
    assert model.intake.joint.sum() == 48 and model.intake.joint.numel() == 60
    raw = toy_data(seed=5)
    before = relaxed_new(model, raw, modality, slice(None))
    dropped = ~model.intake.joint.repeat(2)
    for message in model.intake.messages("joint"):
        message[dropped] = float("nan")
    assert torch.equal(relaxed_new(model, raw, modality, slice(None)), before)
    full = small_model(data).attach(data)
    before = relaxed_new(full, raw, modality, slice(None))
    for message in full.intake.messages(modality):
        message[-12:] = 0.0
    assert not torch.equal(relaxed_new(full, raw, modality, slice(None)), before)


def test_training_brings_new_items_to_their_class():
    data = small_graph(rate=1.0, noise=0.3)
    model = small_model(data, num_bits=16)
    fit(model, data, adam(model, 3e-2), epochs=20, progress=False)
    raw = toy_data(noise=0.3)
    codes = {"image": model.encode_image(raw["image"].x), "text": model.encode_text(raw["text"].x)}
    y = raw["image"].y
    for m in MODALITIES:
        similarity = codes[m][-12:].float() @ codes["image" if m == "text" else "text"].float().T
        assert (y[similarity.argmax(1)] == y[-12:]).float().mean() > 0.9


def test_joint_edges_are_needed_but_for_variant_s():
    data = T.Compose([LabelRate(0.5), IntraKNN(k=5)])(toy_data())
    model = small_model(data, variant="S")
    fit(model, data, adam(model), epochs=2, progress=False)
    model.encode_text(toy_data()["text"].x[-3:])
    for variant in ("full", "IT", "A", "C"):
        with pytest.raises(ValueError, match="InterKNN"):
            small_model(data, variant=variant)(data)
    with pytest.raises(ValueError, match="IntraKNN"):
        small_model(data)(toy_data())


def test_a_graph_without_label_edges_works():
    data = T.Compose([LabelRate(0.5), IntraKNN(k=5), InterKNN()])(toy_data())
    model = small_model(data)
    history = fit(model, data, adam(model), epochs=10, progress=False)
    assert history[-1]["loss"] < history[0]["loss"]


def test_widths_that_do_not_fit_are_named():
    data = small_graph()
    model = MCGCN((12, 8), 4, 8)
    with pytest.raises(ValueError, match=r"data\['text'\].x: has 9 .* num_features is 8"):
        model(data)
    with pytest.raises(ValueError, match="num_features"):
        fit(model, data, adam(model), epochs=1, progress=False)


def test_data_without_labels_is_named():
    data = T.Compose([IntraKNN(k=5), InterKNN()])(toy_data())
    for m in MODALITIES:
        del data[m].y
    model = MCGCN((12, 9), 4, 8)
    with pytest.raises(ValueError, match="has no y"):
        fit(model, data, adam(model), epochs=1, progress=False)


def test_labels_outside_the_classes_are_named():
    data = small_graph()
    model = MCGCN(data.num_features, 3, 8)
    with pytest.raises(ValueError, match="y: class indices run from 0 to 3"):
        model.loss(model(data), data)
    multi = small_graph(multi_label=True)
    with pytest.raises(ValueError, match="y: has 4 columns, expected 3"):
        model.loss(model(multi), multi)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("num_features", None, TypeError),
        ("num_features", 3.5, TypeError),
        ("num_features", "ab", TypeError),
        ("num_features", (3,), ValueError),
        ("num_features", (3, 4, 5), ValueError),
        ("num_features", {"image": 3}, ValueError),
        ("num_features", (3, 0), ValueError),
        ("num_features", (3, True), TypeError),
        ("num_classes", 0, ValueError),
        ("num_classes", 2.0, TypeError),
        ("num_bits", -1, ValueError),
        ("num_bits", "32", TypeError),
        ("hidden_channels", None, TypeError),
        ("hidden_channels", [3], ValueError),
        ("hidden_channels", 0, ValueError),
        ("latent_channels", 0, ValueError),
        ("shared_channels", 1.5, TypeError),
        ("variant", "B", ValueError),
        ("variant", None, ValueError),
        ("weights", {"quantization": -1}, ValueError),
        ("weights", {"quantization": float("nan")}, ValueError),
        ("weights", {"balance": float("inf")}, ValueError),
        ("weights", {"prediction": "1000"}, TypeError),
        ("weights", {"reconstruction": None}, TypeError),
        ("weights", {"adversarial": True}, TypeError),
        ("weights", {"view": -0.1}, ValueError),
        ("weights", {"alpha": 1.0}, ValueError),
        ("reduction", "none", ValueError),
        ("match", "any", ValueError),
        ("out_activation", "tanh", ValueError),
    ],
)
def test_constructor_errors_name_the_argument(name, value, error):
    settings = {"num_features": (3, 4), "num_classes": 2, name: value}
    with pytest.raises(error, match=name):
        MCGCN(**settings)


def test_features_and_widths_in_every_form():
    one = MCGCN({"image": 5, "text": 6, "class": 0}, 3, hidden_channels=7)
    two = MCGCN([5, 6], 3, hidden_channels=(7, 7))
    assert one.config == two.config
    assert one.config["num_features"] == {"image": 5, "text": 6}
    assert one.num_bits == 32
    wide = MCGCN((5, 6), 3, hidden_channels=(8, 9))
    shapes = [wide.channels[m].conv1.lin.weight.shape for m in MODALITIES]
    assert shapes == [(8, 5), (9, 6)]


def test_autoencoders_learn():
    data = small_graph()
    weights = {"reconstruction": 1.0, "prediction": 0.0, "adversarial": 0.0}
    model = small_model(data, variant="IT", weights=weights)
    history = fit(model, data, adam(model, 3e-2), epochs=20, progress=False)
    assert history[-1]["reconstruction"] < 0.5 * history[0]["reconstruction"]


def test_seeds_decide():
    data = small_graph()
    first, again, other = (small_model(data, seed=seed) for seed in (0, 0, 1))
    x = F.one_hot(torch.tensor([0]), 9).float()
    codes = [m.attach(data).encode_text(x) for m in (first, again, other)]
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(first.encode(data, "image"), other.encode(data, "image"))
