"""GraphOperator, NewItems and the operators of a graph: closed forms, gradients, PyG, poison."""

import copy

import pytest
import torch
import torch_geometric.transforms as T
from label_cliques import LabelCliques
from oracles import normalise
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch_geometric.data import HeteroData
from torch_geometric.nn import GCNConv
from torch_geometric.testing import withCUDA
from toy import toy_data

from benchmarks.measure import num_bytes
from pyg_hash.graph import (
    GraphOperator,
    NewItems,
    SparseMap,
    build_graphs,
    graph_operator,
    query_view,
)
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate
from pyg_hash.transforms.graphs import check_graph
from pyg_hash.typing import INTRA, NEAREST
from pyg_hash.utils.csr import sorted_csr


def both_ways(*pairs: tuple[int, int]) -> Tensor:
    return torch.tensor([p for a, b in pairs for p in ((a, b), (b, a))]).T.reshape(2, -1)


def operator(edge_index: Tensor, num_nodes: int, weight: float = 1.0) -> GraphOperator:
    ones = torch.ones(num_nodes, dtype=torch.float64)
    return GraphOperator(edge_index, ones.new_full((edge_index.size(1),), weight), ones)


def random_graph(num_nodes: int = 12, *, symmetric: bool = True, hub: bool = True, seed: int = 0):
    """A GraphOperator in float64 and the dense array it stands for."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(num_nodes, num_nodes, generator=generator, dtype=torch.float64)
    dense = dense * (torch.rand(num_nodes, num_nodes, generator=generator) < 0.3)
    dense.fill_diagonal_(0)
    if symmetric:
        dense = dense + dense.T
    target, source = dense.nonzero().T
    loops = 0.5 + torch.rand(num_nodes, generator=generator, dtype=torch.float64)
    hubs = ()
    full = dense + torch.diag(loops)
    if hub:
        members = torch.tensor([1, 2, 4, 7, 8, 11])
        index = torch.tensor([0, 1, 1, 0, 2, 2])
        overlap = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
        hubs = spread_of(members, index, num_nodes), overlap.double().to_sparse_csr()
        spread = torch.zeros(num_nodes, 3, dtype=torch.float64)
        spread[members, index] = 1.0
        full = full + spread @ overlap.double() @ spread.T
    edges = torch.stack((source, target))
    return GraphOperator(edges, dense[target, source], loops, *hubs), normalise(full)


def spread_of(members, index, num_nodes, dtype=torch.float64):
    """Ones where nodes are in hubs."""
    ones = torch.ones(len(members), dtype=dtype)
    return sorted_csr(members, index, ones, num_nodes, int(index.max()) + 1)


def graph(form=LabelHub, *, anchors="train", rate=0.4, weight="binary", **label) -> HeteroData:
    knn = IntraKNN(k=4, anchors=anchors, weight=weight)
    return T.Compose([LabelRate(rate), knn, InterKNN(), form(**label)])(toy_data())


def test_edge_of_half():
    dense = operator(both_ways((0, 1)), 2, 0.5).to_dense()
    expected = torch.tensor([[2.0, 1], [1, 2]], dtype=torch.float64) / 3
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-14)


def test_triangle():
    dense = operator(both_ways((0, 1), (1, 2), (0, 2)), 3).to_dense()
    torch.testing.assert_close(dense, torch.full((3, 3), 1 / 3).double(), rtol=0, atol=1e-8)
    hub = torch.ones(3, 1).to_sparse_csr()
    empty = torch.zeros(2, 0, dtype=torch.int64)
    factored = GraphOperator(empty, torch.zeros(0), torch.zeros(3), hub)
    torch.testing.assert_close(factored.to_dense(), torch.full((3, 3), 1 / 3))


def test_lonely_node_keeps_its_state():
    dense = operator(both_ways((0, 1)), 4).to_dense()
    assert torch.equal(dense[2:, 2:], torch.eye(2).double())


@pytest.mark.parametrize("form", [LabelHub, LabelCliques])
@pytest.mark.parametrize(
    ("loops", "pairs", "expected"),
    [
        ("literal", "labeled", [[2 / 3, 1 / 3], [1 / 3, 2 / 3]]),
        ("literal", "all", [[2 / 3, 1 / 3], [1 / 3, 2 / 3]]),
        ("clean", "all", [[0.5, 0.5], [0.5, 0.5]]),
        ("clean", "none", [[1.0, 0.0], [0.0, 1.0]]),
    ],
)
def test_one_labelled_pair(form, loops, pairs, expected):
    """Two nodes of different classes: each is alone but for its own pair."""
    data = HeteroData()
    data.num_classes = 2
    for m in ("image", "text"):
        data[m].x = torch.eye(2)
        data[m].y = torch.arange(2)
        data[m].train_mask = data[m].labeled_mask = torch.ones(2, dtype=torch.bool)
    steps = [IntraKNN(k=1), InterKNN(pair_edges=pairs), form(self_loops=loops)]
    dense = graph_operator(T.Compose(steps)(data)).to_dense()
    torch.testing.assert_close(dense[[0, 2]][:, [0, 2]], torch.tensor(expected))
    torch.testing.assert_close(dense[[1, 3]][:, [1, 3]], torch.tensor(expected))
    assert torch.equal(dense[[0, 2]][:, [1, 3]], torch.zeros(2, 2))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("hub", [True, False])
def test_dense_formula_and_gradients(symmetric, hub):
    op, dense = random_graph(symmetric=symmetric, hub=hub)
    x = torch.randn(12, 3, dtype=torch.float64, requires_grad=True)
    assert is_symmetric(op) == symmetric
    torch.testing.assert_close(op.to_dense(), dense, rtol=0, atol=1e-14)
    torch.testing.assert_close(op.apply(x.detach(), transposed=True), transposed_product(op, x))
    assert gradcheck(lambda v: op @ v, x)
    assert gradgradcheck(lambda v: (op @ v).tanh(), x)


def transposed_product(op: GraphOperator, x: Tensor) -> Tensor:
    return op.to_dense().T @ x.detach()


def test_parallel_edges_and_explicit_loops_add_up():
    edges = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0]])
    weight = torch.tensor([0.5, 1.5, 2.0, 3.0], dtype=torch.float64)
    op = GraphOperator(edges, weight, torch.ones(2, dtype=torch.float64))
    expected = normalise(torch.tensor([[4.0, 2], [2, 1]], dtype=torch.float64))
    torch.testing.assert_close(op.to_dense(), expected)


@pytest.mark.parametrize("factor", [1.0, 1e-12])
def test_symmetry_is_relative(factor):
    """Tiny weights that differ are still different."""
    edges = torch.tensor([[0, 1], [1, 0]])
    weight = factor * torch.tensor([1.0, 2.0], dtype=torch.float64)
    op = GraphOperator(edges, weight, torch.ones(2, dtype=torch.float64))
    assert not is_symmetric(op)
    x = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    (op @ x)[0].sum().backward()
    torch.testing.assert_close(x.grad.squeeze(1), op.to_dense()[0], rtol=1e-12, atol=0)


def test_symmetry_of_the_protocols():
    for form in (LabelHub, LabelCliques):
        full = graph(form, anchors="all", weight="similarity")
        assert is_symmetric(graph_operator(full))
        assert is_symmetric(graph_operator(full, "text"))
        assert not is_symmetric(graph_operator(graph(form)))


@pytest.mark.parametrize("value", [-1.0, -2.0, float("nan"), float("inf")])
def test_bad_degrees(value):
    with pytest.raises(ValueError, match=r"edge_weight: node 1 has degree .*positive and finite"):
        GraphOperator(torch.tensor([[0], [1]]), torch.tensor([value]), torch.ones(3))


def test_zero_degree():
    empty = torch.zeros(2, 0, dtype=torch.int64)
    with pytest.raises(ValueError, match="node 0 has degree 0"):
        GraphOperator(empty, torch.zeros(0), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("weight", ["binary", "similarity"])
@pytest.mark.parametrize("loops", ["clean", "literal"])
@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("anchors", ["train", "all"])
def test_equals_message_passing_of_pyg(weight, loops, rate, anchors):
    """GCNConv normalises and propagates the materialised graph by itself."""
    options = {"anchors": anchors, "weight": weight, "rate": rate, "self_loops": loops}
    hub = graph_operator(graph(LabelHub, **options))
    data = graph(LabelCliques, **options)
    index, weights = stacked_edges(data)
    conv = GCNConv(6, 5, add_self_loops=False, bias=False)
    states = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
    seen = torch.randn(120, 5, generator=torch.Generator().manual_seed(1))
    results = []
    for propagate in (lambda x: conv(x, index, weights), lambda x: hub @ conv.lin(x)):
        x = states.clone().requires_grad_()
        conv.zero_grad()
        out = propagate(x)
        (out * seen).sum().backward()
        results.append((out.detach(), x.grad, conv.lin.weight.grad.clone()))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def stacked_edges(data: HeteroData) -> tuple[Tensor, Tensor]:
    """The edges of Eq. 2 on 2N nodes with their self-loops, built from the data alone."""
    offset = {"image": 0, "text": 60}
    index, weight = [], []
    for source, kind, target in data.edge_types:
        strict = (source, "joint", target) in data.edge_types
        if kind not in (("joint" if strict else "intra"), "inter"):
            continue
        edges = data[source, kind, target]
        shift = torch.tensor([[offset[source]], [offset[target]]])
        index.append(edges.edge_index + shift)
        weight.append(edges.edge_weight)
    loop = torch.arange(120)
    index.append(torch.stack((loop, loop)))
    weight += [data["image"].self_loop, data["text"].self_loop]
    return torch.cat(index, dim=1), torch.cat(weight)


@pytest.mark.parametrize("form", [LabelHub, LabelCliques])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_poison_stays_in_its_row(form, value):
    data = graph(form)
    for op, rows in ((graph_operator(data, "image"), 60), (graph_operator(data), 120)):
        x = torch.randn(rows, 4)
        clean = op @ x
        x[55] = value
        out = op @ x
        others = torch.arange(rows) != 55
        assert torch.equal(out[others], clean[others])
        assert not bool(out[55].isfinite().any())


def test_same_result_twice():
    for _ in range(2):
        a, b = (graph_operator(graph(weight="similarity")) for _ in range(2))
        x = torch.randn(120, 8)
        assert torch.equal(a @ x, b @ x)
        assert torch.equal(a @ x, a @ x)
        grads = []
        for op in (a, b):
            leaf = x.clone().requires_grad_()
            (op @ leaf).square().sum().backward()
            grads.append(leaf.grad)
        assert torch.equal(*grads)


def test_strided_and_narrow_input():
    op, dense = random_graph()
    x = torch.randn(5, 24, dtype=torch.float64)[:, ::2].T
    assert not x.is_contiguous()
    torch.testing.assert_close(op @ x, dense @ x)
    assert (op @ x[:, :0]).shape == (12, 0)


def enlarged(op: Tensor, known: int, rows: Tensor) -> Tensor:
    """The normalised operator with ``rows`` (weights ``[new, known]``) appended, float64."""
    new = len(rows)
    top = torch.cat((op, torch.zeros(known, new, dtype=torch.float64)), dim=1)
    bottom = torch.cat((rows, torch.eye(new, dtype=torch.float64)), dim=1)
    return normalise(torch.cat((top, bottom)))


def test_receiver_equals_the_rows_of_the_enlarged_operator():
    generator = torch.Generator().manual_seed(2)
    raw = torch.rand(9, 9, generator=generator, dtype=torch.float64)
    raw = raw + raw.T
    rows = torch.rand(4, 9, generator=generator, dtype=torch.float64)
    rows = rows * (torch.rand(4, 9, generator=generator) < 0.5)
    rows[3] = 0  # a new item without neighbours keeps its own state
    dense = enlarged(raw, 9, rows)
    target, source = rows.nonzero().T
    receiver = NewItems(torch.stack((source, target)), rows[target, source], 4, 9)
    x = torch.randn(13, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    scale = raw.sum(1).rsqrt()[:, None]
    expected = (dense @ x)[9:]
    got = receiver(scale * x[:9], x[9:])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(got[3], x[12], rtol=0, atol=1e-14)
    seen = torch.randn(4, 5, dtype=torch.float64)
    wanted, found = (torch.autograd.grad((v * seen).sum(), x)[0] for v in (expected, got))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)
    assert gradcheck(lambda v: receiver(v[:9], v[9:]), x)


def test_receiver_without_rows_or_edges():
    empty = torch.zeros(2, 0, dtype=torch.int64)
    nobody = NewItems(empty, torch.zeros(0), 0, 9)
    assert nobody(torch.randn(9, 3), torch.zeros(0, 3)).shape == (0, 3)
    alone = NewItems(empty, torch.zeros(0), 2, 9)
    own = torch.randn(2, 3)
    assert torch.equal(alone(torch.randn(9, 3), own), own)


@pytest.mark.parametrize("anchors", ["train", "all"])
@pytest.mark.parametrize("weight", ["binary", "similarity"])
def test_query_view(anchors, weight):
    """Labelled nodes receive from their k nearest anchors, never by their label or pair."""
    data = graph(anchors=anchors, weight=weight)
    labelled = data["text"].labeled_mask.nonzero().flatten()
    near = data["text", "nearest", "text"]
    rows = torch.zeros(60, 60, dtype=torch.float64)
    rows[near.edge_index[1], near.edge_index[0]] = near.edge_weight.double()
    own, joint = rows[labelled], torch.cat((rows, rows), dim=1)[labelled]
    for weights, receiver in (
        (own, query_view(data, "text")),
        (joint, query_view(data, "text", joint=True)),
    ):
        messages, state = torch.randn(weights.size(1), 3), torch.randn(len(labelled), 3)
        scale = (1 + weights.sum(1)).rsqrt()[:, None]
        expected = scale * (weights @ messages.double() + scale * state.double())
        got = receiver(messages, state).double()
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_query_view_of_the_strict_protocol_hears_joint_anchors_only():
    steps = [LabelRate(0.4), IntraKNN(k=9, anchors="all"), InterKNN(anchors="train"), LabelHub()]
    data = T.Compose(steps)(toy_data())
    messages = torch.randn(120, 2)
    messages[48:60] = messages[108:] = float("nan")
    out = query_view(data, "image", joint=True)(messages, torch.zeros(int(labelled(data)), 2))
    assert bool(out.isfinite().all())
    inside = query_view(data, "image")(messages[:60], torch.zeros(int(labelled(data)), 2))
    assert not bool(inside.isfinite().all())


def labelled(data: HeteroData) -> Tensor:
    return data["image"].labeled_mask.sum()


@pytest.mark.parametrize("rate", [0.0, 0.4])
@pytest.mark.parametrize(("specific", "joint"), [(True, True), (True, False), (False, True)])
def test_build_graphs(rate, specific, joint):
    built = build_graphs(graph(rate=rate), specific=specific, joint=joint)
    expected = ({"image", "text"} if specific else set()) | ({"joint"} if joint else set())
    assert set(built.operators) == expected
    assert set(built.views) == expected
    assert built.constant


def test_missing_edges():
    plain = toy_data()
    intra = IntraKNN(k=3)(plain)
    for build in (
        build_graphs,
        graph_operator,
        lambda d: graph_operator(d, "image"),
        lambda d: query_view(d, "text"),
    ):
        with pytest.raises(ValueError, match="data: has no intra edges; apply IntraKNN"):
            build(plain)
    for build in (build_graphs, graph_operator, lambda d: query_view(d, "text", joint=True)):
        with pytest.raises(ValueError, match="data: has no inter edges; apply InterKNN"):
            build(intra)
    assert plain.edge_types == []
    for kind in (INTRA, NEAREST):
        bare = copy.copy(intra)
        del bare[kind["text"]].edge_weight
        with pytest.raises(ValueError, match="has no edge_weight; make them by IntraKNN"):
            check_graph(bare)
    one_side = intra.subgraph({"image": torch.arange(50)})
    with pytest.raises(ValueError, match="50 images and 60 texts; row i of both must be a pair"):
        check_graph(one_side)
    assert set(build_graphs(intra, joint=False).operators) == {"image", "text"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_features_of_any_float_type(dtype):
    data = toy_data()
    expected = graph_operator(InterKNN()(IntraKNN(k=3)(data))).to_dense()
    knn = InterKNN()(IntraKNN(k=3)(data))
    for m in ("image", "text"):
        knn[m].x = knn[m].x.to(dtype)
    assert torch.equal(graph_operator(knn).to_dense(), expected)


@withCUDA
@pytest.mark.parametrize("form", [LabelHub, LabelCliques])
def test_devices(device, form):
    here, there = graph(form), graph(form).to(device)
    x = torch.randn(120, 6)
    for build in (graph_operator, lambda d: graph_operator(d, "text")):
        op, moved = build(here), build(there)
        rows = op.inv_sqrt_degree.numel()
        leaf = x[:rows].to(device).requires_grad_()
        out = moved @ leaf
        out.sum().backward()
        assert out.device == torch.device(device)
        torch.testing.assert_close(out.cpu(), op @ x[:rows], rtol=1e-5, atol=1e-5)
        ones = op.apply(torch.ones(rows, 6), transposed=True)
        torch.testing.assert_close(leaf.grad.cpu(), ones, rtol=1e-5, atol=1e-5)
        assert is_symmetric(op) == is_symmetric(moved)
    own = torch.randn(int(labelled(here)), 6)
    view, moved = (query_view(d, "image", joint=True) for d in (here, there))
    got = moved(x.to(device), own.to(device))
    torch.testing.assert_close(got.cpu(), view(x, own), rtol=1e-5, atol=1e-5)


def test_given_degrees_replace_the_row_sums():
    edges = torch.tensor([[1, 2, 0], [0, 0, 1]])
    weight = torch.tensor([0.5, 1.5, 2.0], dtype=torch.float64)
    ones = torch.ones(3, dtype=torch.float64)
    degree = torch.tensor([4.0, 9.0, 16.0], dtype=torch.float64)
    dense = GraphOperator(edges, weight, ones, degree=degree).to_dense()
    raw = torch.tensor([[1, 0.5, 1.5], [2, 1, 0], [0, 0, 1]], dtype=torch.float64)
    scale = degree.rsqrt()
    torch.testing.assert_close(dense, scale[:, None] * raw * scale)
    with pytest.raises(ValueError, match="node 1 has degree 0"):
        GraphOperator(edges, weight, ones, degree=torch.tensor([1.0, 0.0, 1.0]))


@pytest.mark.parametrize("hub", [True, False])
@pytest.mark.parametrize("size", [1, 5, 12, 100])
def test_blocks_of_the_product(hub, size):
    op, dense = random_graph(hub=hub, symmetric=False)
    x = torch.randn(12, 3, dtype=torch.float64)
    blocks = list(op.blocks(x, size))
    assert all(len(block) == size for block in blocks[:-1])
    torch.testing.assert_close(torch.cat(blocks), dense @ x)


def test_overlap_in_one_direction():
    overlap = torch.tensor([[1.0, 0.5, 0], [0, 1, 0], [0, 2, 1]], dtype=torch.float64)
    members, index = torch.tensor([0, 1, 2, 2, 4]), torch.tensor([0, 1, 0, 2, 2])
    spread = torch.zeros(5, 3, dtype=torch.float64)
    spread[members, index] = 1.0
    expected = normalise(spread @ overlap @ spread.T + torch.eye(5, dtype=torch.float64))
    empty, none = torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    ones = torch.ones(5, dtype=torch.float64)
    op = GraphOperator(empty, none, ones, spread.to_sparse_csr(), overlap.to_sparse_csr())
    assert not is_symmetric(op)
    torch.testing.assert_close(op.to_dense(), expected)
    back = op.apply(torch.eye(5, dtype=torch.float64), transposed=True)
    torch.testing.assert_close(back, expected.T)
    assert gradcheck(lambda v: op @ v, torch.randn(5, 2).double().requires_grad_())


def test_constant_features_are_propagated_once(monkeypatch):
    op, dense = random_graph()
    x = torch.randn(12, 3, dtype=torch.float64)
    kept = op.of_constant(x)
    torch.testing.assert_close(kept, dense @ x)
    assert op.of_constant(x) is kept
    assert op.of_constant(x.clone()) is not kept
    kept = op.of_constant(x)
    x.mul_(2)
    torch.testing.assert_close(op.of_constant(x), 2 * kept)
    with torch.inference_mode():  # counts no changes, so that one could be missed
        x = torch.randn(12, 3, dtype=torch.float64)
        first = op.of_constant(x)
        x.mul_(2)
        torch.testing.assert_close(op.of_constant(x), 2 * first)


def is_symmetric(op):
    """Whether the backward pass uses the same matrices as the forward pass."""
    return all(a is b for a, b in zip(op._transposes, (op.matrix, op._middle), strict=True))


def test_a_matrix_as_it_is():
    dense = torch.tensor([[0.0, 2, 0], [1, 0, 3]])
    turned = SparseMap(dense.to_sparse_csr())
    x = torch.randn(3, 4, requires_grad=True)
    out = turned @ x
    torch.testing.assert_close(out, dense @ x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, dense.sum(0)[:, None].expand(3, 4))
    assert turned.num_entries == 3
    assert not is_symmetric(turned)


def test_hubs_take_no_room():
    """8 bytes an entry and 4 a row, whatever the number of pairs in the cliques."""
    members = torch.arange(400)
    hub = spread_of(members, members % 5, 400, torch.float32)
    empty = torch.zeros(2, 0, dtype=torch.int64)
    op = GraphOperator(empty, torch.zeros(0), torch.zeros(400), hub)
    assert is_symmetric(op)
    assert op.num_entries == 0
    assert num_bytes(op) == 2 * 8 * 400 + 4 * (401 + 401 + 6)
    cliques = (members[:, None] % 5 == members % 5).nonzero().T
    plain = GraphOperator(cliques, torch.ones(cliques.size(1)), torch.zeros(400))
    x = torch.randn(400, 3)
    torch.testing.assert_close(op @ x, plain @ x, rtol=1e-5, atol=1e-6)
    assert num_bytes(plain) == 8 * 400 * 80 + 4 * 401


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_summed_in_that_of_the_matrix(dtype):
    op = graph_operator(graph())
    x = torch.randn(120, 3).to(dtype).requires_grad_()
    out = op @ x
    assert out.dtype == torch.float32
    assert torch.equal(op.of_constant(x), out)
    torch.testing.assert_close(out, op @ x.float())
    out.sum().backward()
    assert x.grad.dtype == dtype
