"""The likelihood of GCH's pairs, in the paper's form and in its code's."""

import math

import pytest
import torch

from pyg_hash.losses import pairwise_nll, similar_distance_loss, similarity_likelihood

SAME, DIFFERENT = torch.tensor([0]), torch.tensor([1])


def code_pair(theta, factor):
    """Two one-bit codes whose scaled inner product is ``theta``."""
    return torch.tensor([[theta / factor]], dtype=torch.float64), torch.ones(1, 1).double()


def dense(a, b, share, factor, similar, squared):
    theta = factor * (a @ b.T)
    cost = torch.log1p(theta.exp()) - similar * share * theta
    return cost.square() if squared else cost


def random_sets(multi_label, n=7, m=5, bits=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = (2 * torch.rand(n, bits, generator=generator) - 1).double().requires_grad_()
    b = (2 * torch.rand(m, bits, generator=generator) - 1).double().requires_grad_()
    if multi_label:
        a_y = (torch.rand(n, 4, generator=generator) < 0.4).float()
        b_y = (torch.rand(m, 4, generator=generator) < 0.4).float()
        share = ((a_y @ b_y.T) > 0).double()
    else:
        a_y = torch.randint(0, 3, (n,), generator=generator)
        b_y = torch.randint(0, 3, (m,), generator=generator)
        share = (a_y[:, None] == b_y[None]).double()
    return a, b, a_y, b_y, share


@pytest.mark.parametrize(
    ("theta", "other", "expected"),
    [(2.0, SAME, 0.126928), (2.0, DIFFERENT, 2.126928), (0.0, SAME, math.log(2))],
)
def test_nll_by_hand(theta, other, expected):
    a, b = code_pair(theta, 0.5)
    assert similarity_likelihood(a, b, SAME, other).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("theta", "other", "expected"), [(4.0, SAME, 4.906e-4), (4.0, DIFFERENT, 16.14553)]
)
def test_squared_nll_by_hand(theta, other, expected):
    a, b = code_pair(theta, 1.0)
    value = similarity_likelihood(a, b, SAME, other, kind="squared_nll").item()
    assert value == pytest.approx(expected, rel=1e-3)


def test_squared_nll_has_its_optimum_where_the_target_says():
    """With S = 0.999 the slope is zero at log(0.999 / 0.001) = 6.907."""
    a, b = code_pair(math.log(999), 1.0)
    a.requires_grad_()
    similarity_likelihood(a, b, SAME, SAME, kind="squared_nll").backward()
    assert abs(a.grad.item()) < 1e-12


@pytest.mark.parametrize("theta", [500.0, -500.0])
@pytest.mark.parametrize("other", [SAME, DIFFERENT])
def test_no_overflow(theta, other):
    a, b = code_pair(theta, 0.5)
    share = float(other is SAME)
    expected = max(theta, 0.0) - share * theta
    assert similarity_likelihood(a, b, SAME, other).item() == pytest.approx(expected)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("kind", ["nll", "squared_nll"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("factor", "similar"), [(None, None), (0.8, 0.9)])
def test_value_and_gradient_equal_the_dense_formula(multi_label, kind, reduction, factor, similar):
    a, b, a_y, b_y, share = random_sets(multi_label)
    own_factor, own_similar = (0.5, 1.0) if kind == "nll" else (1.0, 0.999)
    expected = dense(
        a, b, share, factor or own_factor, similar or own_similar, kind == "squared_nll"
    )
    expected = expected.mean() if reduction == "mean" else expected.sum()
    value = similarity_likelihood(
        a,
        b,
        a_y,
        b_y,
        kind=kind,
        factor=factor,
        similar=similar,
        reduction=reduction,
        chunk_size=3,
    )
    assert value.item() == pytest.approx(expected.item(), abs=1e-12)
    got = torch.autograd.grad(3 * value, [a, b])
    want = torch.autograd.grad(3 * expected, [a, b])
    for one, two in zip(got, want, strict=True):
        assert torch.allclose(one, two, atol=1e-12)


def test_codes_paired_with_themselves():
    a, _, a_y, _, _ = random_sets(False)
    share = (a_y[:, None] == a_y[None]).double()
    value = similarity_likelihood(a, a, a_y, a_y, chunk_size=2)
    expected = dense(a, a, share, 0.5, 1.0, False).mean()
    assert value.item() == pytest.approx(expected.item(), abs=1e-12)
    assert torch.allclose(
        torch.autograd.grad(value, a)[0], torch.autograd.grad(expected, a)[0], atol=1e-12
    )


def test_nll_is_the_likelihood_of_mcgcn():
    a, b, a_y, b_y, _ = random_sets(True)
    ours = similarity_likelihood(a, b, a_y, b_y)
    assert ours.item() == pytest.approx(pairwise_nll(a, b, a_y, b_y).item(), abs=1e-12)


@pytest.mark.parametrize("loss", [similarity_likelihood, similar_distance_loss])
def test_no_rows_cost_nothing(loss):
    a = torch.zeros(0, 4, requires_grad=True)
    b, none = torch.ones(3, 4), torch.zeros(0, dtype=torch.long)
    value = loss(a, b, none, torch.tensor([0, 1, 2]))
    value.backward()
    assert value.item() == 0
    assert a.grad.shape == (0, 4)


def test_second_derivatives_are_refused():
    a, b, a_y, b_y, _ = random_sets(False)
    value = similarity_likelihood(a, b, a_y, b_y)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(value, a, create_graph=True)


def test_half_precision_regions_leave_it_exact():
    a, b, a_y, b_y, _ = random_sets(False)
    expected = similarity_likelihood(a.float(), b.float(), a_y, b_y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(similarity_likelihood(a.float(), b.float(), a_y, b_y), expected)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_similar_distance_equals_the_dense_formula(multi_label, reduction):
    a, b, a_y, b_y, share = random_sets(multi_label)
    distance = (a[:, None] - b[None]).square().sum(-1)
    expected = getattr(share * distance, reduction)()
    value = similar_distance_loss(a, b, a_y, b_y, reduction=reduction, chunk_size=3)
    assert value.item() == pytest.approx(expected.item(), abs=1e-12)
    got, want = (torch.autograd.grad(v, [a, b]) for v in (value, expected))
    for one, two in zip(got, want, strict=True):
        assert torch.allclose(one, two, atol=1e-12)


@pytest.mark.parametrize("multi_label", [False, True])
def test_similar_distance_ignores_half_precision_regions(multi_label):
    a, b, a_y, b_y, _ = random_sets(multi_label)
    expected = similar_distance_loss(a.float(), b.float(), a_y, b_y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(similar_distance_loss(a.float(), b.float(), a_y, b_y), expected)


def test_similar_distance_by_hand():
    """The report's Eq. 11: equal codes and S = I cost nothing; one pair at distance 2 costs 4."""
    codes = torch.tensor([[1.0, -1.0], [-1.0, -1.0]])
    own = torch.tensor([0, 1])
    assert similar_distance_loss(codes, codes, own, own).item() == 0
    one, two = torch.tensor([[1.0, 1.0]]), torch.tensor([[-1.0, 1.0]])
    assert similar_distance_loss(one, two, SAME, SAME, reduction="sum").item() == 4
    assert similar_distance_loss(one, two, SAME, DIFFERENT, reduction="sum").item() == 0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"kind": "mse"}, "kind"),
        ({"reduction": "max"}, "reduction"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"factor": 0.0}, "factor: expected a positive"),
        ({"factor": math.inf}, "factor: expected a positive"),
        ({"similar": 1.1}, "similar: expected"),
        ({"similar": 0.0}, "similar: expected"),
    ],
)
def test_bad_options(change, match):
    a, b, a_y, b_y, _ = random_sets(False)
    with pytest.raises(ValueError, match=match):
        similarity_likelihood(a, b, a_y, b_y, **change)


@pytest.mark.parametrize("loss", [similarity_likelihood, similar_distance_loss])
def test_bad_sets(loss):
    a, b, a_y, b_y, _ = random_sets(False)
    with pytest.raises(TypeError, match="both float32 or both float64"):
        loss(a, b.float(), a_y, b_y)
    with pytest.raises(TypeError, match="a: expected a floating-point"):
        loss(a.long(), b, a_y, b_y)
    with pytest.raises(ValueError, match="6 and 5 bits"):
        loss(a, b[:, 1:], a_y, b_y)
    with pytest.raises(ValueError, match="b_y: has 4 rows"):
        loss(a, b, a_y, b_y[1:])
    with pytest.raises(ValueError, match="class indices for both"):
        loss(a, b, a_y, torch.ones(5, 3))
