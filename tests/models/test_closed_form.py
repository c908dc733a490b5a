"""What every model with a closed form keeps of the contract."""

import copy
import inspect
from pathlib import Path

import pytest
import torch
from small import BASELINES, NUM_CLASSES, SOLVED, assert_same_codes, assert_same_state
from torch_geometric.testing import withCUDA
from toy import toy_data

from pyg_hash.metrics import evaluate
from pyg_hash.training import fit
from pyg_hash.transforms import LabelRate, ScaleFeatures
from pyg_hash.typing import MODALITIES, other

BITS = 8
LABELLED = {"ClassCodes", "SCM"}
every_solved = pytest.mark.parametrize("kind", SOLVED, ids=lambda kind: kind.__name__)


def options(kind):
    known = inspect.signature(kind).parameters
    small = {"num_classes": NUM_CLASSES, "k": 5}
    return {name: value for name, value in small.items() if name in known}


def model_of(kind, data, **more):
    return kind(data.num_features, **{"num_bits": BITS, **options(kind), **more})


def scaled(**kwargs):
    return ScaleFeatures()(LabelRate(0.5, seed=1)(toy_data(noise=0.5, **kwargs)))


@pytest.fixture(params=["single", "multi"])
def data(request):
    return scaled(multi_label=request.param == "multi")


def encode_new(model, x, modality):
    return (model.encode_image if modality == "image" else model.encode_text)(x)


def test_they_are_found():
    assert {kind.__name__ for kind in SOLVED} >= {"LSH", "CCA", "ITQ", "IMH", *LABELLED}
    page = Path(__file__).resolve().parents[2] / "docs" / "baselines.rst"
    for kind in (kind for kind in BASELINES if kind.__name__ != "TaughtHash"):  # ours
        assert f":class:`~pyg_hash.models.{kind.__name__}`" in page.read_text()
        assert kind.__doc__


@every_solved
def test_codes_and_evaluation(kind, data):
    model = model_of(kind, data)
    assert model.solve(data) is model and not model.training
    for m in MODALITIES:
        codes = model.encode(data, m)
        assert codes.dtype == torch.int8 and codes.shape == (60, BITS)
        assert set(codes.unique().tolist()) == {-1, 1}
        relaxed = model(data)[m]
        assert relaxed.abs().max() <= 1 and not relaxed.requires_grad
        assert torch.equal(codes > 0, relaxed >= 0)
    result = evaluate(model, data)
    assert result.protocol == "inductive"
    y = data["image"].y
    hot = torch.nn.functional.one_hot(y) if y.dim() == 1 else y
    chance = float((hot @ hot.mT > 0).float().mean())
    assert min(result.i2t, result.t2i) > chance + 0.05


@every_solved
def test_solving_again_gives_the_same(kind, data):
    first = model_of(kind, data).solve(data)
    torch.rand(7)  # no global generator takes part
    assert_same_state(first, model_of(kind, data).solve(data))
    again = first.solve(data)
    assert_same_state(first, again)


@every_solved
def test_new_items_have_the_codes_of_nodes(kind):
    raw = toy_data(noise=0.5)
    model = model_of(kind, raw).solve(scaled())
    for m in MODALITIES:
        codes = encode_new(model, raw[m].x, m)  # scaled in float64, nodes in float32
        expected, relaxed = model.encode(scaled(), m), model(scaled())[m]
        bits = relaxed.abs().amax(dim=0) > 1e-9  # one of IMH is all rounding: a constant vector
        assert bits.sum() >= BITS - (kind.__name__ == "IMH")
        assert_same_codes(codes[:, bits], expected[:, bits], relaxed[:, bits])


@every_solved
def test_save_and_load(kind, data, tmp_path):
    model = model_of(kind, data).solve(data)
    model.save(tmp_path)
    again = kind.load(tmp_path)
    assert_same_state(model, again)
    assert again.config == model.config
    assert set(model.config) == set(inspect.signature(kind).parameters)
    for m in MODALITIES:
        assert torch.equal(model.encode(data, m), again.encode(data, m))
        new = toy_data(seed=3)[m].x
        assert torch.equal(encode_new(model, new, m), encode_new(again, new, m))
    assert not any(p.requires_grad for p in again.parameters())


@every_solved
def test_nothing_before_it_is_solved(kind, data, tmp_path):
    model = model_of(kind, data)
    model.save(tmp_path)
    for unsolved in (model, kind.load(tmp_path)):
        with pytest.raises(RuntimeError, match=rf"{kind.__name__} .* call solve\(data\) first"):
            unsolved.encode(data, "image")
    with pytest.raises(RuntimeError, match="attach"):
        model.encode_image(torch.randn(2, 12))
    solved = model.solve(data)
    solved.reset_parameters()
    assert solved.intake is None
    with pytest.raises(RuntimeError, match="call solve"):
        solved.encode(data, "image")


@every_solved
def test_fit_says_what_to_call(kind, data):
    model = model_of(kind, data)
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises((TypeError, RuntimeError), match=r"solve\(data\)"):
        fit(model, data, optimizer, epochs=1, progress=False)
    with pytest.raises(TypeError, match=r"in place of fit"):
        model.loss(model.solve(data)(data), data)


@every_solved
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_query_changes_nothing_but_its_own_code(kind, modality):
    data = scaled()
    codes = model_of(kind, data).solve(data).encode(data, modality)
    poisoned = copy.copy(data)
    poisoned[modality].x = data[modality].x.clone()
    poisoned[modality].x[-1] = 100.0
    for m in MODALITIES:
        poisoned[m].y = data[m].y.clone()
        poisoned[m].y[~data[m].labeled_mask] = 10**9  # nobody reads these
    model = model_of(kind, data).solve(poisoned)
    assert torch.equal(model.encode(poisoned, modality)[:-1], codes[:-1])
    poisoned[other(modality)].x = data[other(modality)].x.clone()
    poisoned[other(modality)].x[-1] = float("nan")
    model = model_of(kind, data).solve(poisoned)
    assert torch.equal(model.encode(poisoned, modality)[:-1], codes[:-1])


@pytest.mark.parametrize("kind", [kind for kind in SOLVED if kind.__name__ not in LABELLED])
def test_the_unsupervised_ones_need_no_label(kind):
    data = scaled()
    codes = model_of(kind, data).solve(data).encode(data, "text")
    for m in MODALITIES:
        del data[m].y, data[m].labeled_mask
    assert torch.equal(model_of(kind, data).solve(data).encode(data, "text"), codes)


@every_solved
def test_class_indices_may_be_of_any_integer_type(kind, data):
    want = model_of(kind, data).solve(data).digest()
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        other = copy.copy(data)
        for m in MODALITIES:
            other[m].y = data[m].y.to(dtype)
        assert model_of(kind, other).solve(other).digest() == want


@every_solved
def test_what_cannot_be_solved(kind, data):
    model = model_of(kind, data)
    mask = "labeled_mask" if kind.__name__ in LABELLED else "train_mask"
    row = int(data["image"][mask].nonzero()[0])
    bad = copy.copy(data)
    bad["text"].x = data["text"].x.clone()
    bad["text"].x[row, 0] = float("nan")
    with pytest.raises(ValueError, match="'text'.*1 of .* rows contain NaN"):
        model.solve(bad)
    empty = copy.copy(data)
    for m in MODALITIES:
        empty[m][mask] = torch.zeros(60, dtype=torch.bool)
    with pytest.raises(ValueError, match=f"{mask}: selects no node"):
        model.solve(empty)
    with pytest.raises(ValueError, match="num_features is 7"):
        model_of(kind, data).__class__((7, 9), **{"num_bits": BITS, **options(kind)}).solve(data)
    if kind.__name__ in LABELLED:
        for m in MODALITIES:
            bad[m].y = None
            del bad[m].y
        with pytest.raises(ValueError, match="has no y"):
            model.solve(bad)
    with pytest.raises(ValueError, match="num_bits"):
        model_of(kind, data, num_bits=0)


@withCUDA
@every_solved
def test_on_any_device(kind, device):
    data = scaled().to(device)
    model = model_of(kind, data).to(device).solve(data)
    assert {p.device.type for p in model.parameters()} == {torch.device(device).type}
    new = toy_data(seed=3)
    for m in MODALITIES:
        assert model.encode(data, m).device.type == torch.device(device).type
        assert encode_new(model, new[m].x.to(device), m).shape == (60, BITS)
    if kind.__name__ != "IMH":  # whose eigenvectors are not unique to the last digit
        there = model_of(kind, data).solve(scaled())
        expected = model.encode(data, "image").cpu()
        assert_same_codes(there.encode(scaled(), "image"), expected, there(scaled()).image)
