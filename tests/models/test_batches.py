"""Mini-batches of labelled rows."""

import pytest
import torch
from toy import toy_data

from pyg_hash.models.batches import BatchDraw, labelled_rows


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (9, 4, [4, 5]),
        (8, 4, [4, 4]),
        (10, 4, [4, 4, 2]),
        (3, 2, [3]),
        (2, 128, [2]),
        (5, 4, [5]),
    ],
)
def test_sizes(count, size, sizes):
    batches = BatchDraw(torch.arange(count), size).all()
    assert [len(b) for b in batches] == sizes
    assert sorted(torch.cat(batches).tolist()) == list(range(count))


def test_order_comes_from_the_global_generator():
    draw = BatchDraw(torch.arange(50), 8)
    torch.manual_seed(0)
    first, second = draw.all(), draw.all()
    torch.manual_seed(0)
    assert torch.equal(torch.cat(draw.all()), torch.cat(first))
    assert not torch.equal(torch.cat(first), torch.cat(second))


@pytest.mark.parametrize("multi_label", [True, False])
def test_labelled_rows_are_multi_hot(multi_label):
    data = toy_data(multi_label=multi_label)
    mask = torch.arange(60) % 3 == 0
    data["image"].labeled_mask = mask
    rows, labels = labelled_rows(data, 4, torch.zeros(1, dtype=torch.float64))
    assert rows.tolist() == list(range(0, 60, 3))
    assert labels.dtype == torch.float64 and labels.shape == (20, 4)
    y = data["image"].y[mask]
    if multi_label:
        assert torch.equal(labels, y.double())
    else:
        assert torch.equal(labels.argmax(1), y) and torch.equal(labels.sum(1), torch.ones(20))
