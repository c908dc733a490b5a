"""CCA, ITQ and LSH against other ways to compute them."""

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.cross_decomposition import CCA as Reference
from small import assert_same_codes
from toy import toy_data

from pyg_hash.models import CCA, ITQ, LSH, SCM
from pyg_hash.models.canonical import cca
from pyg_hash.models.rotation import itq_rotation as itq


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
    x, y = views()
    ours = cca(x, y, 4)
    scores = Reference(4, max_iter=5000, tol=1e-12).fit_transform(x.numpy(), y.numpy())
    theirs = [np.corrcoef(a, b)[0, 1] for a, b in zip(scores[0].T, scores[1].T, strict=True)]
    np.testing.assert_allclose(ours.correlations.numpy(), theirs, atol=1e-6)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_correlations_solve_the_generalised_eigenproblem(ridge):
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
    x, y = views(widths=(7, 5))
    x = torch.cat([x, x[:, :2]], dim=1)  # rank 7 of 9
    assert len(cca(x, y, 5).correlations) == 5
    with pytest.raises(ValueError, match=r"num_bits: 6 .* only 5"):
        cca(x, y, 6)
    with pytest.raises(ValueError, match=r"num_bits: 8 .* only 7"):
        cca(x, torch.cat([y, *views(seed=1)], dim=1), 8)


def itq_error(v, **options):
    rotated = v @ itq(v, **options)
    return float((rotated.sign() - rotated).square().sum())


def test_itq_error_never_rises_and_the_rotation_is_orthogonal():
    v = views(n=300)[0]
    v = v - v.mean(0)
    errors = [itq_error(v, iterations=turns, seed=3) for turns in range(51)]
    assert all(b <= a + 1e-9 for a, b in zip(errors, errors[1:], strict=False))
    assert errors[-1] < errors[0]
    rotation = itq(v, iterations=50, seed=3)
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(7).double(), atol=1e-12, rtol=0)


def test_itq_finds_the_axes_of_a_turned_cube():
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3).repeat(4, 1)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double()).Q
    best = min(itq_error(corners @ turn, seed=seed) for seed in range(5))
    assert best == pytest.approx(0.0, abs=1e-12)


def test_itq_is_seeded():
    v = views()[0] - views()[0].mean(0)
    assert torch.equal(itq(v, seed=1), itq(v, seed=1))
    assert not torch.equal(itq(v, seed=1, iterations=1), itq(v, seed=2, iterations=1))


def test_each_turn_is_the_procrustes_solution():
    """One turn beats every small rotation around its result, for the codes it was made for."""
    v = views()[0] - views()[0].mean(0)
    start = itq(v, iterations=0)
    codes = torch.where(v @ start >= 0, 1.0, -1.0).double()
    rotation = itq(v, iterations=1)
    error = (codes - v @ rotation).square().sum()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        skew = torch.randn(7, 7, generator=generator).double() * 0.1
        other = rotation @ torch.linalg.matrix_exp(skew - skew.T)
        assert (codes - v @ other).square().sum() >= error


def variates(data, modality, ridge, count=None):
    train = data["image"].train_mask
    fitted = cca(data["image"].x[train], data["text"].x[train], count, ridge=ridge)
    return fitted(data[modality].x, ("image", "text").index(modality)), fitted.correlations


def signs(x):
    return torch.where(x >= 0, 1, -1).to(torch.int8)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_cca_and_itq_are_signs_of_the_same_variates(modality):
    data = toy_data()
    found, correlations = variates(data, modality, 0.1, 8)
    model = CCA(data.num_features, 8, ridge=0.1).solve(data)
    assert_same_codes(model.encode(data, modality), signs(found), found)
    generator = torch.Generator().manual_seed(7)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator).double()).Q
    for weighted in (False, True):
        start = ITQ(data.num_features, 8, ridge=0.1, weighted=weighted, iterations=0, seed=7)
        expected = (found * correlations if weighted else found) @ rotation
        codes = start.solve(data).encode(data, modality)
        assert_same_codes(codes, signs(expected), expected)


def test_itq_turns_the_variates_of_both_modalities_together():
    data = toy_data()
    train = data["image"].train_mask
    both = [torch.mul(*variates(data, m, 10.0, 8)) for m in ("image", "text")]
    rotation = itq(torch.cat([v[train] for v in both]), seed=3)
    model = ITQ(data.num_features, 8, seed=3).solve(data)
    for m, found in zip(("image", "text"), both, strict=True):
        turned = found @ rotation
        assert_same_codes(model.encode(data, m), signs(turned), turned)


def test_bits_of_lsh_estimate_the_angle_of_weighted_variates():
    data = toy_data()
    model = LSH(data.num_features, 4096, ridge=10.0, seed=1).solve(data)
    points = []
    for m in ("image", "text"):
        found, correlations = variates(data, m, 10.0)
        points.append(torch.nn.functional.normalize(found * correlations, dim=1))
    angles = (points[0] @ points[1].T).clamp(-1, 1).arccos() / torch.pi
    image, text = (model.encode(data, m).double() for m in ("image", "text"))
    differing = 0.5 - 0.5 * image @ text.T / 4096
    assert (differing - angles).abs().max() < 0.05  # six standard errors


def test_seeds_draw_other_planes_and_rotations():
    data = toy_data()
    for kind in (LSH, ITQ):
        codes = [
            kind(data.num_features, 8, seed=s).solve(data).encode(data, "text") for s in (0, 1)
        ]
        assert not torch.equal(*codes)


@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.parametrize("kind", [CCA, LSH, SCM])
def test_features_without_variance(kind, value):
    data = toy_data()
    data["text"].x[:] = value
    model = kind(data.num_features, data.num_classes, 8) if kind is SCM else kind(data.num_features)
    with pytest.raises(ValueError, match=r"data\['text'\].x .* rows are the same"):
        model.solve(data)


@pytest.mark.parametrize("variant", ["sequential", "orthogonal"])
def test_one_labelled_item_has_no_direction(variant):
    data = toy_data()
    for m in ("image", "text"):
        data[m].labeled_mask = torch.arange(60) == int(data[m].train_mask.nonzero()[0])
    with pytest.raises(ValueError, match="features: those of one item alone have no direction"):
        SCM(data.num_features, data.num_classes, 4, variant=variant).solve(data)


@pytest.mark.parametrize("kind", [CCA, ITQ])
def test_more_bits_than_directions(kind):
    data = toy_data()
    with pytest.raises(ValueError, match=r"10 canonical directions wanted.* only 9"):
        kind(data.num_features, 10).solve(data)
    assert LSH(data.num_features, 64).solve(data).encode(data, "text").shape == (60, 64)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (CCA, {"ridge": -1.0}, "ridge"),
        (ITQ, {"ridge": float("nan")}, "ridge"),
        (ITQ, {"iterations": -1}, "iterations: expected an integer"),
        (ITQ, {"iterations": 2.0}, "iterations: expected an integer"),
    ],
)
def test_bad_arguments(kind, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        kind((12, 9), 8, **options)
