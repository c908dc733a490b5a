"""The fused sum of pairs: its tiles, its numerics and its labels against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from pyg_hash.losses import pairwise_nll, similarity_likelihood
from pyg_hash.losses._labels import comparable_labels, similar_pairs
from pyg_hash.losses._pairs import (
    Likelihood,
    _class_bounds,
    _rectangles,
    _softplus_sum,
    _tiles,
    sum_of_pairs,
)


def codes(n, m, bits=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(k, bits, generator=generator, dtype=dtype).requires_grad_() for k in (n, m)
    )


def formula(a, b, j, cost):
    """Whole matrices and autograd."""
    theta = cost.factor * (a @ b.T)
    value = F.softplus(theta, threshold=60) - cost.similar * j * theta
    return (value.square() if cost.squared else value).sum()


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_tiles_cover_each_pair_once(size):
    count = torch.zeros(7, 5)
    for rows, columns in _tiles(slice(0, 7), slice(0, 5), size):
        assert rows.stop - rows.start <= size and columns.stop - columns.start <= size
        count[rows, columns] += 1
    assert bool((count == 1).all())
    assert _tiles(slice(0, 0), slice(0, 5), size) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_rectangles_are_the_similar_pairs(size):
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        a_y = torch.randint(0, 5, (11,), generator=generator).sort().values
        b_y = torch.randint(2, 7, (8,), generator=generator).sort().values
        bounds = _class_bounds(a_y, b_y)
        found = torch.zeros(11, 8)
        for rows, columns in _tiles(slice(0, 11), slice(0, 8), size):
            tile = torch.zeros(found[rows, columns].shape)
            for part in _rectangles(tile, bounds, rows, columns):
                part += 1
            found[rows, columns] = tile
        assert torch.equal(found, (a_y[:, None] == b_y).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 5), (4, 4), (16, 32), (2, 7)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_softplus_sum(dtype, shape, scale):
    generator = torch.Generator().manual_seed(0)
    x = (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
    want = sum(max(v, 0) + math.log1p(math.exp(-abs(v))) for v in x.flatten().tolist())
    got = _softplus_sum(x, torch.empty_like(x)).item()
    assert got == pytest.approx(want, rel=1e-6 if dtype == torch.float32 else 1e-13)


def test_softplus_sum_keeps_tiny_summands():
    """512 times log(1 + e^-30): products of 1 + e^-30 alone would be 1 in float32."""
    x = torch.full((16, 32), -30.0)
    got = _softplus_sum(x, torch.empty_like(x)).item()
    assert got == pytest.approx(512 * math.log1p(math.exp(-30)), rel=1e-5)


def test_nan_stays_visible():
    x = torch.tensor([[math.nan, 1.0]])
    assert math.isnan(_softplus_sum(x, torch.empty_like(x)).item())


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("similar", [1.0, 0.9])
@pytest.mark.parametrize("kind", ["index", "one-hot", "multi"])
@pytest.mark.parametrize("chunk_size", [None, 4])
def test_value_and_gradients_of_every_likelihood(squared, similar, kind, chunk_size):
    cost = Likelihood(0.7, similar, squared)
    a, b = codes(13, 10)
    generator = torch.Generator().manual_seed(1)
    a_y, b_y = (torch.randint(4, (k,), generator=generator) for k in (13, 10))
    if kind == "one-hot":
        a_y, b_y = F.one_hot(a_y, 4), F.one_hot(b_y, 4)
    if kind == "multi":
        a_y, b_y = ((torch.rand(k, 4, generator=generator) < 0.4).float() for k in (13, 10))
    j = a_y[:, None] == b_y if kind == "index" else a_y @ b_y.T > 0
    labels = comparable_labels(a_y, b_y, a.dtype)
    value = sum_of_pairs(a, b, *labels, cost, chunk_size)
    expected = formula(a, b, j.double(), cost)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    got, want = (torch.autograd.grad(2 * v, (a, b)) for v in (value, expected))
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("loss", [pairwise_nll, similarity_likelihood])
def test_float32_gradients_of_full_tiles_are_close(loss):
    """Several tiles of the size that is used by default."""
    a, b = codes(700, 1100, bits=32, dtype=torch.float32)
    a_y, b_y = torch.arange(700) % 7, torch.arange(1100) % 9
    wide = [x.detach().double().requires_grad_() for x in (a, b)]
    expected = formula(*wide, (a_y[:, None] == b_y).double(), Likelihood())
    value = loss(a, b, a_y, b_y, reduction="sum")
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    got, want = torch.autograd.grad(value, (a, b)), torch.autograd.grad(expected, wide)
    for g, w in zip(got, want, strict=True):
        assert float((g - w).norm() / w.norm()) < 1e-6


def test_slopes_of_learned_pairs_are_not_rounded_away():
    """At w = 30 the slope of a similar pair is -e^-30, which sigmoid(w) - 1 would make 0."""
    a = torch.tensor([[60.0]], requires_grad=True)
    y = torch.tensor([0])
    pairwise_nll(a, torch.ones(1, 1), y, y, reduction="sum").backward()
    assert a.grad.item() == pytest.approx(-0.5 * math.exp(-30), rel=1e-5)


def test_labels_in_their_cheapest_form():
    index = torch.tensor([7, 10**12, 7]), torch.tensor([10**12])
    a, b = comparable_labels(*index, torch.float32)
    assert a.tolist() == [0, 1, 0] and b.tolist() == [1]
    hot = torch.tensor([[1, 0], [0, 1]]), torch.tensor([[0, 1]])
    a, b = comparable_labels(*hot, torch.float32)
    assert a.tolist() == [0, 1] and b.tolist() == [1]
    several = torch.tensor([[1, 1], [0, 0]]), torch.tensor([[0, 1]])
    a, b = comparable_labels(*several, torch.float64)
    assert a.dtype == torch.float64 and similar_pairs(
        a, b, torch.empty(2, 1).double()
    ).tolist() == [
        [1.0],
        [0.0],
    ]
    a, b = comparable_labels(several[0], several[0], torch.float64, "equal")
    assert similar_pairs(a, b, torch.empty(2, 2)).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_neighbouring_class_numbers_are_different():
    """In float32, 2^24 + 1 is 2^24: classes are numbered anew before."""
    y = torch.tensor([2**24, 2**24 + 1])
    image = torch.full((2, 4), 2.0)
    kinds = [pairwise_nll(image, image, y, y), similarity_likelihood(image, image, y, y)]
    kinds.append(similarity_likelihood(image, image, y, y, similar=1.0, factor=0.5))
    for value in kinds:
        same, other = math.log1p(math.exp(-8)), math.log1p(math.exp(8))
        assert value.item() == pytest.approx((same + other) / 2)
