"""HashLayer, Autoencoder and Head, and what all layers have in common."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch_geometric.testing import withCUDA

import pyg_hash.nn
from pyg_hash.losses import label_prediction_loss, quantization_loss, squared_distance_loss
from pyg_hash.nn import (
    AttentionFusion,
    Autoencoder,
    ConcatFusion,
    HashLayer,
    Head,
    ModalityDiscriminator,
)
from pyg_hash.nn.heads import Layer

LAYERS = {
    "AttentionFusion": lambda: AttentionFusion(4),
    "Autoencoder": lambda: Autoencoder(4, 3),
    "ConcatFusion": lambda: ConcatFusion(4),
    "HashLayer": lambda: HashLayer(4, 3),
    "Head": lambda: Head(4, 3),
    "ModalityDiscriminator": lambda: ModalityDiscriminator(4),
}


def set_linear(lin: nn.Linear, weight: list[list[float]], bias: list[float]) -> None:
    with torch.no_grad():
        lin.weight.copy_(torch.tensor(weight))
        lin.bias.copy_(torch.tensor(bias))


def test_hash_layer_by_hand() -> None:
    layer = HashLayer(2, 2)
    set_linear(layer.lin, [[1.0, 2.0], [-1.0, 0.5]], [0.1, 0.0])
    out = layer(torch.tensor([[0.3, -0.4]]))
    expected = [math.tanh(0.3 - 0.8 + 0.1), math.tanh(-0.3 - 0.2)]
    assert out[0].tolist() == [pytest.approx(v, rel=1e-6) for v in expected]


def test_hash_layer_reaches_its_codes() -> None:
    torch.manual_seed(0)
    layer, x = HashLayer(3, 5), torch.randn(40, 3)
    assert layer(x).abs().max() < 1
    with torch.no_grad():
        layer.lin.weight.mul_(1e6)
    assert float(quantization_loss(layer(x).detach())) == pytest.approx(0.0, abs=1e-6)


def test_autoencoder_by_hand() -> None:
    for activation, expected in (("none", [-1.0, 2.5]), ("relu", [0.0, 2.5])):
        autoencoder = Autoencoder(2, 3, activation)
        set_linear(autoencoder.encoder, [[1.0, 0], [0, 1], [-1, -1]], [0.0, 0.5, 0])
        set_linear(autoencoder.decoder, [[-1.0, 0, 7], [0, 1, 7]], [0.0, 0])
        h = autoencoder.encode(torch.tensor([[1.0, 2.0]]))
        x = autoencoder.decode(h)
        assert h.tolist() == [[1.0, 2.5, 0.0]]  # ReLU cuts the third
        assert x.tolist() == [expected]


@pytest.mark.parametrize("activation, left", [("none", 0.05), ("relu", 0.5)])
def test_autoencoder_learns_to_rebuild(activation: str, left: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(30, 4)
    x = x.relu() if activation == "relu" else x - x.mean(0)
    autoencoder = Autoencoder(4, 32, activation)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=0.02)
    start = squared_distance_loss(x, autoencoder.decode(autoencoder.encode(x))).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = squared_distance_loss(x, autoencoder.decode(autoencoder.encode(x)))
        loss.backward()
        optimizer.step()
    assert loss.item() < left * start  # a final ReLU can be dead from the start


def test_final_relu_cannot_rebuild_negative_features() -> None:
    x, relu = -torch.ones(4, 3), Autoencoder(3, 8, "relu")
    assert float(squared_distance_loss(x, relu.decode(relu.encode(x))).detach()) >= 1.0


def test_classifier_is_softmax_regression() -> None:
    torch.manual_seed(0)
    centres = 4 * torch.eye(3)
    y = torch.arange(30) % 3
    x = centres[y] + 0.1 * torch.randn(30, 3)
    classifier = Head(3, 3)
    expected = x @ classifier.lin.weight.t() + classifier.lin.bias
    torch.testing.assert_close(classifier(x), expected)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        label_prediction_loss(classifier(x), y).backward()
        optimizer.step()
    assert torch.equal(classifier(x).argmax(1), y)


@pytest.mark.parametrize("name", LAYERS)
def test_reset_parameters_draws_every_parameter_anew(name: str) -> None:
    layer = LAYERS[name]()
    torch.manual_seed(1)
    layer.reset_parameters()
    first = [p.detach().clone() for p in layer.parameters()]
    layer.reset_parameters()
    assert not any(torch.equal(a, b) for a, b in zip(first, layer.parameters(), strict=True))
    torch.manual_seed(1)
    layer.reset_parameters()
    assert all(torch.equal(a, b) for a, b in zip(first, layer.parameters(), strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_the_seed_fixes_the_layer(name: str) -> None:
    torch.manual_seed(3)
    first = LAYERS[name]().state_dict()
    torch.manual_seed(3)
    second = LAYERS[name]().state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_every_layer_is_exported() -> None:
    assert set(LAYERS) - {"Head"} <= set(pyg_hash.nn.__all__)
    assert all(hasattr(pyg_hash.nn, name) for name in pyg_hash.nn.__all__)


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ValueError, match="out_activation.*'tanh'"):
        Autoencoder(4, 4, "tanh")


@withCUDA
@pytest.mark.parametrize("n", [0, 3])
def test_device_and_no_rows(device: torch.device, n: int) -> None:
    x = torch.rand(n, 4, device=device)
    outputs: list[Tensor] = [HashLayer(4, 3).to(device)(x), Head(4, 3).to(device)(x)]
    autoencoder = Autoencoder(4, 3).to(device)
    outputs += [autoencoder.encode(x), autoencoder.decode(autoencoder.encode(x))]
    assert [tuple(out.shape) for out in outputs] == [(n, 3), (n, 3), (n, 3), (n, 4)]
    assert all(out.device.type == device.type for out in outputs)


class Draws(Head):
    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.own["place"])


def test_parts_of_ones_own_are_drawn_anew_or_named() -> None:
    layer, draws = Head(4, 3), Draws(4, 3)
    for each in (layer, draws):
        each.part = nn.Sequential(nn.MultiheadAttention(4, 2), nn.TransformerEncoderLayer(4, 2, 5))
    draws.own = nn.ParameterDict({"place": torch.ones(3)})
    layer.tied = layer.part[0].out_proj.weight  # a second name
    for each in (layer, draws):
        each.requires_grad_(False)
        for p in each.parameters():
            p.fill_(7.0)
        each.requires_grad_(True).reset_parameters()
        assert not any(bool((p == 7).any()) for p in each.parameters())
    layer.own = nn.ParameterDict({"place": torch.ones(3)})
    with pytest.raises(ValueError, match="reset_parameters: nothing draws .*own.place.*; give"):
        layer.reset_parameters()
    layer.requires_grad_(False).reset_parameters()


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_layers_whose_weights_hooks_replace_are_not_drawn_anew() -> None:
    ways: list[tuple[Any, str]] = [
        (nn.utils.parametrizations.weight_norm, "lin.parametrizations"),
        (nn.utils.weight_norm, r"'lin.weight_g', 'lin.weight_v'\]"),
        (nn.utils.spectral_norm, "'lin.weight_orig'"),
        (lambda lin: prune.l1_unstructured(lin, "weight", 2), "'lin.weight_orig'"),
    ]
    for way, name in ways:
        normed = Head(4, 3)
        way(normed.lin)
        normed(torch.ones(2, 4))
        with pytest.raises(ValueError, match=f"nothing draws .*{name}.*; give"):
            normed.reset_parameters()
    draws = Layer()
    draws.rnn = nn.utils.weight_norm(nn.LSTM(2, 2), "weight_hh_l0")  # draws all there is
    draws.reset_parameters()
