"""Contrasts of pairs against hand-computed numbers, dense float64 formulas and differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch_geometric.testing import withCUDA

from pyg_hash.losses import (
    contrast,
    contrastive_loss,
    expected_pairwise_nll,
    linear_similarity_loss,
    pairwise_nll,
    ranking_loss,
)


def codes(*rows, bits=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(n, bits, generator=generator, dtype=torch.float64) for n in rows]
    return [x.to(dtype).requires_grad_() for x in made]


def cosines(a, b):
    lengths = a.double().norm(dim=1)[:, None] * b.double().norm(dim=1)
    return a.double() @ b.double().T / lengths


def dense(a, b, temperature=0.3, others=None, own=None):
    """InfoNCE Eq. 4 row by row, whole matrices."""
    total = 0.0
    for i in range(len(a)):
        bank = b if others is None else others.detach().clone()
        if others is not None:
            bank = torch.cat([bank[: own[i]], b[i : i + 1], bank[own[i] + 1 :]])
        likely = (cosines(a[i : i + 1], bank)[0] / temperature).softmax(0)
        total = total - likely[i if own is None else own[i]].log()
    return total / len(a)


def dense_ranking(a, b, margin=0.2, kappa=1.0, shift=0.0):
    """UCCH's loss, both directions, whole matrices."""
    total = 0.0
    for s in (cosines(a, b), cosines(a, b).T):
        right = s.diag()
        s = torch.where(s < right[:, None] - margin, s - shift, s)
        total = total + (margin + kappa * (s / kappa).exp().sum(1).log() - right).mean()
    return total


def grads(loss, *x):
    return torch.autograd.grad(loss, x, retain_graph=True)


def test_by_hand():
    """Cosines 1, 0 and 0, -1 at temperature 1."""
    a, b = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[5.0, 0.0], [0.0, -1.0]])
    first, second = math.log(1 + math.e) - 1, math.log(1 + 1 / math.e) + 1
    loss = contrastive_loss(a, b, temperature=1.0)
    assert loss.item() == pytest.approx((first + second) / 2)
    assert contrastive_loss(a, b, temperature=1.0, reduction="sum").item() == pytest.approx(
        first + second
    )
    assert ranking_loss(a, b).item() == pytest.approx(0.4 + first + second)
    # S_01 = 0 is 1 below S_00, all else is near: 0.2 + log(e + e^-1) - 1 in both directions
    shifted = 0.2 + math.log(math.e + math.exp(-1)) - 1 + 0.2 + second
    assert ranking_loss(a, b, shift=1.0).item() == pytest.approx(shifted)


def test_one_pair_is_certain():
    a, b = codes(1, 1)
    assert contrastive_loss(a, b).item() == 0.0
    assert ranking_loss(a, b, margin=0.5).item() == pytest.approx(1.0)


def test_equal_codes_are_a_guess():
    same = torch.ones(7, 4)
    assert contrastive_loss(same, same).item() == pytest.approx(math.log(7))


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("temperature", [0.01, 0.3, 5.0])
def test_equals_the_dense_formula(rows, temperature):
    a, b = codes(rows, rows)
    found, known = contrastive_loss(a, b, temperature=temperature), dense(a, b, temperature)
    torch.testing.assert_close(found, known)
    for one, other in zip(grads(found, a, b), grads(known, a, b), strict=True):
        torch.testing.assert_close(one, other)


def test_equals_the_dense_formula_with_a_bank():
    a, b, others = codes(4, 4, 9)
    own = torch.tensor([3, 0, 8, 3])  # a pair may come twice
    found, known = contrastive_loss(a, b, others=others, own=own), dense(a, b, 0.3, others, own)
    torch.testing.assert_close(found, known)
    for one, other in zip(grads(found, a, b), grads(known, a, b), strict=True):
        torch.testing.assert_close(one, other)
    found.backward()
    assert others.grad is None  # constants


def test_a_bank_of_the_batch_itself_has_its_value():
    a, b = codes(6, 6)
    found = contrastive_loss(a, b, others=b.detach(), own=torch.arange(6))
    torch.testing.assert_close(found, contrastive_loss(a, b))
    torch.testing.assert_close(grads(found, a), grads(contrastive_loss(a, b), a))


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_ranking_equals_the_dense_formula(shift):
    a, b = codes(8, 8)
    options = {"margin": 0.3, "kappa": 0.4, "shift": shift}
    found, known = ranking_loss(a, b, **options), dense_ranking(a, b, **options)
    torch.testing.assert_close(found, known)
    torch.testing.assert_close(ranking_loss(a, b, **options, reduction="sum"), 8 * known)
    for one, other in zip(grads(found, a, b), grads(known, a, b), strict=True):
        torch.testing.assert_close(one, other)


def test_ranking_is_the_contrast_of_both_directions():
    a, b = codes(8, 8)
    both = contrastive_loss(a, b, temperature=0.4) + contrastive_loss(b, a, temperature=0.4)
    torch.testing.assert_close(ranking_loss(a, b, margin=0.3, kappa=0.4), 0.6 + 0.4 * both)


@pytest.mark.parametrize("size", [1, 10**9])
def test_gradcheck(monkeypatch, size):
    monkeypatch.setattr(contrast, "_CPU_BLOCK", size)
    a, b, others = codes(3, 3, 4, bits=2)
    own = torch.tensor([3, 1, 1])
    bank = others.detach()
    for loss in (
        contrastive_loss,
        lambda a, b: contrastive_loss(a, b, others=bank, own=own),
        ranking_loss,
    ):
        assert torch.autograd.gradcheck(loss, (a, b))
        with pytest.raises(RuntimeError, match="first derivatives only"):
            torch.autograd.grad(loss(a, b), a, create_graph=True)


@pytest.mark.parametrize("with_bank", [False, True])
def test_blocks_are_one_block(monkeypatch, with_bank):
    a, b, others = codes(700, 700, 900, dtype=torch.float32)
    more = {"others": others, "own": torch.randperm(900)[:700]} if with_bank else {}
    whole = contrastive_loss(a, b, **more)
    expected = grads(whole, a, b)
    shapes, new_empty = [], torch.Tensor.new_empty

    def watched(x, *size):
        shapes.append(size)
        return new_empty(x, *size)

    monkeypatch.setattr(torch.Tensor, "new_empty", watched)
    for size, rows in ((100_000, 100_000 // len(more.get("others", b))), (1, 1)):
        monkeypatch.setattr(contrast, "_CPU_BLOCK", size)
        parts = contrastive_loss(a, b, **more)
        assert shapes.pop()[0] == rows
        torch.testing.assert_close(parts, whole)
        torch.testing.assert_close(grads(parts, a, b), expected)
        with torch.no_grad():
            torch.testing.assert_close(contrastive_loss(a, b, **more), whole.detach())


def test_one_side_may_be_a_constant():
    a, b = codes(5, 5)
    for one, other in ((a, b.detach()), (a.detach(), b)):
        loss, live = contrastive_loss(one, other), a if one is a else b
        torch.testing.assert_close(grads(loss, live), grads(dense(one, other), live))
    assert not contrastive_loss(a.detach(), b.detach()).requires_grad


def test_float32_is_near_float64():
    a, b = codes(300, 300, bits=32)
    found = contrastive_loss(a.float(), b.float(), temperature=0.05)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(contrastive_loss(a, b, temperature=0.05).item(), rel=1e-5)


def test_autocast_changes_nothing():
    a, b = codes(20, 20, bits=32, dtype=torch.float32)
    expected = contrastive_loss(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_loss(a, b), expected)


@pytest.mark.parametrize("loss", [contrastive_loss, ranking_loss])
def test_zero_rows_have_cosine_zero(loss):
    a, b = codes(3, 3)
    a, b = a.detach(), b.detach()
    a[0] = b[0] = b[1] = 0
    a, b = a.requires_grad_(), b.requires_grad_()
    value = loss(a, b)
    assert all(bool(g.isfinite().all()) and g.abs().max() < 100 for g in grads(value, a, b))
    a = torch.zeros(3, 4)
    assert contrastive_loss(a, torch.ones(3, 4)).item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_rows_give_an_exact_zero(reduction):
    a, b, others = codes(0, 0, 5)
    own = torch.zeros(0, dtype=torch.int64)
    for loss in (
        contrastive_loss(a, b, reduction=reduction),
        contrastive_loss(a, b, others=others, own=own, reduction=reduction),
        ranking_loss(a, b, reduction=reduction),
    ):
        assert loss.item() == 0.0
        assert [g.shape for g in grads(loss, a, b)] == [(0, 5), (0, 5)]


def test_nan_is_not_hidden():
    a, b = (x.detach().clone() for x in codes(3, 3))
    a[1, 1] = math.nan
    assert contrastive_loss(a, b).isnan() and ranking_loss(a, b).isnan()


@withCUDA
def test_device(device: torch.device):
    a, b = (x.detach().to(device).requires_grad_() for x in codes(9, 9))
    loss = contrastive_loss(a, b, others=b, own=torch.arange(9, device=device))
    assert loss.device.type == device.type and loss.dim() == 0
    torch.testing.assert_close(loss.cpu(), contrastive_loss(a.cpu(), b.cpu()))


ONE, ROWS = torch.ones(3, 2), torch.arange(3)


@pytest.mark.parametrize("loss", [contrastive_loss, ranking_loss])
@pytest.mark.parametrize(
    ("a", "b", "options", "error", "message"),
    [
        (ONE.long(), ONE, {}, TypeError, "a: .*int64"),
        (ONE, ONE[0], {}, ValueError, r"b: .*\[2\]"),
        (ONE, ONE.double(), {}, TypeError, "a and b: .*float64"),
        (ONE.half(), ONE.double(), {}, TypeError, "a and b: .*float16 and torch.float64"),
        (ONE, torch.ones(3, 4), {}, ValueError, "a and b: 2 and 4 bits"),
        (ONE, torch.ones(4, 2), {}, ValueError, "a and b: 3 and 4 rows"),
        (ONE, ONE, {"reduction": "none"}, ValueError, "reduction.*'none'"),
    ],
)
def test_errors(loss, a, b, options, error, message):
    with pytest.raises(error, match=message):
        loss(a, b, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, "temperature"),
        ({"temperature": math.nan}, ValueError, "temperature"),
        ({"temperature": "x"}, TypeError, "temperature"),
        ({"others": ONE}, ValueError, "others and own"),
        ({"own": ROWS}, ValueError, "others and own"),
        ({"others": ONE.double(), "own": ROWS}, TypeError, "others and b: .*float64.*float32"),
        ({"others": ONE.char(), "own": ROWS}, TypeError, "others: .*int8"),
        ({"others": torch.ones(3, 4), "own": ROWS}, ValueError, "others and b: 4 and 2 bits"),
        ({"others": ONE, "own": ROWS.int()}, TypeError, "own: .*int32"),
        ({"others": ONE, "own": ROWS[:2]}, ValueError, r"own: .*\[3\].*\[2\]"),
        ({"others": ONE, "own": ROWS + 1}, ValueError, "own: .*1 to 3.*3 rows"),
        ({"others": ONE, "own": ROWS - 1}, ValueError, "own: .*-1 to 1"),
        ({"others": ONE[:0], "own": ROWS}, ValueError, "own: .*0 rows"),
    ],
)
def test_errors_of_the_contrast(options, error, message):
    with pytest.raises(error, match=message):
        contrastive_loss(ONE, ONE, **options)


def test_an_error_names_the_types_that_were_given():
    with pytest.raises(TypeError, match=r"others and b: .*float64 and torch\.float16"):
        contrastive_loss(ONE, ONE.half(), others=ONE.double(), own=ROWS)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"margin": -0.1}, "margin"), ({"kappa": 0.0}, "kappa"), ({"shift": math.inf}, "shift")],
)
def test_errors_of_the_ranking(options, message):
    with pytest.raises(ValueError, match=message):
        ranking_loss(ONE, ONE, **options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_taken_as_float32(dtype):
    a, b = (x.detach().to(dtype).requires_grad_() for x in codes(6, 6, bits=8, dtype=torch.float32))
    y, p = torch.arange(6) % 2, torch.rand(6, 2)
    bank, own = torch.randn(9, 8).to(dtype), torch.arange(6)
    for loss in (
        contrastive_loss,
        lambda a, b: contrastive_loss(a, b, others=bank.to(a), own=own),
        ranking_loss,
        lambda a, b: pairwise_nll(a, b, y, y),
        lambda a, b: linear_similarity_loss(a, b, y, y),
        lambda a, b: expected_pairwise_nll(a, b, p, p),
        lambda a, b: expected_pairwise_nll(a, b, p.to(dtype), p.to(dtype)),
    ):
        value = loss(a, b)
        assert value.dtype == torch.float32 and torch.equal(value, loss(a.float(), b.float()))
        value.backward()
        assert a.grad.dtype == dtype and bool(a.grad.any())
        assert torch.equal(value, loss(a, b.float()))
