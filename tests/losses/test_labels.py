"""label_prediction_loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch_geometric.testing import withCUDA

from pyg_hash.losses import label_prediction_loss


def random(n, d, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("num_classes", [2, 9, 10])
def test_uniform_prediction(num_classes):
    logits, y = torch.zeros(5, num_classes), torch.arange(5) % num_classes
    both = label_prediction_loss(logits, y) + label_prediction_loss(logits, y)
    assert float(both) == pytest.approx(2 * math.log(num_classes))
    assert float(label_prediction_loss(logits, y, "sum")) == pytest.approx(
        5 * math.log(num_classes)
    )


def test_prediction_equals_a_loop():
    for seed in range(5):
        logits, y = random(6, 4, seed), torch.arange(6) % 4
        total = 0.0
        for row, label in zip(logits.tolist(), y.tolist(), strict=True):
            total -= math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
        assert float(label_prediction_loss(logits, y, "sum")) == pytest.approx(total, rel=1e-12)
        assert float(label_prediction_loss(logits, y)) == pytest.approx(total / 6, rel=1e-12)


def test_multi_hot_prediction_equals_a_loop():
    for seed in range(5):
        logits, y = random(6, 4, seed), (random(6, 4, seed + 50) > 0).float()
        total = 0.0
        for row, labels in zip(logits.tolist(), y.tolist(), strict=True):
            for value, label in zip(row, labels, strict=True):
                p = 1 / (1 + math.exp(-value))
                total -= math.log(p if label else 1 - p)
        assert float(label_prediction_loss(logits, y, "sum")) == pytest.approx(total, rel=1e-12)
        assert float(label_prediction_loss(logits, y)) == pytest.approx(total / 24, rel=1e-12)
        torch.testing.assert_close(
            label_prediction_loss(logits, y.bool()), label_prediction_loss(logits, y)
        )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_prediction_gradients(reduction):
    logits, y = random(5, 3, 0).requires_grad_(), torch.tensor([0, 2, 1, 1, 0])
    hot = torch.nn.functional.one_hot(y, 3).double()
    scale = 5 if reduction == "mean" else 1
    (grad,) = torch.autograd.grad(label_prediction_loss(logits, y, reduction), logits)
    torch.testing.assert_close(grad, (logits.softmax(1) - hot) / scale)
    scale = 15 if reduction == "mean" else 1
    (grad,) = torch.autograd.grad(label_prediction_loss(logits, hot, reduction), logits)
    torch.testing.assert_close(grad, (logits.sigmoid() - hot) / scale)


def test_extreme_logits_do_not_overflow():
    logits = torch.tensor([[1000.0, -1000.0]])
    assert float(label_prediction_loss(logits, torch.tensor([0]))) == 0.0
    assert float(label_prediction_loss(logits, torch.tensor([1]))) == 2000.0
    assert float(label_prediction_loss(logits, torch.tensor([[0.0, 1.0]]))) == 1000.0


def test_integer_labels_of_any_width():
    logits = random(3, 3, 0)
    expected = label_prediction_loss(logits, torch.arange(3))
    for dtype in (torch.int32, torch.uint8):
        assert torch.equal(label_prediction_loss(logits, torch.arange(3).to(dtype)), expected)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_no_rows_give_an_exact_zero(reduction):
    logits = torch.zeros(0, 2, requires_grad=True)
    for loss in (
        label_prediction_loss(logits, torch.zeros(0, dtype=torch.long), reduction),
        label_prediction_loss(logits, torch.zeros(0, 2), reduction),
    ):
        assert loss.requires_grad and loss.item() == 0.0
        (grad,) = torch.autograd.grad(loss, logits)
        assert grad.shape == (0, 2)


@pytest.mark.parametrize(
    "logits, y, error, words",
    [
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), ValueError, "y: .*0 to 2"),
        (torch.zeros(3, 2), torch.tensor([0, -1, 1]), ValueError, "y: .*-1"),
        (torch.zeros(3, 2), torch.tensor([0, 1]), ValueError, "y: .*2 rows.*3"),
        (torch.zeros(3, 2), torch.zeros(3), TypeError, "y: .*integers"),
        (torch.zeros(3, 2), torch.zeros(3, 4), ValueError, "y: .*4 columns"),
        (torch.zeros(3, 2), torch.full((3, 2), 0.5), ValueError, "y: .*0 or 1"),
        (torch.zeros(3), torch.tensor([0, 1, 0]), ValueError, "logits"),
        (torch.zeros(3, 2, dtype=torch.long), torch.tensor([0, 1, 0]), TypeError, "logits"),
    ],
)
def test_prediction_errors(logits, y, error, words):
    with pytest.raises(error, match=words):
        label_prediction_loss(logits, y)


def test_unknown_reduction():
    with pytest.raises(ValueError, match="reduction: 'none'"):
        label_prediction_loss(torch.zeros(1, 2), torch.tensor([0]), "none")


@withCUDA
def test_device(device):
    logits, y = torch.zeros(3, 2, device=device), torch.tensor([0, 1, 1], device=device)
    loss = label_prediction_loss(logits, y)
    assert loss.device.type == device.type and loss.dim() == 0
