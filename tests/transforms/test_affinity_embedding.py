"""Components, Laplacians and their eigenvectors against dense linear algebra."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
import torch
from affinity_oracles import count_components, dense_laplacian

from pyg_hash.transforms.affinity import (
    components,
    indicators,
    laplacian,
    row_distances,
    smallest_eigenvectors,
)


def two_triangles():
    block = np.ones((3, 3)) - np.eye(3)
    return np.kron(np.eye(2), block)


def blocks(sizes, seed=0, degree=6):
    """A random graph with rows that sum to 1 and one component for each size, rows shuffled."""
    rng = np.random.default_rng(seed)
    m = sum(sizes)
    z = np.zeros((m, m))
    start = 0
    for size in sizes:
        for i in range(size):
            others = [(i + 1) % size, *rng.integers(size, size=degree)]
            for j in others:
                if j != i:
                    z[start + i, start + j] = rng.uniform(0.1, 1.0)
        start += size
    order = rng.permutation(m)
    z = z / z.sum(1, keepdims=True)
    return z[np.ix_(order, order)]


def test_two_triangles():
    z = two_triangles()
    graph = sp.csr_array(z)
    count, label = components(graph)
    assert count == 2
    assert label.tolist() == [0, 0, 0, 1, 1, 1]
    found = smallest_eigenvectors(laplacian(graph), label, count, 6)
    np.testing.assert_allclose(found.values, [0, 0, 3, 3, 3, 3], atol=1e-12)


def test_components_ignore_directions_and_are_numbered_by_first_row():
    z = np.zeros((6, 6))
    z[4, 0] = z[1, 3] = z[2, 5] = 1e-11
    count, label = components(sp.csr_array(z))
    assert count == 3
    assert label.tolist() == [0, 1, 2, 1, 0, 2]
    assert label.dtype == np.int64


@pytest.mark.parametrize("seed", range(3))
def test_components_of_random_graphs(seed):
    rng = np.random.default_rng(seed)
    z = np.where(rng.random((120, 120)) < 0.008, rng.random((120, 120)), 0.0)
    count, label = components(sp.csr_array(z))
    expected, same = count_components(z)
    assert count == expected
    assert (label == same).all()


def test_laplacian_and_trace():
    z = blocks([20, 15])
    lap = laplacian(sp.csr_array(z))
    np.testing.assert_allclose(lap.toarray(), dense_laplacian(z), atol=1e-15)
    f = np.random.default_rng(0).standard_normal((35, 4))
    d = ((f[:, None] - f[None]) ** 2).sum(-1)
    # Eq. 6 and the linear term of Eq. 22 are the same thing
    assert (z * d).sum() == pytest.approx(2 * np.trace(f.T @ lap.toarray() @ f))


def test_indicators_span_the_null_space():
    z = blocks([9, 5, 3])
    graph = sp.csr_array(z)
    count, label = components(graph)
    null = indicators(label, count)
    np.testing.assert_allclose(null.T @ null, np.eye(3), atol=1e-15)
    assert np.abs(laplacian(graph) @ null).max() < 1e-14


@pytest.mark.parametrize("solver", ["dense", "lanczos"])
@pytest.mark.parametrize(("sizes", "c"), [([200], 5), ([150, 60], 6), ([140, 30, 20, 10], 8)])
def test_eigenvectors_against_lapack(solver, sizes, c):
    z = blocks(sizes, seed=1)
    graph = sp.csr_array(z)
    count, label = components(graph)
    assert count == len(sizes)
    dense_rows = 1000 if solver == "dense" else 0
    found = smallest_eigenvectors(laplacian(graph), label, count, c, dense_rows=dense_rows)
    values, vectors = scipy.linalg.eigh(dense_laplacian(z))
    assert values[c] - values[c - 1] > 1e-4, "otherwise the vectors are not unique"
    np.testing.assert_allclose(found.values, values[:c], atol=1e-9)
    f, expected = found.vectors, vectors[:, :c]
    np.testing.assert_allclose(f.T @ f, np.eye(c), atol=1e-9)
    np.testing.assert_allclose(f @ f.T, expected @ expected.T, atol=1e-6)
    assert found.residual < 1e-7
    np.testing.assert_array_equal(f[:, :count], indicators(label, count))


def test_equal_eigenvalues_are_all_found():
    one = blocks([80], seed=2)
    z = np.kron(np.eye(3), one)  # three equal components: every eigenvalue three times
    graph = sp.csr_array(z)
    count, label = components(graph)
    found = smallest_eigenvectors(laplacian(graph), label, count, 9, dense_rows=0)
    values = scipy.linalg.eigvalsh(dense_laplacian(z))[:9]
    np.testing.assert_allclose(found.values, values, atol=1e-9)


def test_a_chain_has_a_small_gap():
    """Its eigenvalues are next to each other, and next to zero."""
    z = np.eye(600, k=1) + np.eye(600, k=-1)
    graph = sp.csr_array(z / z.sum(1, keepdims=True))
    count, label = components(graph)
    found = smallest_eigenvectors(laplacian(graph), label, count, 4, dense_rows=0)
    values = scipy.linalg.eigvalsh(laplacian(graph).toarray())[:4]
    np.testing.assert_allclose(found.values, values, atol=1e-9)
    assert found.residual < 1e-8


def test_eigenvectors_that_are_not_found(monkeypatch):
    monkeypatch.setattr("pyg_hash.transforms.affinity._RESTARTS", 1)
    graph = sp.csr_array(blocks([300], seed=9, degree=1))
    count, label = components(graph)
    with pytest.raises(RuntimeError, match="of 6 eigenvectors found; .* larger k, fewer clusters"):
        smallest_eigenvectors(laplacian(graph), label, count, 7, tol=1e-14, dense_rows=0)


def test_seed_decides_the_solution_bit_for_bit():
    graph = sp.csr_array(blocks([250], seed=6))
    count, label = components(graph)
    lap = laplacian(graph)
    first, second = (
        smallest_eigenvectors(lap, label, count, 4, seed=3, dense_rows=0).vectors for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_row_distances():
    rng = np.random.default_rng(0)
    f, column = rng.standard_normal((50, 3)), rng.integers(50, size=(50, 4))
    expected = [[((f[i] - f[j]) ** 2).sum() for j in row] for i, row in enumerate(column)]
    np.testing.assert_allclose(row_distances(torch.from_numpy(f), column), expected)


def test_distances_do_not_depend_on_the_basis():
    z = blocks([100, 40], seed=7)
    graph = sp.csr_array(z)
    count, label = components(graph)
    found = smallest_eigenvectors(laplacian(graph), label, count, 5)
    turn = scipy.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    column = np.random.default_rng(1).integers(140, size=(140, 6))
    np.testing.assert_allclose(
        row_distances(torch.from_numpy(found.vectors), column),
        row_distances(torch.from_numpy(found.vectors @ turn), column),
        atol=1e-12,
    )
