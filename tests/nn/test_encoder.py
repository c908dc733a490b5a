"""Encoders of single items."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyg_hash.nn import CodeEncoder, HashLayer


def encoder(num_bits=5, **kwargs):
    torch.manual_seed(0)
    return CodeEncoder(6, [8, 7], num_bits, 3, **kwargs)


def test_layers_and_heads():
    model, x = encoder(), torch.randn(4, 6)
    first, second = model.layers
    features = F.leaky_relu(second(F.leaky_relu(first(x), 0.2)), 0.2)
    out = model(x)
    assert torch.equal(out.features, features)
    assert torch.equal(out.codes, torch.tanh(model.hash.lin(features)))
    assert torch.equal(out.logits, model.classifier(features))


def test_batch_normalisation_standardises_features():
    model = encoder(batch_norm=True)
    out = model(torch.randn(50, 6))
    assert torch.allclose(out.features.mean(0), torch.zeros(7), atol=1e-5)
    assert torch.allclose(out.features.std(0, unbiased=False), torch.ones(7), atol=1e-2)
    assert not any("norms" in name for name, _ in model.named_parameters())


def test_in_evaluation_mode_items_do_not_depend_on_each_other():
    model, x = encoder(batch_norm=True, dropout=0.5), torch.randn(9, 6)
    model(x)
    model.eval()
    alone = torch.cat([model(row).codes for row in x.split(1)])
    assert torch.allclose(alone, model(x).codes, atol=1e-6)


def test_dropout_only_while_training():
    model, x = encoder(dropout=0.5), torch.randn(4, 6)
    assert not torch.equal(model(x).codes, model(x).codes)
    model.eval()
    assert torch.equal(model(x).codes, model(x).codes)


def test_a_given_hash_layer():
    model, x, layer = encoder(num_bits=None), torch.randn(4, 6), HashLayer(7, 9)
    out = model(x, layer)
    assert torch.equal(out.codes, layer(out.features))
    with pytest.raises(ValueError, match="hash_layer"):
        model(x)
    with pytest.raises(ValueError, match="hash_layer"):
        encoder()(x, layer)


def test_backbone_takes_raw_items_and_is_trained_along():
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model, x = encoder(backbone=backbone), torch.randn(4, 3, 8, 8)
    out = model(x)
    assert torch.equal(out.codes, encoder()(backbone(x)).codes)
    out.codes.sum().backward()
    assert backbone[0].weight.grad.abs().sum() > 0


def test_backbone_of_another_width():
    model = encoder(backbone=nn.Linear(4, 5))
    with pytest.raises(ValueError, match=r"\(Linear\) made \[2, 5\] .* expected \[2, 6\]"):
        model(torch.randn(2, 4))


def test_reset_reaches_every_layer():
    model = encoder(batch_norm=True, backbone=nn.Sequential(nn.Linear(6, 6), nn.ReLU()))
    model(torch.randn(5, 6))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset_parameters()
    same = [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]
    assert same == []


@pytest.mark.parametrize(
    ("args", "kwargs", "match"),
    [
        ((0, [8], 5, 3), {}, "in_channels"),
        ((6, [], 5, 3), {}, "hidden_channels: give the width"),
        ((6, [0], 5, 3), {}, "hidden_channels"),
        ((6, [8], 0, 3), {}, "num_bits"),
        ((6, [8], 5, 0), {}, "num_classes"),
        ((6, [8], 5, 3), {"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_arguments(args, kwargs, match):
    with pytest.raises(ValueError, match=match):
        CodeEncoder(*args, **kwargs)
