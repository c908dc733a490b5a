"""Sampling from rows: what is taken, and how often."""

import pytest
import torch

from pyg_hash.sampling import sample_rows, sample_weighted, take_rows

START = torch.tensor([0, 3, 3, 10, 10, 11])  # rows 1 and 3 are empty


@pytest.mark.parametrize("rows", [[], [1], [4, 0, 1, 2], [2, 2]])
def test_whole_rows(rows):
    row, place = take_rows(START, torch.tensor(rows, dtype=torch.long))
    expected = [(i, e) for i, r in enumerate(rows) for e in range(START[r], START[r + 1])]
    assert list(zip(row.tolist(), place.tolist(), strict=True)) == expected


@pytest.mark.parametrize("size", [-1, 7, 100])
def test_a_sample_of_all_is_all(size):
    rows = torch.tensor([2, 1, 0])
    row, place, ratio = sample_rows(START, rows, size)
    expected = take_rows(START, rows)
    assert torch.equal(row, expected[0]) and torch.equal(place, expected[1])
    assert bool((ratio == 1).all())


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_each_entry_has_the_same_chance(size):
    torch.manual_seed(size)
    draws = 4000
    row, place, ratio = sample_rows(START, torch.tensor([2]).repeat(draws), size)
    assert bool((torch.bincount(row) == size).all())  # as many as asked for
    assert bool(((place >= 3) & (place < 10)).all())  # of the row
    assert torch.unique(row * 100 + place).numel() == draws * size  # none twice
    assert bool((ratio == 7 / size).all())
    share = torch.bincount(place - 3, minlength=7) / draws
    p = size / 7
    assert float((share - p).abs().max()) < 4.5 * (p * (1 - p) / draws) ** 0.5


def test_long_rows_stay_in_bounds():
    start = torch.tensor([0, 3, 1_000_000_003])
    row, place, _ = sample_rows(start, torch.ones(1000, dtype=torch.long), 7)
    assert int(place.min()) >= 3 and int(place.max()) < 1_000_000_003
    assert bool((place.view(1000, 7).diff(dim=1) > 0).all())


def test_given_probabilities():
    torch.manual_seed(0)
    p = torch.tensor([0.2, 1.0, 0.5, 0.05, 0.75, 1.0], dtype=torch.float64)
    cumulative = p.cumsum(0)
    counts, draws = torch.zeros(6), 4000
    for _ in range(draws):
        taken = sample_weighted(cumulative)
        assert taken.numel() in (3, 4)  # p sums to 3.5
        assert taken.unique().numel() == taken.numel()
        counts[taken] += 1
    assert counts[1] == counts[5] == draws
    error = (counts / draws - p).abs()
    assert bool((error <= 4.5 * (p * (1 - p) / draws).sqrt()).all())


def test_certain_entries_are_all_taken():
    ones = torch.ones(1000, dtype=torch.float64).cumsum(0)
    for seed in range(20):
        torch.manual_seed(seed)
        assert torch.equal(sample_weighted(ones), torch.arange(1000))
    assert sample_weighted(ones[:0]).numel() == 0
