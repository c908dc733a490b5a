"""Eq. 15 of SGEH: both sides of the regulariser."""

import math

import pytest
import torch

from pyg_hash.losses import prior_discriminator_loss, prior_generator_loss


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


def test_no_rows_and_no_overflow():
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
