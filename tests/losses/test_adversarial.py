"""adversarial_loss."""

import math

import pytest
import torch
from torch_geometric.testing import withCUDA

from pyg_hash.losses import adversarial_loss


def random(n, d, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def test_undecided_discriminator():
    zeros = torch.zeros(7, 2)
    assert float(adversarial_loss(zeros, zeros)) == pytest.approx(2 * math.log(2))
    assert float(adversarial_loss(zeros, zeros, "sum")) == pytest.approx(14 * math.log(2))


def test_image_is_class_1():
    image, text = torch.tensor([[-3.0, 3.0]]), torch.tensor([[3.0, -3.0]])
    right, wrong = adversarial_loss(image, text), adversarial_loss(text, image)
    assert right.item() == pytest.approx(2 * math.log1p(math.exp(-6)), rel=1e-4)
    assert wrong.item() == pytest.approx(2 * math.log1p(math.exp(6)), rel=1e-6)


def test_adversarial_equals_equation_8():
    for seed in range(5):
        image, text = random(6, 2, seed), random(6, 2, seed + 50)
        a_image, a_text = image.softmax(1)[:, 1], text.softmax(1)[:, 1]
        expected = -(a_image.log() + (1 - a_text).log()).mean()
        torch.testing.assert_close(adversarial_loss(image, text), expected)
        torch.testing.assert_close(adversarial_loss(image, text, "sum"), 6 * expected)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_adversarial_gradcheck(reduction):
    image, text = random(3, 2, 0).requires_grad_(), random(3, 2, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: adversarial_loss(a, b, reduction), (image, text))


def test_adversarial_errors():
    two, three = torch.zeros(2, 2), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"image_logits and text_logits.*\[1, 2\]"):
        adversarial_loss(two, two[:1])
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        adversarial_loss(three, three)
    with pytest.raises(TypeError, match="text_logits"):
        adversarial_loss(two, two.long())


def test_no_rows():
    empty = torch.zeros(0, 2, requires_grad=True)
    for reduction in ("sum", "mean"):
        loss = adversarial_loss(empty, empty, reduction)
        assert loss.requires_grad and loss.item() == 0.0
        assert torch.autograd.grad(loss, empty)[0].shape == (0, 2)


def test_unknown_reduction():
    with pytest.raises(ValueError, match="reduction"):
        adversarial_loss(torch.ones(1, 2), torch.ones(1, 2), "max")


@withCUDA
def test_device(device):
    logits = torch.zeros(3, 2, device=device)
    loss = adversarial_loss(logits, logits)
    assert loss.device.type == device.type and loss.dim() == 0
