"""Graph transforms and operators against the papers' dense formulas in float64."""

from itertools import product

import pytest
import torch
import torch_geometric.transforms as T
from label_cliques import LabelCliques
from oracles import dense_intra, dense_joint
from toy import toy_data

from pyg_hash.graph import graph_operator, protocol
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate

PROTOCOLS = {
    "inductive": ("train", "train"),
    "strict": ("all", "train"),
    "transductive": ("all", "all"),
}
CASES = list(
    product(
        ("single", "shared", "equal"),
        (0.0, 0.3, 1.0),
        PROTOCOLS,
        ("clean", "literal"),
        ("all", "labeled", "none"),
    )
)


@pytest.mark.parametrize(
    ("form", "labels", "rate", "name", "loops", "pairs"),
    [(LabelHub, *case) for case in CASES] + [(LabelCliques, *case) for case in CASES[::7]],
)
def test_operator_equals_dense_formula(form, labels, rate, name, loops, pairs):
    match = "equal" if labels == "equal" else "shared"
    anchors = PROTOCOLS[name]
    data = T.Compose(
        [
            LabelRate(rate, seed=3),
            IntraKNN(k=5, anchors=anchors[0], weight="binary"),
            InterKNN(anchors=anchors[1], pair_edges=pairs),
            form(self_loops=loops, match=match),
        ]
    )(toy_data(multi_label=labels != "single"))
    assert protocol(data) == name
    for modality in ("image", "text"):
        expected = dense_intra(data, modality, 5, anchors[0], loops, match)
        torch.testing.assert_close(
            graph_operator(data, modality).to_dense().double(), expected, rtol=0, atol=1e-6
        )
    expected = dense_joint(data, 5, anchors, loops, match, pairs)
    torch.testing.assert_close(
        graph_operator(data).to_dense().double(), expected, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(("labels", "rate", "name", "loops", "pairs"), CASES[::5])
def test_gradients_equal_dense_formula(labels, rate, name, loops, pairs):
    match = "equal" if labels == "equal" else "shared"
    anchors = PROTOCOLS[name]
    data = T.Compose(
        [
            LabelRate(rate, seed=3),
            IntraKNN(k=5, anchors=anchors[0], weight="binary"),
            InterKNN(anchors=anchors[1], pair_edges=pairs),
            LabelHub(self_loops=loops, match=match),
        ]
    )(toy_data(multi_label=labels != "single"))
    expected = dense_joint(data, 5, anchors, loops, match, pairs)
    x = torch.randn(2 * 60, 7, requires_grad=True)
    weight = torch.randn(2 * 60, 7)
    ((graph_operator(data) @ x) * weight).sum().backward()
    torch.testing.assert_close(x.grad.double(), expected.T @ weight.double(), rtol=0, atol=2e-6)
