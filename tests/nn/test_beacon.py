"""Fusion, label graph and beacon network, against dense float64 references."""

import pytest
import torch
from oracles import normalise

from pyg_hash.nn import BeaconNetwork, LabelGraph, reweighted_fusion


def random_labels(n=9, num_classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, num_classes, generator=generator) < 0.4).double()
    labels[:, 0] = torch.maximum(labels[:, 0], (labels.sum(1) == 0).double())
    return labels


def dense_graph(labels, add_self_loops=True):
    """Eq. 7 as printed; rows without any edge stay zero."""
    graph = labels @ labels.T
    if add_self_loops:
        graph = graph + torch.eye(len(labels), dtype=labels.dtype)
    return torch.nan_to_num(normalise(graph), nan=0.0)


def test_paper_and_code_by_hand():
    """gcn_norm would keep the loops of A = L L^T and so give the code's matrix for the paper's."""
    labels = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    paper = torch.tensor([[3 / 4, 12**-0.5], [12**-0.5, 2 / 3]], dtype=torch.float64)
    code = torch.tensor([[2 / 3, 6**-0.5], [6**-0.5, 1 / 2]], dtype=torch.float64)
    assert torch.allclose(LabelGraph(labels) @ eye, paper, atol=1e-15)
    assert torch.allclose(LabelGraph(labels, add_self_loops=False) @ eye, code, atol=1e-15)
    assert torch.allclose(paper, torch.tensor([[0.75, 0.289], [0.289, 0.667]]).double(), atol=1e-3)
    assert torch.allclose(code, torch.tensor([[0.667, 0.408], [0.408, 0.5]]).double(), atol=1e-3)


@pytest.mark.parametrize("add_self_loops", [True, False])
@pytest.mark.parametrize("single_label", [True, False])
def test_equals_the_dense_graph(add_self_loops, single_label):
    labels = random_labels()
    if single_label:
        labels = torch.nn.functional.one_hot(torch.arange(9) % 4).double()
    x = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 5, dtype=torch.float64)
    got = LabelGraph(labels, add_self_loops=add_self_loops) @ x
    want = dense_graph(labels, add_self_loops) @ x
    assert torch.allclose(got, want, atol=1e-12, rtol=0)
    one, two = (torch.autograd.grad((y * weight).sum(), x)[0] for y in (got, want))
    assert torch.allclose(one, two, atol=1e-12, rtol=0)


def test_a_row_without_labels():
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([[2.0], [3.0]], dtype=torch.float64)
    alone = LabelGraph(labels) @ x
    assert torch.allclose(alone, x, atol=1e-15)  # each has its self-loop only
    assert (LabelGraph(labels, add_self_loops=False) @ x).tolist() == [[2.0], [0.0]]


def test_many_rows_need_no_square_array():
    """10^5 rows: their adjacency would take 40 GB."""
    labels = torch.nn.functional.one_hot(torch.arange(100_000) % 7).float()
    assert torch.allclose(LabelGraph(labels) @ torch.ones(100_000, 1), torch.ones(1), atol=1e-3)


def test_bad_labels():
    with pytest.raises(TypeError, match="labels: expected float"):
        LabelGraph(torch.ones(3, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"labels: expected multi-hot \[N, C\]"):
        LabelGraph(torch.ones(3))


def network(**kwargs):
    torch.manual_seed(0)
    return BeaconNetwork(6, 7, 5, 4, **kwargs).double()


def batch(seed=1):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(9, 6, generator=generator).double().requires_grad_()
    text = torch.randn(9, 6, generator=generator).double().requires_grad_()
    return image, text, random_labels()


def standardised(x):
    return (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()


@pytest.mark.parametrize("norm", ["max", "softmax"])
@pytest.mark.parametrize("add_self_loops", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_beacon_network_equals_dense_layers(norm, add_self_loops, activation):
    gcn = network(norm=norm, add_self_loops=add_self_loops, activation=activation)
    image, text, labels = batch()
    graph = dense_graph(labels, add_self_loops)
    x = standardised(reweighted_fusion(image, text, norm=norm))
    h = (graph @ x @ gcn.lin.weight.T).relu()
    want = getattr(graph @ h @ gcn.hash.weight.T, activation)(), graph @ h @ gcn.classifier.weight.T
    got = gcn(image, text, labels)
    for one, two in zip(got, want, strict=True):
        assert torch.allclose(one, two, atol=1e-12)
    gradients = [
        torch.autograd.grad(sum(part.square().sum() for part in pair), [image, *gcn.parameters()])
        for pair in (got, want)
    ]
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, atol=1e-10)


def test_gch_a_has_dense_layers_and_sees_no_label():
    gcn = network(dense=True)
    image, text, labels = batch()
    x = standardised(reweighted_fusion(image, text))
    want = torch.tanh(gcn.hash(gcn.lin(x).relu()))
    assert torch.allclose(gcn(image, text, labels)[0], want, atol=1e-12)
    assert torch.allclose(gcn(image, text, labels * torch.nan)[0], want, atol=1e-12)
    assert gcn.lin.bias is not None and network().lin.bias is None


def test_codes_do_not_depend_on_the_size_of_the_features():
    gcn = network()
    image, text, labels = batch()
    want = gcn(image, text, labels)[0]
    assert torch.allclose(gcn(10 * image, 10 * text, labels)[0], want, atol=1e-5)


def test_fixed_has_gradients_to_the_features_alone():
    gcn = network()
    image, text, labels = batch()
    codes = gcn.fixed(image, text.detach(), labels)
    assert torch.equal(codes, gcn(image, text, labels)[0])
    codes.square().sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in gcn.parameters())


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, dense):
    gcn, (image, text, labels) = network(dense=dense), batch()
    want = gcn(image, text, labels)
    got = gcn.to(dtype)(image.to(dtype), text.to(dtype), labels.to(dtype))
    for one, two in zip(got, want, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), two, rtol=0, atol=0.1)


def test_reset_draws_anew():
    gcn = network()
    before = [p.clone() for p in gcn.parameters()]
    gcn.reset_parameters()
    assert not any(torch.equal(a, b) for a, b in zip(before, gcn.parameters(), strict=True))


@pytest.mark.parametrize(
    ("kwargs", "match"), [({"norm": "l2"}, "norm"), ({"activation": "relu"}, "activation")]
)
def test_bad_options(kwargs, match):
    with pytest.raises(ValueError, match=match):
        network(**kwargs)


@pytest.mark.parametrize("sizes", [(0, 7, 5, 4), (6, 0, 5, 4), (6, 7, 0, 4), (6, 7, 5, 0)])
def test_bad_sizes(sizes):
    with pytest.raises(ValueError, match="positive integer"):
        BeaconNetwork(*sizes)


def features(n=11, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(n, width, generator=generator).double() for _ in range(2)]
    return [x.requires_grad_() for x in draw]


def dense_fusion(image, text, norm):
    relation = image @ text.T  # Eq. 6: f^x f^y^T
    if norm == "softmax":
        scaled = relation / image.size(1) ** 0.5
        return 0.5 * (scaled.T.softmax(1) @ image + scaled.softmax(1) @ text)
    weights = relation / relation.max() if relation.max() > 0 else relation
    return 0.5 * (weights.T @ image + weights @ text)


def test_fusion_by_hand():
    fused = reweighted_fusion(torch.eye(2), torch.diag(torch.tensor([2.0, 1.0])))
    assert torch.equal(fused, torch.diag(torch.tensor([1.5, 0.5])))


@pytest.mark.parametrize("norm", ["max", "softmax"])
@pytest.mark.parametrize("chunk", [1, 4, 1024])
def test_fusion_equals_the_dense_formula(norm, chunk, monkeypatch):
    monkeypatch.setattr("pyg_hash.nn.beacon._CHUNK", chunk)
    image, text = features()
    got = reweighted_fusion(image, text, norm=norm)
    want = dense_fusion(image, text, norm)
    assert torch.allclose(got, want, atol=1e-12, rtol=0)
    weight = torch.randn(got.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad((y * weight).sum(), [image, text]) for y in (got, want)]
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, atol=1e-12, rtol=0)
    with torch.no_grad():
        assert torch.equal(reweighted_fusion(image, text, norm=norm), got)


def test_each_modality_is_weighted_by_the_other():
    """Row i of a modality's part is a sum over rows j by the relation of its pair to them."""
    image, text = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # W = [[1, 1], [0, 0]]: both texts relate to image 0; image 1 relates to no text
    expected = 0.5 * (
        torch.tensor([[1.0, 0.0], [1.0, 0.0]]) + torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    )
    assert torch.equal(reweighted_fusion(image, text), expected)


@pytest.mark.parametrize("scale", [-1.0, 0.0])
def test_without_a_positive_relation_nothing_is_divided(scale):
    image = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    fused = reweighted_fusion(image, scale * image)
    assert torch.allclose(fused, dense_fusion(image, scale * image, "max"))
    assert torch.isfinite(fused).all()


def test_max_of_many_rows_needs_no_square_array():
    """20,000 rows: their relation would take 1.6 GB."""
    image = torch.zeros(20_000, 2)
    image[-1] = 1
    fused = reweighted_fusion(image[:, :1].expand(-1, 2) * 3, image)
    assert torch.isfinite(fused).all()


def test_fusion_errors():
    image, text = features()
    with pytest.raises(ValueError, match=r"image and text: shapes \[11, 4\] and \[11, 3\]"):
        reweighted_fusion(image, text[:, 1:])
