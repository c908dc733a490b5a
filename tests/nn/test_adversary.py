"""ModalityDiscriminator."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.testing import withCUDA

from pyg_hash.losses import adversarial_loss
from pyg_hash.nn import HashLayer, ModalityDiscriminator


def random(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_shape_and_hidden_layers() -> None:
    discriminator = ModalityDiscriminator(32)
    widths = [(lin.in_features, lin.out_features) for lin in discriminator.lins]
    assert widths == [(32, 16), (16, 8), (8, 2)]
    assert discriminator(torch.zeros(5, 32)).shape == (5, 2)
    assert discriminator(torch.zeros(0, 32)).shape == (0, 2)
    linear = ModalityDiscriminator(4, hidden=())
    assert len(linear.lins) == 1 and linear(torch.zeros(5, 4)).shape == (5, 2)
    with pytest.raises(ValueError, match="hidden"):
        ModalityDiscriminator(4, hidden=(16, 0))
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="reversal"):
            ModalityDiscriminator(4, reversal=bad)
    with pytest.raises(ValueError, match="activation: 'tanh' is not known"):
        ModalityDiscriminator(4, activation="tanh")


@pytest.mark.parametrize("activation", ["none", "leaky_relu"])
def test_other_activations(activation: str) -> None:
    torch.manual_seed(0)
    discriminator = ModalityDiscriminator(6, (5, 4), activation=activation).double()
    h = x = random(50, 6, 0)
    for number, lin in enumerate(discriminator.lins):
        h = h @ lin.weight.t() + lin.bias
        if activation == "leaky_relu" and number < 2:
            h = torch.where(h > 0, h, 0.01 * h)
    torch.testing.assert_close(discriminator(x), h)


def test_relu_everywhere_but_at_the_end() -> None:
    torch.manual_seed(0)
    discriminator = ModalityDiscriminator(6).double()
    x = random(50, 6, 0)
    h = x
    for lin in discriminator.lins[:-1]:
        h = (h @ lin.weight.t() + lin.bias).clamp(min=0)
    last = discriminator.lins[-1]
    expected = h @ last.weight.t() + last.bias
    torch.testing.assert_close(discriminator(x), expected)
    with torch.no_grad():
        last.bias.sub_(100)
    assert discriminator(x).max() < 0  # a ReLU would cut these off


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 3])
def test_reversal_is_optional_and_changes_only_the_input_gradient(coefficient: float) -> None:
    torch.manual_seed(0)
    plain = ModalityDiscriminator(6, reversal=None).double()
    assert plain.reversal is None
    reversed_ = ModalityDiscriminator(6, reversal=coefficient).double()
    reversed_.load_state_dict(plain.state_dict())  # the reversal has no state of its own
    grads = []
    for discriminator in (plain, reversed_):
        x = random(5, 6, 1).requires_grad_()
        loss = adversarial_loss(discriminator(x[:2]), discriminator(x[2:4]))
        grads.append(torch.autograd.grad(loss, [x, *discriminator.parameters()]))
    torch.testing.assert_close(grads[1][0], -coefficient * grads[0][0])
    torch.testing.assert_close(grads[1][1:], grads[0][1:])


@pytest.mark.parametrize("coefficient", [1.0, 0.3])
def test_one_joint_step_equals_the_explicit_min_max_steps(coefficient: float) -> None:
    """Descent through the reversal = Eq. (9) for the codes and Eq. (10) for the discriminator."""
    torch.manual_seed(0)
    x_image, x_text, rate = random(7, 5, 0), random(7, 4, 1), 0.1
    image, text = HashLayer(5, 6).double(), HashLayer(4, 6).double()
    discriminator = ModalityDiscriminator(6, reversal=coefficient).double()
    net = nn.ModuleList([image, text, discriminator])
    twin = copy.deepcopy(net)
    twin[2].reversal = None

    def other(a: Tensor, b: Tensor) -> Tensor:  # stands for the rest of the objective
        return (a * b).mean()

    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    a, b = image(x_image), text(x_text)
    (other(a, b) + adversarial_loss(discriminator(a), discriminator(b))).backward()
    optimizer.step()

    a, b = twin[0](x_image), twin[1](x_text)
    l_adv = adversarial_loss(twin[2](a), twin[2](b))
    codes = [*twin[0].parameters(), *twin[1].parameters()]
    critic = list(twin[2].parameters())
    # the codes descend rest - L_adv, the discriminator ascends it
    down = torch.autograd.grad(other(a, b) - coefficient * l_adv, codes, retain_graph=True)
    up = torch.autograd.grad(other(a, b) - l_adv, critic)
    with torch.no_grad():
        for parameter, grad in zip(codes, down, strict=True):
            parameter -= rate * grad
        for parameter, grad in zip(critic, up, strict=True):
            parameter += rate * grad
    for got, want in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_the_game_narrows_the_gap() -> None:
    """Without reversal the modalities are told apart; through it they move together."""
    torch.manual_seed(0)
    image, text = torch.randn(60, 4) + 1.5, torch.randn(60, 4) - 1.5
    plain = ModalityDiscriminator(4, reversal=None)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        loss = adversarial_loss(plain(image), plain(text))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1

    shift = nn.Parameter(torch.zeros(4))
    critic = ModalityDiscriminator(4, hidden=(), reversal=1.0)
    optimizer = torch.optim.SGD([shift, *critic.parameters()], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        adversarial_loss(critic(image + shift), critic(text)).backward()
        optimizer.step()
    gap = (image + shift - text).mean(0).norm().item()
    assert gap < 0.7 * (image - text).mean(0).norm().item()


@withCUDA
def test_device(device: torch.device) -> None:
    discriminator = ModalityDiscriminator(4).to(device)
    x = torch.rand(3, 4, device=device, requires_grad=True)
    discriminator(x).sum().backward()
    assert x.grad.device.type == device.type
