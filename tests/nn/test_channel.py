"""GCN channels: formula, message passing of PyG, attaching new nodes, poison."""

import copy

import pytest
import torch
import torch_geometric.transforms as T
import torch_geometric.typing
from oracles import normalise
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.testing import withCUDA
from torch_geometric.typing import SparseTensor
from toy import toy_data

from pyg_hash.graph import GraphOperator, Receiver, SparseMap, intra_operator, joint_operator
from pyg_hash.nn import CrossModalChannel, GCNChannel, HubGCNConv
from pyg_hash.transforms import InterKNN, IntraKNN, LabelCliques, LabelHub, LabelRate


def graph(form=LabelHub, anchors="train"):
    steps = [LabelRate(0.4), IntraKNN(k=4, anchors=anchors), InterKNN(), form()]
    return T.Compose(steps)(toy_data())


def test_convolution_on_an_operator_equals_edges():
    op = intra_operator(graph(), "image")
    dense = op.to_dense()
    target, source = dense.nonzero().T
    conv = HubGCNConv(12, 5)
    x = torch.randn(60, 12)
    results = []
    for arguments in ((op,), (torch.stack((source, target)), dense[target, source])):
        leaf = x.clone().requires_grad_()
        conv.zero_grad()
        out = conv(leaf, *arguments)
        out.sin().sum().backward()
        results.append((out.detach(), leaf.grad, conv.lin.weight.grad.clone()))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_edges_are_used_as_they_are():
    conv = HubGCNConv(2, 2)
    nn.init.eye_(conv.lin.weight)
    x = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    edge_index = torch.tensor([[0, 1], [2, 2]])
    expected = torch.zeros(3, 2)
    expected[2] = x[0] + x[1]
    torch.testing.assert_close(conv(x, edge_index), expected)
    expected[2] = 0.5 * x[0] - x[1]
    torch.testing.assert_close(conv(x, edge_index, torch.tensor([0.5, -1.0])), expected)


def test_no_weights_are_ignored():
    op = intra_operator(graph(), "image")
    with pytest.raises(ValueError, match="edge_weight: a sparse matrix holds its weights"):
        HubGCNConv(12, 5)(torch.randn(60, 12), op, torch.ones(3))


def test_convolution_has_no_bias():
    assert [name for name, _ in HubGCNConv(3, 4).named_parameters()] == ["lin.weight"]


@pytest.mark.parametrize("form", [LabelHub, LabelCliques])
def test_channel_formula(form):
    op = intra_operator(graph(form), "image")
    channel = GCNChannel(12, 7, 5)
    x = torch.randn(60, 12)
    dense = op.to_dense().double()
    h = torch.tanh(dense @ x.double() @ channel.conv1.lin.weight.double().T)
    second = h @ channel.conv2.lin.weight.double().T
    states, _ = channel(x, op)
    messages = []
    torch.testing.assert_close(channel.infer([x], op, messages), states, rtol=0, atol=1e-6)
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
    receiver = Receiver(torch.stack((start, to)), rows[to, start], 4, 10)
    channel = GCNChannel(6, 8, 3).double()
    x = torch.randn(14, 6, dtype=torch.float64)
    messages = []
    known = channel.infer([x[:10]], op, messages)
    attached = channel.attach(x[10:], messages, receiver)

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
    messages = []
    states = channel.infer([data["image"].x], intra_operator(data, "image"), messages)
    near = data["image", "nearest", "image"]
    query = near.edge_index[1] >= 48
    source, target = near.edge_index[:, query]
    receiver = Receiver(torch.stack((source, target - 48)), near.edge_weight[query], 12, 60)
    attached = channel.attach(data["image"].x[48:], messages, receiver)
    torch.testing.assert_close(attached, states[48:], rtol=0, atol=1e-6)


def test_attach_needs_the_messages_of_every_layer():
    op = intra_operator(graph(), "image")
    channel = GCNChannel(12, 7, 5)
    messages = []
    channel.infer([torch.randn(60, 12)], op, messages)
    receiver = Receiver(torch.tensor([[0], [0]]), torch.ones(1), 1, 60)
    with pytest.raises(ValueError, match="zip"):
        channel.attach(torch.randn(1, 12), messages[:1], receiver)


def test_cross_modal_channel_stacks():
    data = graph()
    op = joint_operator(data)
    cross = CrossModalChannel(6, 8, 4)
    image, text = torch.randn(60, 6), torch.randn(60, 6)
    of_images, of_texts, _ = cross(image, text, op)
    both, _ = cross.channel(torch.cat((image, text)), op)
    torch.testing.assert_close(of_images, both[:60], rtol=0, atol=1e-6)
    torch.testing.assert_close(of_texts, both[60:], rtol=0, atol=1e-6)
    messages = []
    for alone, known in zip(cross.infer([image], [text], op, messages), both.chunk(2), strict=True):
        torch.testing.assert_close(alone, known, rtol=0, atol=1e-6)
    assert [m.shape for m in messages] == [(120, 8), (120, 4)]


def test_modalities_swap_with_the_graph():
    """Images and texts play the same part: a graph with both exchanged exchanges the outputs."""
    data = graph(anchors="all")
    swapped = toy_data()
    for m, other in (("image", "text"), ("text", "image")):
        swapped[m].x = toy_data()[other].x
    steps = [LabelRate(0.4), IntraKNN(k=4, anchors="all"), InterKNN(), LabelHub()]
    swapped = T.Compose(steps)(swapped)
    cross = CrossModalChannel(6, 8, 4)
    a, b = torch.randn(60, 6), torch.randn(60, 6)
    image, text, _ = cross(a, b, joint_operator(data))
    other_image, other_text, _ = cross(b, a, joint_operator(swapped))
    torch.testing.assert_close(image, other_text, rtol=0, atol=1e-6)
    torch.testing.assert_close(text, other_image, rtol=0, atol=1e-6)


def test_rows_that_do_not_match():
    cross = CrossModalChannel(6, 8, 4)
    with pytest.raises(ValueError, match="image and text: 50 and 70 rows"):
        cross(torch.randn(50, 6), torch.randn(70, 6), joint_operator(graph()))


@pytest.mark.parametrize("form", [LabelHub, LabelCliques])
def test_poison_reaches_no_other_node(form):
    data = graph(form)
    cross = CrossModalChannel(6, 8, 4)
    op = joint_operator(data)
    image, text = torch.randn(60, 6), torch.randn(60, 6)
    clean = cross(image, text, op)
    image[50] = float("nan")
    poisoned = cross(image, text, op)
    rest = torch.arange(60) != 50
    assert torch.equal(poisoned[0][rest], clean[0][rest])
    assert torch.equal(poisoned[1], clean[1]), "not even the pair"
    assert bool(poisoned[0][50].isnan().all())


@pytest.mark.parametrize("make", [lambda: GCNChannel(4, 5, 6), lambda: CrossModalChannel(4, 5, 6)])
def test_reset_parameters(make):
    torch.manual_seed(0)
    module = make()
    before = copy.deepcopy(module.state_dict())
    module.reset_parameters()
    assert all(not torch.equal(before[k], v) for k, v in module.state_dict().items())
    torch.manual_seed(0)
    again = make()
    assert all(torch.equal(before[k], v) for k, v in again.state_dict().items())


@withCUDA
def test_devices(device):
    data = graph()
    channel = GCNChannel(12, 7, 5)
    expected, _ = channel(data["image"].x, intra_operator(data, "image"))
    data = data.to(device)
    channel = channel.to(device)
    op, messages = intra_operator(data, "image"), []
    for states in (
        channel(data["image"].x, op)[0],
        channel(data["image"].x, op, constant=True)[0],
        channel.infer(data["image"].x.split(25), op, messages),
    ):
        assert states.device.type == torch.device(device).type
        torch.testing.assert_close(states.detach().cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 60])
def test_blocks_of_rows_change_nothing(rows, monkeypatch):
    data = graph()
    channel = GCNChannel(12, 7, 5)
    x, op = data["image"].x, intra_operator(data, "image")
    expected = []
    states = channel.infer([x], op, expected)
    monkeypatch.setattr("pyg_hash.nn.channel.BLOCK", rows)
    messages = []
    torch.testing.assert_close(channel.infer(x.split(rows), op, messages), states)
    torch.testing.assert_close(channel.infer(x.split(rows), op), states)
    for found, known in zip(messages, expected, strict=True):
        torch.testing.assert_close(found, known)
    assert not states.requires_grad


def adjacencies(op):
    """The same matrix in the forms that PyG knows, row = target."""
    dense = op.to_dense()
    target, source = dense.nonzero().T
    yield "csr", dense.to_sparse_csr()
    yield "coo", dense.to_sparse_coo()
    if torch_geometric.typing.WITH_TORCH_SPARSE:
        value = dense[target, source]
        yield "SparseTensor", SparseTensor(target, None, source, value, dense.shape)


def test_sparse_matrices_in_place_of_an_operator():
    data = graph(anchors="train")
    op = intra_operator(data, "image")
    x = data["image"].x
    channel = GCNChannel(12, 7, 5)
    expected, _ = channel(x, op)
    expected.sin().sum().backward()
    gradients = [p.grad.clone() for p in channel.parameters()]
    for name, adjacency in adjacencies(op):
        channel.zero_grad()
        states, viewed = channel(x, adjacency)
        assert viewed is None
        states.sin().sum().backward()
        torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-6, msg=name)
        for found, parameter in zip(gradients, channel.parameters(), strict=True):
            torch.testing.assert_close(found, parameter.grad, rtol=1e-5, atol=1e-5, msg=name)
        with pytest.raises(ValueError, match="edge_weight: a sparse matrix holds its weights"):
            channel.conv1(x, adjacency, torch.ones(3))


@pytest.mark.skipif(
    not torch_geometric.typing.WITH_TORCH_SPARSE, reason="torch-sparse is not installed"
)
def test_sparse_tensor_of_torch_sparse():
    op = intra_operator(graph(), "image")
    adjacency = dict(adjacencies(op))["SparseTensor"]
    turned = SparseMap.from_adjacency(adjacency)
    torch.testing.assert_close(turned.apply(torch.eye(60)), op.to_dense())
    ones = SparseMap.from_adjacency(adjacency.set_value(None))
    torch.testing.assert_close(ones.apply(torch.eye(60)), (op.to_dense() != 0).float())


@withCUDA
def test_bf16_keeps_the_sums_in_fp32(device):
    """Products with weights are bf16, propagation and states are not."""
    data = graph().to(device)
    op = intra_operator(data, "image")
    channel = GCNChannel(12, 32, 16).to(device)
    exact, _ = channel(data["image"].x, op)
    exact.sum().backward()
    gradients = [p.grad.clone() for p in channel.parameters()]
    for constant in (True, False):
        channel.zero_grad()
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            states, _ = channel(data["image"].x, op, constant=constant)
        assert states.dtype == torch.float32
        torch.testing.assert_close(states, exact, rtol=0, atol=0.03)
        states.sum().backward()
        for found, parameter in zip(gradients, channel.parameters(), strict=True):
            assert parameter.grad.dtype == torch.float32
            assert (found - parameter.grad).norm() < 0.03 * found.norm()


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
    monkeypatch.setattr("pyg_hash.nn.channel.BLOCK", 100)
    n, hidden = 4000, 256
    edges = torch.randint(n, (2, 4 * n))
    op = GraphOperator(edges, torch.ones(4 * n), torch.ones(n))
    channel, x = GCNChannel(8, hidden, 4), torch.randn(n, 8)
    layer = 4 * n * hidden
    with torch.no_grad(), LiveBytes() as whole:
        channel(x, op)
    assert whole.peak >= 2 * layer
    with LiveBytes() as blocks:
        channel.infer(x.split(100), op)
    assert blocks.peak < 1.25 * layer
