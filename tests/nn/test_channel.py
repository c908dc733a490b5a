"""GCN channels: formula, message passing of PyG, attaching new nodes, poison."""

import copy

import pytest
import torch
import torch_geometric.transforms as T
from label_cliques import LabelCliques
from oracles import normalise
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.testing import withCUDA
from toy import toy_data

from pyg_hash.graph import BlockedGraph, GraphOperator, NewItems, WholeGraph, graph_operator
from pyg_hash.nn import GCNChannel
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate


def graph(form=LabelHub, anchors="train"):
    steps = [LabelRate(0.4), IntraKNN(k=4, anchors=anchors), InterKNN(), form()]
    return T.Compose(steps)(toy_data())


@torch.no_grad()
def blocked(channel, x, op):
    """States of all nodes in blocks, and what these send."""
    messages = []
    (states,) = channel(x, BlockedGraph(op, messages))
    return states, messages


@pytest.mark.parametrize("form", [LabelHub, LabelCliques])
def test_channel_formula(form):
    op = graph_operator(graph(form), "image")
    channel = GCNChannel(12, 7, 5)
    x = torch.randn(60, 12)
    dense = op.to_dense().double()
    h = torch.tanh(dense @ x.double() @ channel.conv1.lin.weight.double().T)
    second = h @ channel.conv2.lin.weight.double().T
    (states,) = channel(x, op)
    found, messages = blocked(channel, x, op)
    torch.testing.assert_close(found, states, rtol=0, atol=1e-6)
    torch.testing.assert_close(states.double(), torch.tanh(dense @ second), rtol=0, atol=1e-5)
    sent = op.inv_sqrt_degree.double()[:, None] * second
    torch.testing.assert_close(messages[1].double(), sent, rtol=0, atol=1e-5)
    assert [tuple(m.shape) for m in messages] == [(60, 7), (60, 5)]
    assert bool((states.abs() < 1).all())


def random_double(known: int, new: int):
    """Symmetric known nodes and rows of new ones that only receive, dense float64."""
    generator = torch.Generator().manual_seed(1)
    raw = torch.rand(known, known, generator=generator, dtype=torch.float64)
    raw = (raw + raw.T) * (torch.ones(known, known) - torch.eye(known))
    rows = torch.rand(new, known, generator=generator, dtype=torch.float64)
    return raw, rows * (torch.rand(new, known, generator=generator) < 0.4)


def test_attached_nodes_equal_nodes_of_the_enlarged_graph():
    raw, rows = random_double(10, 4)
    target, source = raw.nonzero().T
    ones = torch.ones(10, dtype=torch.float64)
    op = GraphOperator(torch.stack((source, target)), raw[target, source], ones)
    to, start = rows.nonzero().T
    items = NewItems(torch.stack((start, to)), rows[to, start], 4, 10)
    channel = GCNChannel(6, 8, 3).double()
    x = torch.randn(14, 6, dtype=torch.float64)
    known, messages = blocked(channel, x[:10], op)
    items.messages = messages
    (attached,) = channel(x[10:], items)

    big = torch.zeros(14, 14, dtype=torch.float64)
    big[:10, :10], big[10:, :10] = raw, rows
    big = normalise(big + torch.eye(14, dtype=torch.float64))
    h = x
    for conv in (channel.conv1, channel.conv2):
        h = torch.tanh(big @ h @ conv.lin.weight.T)
    torch.testing.assert_close(known, h[:10], rtol=0, atol=1e-13)
    torch.testing.assert_close(attached, h[10:], rtol=0, atol=1e-13)


def test_queries_of_the_graph_equal_attached_ones():
    """The inductive protocol's queries are new items: leaving them out gives the same states."""
    data = InterKNN()(IntraKNN(k=4)(toy_data()))
    channel = GCNChannel(12, 8, 3)
    states, messages = blocked(channel, data["image"].x, graph_operator(data, "image"))
    near = data["image", "nearest", "image"]
    query = near.edge_index[1] >= 48
    source, target = near.edge_index[:, query]
    items = NewItems(torch.stack((source, target - 48)), near.edge_weight[query], 12, 60)
    items.messages = messages
    (attached,) = channel(data["image"].x[48:], items)
    torch.testing.assert_close(attached, states[48:], rtol=0, atol=1e-6)


def test_parts_are_stacked():
    """The joint graph's nodes are images, then texts."""
    op = graph_operator(graph())
    channel, image, text = GCNChannel(6, 8, 4), torch.randn(60, 6), torch.randn(60, 6)
    (both,) = channel(torch.cat((image, text)), op)
    (found,) = channel([image, text], op)
    torch.testing.assert_close(found, both, rtol=0, atol=1e-6)
    states, messages = blocked(channel, [*image.split(7), *text.split(7)], op)
    torch.testing.assert_close(states, both, rtol=0, atol=1e-6)
    assert [m.shape for m in messages] == [(120, 8), (120, 4)]


def test_modalities_swap_with_the_graph():
    """Images and texts play the same part: a graph with both exchanged exchanges the outputs."""
    data = graph(anchors="all")
    swapped = toy_data()
    for m, other in (("image", "text"), ("text", "image")):
        swapped[m].x = toy_data()[other].x
    steps = [LabelRate(0.4), IntraKNN(k=4, anchors="all"), InterKNN(), LabelHub()]
    swapped = T.Compose(steps)(swapped)
    cross = GCNChannel(6, 8, 4)
    a, b = torch.randn(60, 6), torch.randn(60, 6)
    image, text = cross([a, b], graph_operator(data))[0].chunk(2)
    other_image, other_text = cross([b, a], graph_operator(swapped))[0].chunk(2)
    torch.testing.assert_close(image, other_text, rtol=0, atol=1e-6)
    torch.testing.assert_close(text, other_image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", [LabelHub, LabelCliques])
def test_poison_reaches_no_other_node(form):
    data = graph(form)
    cross = GCNChannel(6, 8, 4)
    op = graph_operator(data)
    image, text = torch.randn(60, 6), torch.randn(60, 6)
    clean = cross([image, text], op)[0].chunk(2)
    image[50] = float("nan")
    poisoned = cross([image, text], op)[0].chunk(2)
    rest = torch.arange(60) != 50
    assert torch.equal(poisoned[0][rest], clean[0][rest])
    assert torch.equal(poisoned[1], clean[1]), "not even the pair"
    assert bool(poisoned[0][50].isnan().all())


def test_reset_parameters():
    torch.manual_seed(0)
    module = GCNChannel(4, 5, 6)
    before = copy.deepcopy(module.state_dict())
    module.reset_parameters()
    assert all(not torch.equal(before[k], v) for k, v in module.state_dict().items())
    torch.manual_seed(0)
    again = GCNChannel(4, 5, 6)
    assert all(torch.equal(before[k], v) for k, v in again.state_dict().items())


@withCUDA
def test_devices(device):
    data = graph()
    channel = GCNChannel(12, 7, 5)
    (expected,) = channel(data["image"].x, graph_operator(data, "image"))
    data = data.to(device)
    channel = channel.to(device)
    op = graph_operator(data, "image")
    for states in (
        channel(data["image"].x, op)[0],
        channel(data["image"].x, WholeGraph(op, constant=True))[0],
        blocked(channel, data["image"].x.split(25), op)[0],
    ):
        assert states.device.type == torch.device(device).type
        torch.testing.assert_close(states.detach().cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 60])
def test_blocks_of_rows_change_nothing(rows, monkeypatch):
    data = graph()
    channel = GCNChannel(12, 7, 5)
    x, op = data["image"].x, graph_operator(data, "image")
    states, expected = blocked(channel, x, op)
    monkeypatch.setattr("pyg_hash.graph.BLOCK", rows)
    found, messages = blocked(channel, x.split(rows), op)
    torch.testing.assert_close(found, states)
    for found, known in zip(messages, expected, strict=True):
        torch.testing.assert_close(found, known)
    assert not states.requires_grad


@withCUDA
def test_bf16_keeps_the_sums_in_fp32(device):
    """Products with weights are bf16, propagation and states are not."""
    data = graph().to(device)
    op = graph_operator(data, "image")
    channel = GCNChannel(12, 32, 16).to(device)
    (exact,) = channel(data["image"].x, op)
    exact.sum().backward()
    gradients = [p.grad.clone() for p in channel.parameters()]
    for constant in (True, False):
        channel.zero_grad()
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            (states,) = channel(data["image"].x, WholeGraph(op, constant=constant))
        assert states.dtype == torch.float32
        torch.testing.assert_close(states, exact, rtol=0, atol=0.03)
        states.sum().backward()
        for found, parameter in zip(gradients, channel.parameters(), strict=True):
            assert parameter.grad.dtype == torch.float32
            assert (found - parameter.grad).norm() < 0.03 * found.norm()


def test_edges_are_no_place():
    with pytest.raises(TypeError, match=r"place: expected .*graph_operator.*got Tensor"):
        GCNChannel(3, 4, 5)(torch.ones(2, 3), torch.zeros(2, 1, dtype=torch.long))


class LiveBytes(TorchDispatchMode):
    """The most memory that tensors made inside held at any time."""

    def __init__(self):
        super().__init__()
        self.peak, self.known = 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
                storage = tensor.untyped_storage()
                self.known[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.known = {k: v for k, v in self.known.items() if not v[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.known.values()))
        return out


def test_inference_holds_what_one_layer_sends(monkeypatch):
    monkeypatch.setattr("pyg_hash.graph.BLOCK", 100)
    n, hidden = 4000, 256
    edges = torch.randint(n, (2, 4 * n))
    op = GraphOperator(edges, torch.ones(4 * n), torch.ones(n))
    channel, x = GCNChannel(8, hidden, 4), torch.randn(n, 8)
    layer = 4 * n * hidden
    with torch.no_grad(), LiveBytes() as whole:
        channel(x, op)
    assert whole.peak >= 2 * layer
    with torch.no_grad(), LiveBytes() as blocks:
        channel(x.split(100), BlockedGraph(op))
    assert blocks.peak < 1.25 * layer
