"""Helpers of models that train labelled nodes as new items."""

import torch

from pyg_hash.models.graph import both, view_terms


def test_both_adds_the_modalities():
    values = {"image": torch.tensor(2.0), "text": torch.tensor(3.0)}
    assert both(lambda m: values[m]) == 5


def test_a_view_is_compared_with_the_graph_in_either_direction():
    view = {"image": torch.tensor([[1.0]]), "text": torch.tensor([[-0.5]])}
    known = {"image": torch.tensor([[3.0]]), "text": torch.tensor([[5.0]])}
    weights = {"quantization": 2.0}
    found = view_terms(lambda a, b: (a - b).sum(), view, known, weights, "sum")
    assert found == 0.5 * (1 - 5 + 3 + 0.5) + 2.0 * 0.25
