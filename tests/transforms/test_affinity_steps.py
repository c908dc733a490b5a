"""The closed-form updates: by hand and against a QP solver."""

import numpy as np
import pytest
from affinity_oracles import can_row, newton_simplex, printed_row
from scipy.optimize import minimize

from pyg_hash.transforms.affinity import (
    neighbour_weights,
    project_rows,
    update_unified,
    update_view,
    view_weight,
)


def simplex_minimum(value, gradient, size):
    """The minimiser of a convex function on the simplex."""
    found = minimize(
        value,
        np.full(size, 1.0 / size),
        jac=gradient,
        bounds=[(0, None)] * size,
        constraints={"type": "eq", "fun": lambda z: z.sum() - 1, "jac": lambda z: np.ones(size)},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return found.x


# --- CAN, Eq. 4


def test_can_by_hand():
    b = np.array([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_allclose(neighbour_weights(b, 3), [[1 / 2, 1 / 3, 1 / 6, 0]])
    shuffled = np.array([[3.0, np.inf, 4.0, 1.0, 9.0, 2.0]])
    expected = [[1 / 6, 0, 0, 1 / 2, 0, 1 / 3]]
    np.testing.assert_allclose(neighbour_weights(shuffled, 3), expected)


def test_can_is_the_minimiser_with_gamma_3():
    b = np.array([1.0, 2.0, 3.0, 4.0])
    gamma = 0.5 * (3 * b[3] - b[:3].sum())
    assert gamma == 3.0
    s = simplex_minimum(lambda s: b @ s + gamma * s @ s, lambda s: b + 2 * gamma * s, 4)
    np.testing.assert_allclose(s, [1 / 2, 1 / 3, 1 / 6, 0], atol=1e-6)


@pytest.mark.parametrize("factor", [1e-12, 0.3, 1.0, 1e9])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_can_does_not_depend_on_scale_and_origin(factor, shift):
    b = np.random.default_rng(0).random((40, 9))
    np.testing.assert_allclose(
        neighbour_weights((b + shift) * factor, 4), neighbour_weights(b, 4), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 3, 6])
def test_can_on_random_rows(seed, k):
    rng = np.random.default_rng(seed)
    b = rng.random((60, 10)) * 10.0 ** rng.uniform(-3, 3, (60, 1))
    b[rng.random(b.shape) < 0.2] = np.inf
    b[:, : k + 1] = np.where(np.isinf(b[:, : k + 1]), 0.5, b[:, : k + 1])
    s = neighbour_weights(b, k)
    assert (s >= 0).all()
    assert ((s > 0).sum(1) <= k).all()
    np.testing.assert_allclose(s.sum(1), 1.0, atol=1e-12)
    for row, found in zip(b, s, strict=True):
        if np.unique(np.sort(row)[: k + 1]).size > 1:
            finite = np.where(np.isinf(row), 1e6, row)
            np.testing.assert_allclose(found, can_row(finite, k), atol=1e-8)


def test_equal_distances_share_the_row():
    s = neighbour_weights(np.array([[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 7.0]]), 2)
    np.testing.assert_array_equal(s, [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]])


def test_a_neighbour_as_far_as_the_bound_has_weight_zero():
    s = neighbour_weights(np.array([[0.0, 1.0, 1.0, 5.0]]), 2)
    np.testing.assert_array_equal(s, [[1.0, 0, 0, 0]])


# --- S-step, Eq. 16-18

COUNTER = {
    "distance": np.array([[1.0, 1.1, 1.2, 1.3]]),
    "order": np.array([[0, 1, 2, 3]]),
    "z": np.array([[0.0, 0.0, 0.6, 0.4]]),
    "weight": 1.0,
}


def test_printed_step_can_have_a_negative_denominator():
    e = COUNTER["distance"] - 2 * COUNTER["z"]
    assert 3 * e[0, 3] - e[0, :3].sum() == pytest.approx(-0.6)
    s = update_view(**COUNTER, rank="gmc")
    np.testing.assert_allclose(s, [[5 / 6, 1.0, 0.0, 0.0]])
    assert s.sum() == pytest.approx(1.833, abs=1e-3)


def test_effective_step_by_hand():
    # e = 1, 1.1, 0, .5: the bound is 1.1, the gains are .1, 0, 1.1, .6
    s = update_view(**COUNTER)
    np.testing.assert_allclose(s, [[0.1 / 1.8, 0.0, 1.1 / 1.8, 0.6 / 1.8]])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [2, 4])
def test_effective_step_solves_the_problem(seed, k):
    rng = np.random.default_rng(seed)
    b, z, w = rng.random(9), rng.dirichlet(np.full(9, 0.4)), float(rng.uniform(0.1, 2.0))
    order = np.argsort(b)[None, : k + 1]
    s = update_view(b[None], order, z[None], w)[0]
    e = np.sort(b - 2 * w * z)
    lam1 = 0.5 * (k * e[k] - e[:k].sum()) - w  # the row's own; may be negative

    def value(s):
        return b @ s + lam1 * s @ s + w * ((z - s) ** 2).sum()

    expected = simplex_minimum(value, lambda s: b + 2 * lam1 * s - 2 * w * (z - s), 9)
    np.testing.assert_allclose(s, expected, atol=1e-5)
    assert value(s) <= value(expected) + 1e-10
    assert (s > 0).sum() <= k


def test_negative_lambda_1_occurs():
    e = np.sort((COUNTER["distance"] - 2 * COUNTER["z"])[0])
    assert 0.5 * (3 * e[3] - e[:3].sum()) - 1.0 < 0


@pytest.mark.parametrize("rank", ["effective", "gmc"])
def test_weight_zero_is_can(rank):
    rng = np.random.default_rng(3)
    b, z = rng.random((20, 8)), rng.dirichlet(np.ones(8), 20)
    order = np.argsort(b, axis=1)[:, :4]
    s = update_view(b, order, z, 0.0, rank=rank)
    np.testing.assert_allclose(s, neighbour_weights(b, 3), atol=1e-12)


def test_both_ranks_agree_where_z_keeps_the_order():
    b = np.array([[1.0, 2.0, 3.0, 4.0, 9.0]])
    z = np.array([[0.4, 0.3, 0.2, 0.1, 0.0]])
    order = np.argsort(b, axis=1)[:, :4]
    both = [update_view(b, order, z, 0.5, rank=rank) for rank in ("effective", "gmc")]
    np.testing.assert_allclose(*both, atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_printed_step_against_the_printed_formula(seed):
    rng = np.random.default_rng(seed)
    b, z = rng.random((30, 8)), rng.dirichlet(np.ones(8), 30)
    order = np.argsort(b, axis=1)[:, :5]
    found = neighbour_weights(b - 2 * 0.3 * z, order.shape[1] - 1, order)
    expected = [printed_row(b[i], z[i], 0.3, 4) for i in range(30)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_neighbour_of_another_view_can_enter():
    b = np.array([[1.0, 2.0, 3.0, 3.5]])
    z = np.array([[0.0, 0.0, 0.0, 1.0]])
    order = np.array([[0, 1, 2]])
    assert update_view(b, order, z, 2.0)[0, 3] > 0
    assert update_view(b, order, z, 2.0, rank="gmc")[0, 3] == 0
    b[0, 3] = np.inf  # the distance is unknown
    assert update_view(b, order, z, 2.0)[0, 3] == 0


# --- weights, Eq. 21


@pytest.mark.parametrize(("rule", "expected"), [("gmc", 1.0), ("paper", 2.0)])
def test_view_weight(rule, expected):
    z = np.array([[0.5, 0.5], [1.0, 0.0]])
    s = z + np.array([[0.3, 0.0], [0.0, 0.4]])
    assert view_weight(z, s, rule=rule) == pytest.approx(expected)


def test_weight_is_the_derivative_of_equation_19():
    rng = np.random.default_rng(0)
    z, s = rng.random((4, 3)), rng.random((4, 3))
    step = 1e-6
    for i in range(4):
        moved = z.copy()
        moved[i, 1] += step
        slope = (np.linalg.norm(moved - s) - np.linalg.norm(z - s)) / step
        assert slope == pytest.approx(view_weight(z, s) * 2 * (z - s)[i, 1], abs=1e-5)


def test_equal_graphs_have_a_finite_weight():
    z = np.array([[0.5, 0.5]])
    assert np.isfinite(view_weight(z, z))
    assert view_weight(z, z) > 1e7


# --- Z-step, Eq. 22-23


def objective(z, s, w, d, lam):
    return (
        sum(wv * ((z - sv) ** 2).sum() for wv, sv in zip(w, s, strict=True)) + lam * (d * z).sum()
    )


def test_unified_step_by_hand():
    s = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])]
    d, everywhere = np.array([[1.0, 0.0]]), np.ones((1, 2), dtype=bool)
    exact = update_unified(s, [3.0, 1.0], d, 2.0, everywhere)
    np.testing.assert_allclose(exact, [[0.625, 0.375]])  # of q = (.5, .25)
    gmc = update_unified(s, [3.0, 1.0], d, 2.0, everywhere, u_step="gmc")
    np.testing.assert_allclose(gmc, [[1 / 3, 2 / 3]])  # of q = (1/6, 1/2)
    assert objective(exact, s, [3, 1], d, 2.0) == pytest.approx(2.875)
    assert objective(gmc, s, [3, 1], d, 2.0) == pytest.approx(3.5555556)


def test_zero_lambda_is_the_weighted_mean():
    s = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])]
    everywhere = np.ones((1, 2), dtype=bool)
    z = update_unified(s, [3.0, 1.0], np.zeros((1, 2)), 1.0, everywhere)
    np.testing.assert_allclose(z, [[0.75, 0.25]])
    z = update_unified(s, [3.0, 1.0], np.zeros((1, 2)), 1.0, everywhere, u_step="gmc")
    np.testing.assert_allclose(z, [[0.5, 0.5]])


@pytest.mark.parametrize("seed", range(6))
def test_exact_step_solves_the_problem_and_gmc_does_not(seed):
    rng = np.random.default_rng(seed)
    s = [rng.dirichlet(np.full(7, 0.5), 1) for _ in range(2)]
    d, lam = rng.random((1, 7)), float(rng.uniform(0.5, 4.0))
    support = np.ones((1, 7), dtype=bool)
    for w in ([0.7, 0.7], [2.0, 0.3]):

        def gradient(z, w=w):
            parts = zip(w, s, strict=True)
            return sum(2 * wv * (z - sv[0]) for wv, sv in parts) + lam * d[0]

        expected = simplex_minimum(lambda z, w=w: objective(z[None], s, w, d, lam), gradient, 7)
        exact = update_unified(s, w, d, lam, support)
        np.testing.assert_allclose(exact[0], expected, atol=1e-5)
        gmc = update_unified(s, w, d, lam, support, u_step="gmc")
        if w[0] == w[1]:
            np.testing.assert_allclose(gmc, exact, atol=1e-14)
        else:
            assert objective(exact, s, w, d, lam) < objective(gmc, s, w, d, lam)


def test_support_is_kept():
    rng = np.random.default_rng(0)
    s = [rng.dirichlet(np.ones(6), 9) for _ in range(2)]
    support = rng.random((9, 6)) < 0.5
    support[:, 0] = True
    z = update_unified(s, [1.0, 1.0], rng.random((9, 6)), 1.0, support)
    assert (z[~support] == 0).all()
    np.testing.assert_allclose(z.sum(1), 1.0)


def test_three_views():
    rng = np.random.default_rng(2)
    s = [rng.dirichlet(np.ones(5), 1) for _ in range(3)]
    d, support = rng.random((1, 5)), np.ones((1, 5), dtype=bool)
    gmc = update_unified(s, [0.4] * 3, d, 1.5, support, u_step="gmc")
    np.testing.assert_allclose(gmc, update_unified(s, [0.4] * 3, d, 1.5, support), atol=1e-14)


# --- the projection, Eq. 23


def project(row):
    q = np.array([row], dtype=float)
    return project_rows(q, np.ones(q.shape, dtype=bool))[0]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((0.5, 0.3, -0.1), (0.6, 0.4, 0.0)),
        ((1.0, 0.5, -1.0), (0.75, 0.25, 0.0)),
        ((0.2, 0.3, 0.5), (0.2, 0.3, 0.5)),
        ((7.0, 7.0), (0.5, 0.5)),
        ((-3.0,), (1.0,)),
        ((-1e9, -1e9 - 5.0), (1.0, 0.0)),
        ((0.0, 0.0, 0.0, 0.0), (0.25, 0.25, 0.25, 0.25)),
    ],
)
def test_projection_by_hand(row, expected):
    np.testing.assert_allclose(project(row), expected, atol=1e-12)


def test_ragged_rows():
    q = np.array([[0.5, 99.0, 0.3, -0.1], [np.nan, 1.0, np.inf, 0.5]])
    support = np.array([[True, False, True, True], [False, True, False, True]])
    z = project_rows(q, support)
    np.testing.assert_allclose(z, [[0.6, 0.0, 0.4, 0.0], [0.0, 0.75, 0.0, 0.25]], atol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_newton_projects_the_same(seed):
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((200, 12)) * 10.0 ** rng.uniform(-3, 3, (200, 1))
    support = rng.random(q.shape) < 0.6
    support[:, 3] = True
    z = project_rows(q, support)
    assert (z >= 0).all() and (z[~support] == 0).all()
    np.testing.assert_allclose(z.sum(1), 1.0, atol=1e-11)
    for row, keep, found in zip(q, support, z, strict=True):
        np.testing.assert_allclose(found[keep], newton_simplex(row[keep]), atol=1e-10)


def test_projection_is_the_nearest_point():
    rng = np.random.default_rng(0)
    for _ in range(10):
        q = rng.standard_normal(7)
        found = simplex_minimum(lambda z, q=q: ((z - q) ** 2).sum(), lambda z, q=q: 2 * (z - q), 7)
        np.testing.assert_allclose(project(q), found, atol=1e-6)


def test_shift_changes_nothing_and_projecting_twice_neither():
    rng = np.random.default_rng(1)
    q = rng.standard_normal((50, 6))
    support = np.ones(q.shape, dtype=bool)
    z = project_rows(q, support)
    np.testing.assert_allclose(project_rows(q + 3.0, support), z, atol=1e-12)
    np.testing.assert_allclose(project_rows(z, support), z, atol=1e-12)


def test_rounding_errors_are_zero():
    z = project((0.5 + 1e-13, 0.5 - 1e-13, 1e-13))
    assert z[2] == 0.0
    assert (project((0.5, 0.5, 1e-9)) > 0).all()


def test_input_stays_as_it_is():
    q = np.array([[0.5, 0.3, -0.1]])
    before = q.copy()
    project_rows(q, np.ones(q.shape, dtype=bool))
    assert (q == before).all()


def test_row_without_support():
    support = np.array([[True, True], [False, False]])
    with pytest.raises(ValueError, match="support: a row has no entry"):
        project_rows(np.zeros((2, 2)), support)
