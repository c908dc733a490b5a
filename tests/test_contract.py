"""Every model keeps the contract of ``HashModel``; models are found through ``__all__``."""

import copy
import functools
import inspect
import itertools
import pickle
import warnings

import pytest
import torch
from small import MODELS, adam, assert_same_codes, assert_same_state, graph_for, model_for
from toy import toy_data

from pyg_hash.codes import binarize
from pyg_hash.metrics import evaluate
from pyg_hash.models import MCGCN, ClosedFormModel, GraphHashModel, HashModel, Objective
from pyg_hash.training import fit
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.modes import eval_mode

BITS = 12
every_model = pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)


@pytest.fixture
def data(kind):
    return graph_for(kind)


@pytest.fixture(params=["single", "multi"])
def labels(request, kind):
    """The graph with labels of either form, where these matter."""
    return graph_for(kind, multi_label=request.param == "multi")


@pytest.fixture(scope="module")
def raw():
    return toy_data()


def encode_new(model, raw, modality, rows=slice(-12, None)):
    encode = model.encode_image if modality == "image" else model.encode_text
    return encode(raw[modality].x[rows])


def test_models_are_found():
    assert {"DCMH", "MCGCN"} <= {kind.__name__ for kind in MODELS}
    assert all(issubclass(kind, HashModel) for kind in MODELS)
    assert not any(inspect.isabstract(kind) for kind in MODELS)


@every_model
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_features_of_another_type_are_read_or_named(kind, data, dtype, precision):
    model, other = model_for(kind, data), copy.copy(data)
    for modality in MODALITIES:
        other[modality].x = data[modality].x.to(dtype)
    if issubclass(kind, ClosedFormModel):
        assert model.solve(other)(other).image.shape == (60, BITS)
        return
    with pytest.raises(TypeError, match=rf"data\['image'\].x: is {dtype}, .*x.to\(torch.float32"):
        fit(model, other, adam(model), epochs=1, precision=precision, progress=False)
    with pytest.raises(TypeError, match="x: is"):
        model.encode(other, "image")


@pytest.mark.parametrize("wrong", [torch.ones(()), {"pairs": torch.ones(())}, None])
def test_a_loss_without_its_total_is_named(wrong, monkeypatch):
    data = graph_for(MCGCN)
    model = model_for(MCGCN, data)
    monkeypatch.setattr(MCGCN, "objectives", HashModel.objectives)
    monkeypatch.setattr(MCGCN, "loss", lambda self, out, data: wrong)
    with pytest.raises(TypeError, match=r"MCGCN.loss: expected a mapping .* 'loss', got"):
        fit(model, data, torch.optim.Adam(model.parameters()), epochs=1, progress=False)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda z: {"loss": z.mean(), "more": 3.0}, TypeError, r"'more' is to be .* got 3\.0"),
        (lambda z: {"loss": z.mean(dim=0)}, TypeError, rf"'loss' is to be .* shape \[{BITS}\]"),
        (lambda z: {"loss": z.mean().reshape(1)}, TypeError, r"'loss' is to be .* shape \[1\]"),
        (lambda z: {"loss": z.detach().mean()}, ValueError, "'loss' has no gradient"),
    ],
)
def test_terms_that_cannot_be_descended_are_named(wrong, error, message, monkeypatch):
    data = graph_for(MCGCN)
    model = model_for(MCGCN, data)
    monkeypatch.setattr(MCGCN, "loss", lambda self, out, data: wrong(out.image))
    with pytest.raises(error, match=f"MCGCN.loss: {message}"):
        fit(model, data, torch.optim.Adam(model.parameters()), epochs=1, progress=False)


@every_model
def test_a_loss_of_ones_own_is_trained_on_or_named(kind, data):
    calls = []

    class Own(kind):
        def loss(self, out, data):
            calls.append(1)
            return super().loss(out, data)

    model = Own(**model_for(kind, data).config)
    if isinstance(model, ClosedFormModel):
        return
    optimizers = {p: torch.optim.Adam(own, lr=1e-3) for p, own in model.parts().items()}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(model, data, optimizers, epochs=2, progress=False)
    told = [str(one.message) for one in said if "seems not to be trained on" in str(one.message)]
    assert bool(told) != bool(calls) and all(line.startswith("Own.loss seems") for line in told)
    assert calls or not issubclass(kind, GraphHashModel)


def test_a_loss_that_objectives_ask_for_in_any_way_is_trained_on():
    data, calls = graph_for(MCGCN), []

    def wrapped(function):
        @functools.wraps(function)
        def inner(*args):
            return function(*args)

        return inner

    class Helped(MCGCN):
        def objectives(self, data, epoch):
            yield self._step(data)

        def _step(self, data):
            return Objective(self.loss(self(data), data))

    class Wrapped(MCGCN):
        objectives = wrapped(HashModel.objectives)

    class Inside(MCGCN):
        def objectives(self, data, epoch):
            return (Objective(self.loss(self(data), data)) for _ in range(1))

    class Handed(MCGCN):
        def objectives(self, data, epoch):
            yield from super().objectives(data, epoch)

    for kind in (Helped, Wrapped, Inside, Handed):

        class Own(kind):
            def loss(self, out, data):
                calls.append(kind)  # noqa: B023
                return super().loss(out, data)

        model = Own(**model_for(MCGCN, data).config)
        fit(model, data, torch.optim.Adam(model.parameters()), epochs=1, progress=False)
    assert calls == [Helped, Wrapped, Inside, Handed]


@every_model
def test_forward_gives_relaxed_codes(kind, data):
    out = model_for(kind, data)(data)
    for modality in MODALITIES:
        assert out[modality].shape == (60, BITS)
        assert out[modality].dtype == torch.float32
        assert out[modality].abs().max() < 1
        assert out[modality].requires_grad
        assert out[modality].std(dim=0).min() > 0  # codes of different nodes differ


@every_model
def test_loss_is_named_scalars(kind, labels):
    model = model_for(kind, labels)
    view = model.training_view(labels)
    terms = model.loss(model(view), view)
    assert len(terms) > 2
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())
    assert terms["loss"].requires_grad


@every_model
def test_objectives_reach_every_parameter(kind, labels):
    model = model_for(kind, labels)
    parts = model.parts()
    held = [id(p) for parameters in parts.values() for p in parameters]
    assert sorted(held) == sorted(id(p) for p in model.parameters())  # each in one part
    names = {id(p): name for name, p in model.named_parameters()}
    reached = set()
    for terms, part in model.objectives(model.training_view(labels), 0):
        assert all(term.shape == () and torch.isfinite(term) for term in terms.values())
        model.zero_grad()
        terms["loss"].backward(inputs=parts[part])
        reached |= {names[id(p)] for p in parts[part] if p.grad is not None}
    assert reached == set(names.values())


@every_model
def test_fit_descends_and_evaluates(kind, labels):
    model = model_for(kind, labels)
    history = fit(model, labels, adam(model), epochs=8, progress=False)
    assert history[-1]["loss"] < history[0]["loss"]
    result = evaluate(model, labels)
    assert result.protocol == "inductive"
    assert 0 < result.i2t <= 1


@every_model
def test_an_optimizer_a_part(kind, data):
    model = model_for(kind, data)
    optimizers = {n: torch.optim.Adam(p, lr=1e-3) for n, p in model.parts().items()}
    history = fit(model, data, optimizers, epochs=1, progress=False)
    assert len(history) == 1


@every_model
def test_resumed_training_is_the_same_training(kind, data, tmp_path):
    def run(epochs, **kwargs):
        model = model_for(kind, data)
        fit(model, data, adam(model), epochs=epochs, progress=False, **kwargs)
        return model

    whole = run(3)
    run(2, checkpoint=tmp_path / "state")
    torch.rand(7)  # the state of the random numbers comes from the checkpoint
    assert_same_state(whole, run(3, checkpoint=tmp_path / "state", resume=True))


@every_model
def test_encode_gives_signs_and_leaves_the_mode_alone(kind, data):
    model = model_for(kind, data)
    for modality, training in zip(MODALITIES, (True, False), strict=True):
        model.train(training)
        codes = model.encode(data, modality)
        assert codes.dtype == torch.int8 and codes.shape == (60, BITS)
        assert set(codes.unique().tolist()) == {-1, 1}
        assert model.training is training
        parts = [*model.modules()]
        parts[-1].eval()  # as somebody freezes a part
        modes = [part.training for part in parts]
        model.encode(data, modality)
        assert [part.training for part in parts] == modes
        with torch.no_grad():
            relaxed = model.eval()(data)[modality]
        assert_same_codes(codes, binarize(relaxed), relaxed)  # encoding goes layer by layer


@pytest.mark.parametrize("modes", [*itertools.product((False, True), repeat=4)])
def test_evaluation_leaves_the_modes_of_shared_parts_alone(modes):
    shared = torch.nn.Linear(2, 2, device="meta")  # where there is no autocast
    model = torch.nn.Sequential(torch.nn.Sequential(shared), torch.nn.Sequential(shared))
    for part, mode in zip(model.modules(), modes, strict=True):
        part.training = mode
    with eval_mode(model):
        assert not any(part.training for part in model.modules())
    assert tuple(part.training for part in model.modules()) == modes


@every_model
def test_a_fitted_model_is_one_that_threads_may_share(kind, data, raw, monkeypatch):
    model = model_for(kind, data)
    fit(model, data, adam(model), epochs=1, progress=False)
    assert not any(part.training for part in model.modules())
    monkeypatch.setattr(torch.nn.Module, "train", None)  # nobody switches what others use
    codes = encode_new(model, raw, "text"), model.encode(data, "image")
    with torch.autocast("cpu", torch.bfloat16):
        again = encode_new(model, raw, "text"), model.encode(data, "image")
    assert all(map(torch.equal, codes, again))


@every_model
def test_what_is_missing_or_unknown_is_said(kind, raw, data):
    model = model_for(kind, data)
    for wrong in ("audio", None, "Image", 0):
        with pytest.raises(ValueError, match="modality"):
            model.encode(data, wrong)
    for encode in (model.encode_image, model.encode_text):
        with pytest.raises(RuntimeError, match="attach"):
            encode(torch.randn(2, 12))
    if issubclass(kind, GraphHashModel):
        with pytest.raises(ValueError, match="IntraKNN"):
            model.attach(raw)


@every_model
def test_new_items(kind, data, raw):
    model = model_for(kind, data)
    before = {m: model.encode(data, m) for m in MODALITIES}
    model.attach(data).train()
    for modality, relax in (("image", model.relax_image), ("text", model.relax_text)):
        relaxed = relax(raw[modality].x[-12:])
        assert relaxed.dtype == torch.float32 and relaxed.shape == (12, BITS)
        assert bool((relaxed.abs() <= 1).all()) and not relaxed.requires_grad
        codes = encode_new(model, raw, modality)
        assert codes.dtype == torch.int8 and torch.equal(binarize(relaxed), codes)
        assert set(codes.unique().tolist()) == {-1, 1}
        assert torch.equal(model.encode(data, modality), before[modality])  # no stored code changes
    assert model.training


@every_model
def test_reset_parameters_redraws_everything(kind, data):
    model = model_for(kind, data).attach(data)
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.reset_parameters()
    drawn = {name for name, p in before.items() if p.unique().numel() > 1 or p.numel() == 1}
    same = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert drawn.isdisjoint(same)
    assert model.intake is None
    torch.manual_seed(5)
    model.reset_parameters()
    other = model_for(kind, data, seed=1)
    torch.manual_seed(5)
    other.reset_parameters()
    assert_same_state(model, other)


@every_model
def test_config_rebuilds_the_model(kind, data):
    model = model_for(kind, data)
    twin = kind(**model.config)
    assert twin.config == model.config
    assert twin.state_dict().keys() == model.state_dict().keys()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.encode(data, "image"), model.encode(data, "image"))
    assert set(model.config) == set(inspect.signature(kind).parameters)


@every_model
@pytest.mark.parametrize("attached", [True, False])
def test_save_and_load(kind, data, raw, tmp_path, attached):
    model = model_for(kind, data)
    if attached:
        fit(model, data, adam(model), epochs=2, progress=False)
    model.save(tmp_path / "deep" / "model")
    again = kind.load(str(tmp_path / "deep" / "model"))
    assert_same_state(model, again)
    assert again.config == model.config
    assert not again.training
    assert all(p.requires_grad for p in again.parameters())
    for modality in MODALITIES:
        assert torch.equal(model.encode(data, modality), again.encode(data, modality))
        if attached:
            assert torch.equal(encode_new(model, raw, modality), encode_new(again, raw, modality))
    assert (again.intake is not None) is attached


@every_model
def test_a_loaded_model_trains_on(kind, data, tmp_path):
    model = model_for(kind, data)
    model.save(tmp_path)
    again = kind.load(tmp_path)
    for each in (model, again):
        torch.manual_seed(1)
        fit(each, data, adam(each), epochs=3, progress=False)
    assert_same_state(model, again)


@every_model
def test_saving_again_replaces(kind, data, tmp_path):
    model = model_for(kind, data).attach(data)
    model.save(tmp_path)
    other = model_for(kind, data, seed=1)  # not attached: the old anchors must not come back
    other.save(tmp_path)
    again = kind.load(tmp_path)
    assert_same_state(other, again)
    assert again.intake is None


@every_model
def test_to_device_moves_the_anchors(kind, data):
    model = model_for(kind, data).attach(data)
    model.to("meta")
    tensors = model.intake.tensors
    assert {t.device.type for t in tensors.values()} == {"meta"}
    assert {p.device.type for p in model.parameters()} == {"meta"}


@every_model
def test_double_precision(kind, data, raw, tmp_path):
    model = model_for(kind, data).attach(data)
    expected = encode_new(model, raw, "image")
    model.double()
    tensors = model.intake.tensors
    kinds = {name: t.dtype for name, t in tensors.items()}
    assert {t for name, t in kinds.items() if name != "joint"} == {torch.float64}
    assert kinds.get("joint", torch.bool) == torch.bool
    assert (encode_new(model, raw, "image") != expected).float().mean() < 0.02
    model.save(tmp_path)
    again = kind.load(tmp_path)
    assert {p.dtype for p in again.parameters()} == {torch.float64}
    assert torch.equal(encode_new(again, raw, "image"), encode_new(model, raw, "image"))


@every_model
def test_widths_are_named_where_there_are_none(kind, data):
    with pytest.raises(TypeError, match="num_features: expected two numbers"):
        kind(**{**model_for(kind, data).config, "num_features": None})


@every_model
def test_a_model_can_be_sent_to_another_process(kind, data):
    model = model_for(kind, data).attach(data)
    again = pickle.loads(pickle.dumps(model))
    assert_same_state(model, again)
    for modality in MODALITIES:
        assert torch.equal(model.encode(data, modality), again.encode(data, modality))


@every_model
def test_parameters_that_are_none_any_more_are_computed_with(kind, data, raw):
    """As ``quantize_dynamic`` leaves them: the type and place to compute in are still known."""
    model = model_for(kind, data).attach(data)
    plain = copy.deepcopy(model)
    for part in plain.modules():
        for name, x in [*part.named_parameters(recurse=False)]:
            delattr(part, name)
            setattr(part, name, x.detach())
    assert not [*plain.parameters()]
    for m in MODALITIES:
        assert torch.equal(plain.encode(data, m), model.encode(data, m))
    assert torch.equal(plain.encode_image(raw["image"].x), model.encode_image(raw["image"].x))


@every_model
def test_a_copy_is_independent(kind, data, raw):
    model = model_for(kind, data).attach(data)
    codes = model.encode(data, "text")
    twin = copy.deepcopy(model)
    fit(twin, data, adam(twin, lr=0.1), epochs=3, progress=False)
    assert torch.equal(model.encode(data, "text"), codes)
    assert not torch.equal(twin.encode(data, "text"), codes)


@every_model
def test_one_model_on_two_graphs(kind, raw):
    """Operators are cached; another graph must not get those of the first."""
    first, second = graph_for(kind), graph_for(kind, "transductive", seed=3)
    model = model_for(kind, first)
    expected = [model.encode(first, "image"), model.encode(second, "image")]
    for _ in range(2):
        assert torch.equal(model.encode(first, "image"), expected[0])
        assert torch.equal(model.encode(second, "image"), expected[1])
    fresh = kind(**model.config)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.encode(second, "image"), expected[1])


@every_model
@pytest.mark.parametrize("modality", MODALITIES)
def test_bad_new_items(kind, raw, modality):
    data = graph_for(kind, scale=False)
    model = model_for(kind, data).attach(data)
    encode = model.encode_image if modality == "image" else model.encode_text
    good = raw[modality].x[:3]
    for bad in (float("nan"), float("inf")):
        poisoned = good.clone()
        poisoned[1, 2] = bad
        with pytest.raises(ValueError, match=r"x: 1 of 3 rows contain NaN or inf .*row 1"):
            encode(poisoned)
    with pytest.raises(ValueError, match=f"expected {good.size(1)}"):
        encode(good[:, 1:])
    with pytest.raises(ValueError, match="no rows"):
        encode(good[:0])
    with pytest.raises(ValueError, match=r"\[n, d\]"):
        encode(good[0])
    with pytest.raises(TypeError, match="floating-point"):
        encode(good.long())
    with pytest.raises(TypeError, match="list"):
        encode(good.tolist())
    if issubclass(kind, GraphHashModel):  # neighbours are found by cosine
        with pytest.raises(ValueError, match="zero vectors"):
            encode(good * torch.tensor([[1.0], [0.0], [1.0]]))
    assert torch.equal(encode(good.double()), encode(good))
