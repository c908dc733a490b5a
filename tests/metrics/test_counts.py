"""Per-distance counts against plain comparisons of all pairs."""

from __future__ import annotations

import pytest
import torch
from metric_oracles import random_case
from torch_geometric.testing import withCUDA

from pyg_hash.metrics import counts as counting


def plain_counts(query, database, query_y, database_y):
    """Items and relevant items at each distance, from arrays of all pairs."""
    distance = (query[:, None] != database[None]).sum(2)
    if query_y.dim() == 1:
        relevant = query_y[:, None] == database_y[None]
    else:
        relevant = (query_y[:, None].bool() & database_y[None].bool()).any(2)
    at = torch.stack([distance == d for d in range(query.size(1) + 1)], dim=2)
    return at.sum(1).double(), (at & relevant[:, :, None]).sum(1).double()


def counts(*case):
    parts = list(counting.Ranking(*case).counts())
    return tuple(torch.cat(x) for x in zip(*parts, strict=True))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("bits", "tiles"),
    [(8, (2048, 64, 4096)), (1, (7, 3, 50)), (65, (7, 3, 50)), (8, (1, 1, 13))],
)
def test_equal_plain_comparisons(monkeypatch, multi_label, bits, tiles):
    for name, value in zip(("_PART", "_TILE_QUERIES", "_TILE_DATABASE"), tiles, strict=True):
        monkeypatch.setattr(counting, name, value)
    case = random_case(0, 20, 130, bits, 4, multi_label)
    case[1][0] = -case[0][0]  # a distance of all bits
    got, want = counts(*case), plain_counts(*case)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float64])
def test_multi_hot_of_any_type(dtype):
    query, database, query_y, database_y = random_case(1, 5, 40, 8, 4, True)
    want = plain_counts(query, database, query_y, database_y)
    got = counts(query, database, query_y.to(dtype), database_y.to(dtype))
    assert torch.equal(got[1], want[1])


def test_class_numbers_that_floats_cannot_tell_apart():
    query, database, _, _ = random_case(2, 2, 30, 8)
    classes = torch.tensor([2**60, 2**60 + 1])
    case = query, database, classes, classes.repeat(15)
    got, want = counts(*case), plain_counts(*case)
    assert torch.equal(got[1], want[1]) and got[1].sum() == 30


def test_many_labels_in_common_count_once():
    query, database, _, _ = random_case(3, 2, 30, 8)
    case = query, database, torch.ones(2, 50), torch.ones(30, 50)
    items, relevant = counts(*case)
    assert torch.equal(items, relevant)


@pytest.mark.parametrize("tiles", [{}, {"_COUNTS": 1 << 9, "_EXACT": 1 << 8}])
def test_by_gain_equal_plain_comparisons(monkeypatch, tiles):
    for name, value in tiles.items():
        monkeypatch.setattr(counting, name, value)
    query, database, query_y, database_y = random_case(5, 20, 130, 9, 12, True)
    query_y[3] = 1  # more labels than any other
    ranking = counting.Ranking(query, database, query_y, database_y, graded=True)
    got = torch.cat(list(ranking.counts_by_gain()))
    distance, shared = (query[:, None] != database[None]).sum(2), (query_y @ database_y.T).long()
    assert got.size(2) == ranking.num_levels == 1 + int(database_y.sum(1).max())
    for d in range(10):
        for gain in range(ranking.num_levels):
            want = ((distance == d) & (shared == gain)).sum(1)
            assert got[:, d, gain].tolist() == want.tolist()
    items, relevant = counts(query, database, query_y, database_y)
    assert torch.equal(got.sum(2), items) and torch.equal(got[:, :, 1:].sum(2), relevant)


def test_without_labels():
    query, database, query_y, database_y = random_case(6, 20, 130, 9)
    items, relevant = counts(query, database)
    assert torch.equal(items, counts(query, database, query_y, database_y)[0])
    assert not relevant.any()


def test_codes_of_thousands_of_bits():
    """The largest key, 64 queries of 2 (num_bits + 1) numbers each, is exact in float32."""
    case = random_case(4, 64, 20, 3000, 2)
    got, want = counts(*case), plain_counts(*case)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


@withCUDA
def test_histogram(device):
    number = torch.tensor([3, 0, 3, 1], dtype=torch.int32, device=device)
    got = counting._histogram(number, 5)
    assert got.device.type == device.type and got.tolist() == [1, 1, 0, 2, 0]
