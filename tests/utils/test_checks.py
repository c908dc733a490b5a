"""Checks of input: what passes, what does not, and that the argument is named."""

import pytest
import torch

from pyg_hash.codes import check_codes
from pyg_hash.utils.checks import (
    check_choice,
    check_features,
    check_fraction,
    check_labels,
    check_nonzero_rows,
    check_number,
    check_positive_int,
    check_same_rows,
    check_weight,
)

NAN, INF = float("nan"), float("inf")


def test_choice():
    check_choice("a", ("a", "b"), "option")
    for wrong in ("c", None, 1, "A", ""):
        with pytest.raises(ValueError, match="option: .* use one of 'a', 'b'"):
            check_choice(wrong, ("a", "b"), "option")


@pytest.mark.parametrize("value", [1, 7, 10**12])
def test_positive_int(value):
    check_positive_int(value, "count")


@pytest.mark.parametrize("value", [0, -1])
def test_int_that_is_not_positive(value):
    with pytest.raises(ValueError, match=f"count: .* {value}"):
        check_positive_int(value, "count")


@pytest.mark.parametrize("value", [1.0, "1", True, None, [1], NAN])
def test_what_is_no_int(value):
    with pytest.raises(TypeError, match="count: expected a positive integer"):
        check_positive_int(value, "count")


def test_numbers():
    assert check_number(3, "x") == 3 and check_number(-0.5, "x") == -0.5
    for wrong in (True, "1", None, [1.0], torch.tensor(1.0)):
        for check in (check_number, check_weight, check_fraction):
            with pytest.raises(TypeError, match="rate: expected a number"):
                check(wrong, "rate")


@pytest.mark.parametrize("value", [0, 0.0, 1e-30, 1000])
def test_weight(value):
    check_weight(value, "alpha")


@pytest.mark.parametrize("value", [-1e-9, NAN, INF, -INF])
def test_what_is_no_weight(value):
    with pytest.raises(ValueError, match="alpha: .*at least 0"):
        check_weight(value, "alpha")


@pytest.mark.parametrize("value", [0, 1, 0.3])
def test_fraction(value):
    check_fraction(value, "rate")


@pytest.mark.parametrize("value", [-0.01, 1.01, NAN, INF, 30])
def test_what_is_no_fraction(value):
    with pytest.raises(ValueError, match="rate: .*between 0 and 1"):
        check_fraction(value, "rate")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_features(dtype):
    check_features(torch.randn(3, 2).to(dtype), "x", num_features=2)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[1.0]], TypeError, "list"),
        (None, TypeError, "NoneType"),
        (torch.ones(2, 2, dtype=torch.long), TypeError, "int64"),
        (torch.ones(2, 2, dtype=torch.bool), TypeError, "bool"),
        (torch.ones(2, 2).to(torch.float8_e5m2), TypeError, "float8_e5m2"),
        (torch.ones(2, 2, device="meta"), TypeError, "float32 on meta"),
        (torch.ones(2), ValueError, r"got \[2\]"),
        (torch.ones(1, 2, 2), ValueError, r"got \[1, 2, 2\]"),
        (torch.ones(2, 0), ValueError, r"got \[2, 0\]"),
        (torch.ones(0, 2), ValueError, "no rows"),
        (torch.ones(2, 3), ValueError, "3 features a row, expected 2"),
        (torch.tensor([[1.0, 1], [NAN, 1], [1, INF]]), ValueError, "2 of 3 rows .*row 1"),
        (torch.tensor([[-INF, 1.0]]), ValueError, "NaN or inf"),
    ],
)
def test_bad_features(x, error, message):
    with pytest.raises(error, match=f"x: .*{message}"):
        check_features(x, "x", num_features=2)


def test_zero_rows():
    check_nonzero_rows(torch.tensor([[0.0, 1e-30], [0.0, -1.0]]), "x")
    with pytest.raises(ValueError, match="x: 2 of 3 rows are zero vectors .*row 1"):
        check_nonzero_rows(torch.tensor([[1.0, 0], [0, 0], [0, -0.0]]), "x")


def test_same_rows():
    check_same_rows(torch.ones(3, 1), torch.ones(3, 9), "a", "b")
    with pytest.raises(ValueError, match="image and text: 3 and 2 rows"):
        check_same_rows(torch.ones(3, 1), torch.ones(2, 1), "image", "text")


@pytest.mark.parametrize(
    "y",
    [
        torch.tensor([0, 3]),
        torch.tensor([0, 3], dtype=torch.int8),
        torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0]]),
        torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0]]),
        torch.tensor([[True, False, True, False]] * 2),
    ],
)
def test_labels(y):
    check_labels(y, "y", num_rows=2, num_classes=4)
    check_labels(y, "y")


def test_no_labels():
    check_labels(torch.zeros(0, dtype=torch.long), "y", num_classes=4)
    check_labels(torch.zeros(0, 4), "y", num_classes=4)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([0, 1], TypeError, "list"),
        (torch.tensor([0.0, 1.0]), TypeError, "must be integers"),
        (torch.tensor([True, False]), TypeError, "must be integers"),
        (torch.tensor(1), ValueError, "shape"),
        (torch.zeros(2, 4, 1), ValueError, "shape"),
        (torch.tensor([0, 1, 2]), ValueError, "3 rows, expected 2"),
        (torch.tensor([0, 4]), ValueError, r"from 0 to 4, outside 0\.\.3"),
        (torch.tensor([-1, 2]), ValueError, "from -1 to 2"),
        (torch.zeros(2, 1), ValueError, "1 columns, expected 4"),
        (torch.full((2, 4), 0.5), ValueError, "0 or 1"),
        (torch.full((2, 4), NAN), ValueError, "0 or 1"),
        (torch.full((2, 4), -1), ValueError, "0 or 1"),
    ],
)
def test_bad_labels(y, error, message):
    with pytest.raises(error, match=f"y: .*{message}"):
        check_labels(y, "y", num_rows=2, num_classes=4)


def test_codes():
    check_codes(torch.tensor([[1, -1]], dtype=torch.int8), "codes", num_bits=2)
    check_codes(torch.zeros(0, 2, dtype=torch.int8), "codes")


@pytest.mark.parametrize(
    ("codes", "error", "message"),
    [
        (torch.ones(1, 2), TypeError, "float32.*binarize"),
        ([[1, -1]], TypeError, "list"),
        (torch.ones(2, dtype=torch.int8), ValueError, "shape"),
        (torch.ones(2, 0, dtype=torch.int8), ValueError, "shape"),
        (torch.ones(2, 3, dtype=torch.int8), ValueError, "3 bits, expected 2"),
        (torch.tensor([[0, 1]], dtype=torch.int8), ValueError, "-1 or \\+1"),
        (torch.tensor([[-128, 1]], dtype=torch.int8), ValueError, "-1 or \\+1"),
    ],
)
def test_bad_codes(codes, error, message):
    with pytest.raises(error, match=f"codes: .*{message}"):
        check_codes(codes, "codes", num_bits=2)
