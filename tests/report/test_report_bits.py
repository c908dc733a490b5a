"""Figures of codes against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_hash import report
from pyg_hash.codes import code_diagnostics, hamming_distance
from pyg_hash.report.figures import (
    bit_balance,
    bit_correlation,
    correlation_matrix,
    distance_counts,
)

pytest.importorskip("matplotlib")


def codes(n, bits=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, bits, generator=generator) > 0.5).to(torch.int8) * 2 - 1


def test_bit_balance():
    values = torch.tensor([[1, 1, -1], [1, -1, -1]], dtype=torch.int8)
    axes = bit_balance({"image": values, "text": -values}).axes[0]
    image, text = (line for line in axes.lines if line.get_label() in ("image", "text"))
    assert list(image.get_ydata()) == [1, 0.5, 0]
    assert list(text.get_ydata()) == [0, 0.5, 1]
    assert (image.get_marker(), text.get_marker()) == ("s", "^")


def test_bits_are_counted_in_whole_numbers():
    axes = bit_balance({"image": codes(9, bits=5)}).axes[0]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_correlation_matrix_is_numpys():
    values = codes(50)
    expected = np.abs(np.corrcoef(values.numpy().T))
    assert np.allclose(correlation_matrix(values).numpy(), expected)


def test_correlation_matrix_has_the_mean_of_the_diagnostics():
    values = codes(40, bits=6)
    matrix = correlation_matrix(values)
    mean = (matrix.sum() - 6) / 30
    assert float(mean) == pytest.approx(code_diagnostics(values).correlation)


def test_constant_bits_have_no_correlation():
    values = codes(20, bits=3)
    values[:, 1] = 1
    matrix = correlation_matrix(values)
    assert bool(matrix[1].isnan().all())
    assert not bool(matrix[0, 2].isnan())
    assert bit_correlation(values).axes


@pytest.mark.parametrize("hot", [False, True])
def test_distance_counts(hot):
    query, database = codes(7), codes(20, seed=1)
    y = torch.arange(20) % 3
    query_y, database_y = y[:7], y
    if hot:
        query_y, database_y = (torch.nn.functional.one_hot(v, 3).float() for v in (query_y, y))
    relevant, irrelevant = distance_counts(query, database, query_y, database_y)
    distance = hamming_distance(query, database)
    same = y[:7, None] == y
    for d in range(9):
        assert int(relevant[d]) == int(((distance == d) & same).sum())
        assert int(irrelevant[d]) == int(((distance == d) & ~same).sum())


def heights(figure):
    return {p.get_label(): p.get_data().values for p in figure.axes[0].patches if not p.get_fill()}


def test_distance_histogram_is_a_share_of_each_kind():
    y = torch.arange(20) % 3
    drawn = heights(report.distance_histogram(codes(7), codes(20, seed=1), y[:7], y))
    assert set(drawn) == {"relevant pairs", "irrelevant pairs"}
    assert all(sum(values) == pytest.approx(1) for values in drawn.values())


def test_distance_histogram_without_labels():
    drawn = heights(report.distance_histogram(codes(7), codes(20, seed=1)))
    expected = torch.bincount(hamming_distance(codes(7), codes(20, seed=1)).flatten(), minlength=9)
    assert drawn["all pairs"] == pytest.approx((expected / 140).tolist())


def test_distance_histogram_without_irrelevant_pairs():
    y = torch.zeros(5, dtype=torch.long)
    assert not heights(report.distance_histogram(codes(5), codes(5), y, y))[
        "irrelevant pairs"
    ].any()


def test_errors():
    with pytest.raises(ValueError, match="one of them is None"):
        report.distance_histogram(codes(2), codes(2), torch.zeros(2, dtype=torch.long))
