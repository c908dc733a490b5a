"""Codes: signs, packing, distances and diagnostics against hand-computed values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from store_cases import random_codes

from pyg_hash.codes import binarize, code_diagnostics, hamming_distance, pack_bits, unpack_bits
from pyg_hash.index import HammingIndex


def test_binarize() -> None:
    x = torch.tensor([[0.0, -0.0, 1e-30, -1e-30], [float("inf"), -float("inf"), 0.3, -2.0]])
    codes = binarize(x)
    assert codes.dtype == torch.int8
    assert codes.tolist() == [[1, 1, 1, -1], [1, -1, 1, -1]]
    assert binarize(x.half()).dtype == torch.int8


def test_binarize_bad_input() -> None:
    with pytest.raises(ValueError, match="x: contains NaN"):
        binarize(torch.tensor([1.0, float("nan")]))
    with pytest.raises(TypeError, match="x: expected a floating-point tensor, got torch.int64"):
        binarize(torch.tensor([1]))
    with pytest.raises(TypeError, match="got list"):
        binarize([1.0])  # type: ignore[arg-type]


def test_pack_bits_by_hand() -> None:
    codes = torch.tensor([[1, -1, -1, -1, -1, -1, -1, 1, 1, -1]], dtype=torch.int8)
    assert pack_bits(codes).tolist() == [[0b10000001, 0b10000000]]


@pytest.mark.parametrize("num_bits", [1, 7, 8, 33, 64])
def test_pack_bits_round_trip(num_bits: int) -> None:
    codes = random_codes(20, num_bits)
    packed = pack_bits(codes)
    assert packed.dtype == torch.uint8 and packed.shape == (20, (num_bits + 7) // 8)
    assert torch.equal(unpack_bits(packed, num_bits), codes)
    assert unpack_bits(packed, num_bits).dtype == torch.int8
    assert unpack_bits(packed[:0], num_bits).shape == (0, num_bits)


def test_pack_bits_bad_input() -> None:
    with pytest.raises(TypeError, match="codes: expected int8"):
        pack_bits(torch.ones(2, 8))
    with pytest.raises(ValueError, match="codes: entries must be -1 or"):
        pack_bits(torch.zeros(2, 8, dtype=torch.int8))
    for wrong, remedy in [
        (torch.ones(2, 8), r"use binarize\(\)"),
        (torch.ones(2, 8).long(), r"use .to\(torch.int8\), of an array .astype\('int8'\)"),
        ([[1, -1]], r"use torch.from_numpy\(numpy.asarray\(codes\)\)"),
    ]:
        with pytest.raises(TypeError, match=remedy):
            pack_bits(wrong)
    with pytest.raises(TypeError, match="packed: expected a uint8"):
        unpack_bits(torch.ones(2, 1), 8)
    with pytest.raises(ValueError, match=r"packed: 9 bits take shape \[n, 2\], got \[2, 1\]"):
        unpack_bits(torch.ones(2, 1, dtype=torch.uint8), 9)
    with pytest.raises(ValueError, match="packed: bits after bit 7 are not zero"):
        unpack_bits(torch.ones(2, 1, dtype=torch.uint8), 7)
    with pytest.raises(ValueError, match="num_bits: expected a positive"):
        unpack_bits(torch.ones(2, 1, dtype=torch.uint8), 0)


@pytest.mark.parametrize("num_bits", [1, 12])
def test_hamming_distance(num_bits: int) -> None:
    a, b = random_codes(9, num_bits), random_codes(11, num_bits, seed=1)
    distance = hamming_distance(a, b)
    assert distance.dtype == torch.int32
    assert torch.equal(distance, (a[:, None] != b[None]).sum(2).int())
    packed = np.bitwise_xor(pack_bits(a).numpy()[:, None], pack_bits(b).numpy()[None])
    assert np.array_equal(distance.numpy(), np.unpackbits(packed, axis=2).sum(2))


def test_hamming_distance_bad_input() -> None:
    with pytest.raises(ValueError, match="b: has 9 bits, expected 8"):
        hamming_distance(random_codes(2, 8), random_codes(2, 9))
    with pytest.raises(TypeError, match="a: expected int8"):
        hamming_distance(torch.ones(2, 8), random_codes(2, 8))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32])
def test_an_array_of_numpy_is_told_how_it_becomes_a_tensor(dtype) -> None:
    array, codes = np.ones((2, 8), dtype), random_codes(2, 8)
    index = HammingIndex(8)
    for call in (
        lambda: hamming_distance(codes, array),
        lambda: pack_bits(array),
        lambda: unpack_bits(array, 8),
        lambda: binarize(array),
    ):
        with pytest.raises(TypeError, match=r"got ndarray \(torch.from_numpy makes it a tensor\)"):
            call()
    given = {np.int8: codes, np.uint8: pack_bits(codes)}.get(dtype)
    if given is not None:
        index.add(given.numpy())  # stores take it as it is
        assert torch.equal(index.codes(index.ids), codes)


def test_diagnostics_of_perfect_codes() -> None:
    codes = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.int8)
    found = code_diagnostics(codes)
    assert (found.num_codes, found.num_bits, found.distinct_codes) == (4, 2, 4)
    assert found.imbalance == 0.0 and found.bit_entropy == pytest.approx(1.0)
    assert found.correlation == pytest.approx(0.0) and found.code_entropy == pytest.approx(2.0)
    assert (found.collisions, found.largest_bucket, found.constant_bits) == (0, 1, 0)
    assert "4 codes of 2 bits" in str(found)


def test_diagnostics_by_hand() -> None:
    #             bit 0 and 1 equal, bit 2 constant, bit 0 is +1 for 1 of 4
    codes = torch.tensor([[1, 1, 1], [-1, -1, 1], [-1, -1, 1], [-1, -1, 1]], dtype=torch.int8)
    found = code_diagnostics(codes)
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert found.bit_mean.tolist() == [-0.5, -0.5, 1.0]
    assert found.imbalance == pytest.approx(2 / 3)
    assert found.bit_entropy == pytest.approx(2 * quarter / 3)
    assert found.correlation == pytest.approx(1.0)
    assert found.code_entropy == pytest.approx(quarter)
    assert (found.distinct_codes, found.collisions, found.largest_bucket) == (2, 3, 3)
    assert found.constant_bits == 1


def test_diagnostics_of_collapsed_codes() -> None:
    found = code_diagnostics(torch.ones(5, 8, dtype=torch.int8))
    assert (found.imbalance, found.bit_entropy, found.code_entropy) == (1.0, 0.0, 0.0)
    assert math.isnan(found.correlation)
    assert (found.constant_bits, found.distinct_codes, found.collisions) == (8, 1, 5)
    with pytest.raises(ValueError, match="codes: has no rows"):
        code_diagnostics(torch.ones(0, 8, dtype=torch.int8))
