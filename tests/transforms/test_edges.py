"""Small operations on edge lists, by hand."""

import torch
from torch_geometric.data.storage import EdgeStorage

from pyg_hash.graph import edge_weights
from pyg_hash.transforms.graphs import merge_edges


def test_edge_weights():
    scores = torch.tensor([[0.5, -0.25], [0.0, 1.0]])
    assert torch.equal(edge_weights(scores, "binary"), torch.ones(2, 2))
    expected = torch.tensor([[0.5, 0.0], [0.0, 1.0]])
    assert torch.equal(edge_weights(scores, "similarity"), expected)


def test_merge_edges():
    index, weight = torch.tensor([[2, 0, 2, 1], [1, 1, 1, 0]]), torch.tensor([1.0, 2.0, 3.0, -4.0])
    edges = EdgeStorage()
    for reduce, together in (("sum", 4.0), ("max", 3.0)):
        merge_edges(edges, index, weight, torch.ones(3), reduce)
        assert edges.edge_index.tolist() == [[1, 0, 2], [0, 1, 1]]
        assert edges.edge_weight.tolist() == [-4.0, 2.0, together]
    merge_edges(edges, index[:, :0], weight[:0], torch.ones(3))
    assert edges.edge_index.shape == (2, 0)
    assert edges.edge_weight.shape == (0,)
