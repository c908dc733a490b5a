"""The projection onto the simplex: by hand, against Newton (Eq. 23) and a QP solver."""

import numpy as np
import pytest
from affinity_oracles import newton_simplex
from scipy.optimize import minimize

from pyg_hash.transforms.affinity import project_rows


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
def test_by_hand(row, expected):
    np.testing.assert_allclose(project(row), expected, atol=1e-12)


def test_ragged_rows():
    q = np.array([[0.5, 99.0, 0.3, -0.1], [np.nan, 1.0, np.inf, 0.5]])
    support = np.array([[True, False, True, True], [False, True, False, True]])
    z = project_rows(q, support)
    np.testing.assert_allclose(z, [[0.6, 0.0, 0.4, 0.0], [0.0, 0.75, 0.0, 0.25]], atol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_newton_finds_the_same(seed):
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((200, 12)) * 10.0 ** rng.uniform(-3, 3, (200, 1))
    support = rng.random(q.shape) < 0.6
    support[:, 3] = True
    z = project_rows(q, support)
    assert (z >= 0).all() and (z[~support] == 0).all()
    np.testing.assert_allclose(z.sum(1), 1.0, atol=1e-11)
    for row, keep, found in zip(q, support, z, strict=True):
        np.testing.assert_allclose(found[keep], newton_simplex(row[keep]), atol=1e-10)


def test_is_the_nearest_point():
    rng = np.random.default_rng(0)
    for _ in range(10):
        q = rng.standard_normal(7)
        found = minimize(
            lambda z, q=q: ((z - q) ** 2).sum(),
            np.full(7, 1 / 7),
            jac=lambda z, q=q: 2 * (z - q),
            bounds=[(0, None)] * 7,
            constraints={"type": "eq", "fun": lambda z: z.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(project(q), found.x, atol=1e-6)


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
