"""Labelled nodes as new items: the folded form against receivers and messages."""

import pytest
import torch
import torch_geometric.transforms as T
from torch.autograd import gradcheck
from torch_geometric.testing import withCUDA
from toy import toy_data

from pyg_hash.graph import GraphOperator, NewItems, View, WholeGraph, build_graphs, query_view
from pyg_hash.nn import GCNChannel
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate


def graph(anchors="train", rate=0.4, weight="similarity"):
    knn = IntraKNN(k=4, anchors=anchors, weight=weight)
    return T.Compose([LabelRate(rate), knn, InterKNN(), LabelHub()])(toy_data())


def random_view(known: int = 9):
    """A float64 operator, a receiver of three of its nodes, and these nodes."""
    generator = torch.Generator().manual_seed(3)
    raw = torch.rand(known, known, generator=generator, dtype=torch.float64).fill_diagonal_(0)
    target, source = raw.nonzero().T
    ones = torch.ones(known, dtype=torch.float64)
    operator = GraphOperator(torch.stack((source, target)), raw[target, source], ones)
    nodes = torch.tensor([7, 0, 4])
    edges = torch.tensor([[1, 2, 8, 3], [0, 0, 1, 1]])
    weight = torch.rand(4, generator=generator, dtype=torch.float64)
    return operator, NewItems(edges, weight, 3, known), nodes


def test_view_equals_the_receiver():
    operator, receiver, nodes = random_view()
    view = View(receiver, operator, nodes)
    projected = torch.randn(9, 5, dtype=torch.float64)
    own = torch.randn(3, 5, dtype=torch.float64)
    messages = operator.inv_sqrt_degree[:, None] * projected
    tight = {"rtol": 0, "atol": 1e-14}
    torch.testing.assert_close(view(projected, own), receiver(messages, own), **tight)
    first = receiver(messages, projected[nodes])
    torch.testing.assert_close(view.first @ projected, first, **tight)


def test_gradients_of_a_view():
    operator, receiver, nodes = random_view()
    view = View(receiver, operator, nodes)
    projected = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    own = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda p, o: view(p, o) + view.first @ p, (projected, own))


@pytest.mark.parametrize("anchors", ["train", "all"])
@pytest.mark.parametrize("constant", [True, False])
@withCUDA
def test_channel_with_a_view_equals_attaching(anchors, constant, device):
    """In one go with the graph, or by the messages of all nodes: states and gradients."""
    data = graph(anchors).to(device)
    graphs = build_graphs(data, joint=False)
    operator, view = graphs.operators["text"], graphs.views["text"]
    rows = data["text"].labeled_mask
    x = data["text"].x
    torch.manual_seed(0)
    channel = GCNChannel(x.size(1), 7, 5).to(device)
    seen = torch.randn(int(rows.sum()), 5, device=device)

    states, viewed = channel(x, WholeGraph(operator, view, constant=constant))
    (viewed * seen).sum().backward()
    gradients = [p.grad.clone() for p in channel.parameters()]

    channel.zero_grad()
    messages, h = [], x
    for conv in (channel.conv1, channel.conv2):
        messages.append(operator.inv_sqrt_degree[:, None] * conv.lin(h))
        h = torch.tanh(operator @ conv.lin(h))
    items = query_view(data, "text")
    items.messages = messages
    (attached,) = channel(x[rows], items)
    (attached * seen).sum().backward()
    torch.testing.assert_close(states, h, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(viewed, attached, rtol=1e-5, atol=1e-6)
    for found, parameter in zip(gradients, channel.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-5, atol=1e-5)


def test_joint_views_are_images_then_texts():
    data = graph()
    view = build_graphs(data).views["joint"]
    both = query_view(data, "image", "text", joint=True)
    messages = torch.randn(120, 3)
    count = int(data["image"].labeled_mask.sum())
    own = torch.randn(2 * count, 3)
    alone = [query_view(data, m, joint=True) for m in ("image", "text")]
    expected = torch.cat([r(messages, o) for r, o in zip(alone, own.chunk(2), strict=True)])
    torch.testing.assert_close(both(messages, own), expected)
    assert view.own.size(0) == 2 * count


def test_true_degrees_of_a_sample():
    data = graph()
    for m in ("image", "text"):
        data[m].degree = data[m].joint_degree = torch.full((60,), 4.0)
        data[m].view_degree = torch.full((60,), 16.0)
        data[m].joint_view_degree = torch.full((60,), 25.0)
    plain = build_graphs(graph()).operators
    for name, operator in build_graphs(data).operators.items():  # these are somebody's own numbers
        assert torch.equal(operator.inv_sqrt_degree, plain[name].inv_sqrt_degree)
    data.graph = data.graph | {"sampled": True}
    built = build_graphs(data)
    assert not built.constant
    for operator in built.operators.values():
        assert torch.equal(operator.inv_sqrt_degree, torch.full_like(operator.inv_sqrt_degree, 0.5))
    for joint, degree in ((False, 16.0), (True, 25.0)):
        scale = query_view(data, "text", joint=joint).scale
        assert torch.equal(scale, torch.full_like(scale, degree**-0.5))


def test_view_without_labels():
    data = graph(rate=0.0)
    graphs = build_graphs(data, joint=False)
    channel = GCNChannel(12, 7, 5)
    for constant in (True, False):
        place = WholeGraph(graphs.operators["image"], graphs.views["image"], constant=constant)
        _, viewed = channel(data["image"].x, place)
        assert viewed.shape == (0, 5)
        viewed.sum().backward()


@pytest.mark.parametrize("viewed", [False, True])
def test_what_is_no_plain_product_comes_before_the_edges(viewed):
    """As in encoding, whether or not the features' propagation would be kept."""
    operator, receiver, nodes = random_view()
    place = WholeGraph(operator, View(receiver, operator, nodes) if viewed else None, constant=True)
    x = torch.randn(9, 2, dtype=torch.float64)
    for project in (torch.nn.Linear(2, 3).double(), torch.nn.ReLU()):
        dense = operator.to_dense() @ project(x)
        torch.testing.assert_close(place.receive(0, [x], project)[0], dense)


def test_when_the_product_is_kept():
    """Many wide rows of a view would cost more products than the propagation they spare."""
    operator, receiver, nodes = random_view()
    view = View(receiver, operator, nodes)
    entries = operator.num_entries + view.first.num_entries
    alone, viewed = WholeGraph(operator), WholeGraph(operator, view)
    assert alone._is_worth_keeping(torch.zeros(9, 10**6))
    assert viewed._is_worth_keeping(torch.zeros(9, 16 * entries // 3))
    assert not viewed._is_worth_keeping(torch.zeros(9, 16 * entries // 3 + 1))
    assert not alone._is_worth_keeping(torch.zeros(9, 2, requires_grad=True))
