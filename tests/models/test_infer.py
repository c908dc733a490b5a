"""Codes of all nodes block by block, as without gradient: those of the whole graph at once."""

import pytest
import torch
from small import PROTOCOLS, adam, graph_for, model_for, small_graph, small_model
from torch_geometric.testing import withCUDA

from pyg_hash.codes import binarize
from pyg_hash.graph import WholeGraph
from pyg_hash.models import MCGCN, SGCH
from pyg_hash.training import fit
from pyg_hash.typing import MODALITIES

VARIANTS = ("full", "S", "IT", "A", "C")


@pytest.fixture(params=[7, 1000])
def block(request, monkeypatch):
    """Rows in a block: several blocks, or one."""
    for module in ("graph", "models.graph"):
        monkeypatch.setattr(f"pyg_hash.{module}.BLOCK", request.param)


def check(model, data):
    expected = model.eval()(data)
    assert expected.image.requires_grad
    messages = {}
    with torch.no_grad():
        found, again = model(data, messages), model(data)
    for m in MODALITIES:
        torch.testing.assert_close(found[m], expected[m], rtol=1e-5, atol=1e-6)
        assert torch.equal(found[m], again[m])
        assert torch.equal(model.encode(data, m), binarize(found[m]))
        assert not found[m].requires_grad
    return messages


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_mcgcn(block, protocol, variant):
    data = small_graph(protocol)
    messages = check(small_model(data, variant=variant), data)
    widths = {"image": (60, 12), "text": (60, 12), "joint": (120, 11)}
    missing = {"S": {"joint"}, "IT": {"image", "text"}}.get(variant, set())
    assert messages.keys() == widths.keys() - missing
    for name, (first, second) in messages.items():
        rows, width = widths[name]
        assert first.shape == (rows, width)
        assert second.shape == (rows, 8)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sgch(block, protocol):
    data = graph_for(SGCH, protocol)
    messages = check(model_for(SGCH, data), data)
    assert messages.keys() == {"image", "text"}


@pytest.mark.parametrize("kind", [MCGCN, SGCH])
@withCUDA
def test_devices(kind, device):
    data = graph_for(kind)
    model = model_for(kind, data)
    with torch.no_grad():
        expected = model.eval()(data)
        found = model.to(device)(data.to(device))
    for m in MODALITIES:
        torch.testing.assert_close(found[m].cpu(), expected[m], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [MCGCN, SGCH])
def test_kept_products_change_nothing(kind, monkeypatch):
    """Training with the first layer's product kept, or propagated anew: the same to rounding."""
    results = []
    for keep in (True, False):
        monkeypatch.setattr(WholeGraph, "_is_worth_keeping", lambda *_, k=keep: k)
        data = graph_for(kind)
        model = model_for(kind, data)
        fit(model, data, adam(model, 1e-3), epochs=4, progress=False)
        with torch.no_grad():
            results.append(model.eval()(data))
    for m in MODALITIES:
        torch.testing.assert_close(*(r[m] for r in results), rtol=0, atol=1e-4)


def test_features_that_change_are_propagated_anew():
    data = small_graph()
    model = small_model(data).train()
    before = model(data)
    data["image"].x.mul_(0.5)
    changed = model(data)
    fresh = small_model(data).train()(data)
    assert not torch.allclose(before.image, changed.image)
    for m in MODALITIES:
        torch.testing.assert_close(changed[m], fresh[m])


def test_the_loss_needs_no_gradient():
    """Without it the latent features are not kept, but made again where the loss needs them."""
    data = small_graph()
    model = small_model(data).eval()
    expected = model.loss(model(data), data)
    with torch.no_grad():
        terms = model.loss(model(data), data)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value.detach())
