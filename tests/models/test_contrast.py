"""The contrast between pairs as a term of MCGCN, SGCH, GCH and SGEH, off by default."""

import pytest
import torch
from small import METHODS, adam, assert_same_state, graph_for, model_for

from pyg_hash.models import GCH, MCGCN, SGCH, SGEH
from pyg_hash.models.files import CONFIG
from pyg_hash.recipes import presets, recipe
from pyg_hash.training import fit
from pyg_hash.typing import MODALITIES, HashOutput
from pyg_hash.utils.files import load_json, save_json

every_model = pytest.mark.parametrize("kind", METHODS)


def dense(image, text, reduction="mean"):
    """Half of InfoNCE Eq. 4 each way, from the whole matrix in float64; temperature 0.3."""
    image, text = image.double(), text.double()
    logits = image @ text.T / image.norm(dim=1)[:, None] / text.norm(dim=1) / 0.3
    total = 0.5 * (logits.logsumexp(1) + logits.logsumexp(0)) - logits.diag()
    return getattr(total, reduction)()


def contrasting(kind, data, weight=0.7, **options):
    return model_for(kind, data, weights={"contrast": weight}, **options)


@every_model
def test_off_unless_asked_for(kind):
    data = graph_for(kind)
    terms = contrasting(kind, data, 0.0).loss(model_for(kind, data)(data), data)
    assert not any("contrast" in name for name in terms)
    assert model_for(kind, data).weights["contrast"] == 0
    first, second = model_for(kind, data), contrasting(kind, data, 0.0)
    for model in (first, second):
        torch.manual_seed(0)
        fit(model, data, adam(model), epochs=2, progress=False)
    assert_same_state(first, second)


@pytest.mark.parametrize("name", [*(kind.__name__ for kind in METHODS), *presets()])
def test_recipes_and_papers_are_without(name):
    weights = recipe(name).settings["model_options"].get("weights", {})
    assert weights.get("contrast", 0) == 0


@pytest.mark.parametrize("kind", [MCGCN, SGCH])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_all_training_pairs_take_part_and_no_query(kind, reduction):
    data = graph_for(kind, "transductive")
    model = contrasting(kind, data, reduction=reduction)
    without = contrasting(kind, data, 0.0, reduction=reduction)
    out = model(data)
    terms, train = model.loss(out, data), data["image"].train_mask
    assert train.sum() > data["image"].labeled_mask.sum() and not train.all()
    expected = dense(out.image[train], out.text[train], reduction)
    torch.testing.assert_close(terms["contrast"].double(), expected, rtol=1e-5, atol=1e-5)
    more = terms["loss"] - without.loss(out, data)["loss"]
    torch.testing.assert_close(more.double(), 0.7 * expected, rtol=1e-3, atol=1e-3)
    moved = {m: torch.where(train[:, None], out[m], -out[m]) for m in MODALITIES}
    again = model.loss(HashOutput(moved["image"], moved["text"], out.aux), data)
    assert again["contrast"] == terms["contrast"]


@pytest.mark.parametrize("variant", ["SGEH", "SGEH-4"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_of_sgeh_it_is_the_mean_over_batches(variant, reduction):
    data = graph_for(SGEH, rate=None)
    model = contrasting(SGEH, data, variant=variant, reduction=reduction, batch_size=10).eval()
    out = model(data)
    batches = data["image"].train_mask.nonzero().flatten().split(10)
    expected = [dense(out.image[rows], out.text[rows], reduction) for rows in batches]
    terms = model.loss(out, data)
    torch.testing.assert_close(terms["contrast"].double(), sum(expected) / len(expected))
    total = sum(model.weights[name] * value for name, value in terms.items() if name != "loss")
    torch.testing.assert_close(terms["loss"], total)


@pytest.mark.parametrize("variant", ["full", "Try1", "Try2"])
@pytest.mark.parametrize("objective", ["paper", "program"])
def test_of_gch_the_other_encoder_is_a_constant(variant, objective):
    data = graph_for(GCH)
    options = {"variant": variant, "objective": objective, "batch_size": 1000}
    model = contrasting(GCH, data, 0.7, **options).eval()
    rows = data["image"].labeled_mask
    codes = {m: model.relaxed(data[m].x[rows], m) for m in MODALITIES}
    expected = dense(codes["image"], codes["text"])
    terms = model.loss(model(data), data)
    found = [(m, terms[f"{m}_contrast"]) for m in MODALITIES]
    steps = [step for step in model.objectives(data, 0) if "contrast" in step.terms]
    assert len(steps) == 4  # both encoders in both turns
    found += [(step.part, step.terms["contrast"]) for step in steps]
    for own, value in found:
        torch.testing.assert_close(value.double(), expected)
        for m in MODALITIES:
            weights = list(model.encoders[m].parameters())
            slopes = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
            assert any(g is not None and g.abs().sum() > 0 for g in slopes) == (m == own)


@every_model
def test_training_with_it_tells_pairs_apart(kind):
    data = graph_for(kind, noise=1.0)
    found = []
    for weight in (0.0, 10.0):
        model = contrasting(kind, data, weight)
        fit(model, data, adam(model), epochs=6, progress=False)
        relaxed = model.eval()(data)
        train = data["image"].labeled_mask if kind is GCH else data["image"].train_mask
        found.append(dense(relaxed.image[train], relaxed.text[train]).item())
    assert found[1] < found[0]


@every_model
def test_under_autocast_it_is_float32(kind):
    data = graph_for(kind)
    model = contrasting(kind, data).train()
    with torch.autocast("cpu", torch.bfloat16):
        found = [
            value
            for step in model.objectives(data, 0)
            for name, value in step.terms.items()
            if "contrast" in name
        ]
    assert found and all(value.dtype == torch.float32 for value in found)


@every_model
def test_a_model_saved_before_there_was_the_term_loads(kind, tmp_path):
    model = model_for(kind, graph_for(kind))
    model.save(tmp_path)
    record = load_json(tmp_path / CONFIG)
    del record["config"]["weights"]["contrast"]
    save_json(tmp_path / CONFIG, record)
    again = kind.load(tmp_path)
    assert again.weights == model.weights
    assert_same_state(again, model)


@every_model
def test_bad_weights(kind):
    with pytest.raises(ValueError, match=r"weights\['contrast'\]"):
        model_for(kind, graph_for(kind), weights={"contrast": -1.0})
