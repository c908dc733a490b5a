"""Small operations on edge lists, by hand."""

import torch

from pyg_hash.graph import edge_weights
from pyg_hash.transforms.graphs import merge_edges


def test_edge_weights():
    scores = torch.tensor([[0.5, -0.25], [0.0, 1.0]])
    assert torch.equal(edge_weights(scores, "binary"), torch.ones(2, 2))
    expected = torch.tensor([[0.5, 0.0], [0.0, 1.0]])
    assert torch.equal(edge_weights(scores, "similarity"), expected)


def test_merge_edges():
    source, target = torch.tensor([2, 0, 2, 1]), torch.tensor([1, 1, 1, 0])
    weight = torch.tensor([1.0, 2.0, 3.0, -4.0])
    for reduce, together in (("sum", 4.0), ("amax", 3.0)):
        edge_index, merged = merge_edges(source, target, weight, 3, reduce)
        assert edge_index.tolist() == [[1, 0, 2], [0, 1, 1]]
        assert merged.tolist() == [-4.0, 2.0, together]


def test_merge_no_edges():
    none = torch.zeros(0, dtype=torch.int64)
    edge_index, merged = merge_edges(none, none, torch.zeros(0), 3, "sum")
    assert edge_index.shape == (2, 0)
    assert merged.shape == (0,)
