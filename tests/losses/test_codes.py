"""quantization_loss, balance_loss and squared_distance_loss."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.testing import withCUDA

from pyg_hash.losses import balance_loss, quantization_loss, squared_distance_loss

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
