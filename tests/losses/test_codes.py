"""Losses of codes: closed forms, loops, gradients and errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch_geometric.testing import withCUDA

from pyg_hash.losses import (
    adversarial_loss,
    balance_loss,
    label_prediction_loss,
    quantization_loss,
    squared_distance_loss,
)

CORNERS = torch.tensor([[1.0, -1.0], [1.0, 1.0], [1.0, 1.0]])


def random(n, d, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def test_closed_forms():
    assert float(quantization_loss(CORNERS, "sum")) == 0.0
    assert float(balance_loss(CORNERS, "sum")) == 10.0  # summing over the bits would give 8
    assert float(balance_loss(CORNERS)) == pytest.approx(10 / 18)
    a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    assert squared_distance_loss(a, b, "sum").item() == 4 + 9
    assert squared_distance_loss(a, b).item() == pytest.approx(13 / 4)
    assert squared_distance_loss(a, a).item() == 0


def test_quantization_of_zero_is_plus_one():
    relaxed = torch.tensor([[0.0, -0.0, 0.5, -0.25]], requires_grad=True)
    loss = quantization_loss(relaxed, "sum")
    assert loss.item() == 1 + 1 + 0.25 + 0.5625
    loss.backward()  # -2 (B - R): towards +1 from zero
    assert relaxed.grad.tolist() == [[-2.0, -2.0, -1.0, 1.5]]


def test_equal_loops():
    for seed in range(10):
        n, d = 1 + seed, 4
        r, x = random(n, d, seed), random(n, d, seed + 100)
        quantized = balanced = rebuilt = 0.0
        for k in range(d):
            balanced += sum(float(r[i, k]) for i in range(n)) ** 2
            for i in range(n):
                sign = 1 if float(r[i, k]) >= 0 else -1
                quantized += (sign - float(r[i, k])) ** 2
                rebuilt += (float(x[i, k]) - float(r[i, k])) ** 2
        assert float(quantization_loss(r, "sum")) == pytest.approx(quantized, rel=1e-12)
        assert float(quantization_loss(r)) == pytest.approx(quantized / (n * d), rel=1e-12)
        assert float(balance_loss(r, "sum")) == pytest.approx(balanced, rel=1e-12)
        assert float(balance_loss(r)) == pytest.approx(balanced / (n * n * d), rel=1e-12)
        distance = squared_distance_loss(x, r, "sum")
        assert float(distance) == pytest.approx(rebuilt, rel=1e-12)
        assert float(squared_distance_loss(x, r)) == pytest.approx(rebuilt / (n * d), rel=1e-12)


def test_mean_balance_is_the_mean_squared_bit_mean():
    r = random(50, 6, 0)
    torch.testing.assert_close(balance_loss(r), r.mean(0).square().mean())
    assert float(balance_loss(torch.ones(7, 3))) == 1.0
    assert float(balance_loss(torch.cat([r, -r]))) == pytest.approx(0.0, abs=1e-30)


def test_mean_losses_do_not_depend_on_the_number_of_copies():
    r, x = random(5, 3, 1), random(5, 3, 2)
    torch.testing.assert_close(quantization_loss(r.repeat(4, 1)), quantization_loss(r))
    torch.testing.assert_close(balance_loss(r.repeat(4, 1)), balance_loss(r))
    torch.testing.assert_close(
        squared_distance_loss(x.repeat(4, 1), r.repeat(4, 1)), squared_distance_loss(x, r)
    )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradcheck(reduction):
    r = random(4, 3, 3)
    r = (r + 0.1 * torch.where(r >= 0, 1.0, -1.0)).requires_grad_()  # away from the jump of sign
    x = random(4, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda r: quantization_loss(r, reduction), r)
    assert torch.autograd.gradcheck(lambda r: balance_loss(r, reduction), r)
    assert torch.autograd.gradcheck(lambda x, r: squared_distance_loss(x, r, reduction), (x, r))


def test_gradients_by_hand():
    r = random(4, 3, 5).requires_grad_()
    (grad,) = torch.autograd.grad(balance_loss(r, "sum"), r)
    torch.testing.assert_close(grad, (2 * r.sum(0, keepdim=True)).expand(4, 3))
    (grad,) = torch.autograd.grad(quantization_loss(r, "sum"), r)
    torch.testing.assert_close(grad, -2 * (r.sign() - r))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_no_rows_give_an_exact_zero(reduction):
    r = torch.zeros(0, 4, requires_grad=True)
    for loss in (
        quantization_loss(r, reduction),
        balance_loss(r, reduction),
        squared_distance_loss(torch.zeros(0, 4), r, reduction),
    ):
        assert loss.item() == 0.0
        (grad,) = torch.autograd.grad(loss, r)
        assert grad.shape == (0, 4)


def test_nan_is_not_hidden():
    r = torch.tensor([[float("nan"), 1.0]])
    assert quantization_loss(r).isnan() and balance_loss(r).isnan()
    assert squared_distance_loss(r, r).isnan()


@withCUDA
def test_device(device: torch.device):
    r = CORNERS.to(device)
    for loss in (quantization_loss(r), balance_loss(r), squared_distance_loss(r, r)):
        assert loss.device.type == device.type and loss.dim() == 0


@pytest.mark.parametrize("function", [quantization_loss, balance_loss])
def test_errors(function):
    with pytest.raises(ValueError, match="reduction.*'none'"):
        function(CORNERS, "none")
    with pytest.raises(ValueError, match=r"relaxed.*\[3\]"):
        function(CORNERS[:, 0])
    with pytest.raises(TypeError, match="relaxed.*int8"):
        function(CORNERS.to(torch.int8))


def test_squared_distance_errors():
    with pytest.raises(ValueError, match="a and b: shapes"):
        squared_distance_loss(CORNERS, CORNERS[1:])
    with pytest.raises(ValueError, match=r"b: expected shape \[N, d\]"):
        squared_distance_loss(CORNERS, CORNERS[0])
    with pytest.raises(ValueError, match=r"a and b.*\[3, 2\].*\[1, 2\]"):
        squared_distance_loss(CORNERS, CORNERS[:1])  # would broadcast
    with pytest.raises(TypeError, match="a: .*int64"):
        squared_distance_loss(CORNERS.long(), CORNERS)
    with pytest.raises(ValueError, match="reduction"):
        squared_distance_loss(CORNERS, CORNERS, "batchmean")


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)],
)
def test_squared_distance_equals_autograd_in_every_type(dtype, tolerance):
    x, made = random(6, 5, 0).to(dtype), random(6, 5, 1).to(dtype)
    results = []
    for kind in (torch.float64, dtype):
        a, b = (t.to(kind, copy=True).requires_grad_() for t in (x, made))
        if kind == torch.float64 and not results:
            value = (a - b).square().sum()
        else:
            value = squared_distance_loss(a, b, "sum")
        (3 * value).backward()
        results.append([value.detach().double(), a.grad.double(), b.grad.double()])
    for found, known in zip(*results, strict=True):
        torch.testing.assert_close(found, known, rtol=tolerance, atol=tolerance)


# Predicted labels


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
def test_no_predictions_give_an_exact_zero(reduction):
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


def test_unknown_reduction_of_prediction():
    with pytest.raises(ValueError, match="reduction: 'none'"):
        label_prediction_loss(torch.zeros(1, 2), torch.tensor([0]), "none")


@withCUDA
def test_device_of_prediction(device):
    logits, y = torch.zeros(3, 2, device=device), torch.tensor([0, 1, 1], device=device)
    loss = label_prediction_loss(logits, y)
    assert loss.device.type == device.type and loss.dim() == 0


# Adversary


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


def test_adversary_without_rows():
    empty = torch.zeros(0, 2, requires_grad=True)
    for reduction in ("sum", "mean"):
        loss = adversarial_loss(empty, empty, reduction)
        assert loss.requires_grad and loss.item() == 0.0
        assert torch.autograd.grad(loss, empty)[0].shape == (0, 2)


def test_unknown_reduction_of_adversary():
    with pytest.raises(ValueError, match="reduction"):
        adversarial_loss(torch.ones(1, 2), torch.ones(1, 2), "max")


@withCUDA
def test_device_of_adversary(device):
    logits = torch.zeros(3, 2, device=device)
    loss = adversarial_loss(logits, logits)
    assert loss.device.type == device.type and loss.dim() == 0
