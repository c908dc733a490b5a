"""The networks of SGEH: encoder and discriminator."""

import pytest
import torch

from pyg_hash.nn import HashMLP, PriorDiscriminator


def test_encoder_is_two_layers():
    mlp = HashMLP(5, 7, 3, dropout=0.5).eval()
    x = torch.randn(4, 5)
    hidden = (x @ mlp.lin1.weight.T + mlp.lin1.bias).clamp(min=0)
    assert torch.allclose(mlp(x), hidden @ mlp.lin2.weight.T + mlp.lin2.bias, atol=1e-6)


def test_dropout_is_for_training_only():
    mlp = HashMLP(5, 50, 3, dropout=0.5)
    x = torch.randn(4, 5)
    assert not torch.equal(mlp(x), mlp(x))
    mlp.eval()
    assert torch.equal(mlp(x), mlp(x))
    assert HashMLP(5, 7, 3, dropout=0.0)(x).shape == (4, 3)


def test_discriminator_is_two_layers():
    net = PriorDiscriminator(4, 6)
    codes = torch.randn(3, 4)
    hidden = (codes @ net.lin1.weight.T + net.lin1.bias).clamp(min=0)
    expected = (hidden @ net.lin2.weight.T + net.lin2.bias)[:, 0]
    assert net(codes).shape == (3,)
    assert torch.allclose(net(codes), expected, atol=1e-6)


@pytest.mark.parametrize("net", [HashMLP(5, 7, 3), PriorDiscriminator(4, 6)])
def test_reset_redraws_everything(net):
    before = {name: p.clone() for name, p in net.named_parameters()}
    net.reset_parameters()
    assert not any(torch.equal(p, before[name]) for name, p in net.named_parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HashMLP(0, 7, 3), "in_channels"),
        (lambda: HashMLP(5, 0, 3), "hidden_channels"),
        (lambda: HashMLP(5, 7, 0), "num_bits"),
        (lambda: HashMLP(5, 7, 3, dropout=1.0), "dropout"),
        (lambda: PriorDiscriminator(0, 6), "num_bits"),
        (lambda: PriorDiscriminator(4, 0), "hidden_channels"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
