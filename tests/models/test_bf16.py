"""precision='bf16': products in bfloat16, everything that sums or compares in float32."""

import pytest
import torch
from small import MODELS, adam, assert_same_state, graph_for, model_for, small_graph, small_model
from torch_geometric.testing import withCUDA
from toy import toy_data

from pyg_hash.metrics import evaluate
from pyg_hash.models import MCGCN, SGCH, SGEH, TaughtHash
from pyg_hash.training import fit
from pyg_hash.training.fit import PRECISIONS

VARIANTS = ("full", "S", "IT", "A", "C")


def first_terms(model, data, precision):
    """The first objective of an epoch, and the gradients of what it descends."""
    device = next(model.parameters()).device.type
    torch.manual_seed(1)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        terms, _ = next(iter(model.train().objectives(model.training_view(data), 0)))
    terms["loss"].backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return terms, torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("kind", MODELS)
@withCUDA
def test_losses_and_gradients_are_close(kind, device):
    data = graph_for(kind).to(device)
    results = []
    for precision in ("fp32", "bf16"):
        model = model_for(kind, data).to(device)
        results.append(first_terms(model, data, precision))
    (exact, slope), (rounded, rough) = results
    assert exact.keys() == rounded.keys()
    for name, value in rounded.items():
        assert value.dtype == torch.float32, name
        torch.testing.assert_close(value, exact[name], rtol=0.03, atol=0.01, msg=name)
    assert rough.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(rough, slope, dim=0) > 0.98


@pytest.mark.parametrize("variant", VARIANTS)
def test_codes_of_mcgcn_are_float32(variant):
    data = small_graph()
    model = small_model(data, variant=variant)
    exact = model.train()(data)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(data)
    for name in ("image", "text"):
        assert out[name].dtype == out.aux[f"{name}_view"].dtype == torch.float32
        torch.testing.assert_close(out[name], exact[name], rtol=0, atol=0.03)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", MODELS)
def test_a_whole_fit_under_autocast_is_as_without(kind, precision):
    data, models = graph_for(kind), []
    for is_on in (False, True):
        model = model_for(kind, data)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_on):
            fit(model, data, adam(model), epochs=2, precision=precision, progress=False)
        models.append(model)
    assert_same_state(*models)
    assert model.encode(data, "text").dtype == torch.int8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", [MCGCN, SGCH])
def test_a_graph_model_of_another_type_encodes(kind, dtype):
    data, raw = graph_for(kind), toy_data()
    model = model_for(kind, data).attach(data)
    codes = model.encode_text(raw["text"].x), model.encode(data, "text")
    with pytest.raises(TypeError, match=rf"use x.to\({dtype}\), or .* model.float\(\)"):
        model.to(dtype).encode(data, "text")
    for m in ("image", "text"):
        data[m].x = data[m].x.to(dtype)
    again = model.encode_text(raw["text"].x), model.encode(data, "text")
    assert model.relax_text(raw["text"].x).dtype == model(data)["text"].dtype == dtype
    for a, b in zip(codes, again, strict=True):
        assert (a != b).float().mean() < 0.25  # other neighbours; by chance a half
    data.apply(lambda x: x.to(dtype) if x.is_floating_point() else x)  # weights of edges too
    assert (model.encode(data, "text") != codes[1]).float().mean() < 0.25


@pytest.mark.parametrize("kind", [MCGCN, SGEH, TaughtHash])
def test_training_ends_as_well(kind):
    scores = []
    for precision in ("fp32", "bf16"):
        data = graph_for(kind)
        model = model_for(kind, data)
        fit(model, data, adam(model, 1e-2), epochs=8, precision=precision, progress=False)
        result = evaluate(model, data)
        scores.append(0.5 * (result.i2t + result.t2i))
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert abs(scores[0] - scores[1]) < 0.1
