"""Eq. 8-12 of SGEH against hand-computed numbers and plain float64 loops."""

import math

import pytest
import torch

from pyg_hash.losses import affinity_loss, cosine_matrix, hybrid_affinity

ONE = torch.ones(1, 1, dtype=torch.float64)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(x, y):
    """Eq. 8 and 11, number by number."""
    out = torch.zeros(len(x), len(y), dtype=torch.float64)
    for i, a in enumerate(x.tolist()):
        for j, b in enumerate(y.tolist()):
            dot = sum(p * q for p, q in zip(a, b, strict=True))
            out[i, j] = dot / math.sqrt(sum(p * p for p in a)) / math.sqrt(sum(q * q for q in b))
    return out


def test_cosine_by_hand():
    x = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    y = torch.tensor([[4.0, -3.0]])
    assert torch.allclose(cosine_matrix(x), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    assert torch.allclose(cosine_matrix(x, y), torch.tensor([[0.0], [-0.6]]))


def test_cosine_is_the_formula():
    x, y = randn(5, 3), randn(4, 3, seed=1)
    assert torch.allclose(cosine_matrix(x, y), cosine(x, y), atol=1e-14)
    assert torch.allclose(cosine_matrix(x), cosine(x, x), atol=1e-14)
    assert torch.equal(cosine_matrix(torch.zeros(1, 3), torch.ones(2, 3)), torch.zeros(1, 2))


@pytest.mark.parametrize(("z", "expected"), [(1.0, 0.784), (0.2, 0.144), (0.0, -0.016)])
def test_first_evolution_with_the_papers_adjacency(z, expected):
    """Eq. 9 with A = 2z - 1, S_I = .8, S_T = .4."""
    u = hybrid_affinity(
        (2 * z - 1) * ONE, 0.8 * ONE, 0.4 * ONE, evolution="G1", lambda3=0.4, lambda4=0.6
    )
    assert u.item() == pytest.approx(expected, abs=1e-12)


def test_second_evolution_by_hand():
    """Eq. 10 with n = 2 and a mean cosine of .64 between the nodes; A all ones."""
    image = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    text = torch.tensor([[1.0, 0.4], [0.4, 1.0]], dtype=torch.float64)
    u = hybrid_affinity(torch.ones_like(image), image, text, lambda3=0.4, lambda4=0.6)
    expected = torch.tensor([[0.82288, 0.784], [0.784, 0.82288]], dtype=torch.float64)
    assert torch.allclose(u, expected, atol=1e-12)


@pytest.mark.parametrize("evolution", ["G1", "G2"])
def test_evolutions_are_the_formulas(evolution):
    a, image, text = randn(5, 5), cosine(*[randn(5, 3)] * 2), cosine(*[randn(5, 4, seed=2)] * 2)
    u = hybrid_affinity(a, image, text, evolution=evolution, lambda3=0.3, lambda4=0.8)
    for i in range(5):
        for j in range(5):
            mean = 0.8 * image + 0.2 * text
            dense = mean[i, j]
            if evolution == "G2":
                dense = sum(mean[i, k] * mean[j, k] for k in range(5)) / 5
            assert u[i, j].item() == pytest.approx(float(0.3 * a[i, j] + 0.7 * dense), abs=1e-12)


def test_the_ablations_are_limits():
    """SGEH-1 is U = A; SGEH-2 is the mean cosine: methods' Table 2."""
    a, image, text = randn(4, 4), randn(4, 4, seed=1), randn(4, 4, seed=2)
    assert torch.equal(hybrid_affinity(a, image, text, evolution="G1", lambda3=1.0), a)
    u = hybrid_affinity(a, image, text, evolution="G1", lambda3=0.0, lambda4=0.3)
    assert torch.allclose(u, 0.3 * image + 0.7 * text)


def test_loss_is_the_formula():
    """Eq. 12, as a sum and as a mean."""
    x, y, u = randn(4, 6), randn(4, 6, seed=1), randn(4, 4, seed=2)
    expected = (1.5 * u - cosine(x, y)).square().sum()
    assert affinity_loss(x, y, u, reduction="sum").item() == pytest.approx(expected.item())
    assert affinity_loss(x, y, u).item() == pytest.approx(expected.item() / 16)
    assert affinity_loss(x, y, u, alpha=0.0).item() == pytest.approx(
        cosine(x, y).square().mean().item()
    )


def test_codes_that_repeat_the_affinity_cost_nothing():
    b = torch.where(randn(6, 8) >= 0, 1.0, -1.0).double()
    u = cosine(b, b) / 1.5
    assert affinity_loss(b, b, u).item() == pytest.approx(0.0, abs=1e-20)


def test_gradients():
    x, y = randn(3, 4).requires_grad_(), randn(3, 4, seed=1).requires_grad_()
    u = randn(3, 3, seed=2)
    torch.autograd.gradcheck(lambda a, b: affinity_loss(a, b, u), (x, y))
    known = u.clone().requires_grad_()
    affinity_loss(x, y, known).backward()
    assert known.grad is None  # a constant


def test_no_rows():
    empty, u = torch.zeros(0, 4), torch.zeros(0, 0)
    assert affinity_loss(empty, empty, u).item() == 0.0
    assert hybrid_affinity(u, u, u).shape == (0, 0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cosine_matrix(torch.ones(2, 3).long()), TypeError, "first"),
        (lambda: cosine_matrix(torch.ones(3)), ValueError, "first"),
        (lambda: cosine_matrix(torch.ones(2, 3), torch.ones(2, 4)), ValueError, "3 and 4"),
        (lambda: hybrid_affinity(*[torch.ones(2, 3)] * 3), ValueError, r"adjacency.*\[2, 2\]"),
        (
            lambda: hybrid_affinity(torch.eye(2), torch.eye(3), torch.eye(2)),
            ValueError,
            r"image.*\[3, 3\]",
        ),
        (lambda: hybrid_affinity(torch.ones(()), ONE, ONE), ValueError, "adjacency"),
        (lambda: hybrid_affinity(ONE, ONE, ONE, evolution="G3"), ValueError, "evolution"),
        (lambda: hybrid_affinity(ONE, ONE, ONE, lambda3=1.5), ValueError, "lambda3"),
        (lambda: hybrid_affinity(ONE, ONE, ONE, lambda4=-0.1), ValueError, "lambda4"),
        (lambda: hybrid_affinity(ONE, ONE, ONE, lambda4="x"), TypeError, "lambda4"),
        (lambda: affinity_loss(ONE, ONE, torch.eye(2).double()), ValueError, "affinity"),
        (lambda: affinity_loss(ONE, ONE, ONE, alpha=-1.0), ValueError, "alpha"),
        (lambda: affinity_loss(ONE, ONE, ONE, alpha=math.nan), ValueError, "alpha"),
        (lambda: affinity_loss(ONE, ONE, ONE, reduction="max"), ValueError, "reduction"),
        (lambda: affinity_loss(randn(2, 3), randn(1, 3), randn(2, 2)), ValueError, r"\[2, 1\]"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
