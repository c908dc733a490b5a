"""adversarial_loss, and both sides of SGEH's regulariser (Eq. 15)."""

import math

import pytest
import torch
from torch_geometric.testing import withCUDA

from pyg_hash.losses import adversarial_loss, prior_discriminator_loss, prior_generator_loss


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


def logit(p):
    return torch.tensor([math.log(q / (1 - q)) for q in p], dtype=torch.float64)


def test_discriminator_by_hand():
    codes, random = [0.2, 0.5], [0.9, 0.6]
    expected = -sum(math.log(1 - d) for d in codes) - sum(math.log(d) for d in random)
    loss = prior_discriminator_loss(logit(codes), logit(random), "sum")
    assert loss.item() == pytest.approx(expected)
    mean = prior_discriminator_loss(logit(codes), logit(random))
    assert mean.item() == pytest.approx(expected / 2)


def test_generator_by_hand():
    expected = -math.log(0.2) - math.log(0.5)
    assert prior_generator_loss(logit([0.2, 0.5]), "sum").item() == pytest.approx(expected)
    assert prior_generator_loss(logit([0.2, 0.5])).item() == pytest.approx(expected / 2)


def test_a_discriminator_that_cannot_tell():
    zero = torch.zeros(3)
    assert prior_discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))


def test_directions():
    """The discriminator lowers d(B) and raises d(y); the codes raise d(B)."""
    codes, random = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    prior_discriminator_loss(codes, random).backward()
    assert (codes.grad > 0).all() and (random.grad < 0).all()
    codes.grad = None
    prior_generator_loss(codes).backward()
    assert (codes.grad < 0).all()


def test_both_reductions_and_equation_15():
    """The paper's regulariser, n for its b: a mean for either modality, added."""
    image, text, random = logit([0.2, 0.5, 0.7]), logit([0.3, 0.1, 0.6]), logit([0.5] * 6)
    paper = sum(prior_discriminator_loss(x, random[:3]) for x in (image, text))
    both = torch.cat([image, text])
    assert (2 * prior_discriminator_loss(both, random)).item() == pytest.approx(paper.item())
    total = prior_discriminator_loss(both, random, "sum")
    assert (total / 3).item() == pytest.approx(paper.item())


def test_no_rows_and_no_overflow():
    empty = torch.zeros(0, 2, requires_grad=True)
    for reduction in ("sum", "mean"):
        loss = adversarial_loss(empty, empty, reduction)
        assert loss.requires_grad and loss.item() == 0.0
        assert torch.autograd.grad(loss, empty)[0].shape == (0, 2)
    assert prior_discriminator_loss(torch.zeros(0), torch.zeros(0)).item() == 0.0
    assert prior_generator_loss(torch.zeros(0)).item() == 0.0
    assert prior_generator_loss(torch.tensor([-500.0])).item() == 500.0
    assert prior_discriminator_loss(torch.tensor([500.0]), torch.tensor([-500.0])).item() == 1000.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: prior_generator_loss(torch.ones(2, 1)), ValueError, "code_logits"),
        (lambda: prior_generator_loss(torch.ones(2).long()), TypeError, "code_logits"),
        (lambda: prior_generator_loss(torch.ones(2), "max"), ValueError, "reduction"),
        (lambda: adversarial_loss(torch.ones(1, 2), torch.ones(1, 2), "max"), ValueError, "reduc"),
        (
            lambda: prior_discriminator_loss(torch.ones(2), torch.ones(3)),
            ValueError,
            "2 and 3 entries",
        ),
        (
            lambda: prior_discriminator_loss(torch.ones(2), torch.ones(2).int()),
            TypeError,
            "random_logits",
        ),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


@withCUDA
def test_device(device):
    logits = torch.zeros(3, 2, device=device)
    first = logits[:, 0]
    for loss in (
        adversarial_loss(logits, logits),
        prior_discriminator_loss(first, first),
        prior_generator_loss(first),
    ):
        assert loss.device.type == device.type and loss.dim() == 0
