"""The training loop on whatever device the model is on: on a GPU, too, where there is one."""

import copy

import pytest
import torch
from small import MODELS, adam, assert_same_state, graph_for, model_for
from torch_geometric.testing import withCUDA

from pyg_hash.models import MCGCN, SGCH
from pyg_hash.sampling import InstanceLoader
from pyg_hash.training import fit


def run(kind, device, *, epochs=2, batches=False, **kwargs):
    data = graph_for(kind, validation="patience" in kwargs).to(device)
    model = model_for(kind, data).to(device)
    loader = None
    if batches:
        loader = InstanceLoader(model.training_view(data), batch_size=16, shuffle=True)
    torch.manual_seed(0)
    history = fit(model, data, adam(model), epochs=epochs, loader=loader, progress=False, **kwargs)
    return model, data, history


@withCUDA
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", MODELS)
def test_all_methods_train_and_encode(device, kind, precision):
    model, data, history = run(kind, device, precision=precision)
    assert all(p.device == device and p.dtype == torch.float32 for p in model.parameters())
    assert all(isinstance(value, int | float) for row in history for value in row.values())
    for m, encode in (("image", model.encode_image), ("text", model.encode_text)):
        assert model.encode(data, m).device == device
        new = torch.randn(3, graph_for(kind, scale=False)[m].x.size(1))
        assert encode(new).device == device


@withCUDA
@pytest.mark.parametrize("kind", [MCGCN, SGCH])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_mini_batches(device, kind, accumulate):
    model, _, history = run(kind, device, batches=True, accumulate=accumulate)
    assert len(history) == 2
    assert all(p.device == device for p in model.parameters())


@withCUDA
def test_batches_come_to_the_model(device):
    """A loader on the CPU serves a model on a GPU."""
    data = graph_for(MCGCN)
    model = model_for(MCGCN, data).to(device)
    loader = [copy.deepcopy(model.training_view(data)) for _ in range(2)]
    history = fit(model, data.to(device), adam(model), epochs=1, loader=loader, progress=False)
    assert len(history) == 1


@withCUDA
@pytest.mark.parametrize("kind", MODELS)
def test_checkpoints_and_validation(device, kind, tmp_path):
    file = tmp_path / "c.safetensors"
    run(kind, device, checkpoint=file, patience=9)
    model, _, history = run(kind, device, epochs=3, checkpoint=file, resume=True, patience=9)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert all(0 <= row["val_map"] <= 1 for row in history)
    assert all(p.device == device for p in model.parameters())


@withCUDA
def test_the_same_on_every_device(device):
    """MCGCN draws no random number in training: devices agree up to rounding."""
    here, _, history = run(MCGCN, device)
    there, _, expected = run(MCGCN, torch.device("cpu"))
    assert history[0] == pytest.approx(expected[0], rel=1e-4, abs=1e-6)
    if device.type == "cpu":
        assert_same_state(here, there)
