"""Losses of pairs against hand-computed numbers, loops, dense float64 formulas and differences."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.testing import withCUDA

import pyg_hash.losses
from pyg_hash.losses import (
    expected_pairwise_nll,
    linear_similarity_loss,
    pairs,
    pairwise_nll,
    similar_distance_loss,
)
from pyg_hash.losses import similar as similar_pairs

SAME, DIFFERENT = torch.tensor([0]), torch.tensor([1])
CASES = [("index", "shared"), ("index", "equal"), ("multi", "shared"), ("multi", "equal")]
LOSSES = [pairwise_nll, linear_similarity_loss, similar_distance_loss]


def codes(n, m, bits=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(rows, bits, generator=generator, dtype=torch.float64).requires_grad_()
        for rows in (n, m)
    )


def labels(n, kind, seed, num_classes=3):
    generator = torch.Generator().manual_seed(seed)
    if kind == "index":
        return torch.randint(num_classes, (n,), generator=generator)
    return (torch.rand(n, num_classes, generator=generator) < 0.4).float()


def case(n, m, kind="index", bits=5, seed=0):
    return *codes(n, m, bits, seed), labels(n, kind, seed + 1), labels(m, kind, seed + 2)


def similar(a, b, match):
    """J of one pair, from the definition with Python sets."""
    if a.dim() == 0:
        return int(a) == int(b)
    first, second = (set(y.nonzero().flatten().tolist()) for y in (a, b))
    return first == second if match == "equal" else bool(first & second)


def relation(a_y, b_y, match="shared"):
    rows = [[similar(a, b, match) for b in b_y] for a in a_y]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(a_y), len(b_y))


def likelihood(a, b, j, kind="nll", factor=None, similar=None):
    """Eq. 7 of MCGCN and the square of GCH's code as they are written; whole matrices."""
    own_factor, own_similar = (0.5, 1.0) if kind == "nll" else (1.0, 0.999)
    w = (factor or own_factor) * a.double() @ b.double().T
    cost = torch.logaddexp(w, torch.zeros_like(w)) - (similar or own_similar) * j.to(w) * w
    return cost.square() if kind == "squared_nll" else cost


def check_equal(value, expected, given, tolerance=1e-12):
    """Values and gradients, of a multiple of both."""
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    got, want = (torch.autograd.grad(3 * v, given, retain_graph=True) for v in (value, expected))
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


# Likelihood: numbers made by hand


@pytest.mark.parametrize(
    ("w", "same", "expected"),
    [
        (0.0, True, math.log(2)),
        (0.0, False, math.log(2)),
        (2.0, True, 0.12692801104297263),
        (2.0, False, 2.1269280110429727),
        (22.0, False, math.log1p(math.exp(22))),  # not yet 22 in float64
        (500.0, False, 500.0),
        (-500.0, True, 500.0),
        (-500.0, False, 0.0),
        (500.0, True, 0.0),
        (30.0, True, math.exp(-30)),  # w - log(1 + e^w) would have cancelled to 0
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_pair(w, same, expected, dtype):
    image = torch.tensor([[2.0]], dtype=dtype, requires_grad=True)
    text = torch.tensor([[w]], dtype=dtype, requires_grad=True)  # omega = 2 w / 2 = w
    loss = pairwise_nll(image, text, SAME, SAME if same else DIFFERENT, reduction="sum")
    loss.backward()
    rel = 1e-12 if dtype == torch.float64 else 1e-6
    assert loss.item() == pytest.approx(expected, rel=rel, abs=1e-30)
    slope = 1 / (1 + math.exp(-w)) - same
    assert float(text.grad) == pytest.approx(slope, rel=rel, abs=1e-6)  # d omega / d text = 1
    assert float(image.grad) == pytest.approx(slope * w / 2, rel=rel, abs=1e-4)


@pytest.mark.parametrize(("other", "expected"), [(SAME, 4.906e-4), (DIFFERENT, 16.14553)])
def test_squared_pair(other, expected):
    a, b = torch.tensor([[4.0]]).double(), torch.ones(1, 1).double()
    value = pairwise_nll(a, b, SAME, other, kind="squared_nll").item()
    assert value == pytest.approx(expected, rel=1e-3)


def test_squared_nll_has_its_optimum_where_the_target_says():
    """With S = 0.999 the slope is zero at log(0.999 / 0.001) = 6.907."""
    a = torch.tensor([[math.log(999)]], dtype=torch.float64, requires_grad=True)
    pairwise_nll(a, torch.ones(1, 1).double(), SAME, SAME, kind="squared_nll").backward()
    assert abs(a.grad.item()) < 1e-12


def test_slopes_of_learned_pairs_are_not_rounded_away():
    """At w = 30 the slope of a similar pair is -e^-30, which sigmoid(w) - 1 would make 0."""
    for y in (SAME, torch.tensor([[1.0, 1.0]])):
        a = torch.tensor([[60.0]], requires_grad=True)
        pairwise_nll(a, torch.ones(1, 1), y, y, reduction="sum").backward()
        assert a.grad.item() == pytest.approx(-0.5 * math.exp(-30), rel=1e-5)


def test_zero_codes():
    z, y = torch.zeros(2, 8), torch.tensor([0, 1])
    assert float(pairwise_nll(z, z, y, y, reduction="sum")) == pytest.approx(4 * math.log(2))
    assert float(pairwise_nll(z, z, y, y)) == pytest.approx(math.log(2))


def test_empty_label_sets():
    z, y = torch.full((1, 4), 2.0), torch.zeros(1, 3)  # omega = 8
    assert float(pairwise_nll(z, z, y, y, match="shared")) == pytest.approx(8.000335406372896)
    assert float(pairwise_nll(z, z, y, y, match="equal")) == pytest.approx(math.log1p(math.exp(-8)))


def test_neighbouring_class_numbers_are_different():
    """In float32, 2^24 + 1 is 2^24: classes are numbered anew before."""
    y = torch.tensor([2**24, 2**24 + 1])
    a = torch.full((2, 4), 2.0)
    expected = (math.log1p(math.exp(-8)) + math.log1p(math.exp(8))) / 2
    assert pairwise_nll(a, a, y, y).item() == pytest.approx(expected)


# Likelihood: formulas


@pytest.mark.parametrize(("kind", "match"), CASES)
def test_equals_a_python_loop(kind, match):
    a, b, a_y, b_y = case(6, 4, kind)
    expected = 0.0
    for p, q in product(range(6), range(4)):
        w = 0.5 * sum(x * y for x, y in zip(a[p].tolist(), b[q].tolist(), strict=True))
        expected -= similar(a_y[p], b_y[q], match) * w - math.log1p(math.exp(w))
    loss = pairwise_nll(a, b, a_y, b_y, match=match, reduction="sum")
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    mean = pairwise_nll(a, b, a_y, b_y, match=match)
    assert mean.item() == pytest.approx(expected / 24, rel=1e-12)


@pytest.mark.parametrize(("labelled", "match"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 512])
def test_value_and_gradients_equal_the_dense_formula(labelled, match, size, monkeypatch):
    monkeypatch.setattr(pairs, "_CPU_TILE", size)
    for seed in range(3):
        a, b, a_y, b_y = case(3 + 4 * seed, 11 - 2 * seed, labelled, seed=seed)
        loss = pairwise_nll(a, b, a_y, b_y, match=match, reduction="sum")
        check_equal(loss, likelihood(a, b, relation(a_y, b_y, match)).sum(), (a, b))


@pytest.mark.parametrize("labelled", ["index", "multi"])
@pytest.mark.parametrize("kind", ["nll", "squared_nll"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("factor", "share"), [(None, None), (0.8, 0.9), (0.7, 1.0)])
def test_every_likelihood_equals_the_dense_formula(
    labelled, kind, reduction, factor, share, monkeypatch
):
    a, b, a_y, b_y = case(13, 10, labelled)
    options = {"kind": kind, "factor": factor, "similar": share}
    expected = getattr(likelihood(a, b, relation(a_y, b_y), **options), reduction)()
    for size in (4, 512):
        monkeypatch.setattr(pairs, "_CPU_TILE", size)
        value = pairwise_nll(a, b, a_y, b_y, **options, reduction=reduction)
        check_equal(value, expected, (a, b), 1e-11)


@pytest.mark.parametrize(("kind", "match"), CASES)
def test_gradcheck(kind, match, monkeypatch):
    monkeypatch.setattr(pairs, "_CPU_TILE", 2)
    a, b, a_y, b_y = case(5, 4, kind, bits=3)
    options = {"match": match, "reduction": "sum"}
    assert torch.autograd.gradcheck(lambda x, y: pairwise_nll(x, y, a_y, b_y, **options), (a, b))


def test_float32_is_close_to_float64_in_full_tiles():
    """Several tiles of the size that is used by default."""
    a, b = codes(700, 1100, bits=32)
    a_y, b_y = torch.arange(700) % 7, torch.arange(1100) % 9
    expected = likelihood(a, b, a_y[:, None] == b_y).sum()
    want = torch.autograd.grad(expected, (a, b))
    single = [x.detach().float().requires_grad_() for x in (a, b)]
    value = pairwise_nll(*single, a_y, b_y, reduction="sum")
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    for g, w in zip(torch.autograd.grad(value, single), want, strict=True):
        assert float((g - w).norm() / w.norm()) < 1e-6


def test_one_hot_labels_equal_class_indices():
    a, b = codes(7, 7)
    y = labels(7, "index", 5)
    hot, index = F.one_hot(y, 3), pairwise_nll(a, b, y, y)
    for match, multi in product(("shared", "equal"), (hot, hot.float(), hot.bool(), hot.double())):
        torch.testing.assert_close(pairwise_nll(a, b, multi, multi, match=match), index)


def test_symmetry_and_permutation():
    a, b, a_y, b_y = case(8, 8)
    loss = pairwise_nll(a, b, a_y, b_y)
    torch.testing.assert_close(pairwise_nll(b, a, b_y, a_y), loss)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pairwise_nll(a[order], b, a_y[order], b_y), loss)


def test_the_same_codes_on_both_sides(monkeypatch):
    monkeypatch.setattr(pairs, "_CPU_TILE", 2)
    a, _ = codes(6, 1)
    y = labels(6, "index", 0)
    value = pairwise_nll(a, a, y, y, reduction="sum")
    check_equal(value, likelihood(a, a, relation(y, y)).sum(), (a,))


def test_descent_learns_similarity():
    y = torch.arange(6) % 2
    a, b = (x.detach().mul(0.1).requires_grad_() for x in codes(6, 6))
    optimizer = torch.optim.Adam([a, b], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        pairwise_nll(a, b, y, y).backward()
        optimizer.step()
    assert torch.equal((a @ b.t()) > 0, y[:, None] == y[None])


# Likelihood: what it does to its surroundings


def test_backward_twice_and_second_order():
    a, b = codes(3, 3)
    y = torch.arange(3)
    loss = pairwise_nll(a, b, y, y)
    first = torch.autograd.grad(loss, a, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, a), first)
    with pytest.raises(RuntimeError, match="create_graph=True"):
        torch.autograd.grad(pairwise_nll(a, b, y, y), a, create_graph=True)


def test_inputs_stay_as_they_are():
    a, b = codes(5, 5)
    y = labels(5, "multi", 0)
    before = [x.detach().clone() for x in (a, b, y)]
    pairwise_nll(a, b, y, y, match="equal").backward()
    for x, copy in zip((a, b, y), before, strict=True):
        assert torch.equal(x.detach(), copy)


def test_non_contiguous_codes():
    wide = torch.randn(5, 12, dtype=torch.float64)
    a, y = wide[:, ::2], torch.arange(5) % 2
    torch.testing.assert_close(pairwise_nll(a, a, y, y), pairwise_nll(a.clone(), a.clone(), y, y))


def test_no_whole_similarity_matrix(monkeypatch):
    """The largest temporary is a tile, whatever the number of rows."""
    monkeypatch.setattr(pairs, "_CPU_TILE", 20)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    a, b = codes(300, 300, bits=2)
    y = labels(300, "multi", 0)
    with Watch():
        pairwise_nll(a, b, y, y).backward()
    assert largest <= 300 * 3  # the labels; the full matrix would be 90,000


# Likelihood under labels known as probabilities


def probabilities(n, seed, exclusive, num_classes=3):
    """Float64; some rows are certain, as those of labelled items are."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(n, num_classes, generator=generator, dtype=torch.float64)
    p[::3] = (p[::3] >= p[::3].amax(1, keepdim=True)).double() if exclusive else p[::3].round()
    return p / p.sum(1, keepdim=True) if exclusive else p


def uncertain(n, m, exclusive, seed=0):
    given = (probabilities(rows, seed + i, exclusive) for i, rows in enumerate((n, m), 1))
    return *codes(n, m, seed=seed), *given


def expected_relation(a_p, b_p, exclusive):
    """The mean of J over all pairs of labels, drawn for each item on its own."""
    n, m, classes = len(a_p), len(b_p), range(a_p.size(1))
    j = torch.zeros(n, m, dtype=torch.float64)
    if exclusive:
        for c in classes:
            j += a_p[:, c, None] * b_p[None, :, c]
        return j
    for own, others in product(product((0, 1), repeat=len(classes)), repeat=2):
        if any(x and y for x, y in zip(own, others, strict=True)):
            chance = torch.ones(n, m, dtype=torch.float64)
            for c, x, y in zip(classes, own, others, strict=True):
                chance *= (a_p[:, c] if x else 1 - a_p[:, c])[:, None]
                chance *= (b_p[:, c] if y else 1 - b_p[:, c])[None]
            j += chance
    return j


either_kind = pytest.mark.parametrize("exclusive", [True, False])


@either_kind
@pytest.mark.parametrize("size", [1, 3, 7, 512])
@pytest.mark.parametrize("factor", [0.5, 0.8])
def test_expected_value_and_gradients_equal_the_dense_formula(exclusive, size, factor, monkeypatch):
    monkeypatch.setattr(pairs, "_CPU_TILE", size)
    given = uncertain(9, 7, exclusive)
    a, b, a_p, b_p = given
    every = likelihood(a, b, expected_relation(a_p, b_p, exclusive), factor=factor)
    options = {"exclusive": exclusive, "factor": factor}
    total = expected_pairwise_nll(*given, **options, reduction="sum")
    check_equal(total, every.sum(), (a, b))
    check_equal(expected_pairwise_nll(*given, **options), every.mean(), (a, b))


def test_expected_by_hand():
    """omega = 1; P(share) = .7 .4 + .3 .6 = .46, or 1 - (1 - .28) (1 - .18) = .4096."""
    a, b = torch.ones(1, 2), torch.ones(1, 2)
    a_p, b_p = torch.tensor([[0.7, 0.3]]), torch.tensor([[0.4, 0.6]])
    for exclusive, j in ((True, 0.46), (False, 0.4096)):
        value = expected_pairwise_nll(a, b, a_p, b_p, exclusive=exclusive)
        assert value.item() == pytest.approx(math.log1p(math.e) - j, rel=1e-6)


@either_kind
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_labels_that_are_certain_give_the_likelihood(exclusive, reduction):
    a, b, a_y, b_y = case(9, 7, "index" if exclusive else "multi")
    given = [F.one_hot(y, 3).double() if exclusive else y.double() for y in (a_y, b_y)]
    value = expected_pairwise_nll(a, b, *given, exclusive=exclusive, reduction=reduction)
    check_equal(value, pairwise_nll(a, b, a_y, b_y, reduction=reduction), (a, b))


@either_kind
def test_expected_in_float32_and_full_tiles(exclusive):
    a, b, a_p, b_p = uncertain(600, 700, exclusive)
    j = a_p @ b_p.T if exclusive else 1 - (1 - a_p[:, None] * b_p[None]).prod(2)
    expected = likelihood(a, b, j).sum()
    want = torch.autograd.grad(expected, (a, b))
    single = [x.detach().float().requires_grad_() for x in (a, b)]
    options = {"exclusive": exclusive, "reduction": "sum"}
    value = expected_pairwise_nll(*single, a_p.float(), b_p.float(), **options)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    for g, w in zip(torch.autograd.grad(value, single), want, strict=True):
        assert float((g - w).norm() / w.norm()) < 1e-5


def test_expected_gradcheck_and_second_order(monkeypatch):
    monkeypatch.setattr(pairs, "_CPU_TILE", 2)
    a, b, *given = uncertain(5, 4, exclusive=False)
    assert torch.autograd.gradcheck(
        lambda x, y: expected_pairwise_nll(x, y, *given, exclusive=False), (a, b)
    )
    with pytest.raises(RuntimeError, match="create_graph=True"):
        torch.autograd.grad(expected_pairwise_nll(a, b, *given), a, create_graph=True)


@either_kind
def test_expected_leaves_its_surroundings_alone(exclusive):
    given = uncertain(5, 4, exclusive)
    before = [x.detach().clone() for x in given]
    a, b = given[:2]
    value = expected_pairwise_nll(*given, exclusive=exclusive)
    (left,) = torch.autograd.grad(
        expected_pairwise_nll(a, b.detach(), *given[2:], exclusive=exclusive), a
    )
    torch.testing.assert_close(left, torch.autograd.grad(value, a)[0])
    with torch.no_grad():
        quiet = expected_pairwise_nll(*given, exclusive=exclusive)
    assert not quiet.requires_grad and torch.equal(quiet, value.detach())
    single = [x.detach().float() for x in given]
    exact = expected_pairwise_nll(*single, exclusive=exclusive)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(expected_pairwise_nll(*single, exclusive=exclusive), exact)
    assert all(torch.equal(x.detach(), old) for x, old in zip(given, before, strict=True))


@either_kind
@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_expected_without_pairs(exclusive, n, m):
    a, b, *given = uncertain(n, m, exclusive)
    value = expected_pairwise_nll(a, b, *given, exclusive=exclusive)
    value.backward()
    assert value.item() == 0.0
    assert not a.grad.any() and not b.grad.any()


@withCUDA
@either_kind
def test_expected_on_a_device(exclusive, device):
    given = uncertain(9, 8, exclusive)
    value = expected_pairwise_nll(*(x.detach().to(device) for x in given), exclusive=exclusive)
    expected = expected_pairwise_nll(*given, exclusive=exclusive)
    torch.testing.assert_close(value.cpu(), expected.detach())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"a": torch.zeros(3, 4, dtype=torch.float64)}, TypeError, "both float32 or both float64"),
        ({"b": torch.zeros(3, 5)}, ValueError, "a and b: 4 and 5 bits"),
        ({"a_p": torch.zeros(3, 2, dtype=torch.long)}, TypeError, "a_p: expected a floating-point"),
        ({"a_p": torch.zeros(3)}, ValueError, r"a_p: expected shape \[N, d\]"),
        ({"a_p": torch.zeros(2, 2)}, ValueError, r"a_p: expected .* \[3, 2\], got .* \[2, 2\]"),
        ({"b_p": torch.zeros(3, 3)}, ValueError, r"b_p: expected .* \[3, 2\], got .* \[3, 3\]"),
        ({"b_p": torch.zeros(3, 2).double()}, ValueError, "b_p: expected torch.float32 .*float64"),
        ({"b_p": torch.full((3, 2), 1.1)}, ValueError, r"b_p: holds numbers outside \[0, 1\]"),
        ({"a_p": torch.full((3, 2), -0.1)}, ValueError, r"a_p: holds numbers outside \[0, 1\]"),
        ({"a_p": torch.full((3, 2), math.nan)}, ValueError, r"a_p: holds numbers outside"),
        ({"factor": 0.0}, ValueError, "^factor: "),
        ({"reduction": "none"}, ValueError, "reduction: 'none'"),
    ],
)
def test_errors_of_the_expected_likelihood(change, error, words):
    given = {name: torch.zeros(3, 4) for name in ("a", "b")}
    given |= {name: torch.zeros(3, 2) for name in ("a_p", "b_p")}
    with pytest.raises(error, match=words):
        expected_pairwise_nll(**(given | change))


# Correlation and distance


@pytest.mark.parametrize(("labelled", "match"), CASES)
@pytest.mark.parametrize("dissimilar", [-1.0, 0.0])
@pytest.mark.parametrize("size", [3, 1024])
def test_linear_equals_the_double_sum(labelled, match, dissimilar, size, monkeypatch):
    monkeypatch.setattr(similar_pairs, "_TILE", size)
    a, b, a_y, b_y = case(7, 5, labelled)
    j = relation(a_y, b_y, match)
    total = -sum((1.0 if j[p, q] else dissimilar) * a[p] @ b[q] for p in range(7) for q in range(5))
    for reduction, scale in (("sum", 1), ("mean", 7 * 5 * 5)):
        options = {"match": match, "reduction": reduction}
        value = linear_similarity_loss(a, b, a_y, b_y, dissimilar=dissimilar, **options)
        check_equal(value, total / scale, (a, b))
        if dissimilar == -1.0:
            assert torch.equal(linear_similarity_loss(a, b, a_y, b_y, **options), value)


def test_linear_by_hand():
    a = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    y = torch.tensor([0, 1])
    # similar pairs agree in 2 bits, the others in none
    assert linear_similarity_loss(a, a, y, y, reduction="sum") == -4
    assert linear_similarity_loss(a, a, y, y) == -0.5
    # one code for everybody gains nothing with S in {-1, 1}, and does with the paper's {0, 1}
    same = torch.ones(2, 2)
    assert linear_similarity_loss(same, same, y, y) == 0
    assert linear_similarity_loss(same, same, y, y, dissimilar=0.0, reduction="sum") == -4


@pytest.mark.parametrize("labelled", ["index", "multi"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_similar_distance_equals_the_dense_formula(labelled, reduction, monkeypatch):
    monkeypatch.setattr(similar_pairs, "_TILE", 3)
    a, b, a_y, b_y = case(7, 5, labelled)
    distance = (a[:, None] - b[None]).square().sum(-1)
    expected = getattr(relation(a_y, b_y) * distance, reduction)()
    value = similar_distance_loss(a, b, a_y, b_y, reduction=reduction)
    check_equal(value, expected, (a, b))


def test_similar_distance_by_hand():
    """The report's Eq. 11: equal codes and S = I cost nothing; one pair at distance 2 costs 4."""
    a, own = torch.tensor([[1.0, -1.0], [-1.0, -1.0]]), torch.tensor([0, 1])
    assert similar_distance_loss(a, a, own, own).item() == 0
    one, two = torch.tensor([[1.0, 1.0]]), torch.tensor([[-1.0, 1.0]])
    assert similar_distance_loss(one, two, SAME, SAME, reduction="sum").item() == 4
    assert similar_distance_loss(one, two, SAME, DIFFERENT, reduction="sum").item() == 0


# All of them


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize("labelled", ["index", "multi"])
def test_no_pairs_give_an_exact_zero_with_zero_gradients(loss, n, m, labelled):
    for reduction in ("sum", "mean"):
        a, b, *y = case(n, m, labelled)
        value = loss(a, b, *y, reduction=reduction)
        value.backward()
        assert value.item() == 0.0
        assert torch.equal(a.grad, torch.zeros_like(a))
        assert torch.equal(b.grad, torch.zeros_like(b))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_only_where_it_is_wanted(loss):
    a, b, *y = case(4, 5)
    both = torch.autograd.grad(loss(a, b, *y), (a, b))
    (left,) = torch.autograd.grad(loss(a, b.detach(), *y), a)
    (right,) = torch.autograd.grad(loss(a.detach(), b, *y), b)
    torch.testing.assert_close((left, right), both)
    assert not loss(a.detach(), b.detach(), *y).requires_grad
    with torch.no_grad():
        assert not loss(a, b, *y).requires_grad


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("labelled", ["index", "multi"])
def test_half_precision_regions_leave_it_exact(loss, labelled):
    a, b, *y = case(7, 5, labelled)
    expected = loss(a.float(), b.float(), *y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(a.float(), b.float(), *y), expected)


@withCUDA
@pytest.mark.parametrize("loss", LOSSES)
def test_device(loss, device):
    given = case(9, 8, "multi")
    expected = loss(*given)
    value = loss(*(x.detach().to(device) for x in given))
    assert value.device.type == device.type
    torch.testing.assert_close(value.cpu(), expected.detach())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"a": torch.zeros(3, 4, dtype=torch.float64)}, TypeError, "a and b: .* or both float64"),
        ({"a": torch.zeros(3, 4, dtype=torch.long)}, TypeError, "a: expected a floating-point"),
        ({"a": torch.zeros(3, 5)}, ValueError, "a and b: 5 and 4 bits"),
        ({"a": torch.zeros(3)}, ValueError, r"a: .*\[3\]"),
        ({"b": torch.zeros(1, 3, 4)}, ValueError, r"b: .*\[1, 3, 4\]"),
        ({"a_y": torch.zeros(2, dtype=torch.long)}, ValueError, "a_y: has 2 rows, expected 3"),
        ({"b_y": torch.zeros(3)}, TypeError, "b_y: "),
        ({"b_y": torch.zeros(3, 2)}, ValueError, "a_y and b_y: .*class indices for both"),
        ({"b_y": torch.full((3, 2), math.nan)}, ValueError, "b_y: .*0 or 1"),
        (
            {"a_y": torch.zeros(3, 3), "b_y": torch.zeros(3, 4)},
            ValueError,
            "a_y and b_y: .*same classes",
        ),
        ({"reduction": "none"}, ValueError, "reduction: 'none'"),
    ],
)
def test_errors(change, error, words):
    given = {name: torch.zeros(3, 4) for name in ("a", "b")}
    given |= {name: torch.zeros(3, dtype=torch.long) for name in ("a_y", "b_y")}
    for loss in LOSSES:
        with pytest.raises(error, match=words):
            loss(**(given | change))


@pytest.mark.parametrize(
    ("loss", "change", "error"),
    [
        (pairwise_nll, {"match": "same"}, ValueError),
        (pairwise_nll, {"kind": "mse"}, ValueError),
        (pairwise_nll, {"factor": 0.0}, ValueError),
        (pairwise_nll, {"factor": math.inf}, ValueError),
        (pairwise_nll, {"similar": 1.1}, ValueError),
        (pairwise_nll, {"similar": 0.0}, ValueError),
        (linear_similarity_loss, {"match": "count"}, ValueError),
        (linear_similarity_loss, {"dissimilar": 1.0}, ValueError),
    ],
)
def test_errors_of_options_name_them(loss, change, error):
    with pytest.raises(error, match=f"^{next(iter(change))}: "):
        loss(*case(3, 3), **change)


def test_the_old_name_leads_to_the_likelihood_and_warns():
    given = case(5, 4)
    with pytest.warns(DeprecationWarning, match="similarity_likelihood is now .*pairwise_nll"):
        old = pyg_hash.losses.similarity_likelihood
    assert torch.equal(old(*given, kind="squared_nll"), pairwise_nll(*given, kind="squared_nll"))
    with pytest.raises(AttributeError, match="no_such_loss"):
        _ = pyg_hash.losses.no_such_loss
