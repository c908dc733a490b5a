"""The parts of the fused sum of pairs: tiles, rectangles of classes, numerics and labels."""

from __future__ import annotations

import math

import pytest
import torch

from pyg_hash.losses.pairs import (
    _class_bounds,
    _rectangles,
    _same_label,
    _softplus_sum,
    comparable,
    tiles,
)


@pytest.mark.parametrize(("n", "m"), [(7, 5), (5, 7), (12, 12), (1, 1), (0, 5), (5, 0)])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_each_pair_is_in_one_tile(n, m, size):
    count = torch.zeros(n, m, dtype=torch.int64)
    for rows, columns in tiles(n, m, size):
        assert 0 < rows.stop - rows.start <= size and 0 < columns.stop - columns.start <= size
        count[rows, columns] += 1
    assert bool((count == 1).all())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_rectangles_are_the_similar_pairs(size):
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        a_y = torch.randint(0, 5, (11,), generator=generator).sort().values
        b_y = torch.randint(2, 7, (8,), generator=generator).sort().values
        bounds = _class_bounds(a_y, b_y)
        found = torch.zeros(11, 8)
        for rows, columns in tiles(11, 8, size):
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


def test_softplus_sum_keeps_tiny_summands_and_nan():
    """512 times log(1 + e^-30): products of 1 + e^-30 alone would be 1 in float32."""
    x = torch.full((16, 32), -30.0)
    got = _softplus_sum(x, torch.empty_like(x)).item()
    assert got == pytest.approx(512 * math.log1p(math.exp(-30)), rel=1e-5)
    x = torch.tensor([[math.nan, 1.0]])
    assert math.isnan(_softplus_sum(x, torch.empty_like(x)).item())


def test_labels_in_their_cheapest_form():
    def numbered(a_y, b_y, match="shared"):
        codes = (torch.zeros(len(y), 4) for y in (a_y, b_y))
        return comparable(*codes, a_y, b_y, match, "sum")[2:]

    a, b = numbered(torch.tensor([7, 10**12, 7]), torch.tensor([10**12]))
    assert a.tolist() == [0, 1, 0] and b.tolist() == [1]
    a, b = numbered(torch.tensor([[1, 0], [0, 1]]), torch.tensor([[0, 1]]))
    assert a.tolist() == [0, 1] and b.tolist() == [1]
    several = torch.tensor([[1, 1], [0, 0]])
    a, b = numbered(several, torch.tensor([[0, 1]]))
    assert a.dtype == torch.float32
    assert _same_label(a, b, torch.empty(2, 1)).tolist() == [[1.0], [0.0]]
    a, b = numbered(several, several, "equal")
    assert _same_label(a, b, torch.empty(2, 2)).tolist() == [[1.0, 0.0], [0.0, 1.0]]
