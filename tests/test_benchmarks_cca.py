"""CCA and ITQ of the benchmarks against other ways to compute them."""

import numpy as np
import pytest
import scipy.linalg
import torch
from scripts import benchmark_scripts
from sklearn.cross_decomposition import CCA


@pytest.fixture(autouse=True)
def scripts():
    with benchmark_scripts():
        yield


def views(n=200, widths=(7, 5), seed=0):
    """Two views that share three latent directions, with offsets."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    latent = draw(n, 3)
    return tuple(latent @ draw(3, d) + draw(n, d) + 5 * draw(d) for d in widths)


def covariances(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    n = len(x)
    return x.T @ x / n, y.T @ y / n, x.T @ y / n


def test_correlations_are_those_of_scikit_learn():
    from cca import cca

    x, y = views()
    ours = cca(x, y, 4)
    scores = CCA(4, max_iter=5000, tol=1e-12).fit_transform(x.numpy(), y.numpy())
    theirs = [np.corrcoef(a, b)[0, 1] for a, b in zip(scores[0].T, scores[1].T, strict=True)]
    np.testing.assert_allclose(ours.correlations.numpy(), theirs, atol=1e-6)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_correlations_solve_the_generalised_eigenproblem(ridge):
    from cca import cca

    x, y = views(widths=(6, 4))
    cxx, cyy, cxy = covariances(x, y)
    rxx = cxx + ridge * cxx.trace() / 6 * torch.eye(6, dtype=torch.float64)
    ryy = cyy + ridge * cyy.trace() / 4 * torch.eye(4, dtype=torch.float64)
    values = scipy.linalg.eigh(cxy @ torch.linalg.solve(ryy, cxy.T), rxx, eigvals_only=True)
    ours = cca(x, y, 4, ridge=ridge)
    np.testing.assert_allclose(ours.correlations.numpy() ** 2, values[::-1][:4], atol=1e-10)
    # the directions whiten the regularised covariances and diagonalise the cross-covariance
    a, b = ours.weights
    eye = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(a.T @ rxx @ a, eye, atol=1e-9, rtol=0)
    torch.testing.assert_close(b.T @ ryy @ b, eye, atol=1e-9, rtol=0)
    torch.testing.assert_close(a.T @ cxy @ b, torch.diag(ours.correlations), atol=1e-9, rtol=0)


def test_projection_centres_by_the_fitted_rows():
    from cca import cca

    x, y = views()
    fitted = cca(x[:100].float(), y[:100].float(), 3)
    for view, data in enumerate((x, y)):
        scores = fitted(data[:100].float(), view)
        assert scores.dtype == torch.float64
        torch.testing.assert_close(scores.mean(0), torch.zeros(3).double(), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            scores.square().mean(0), torch.ones(3).double(), atol=1e-3, rtol=0
        )
        torch.testing.assert_close(fitted(data[100:101], view), fitted(data, view)[100:101])


def test_directions_that_are_rounding_do_not_count():
    from cca import cca

    x, y = views(widths=(7, 5))
    x = torch.cat([x, x[:, :2]], dim=1)  # rank 7 of 9
    assert len(cca(x, y, 5).correlations) == 5
    with pytest.raises(ValueError, match=r"count: 6 .* only 5"):
        cca(x, y, 6)
    with pytest.raises(ValueError, match=r"count: 8 .* only 7"):
        cca(x, torch.cat([y, *views(seed=1)], dim=1), 8)


def test_itq_error_never_rises_and_the_rotation_is_orthogonal():
    from cca import itq

    v = views(n=300)[0]
    v = v - v.mean(0)
    rotation, errors = itq(v, iterations=50, seed=3)
    assert len(errors) == 51
    assert all(b <= a + 1e-9 for a, b in zip(errors, errors[1:], strict=False))
    assert errors[-1] < errors[0]
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(7).double(), atol=1e-12, rtol=0)
    rotated = v @ rotation
    assert errors[-1] == pytest.approx(float((rotated.sign() - rotated).square().sum()))


def test_itq_finds_the_axes_of_a_turned_cube():
    from cca import itq

    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3).repeat(4, 1)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double()).Q
    best = min(itq(corners @ turn, seed=seed)[1][-1] for seed in range(5))
    assert best == pytest.approx(0.0, abs=1e-12)


def test_itq_is_seeded():
    from cca import itq

    v = views()[0] - views()[0].mean(0)
    assert torch.equal(itq(v, seed=1)[0], itq(v, seed=1)[0])
    assert not torch.equal(itq(v, seed=1, iterations=1)[0], itq(v, seed=2, iterations=1)[0])


def test_each_turn_is_the_procrustes_solution():
    """One turn beats every small rotation around its result, for the codes it was made for."""
    from cca import itq

    v = views()[0] - views()[0].mean(0)
    start = itq(v, iterations=0)[0]
    codes = torch.where(v @ start >= 0, 1.0, -1.0).double()
    rotation = itq(v, iterations=1)[0]
    error = (codes - v @ rotation).square().sum()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        skew = torch.randn(7, 7, generator=generator).double() * 0.1
        other = rotation @ torch.linalg.matrix_exp(skew - skew.T)
        assert (codes - v @ other).square().sum() >= error
