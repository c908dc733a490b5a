"""Components of the unified graph and the bottom of its Laplacian spectrum."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from pyg_hash.transforms.affinity.steps import Floats, Ints

_DENSE_ROWS = 1000  # up to here a dense solver is as fast
_LEAST_WIDTH = 60  # of the Krylov space: narrower ones are restarted too often
_RESTARTS = 5000


class Embedding(NamedTuple):
    r"""Eigenvectors of the smallest eigenvalues.

    Attributes:
        vectors: orthonormal columns, float64 ``[m, c]``; those of eigenvalue 0 come first.
        values: ascending, float64 ``[c]``.
        residual: largest :math:`\lVert L f - v f \rVert_2` of any column.
    """

    vectors: Floats
    values: Floats
    residual: float


def components(graph: sp.csr_array) -> tuple[int, Ints]:
    """Connected components, edges taken in both directions: exact, unlike eigenvalue sums.

    Returns:
        their number, and int64 ``[m]``, numbered in the order of their first rows.
    """
    count, label = connected_components(graph, directed=True, connection="weak")
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return int(count), rank[inverse].astype(np.int64)


def laplacian(graph: sp.csr_array) -> sp.csr_array:
    """L = D - (Z + Z^T) / 2 with D the row sums of (Z + Z^T) / 2."""
    symmetric = ((graph + graph.T) * 0.5).tocsr()
    degree = sp.diags_array(np.asarray(symmetric.sum(axis=1)).ravel())
    return sp.csr_array(degree - symmetric)


def indicators(label: Ints, count: int) -> Floats:
    """Orthonormal columns, one a component, that span the null space of L: ``[m, count]``."""
    size = np.bincount(label, minlength=count)
    out = np.zeros((len(label), count))
    out[np.arange(len(label)), label] = 1.0 / np.sqrt(size[label])
    return out


def smallest_eigenvectors(
    lap: sp.csr_array,
    label: Ints,
    count: int,
    c: int,
    *,
    tol: float = 1e-10,
    seed: int = 0,
    dense_rows: int = _DENSE_ROWS,
) -> Embedding:
    """The ``c`` smallest eigenpairs of a Laplacian, SGEH Eq. 6.

    The null space is known exactly, one indicator a component, so only the rest is searched: by
    LAPACK up to ``dense_rows`` rows, above by Lanczos' method in ``O(m c)`` memory.

    Args:
        lap: float64 ``[m, m]``.
        label: component of each row, int64 ``[m]``.
        count: number of components; less than ``c``.
        c: number of eigenpairs.
        tol: residual at which Lanczos' method accepts a pair, relative to twice the largest degree.
        seed: seed of its first vector.
        dense_rows: up to so many rows LAPACK solves the dense problem.

    Raises:
        RuntimeError: Lanczos' method did not find them.
    """
    m = lap.shape[0]
    null = indicators(label, count)
    top = 2.0 * float(lap.diagonal().max())  # the spectrum ends there
    if m <= dense_rows:
        lifted = lap.toarray() + 2.0 * top * (null @ null.T)  # the null space goes above it
        values, vectors = scipy.linalg.eigh(lifted, subset_by_index=[0, c - count - 1])
    else:
        values, vectors = _lanczos(lap, null, top, c - count, tol, seed)
    residual = np.linalg.norm(lap @ vectors - vectors * values, axis=0).max(initial=0.0)
    return Embedding(
        np.concatenate((null, vectors), axis=1),
        np.concatenate((np.zeros(count), values)),
        float(residual),
    )


def _lanczos(
    lap: sp.csr_array, null: Floats, top: float, wanted: int, tol: float, seed: int
) -> tuple[Floats, Floats]:
    """Eigenpairs off the null space: the largest of ``top * (I - N N^T) - L``, turned round."""

    def flipped(x: Floats) -> Floats:
        out: Floats = top * (x - null @ (null.T @ x)) - lap @ x
        return out

    m = lap.shape[0]
    try:
        values, vectors = eigsh(
            LinearOperator(lap.shape, matvec=flipped, dtype=np.float64),
            k=wanted,
            which="LA",
            v0=np.random.default_rng(seed).standard_normal(m),
            ncv=min(m, max(2 * wanted + 1, _LEAST_WIDTH)),
            maxiter=_RESTARTS,
            tol=tol,
        )
    except ArpackNoConvergence as error:
        raise RuntimeError(
            f"affinity: {len(error.eigenvalues)} of {wanted} eigenvectors found; the graph is hard "
            "to embed, use a larger k, fewer clusters, or a larger tol"
        ) from error
    order = np.argsort(-values)
    return top - values[order], vectors[:, order]
