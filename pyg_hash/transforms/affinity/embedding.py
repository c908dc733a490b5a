"""Components of the unified graph and the bottom of its Laplacian spectrum."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from pyg_hash.transforms.affinity.lobpcg import GUARD, deflated_lobpcg, first_block
from pyg_hash.transforms.affinity.simplex import Floats, Ints

_DENSE_ROWS = 1000  # up to here a dense solver is as fast
_CHUNK_ELEMENTS = 1 << 21


class Embedding(NamedTuple):
    r"""Eigenvectors of the smallest eigenvalues.

    Attributes:
        vectors: orthonormal columns, float64 ``[m, c]``; those of eigenvalue 0 come first.
        values: ascending, float64 ``[c]``.
        residual: largest :math:`\lVert L f - v f \rVert_2` of any column.
        block: columns to start the next solve from, float64 ``[m, c']``.
    """

    vectors: Floats
    values: Floats
    residual: float
    block: Floats


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
    """L = D - (Z + Z^T) / 2 with D the row sums of (Z + Z^T) / 2: SGEH Eq. 6 and 7."""
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
    start: Floats | None = None,
    tol: float = 1e-10,
    rounds: int = 40,
    seed: int = 0,
    dense_rows: int = _DENSE_ROWS,
) -> Embedding:
    """The ``c`` smallest eigenpairs of a Laplacian: SGEH Eq. 6.

    The null space is known exactly, one indicator a component, so only the rest is searched: by
    LAPACK up to ``dense_rows`` rows, above by LOBPCG in ``O(m c)`` memory.

    Args:
        lap: float64 ``[m, m]``.
        label: component of each row, int64 ``[m]``.
        count: number of components; less than ``c``.
        c: number of eigenpairs.
        start: block of an earlier solve, float64 ``[m, c']``.
        tol: residual at which LOBPCG accepts a column, relative to the largest degree.
        rounds: at most so many rounds of 50 LOBPCG iterations.
        seed: seed of the first block.
        dense_rows: up to so many rows LAPACK solves the dense problem.
    """
    m = lap.shape[0]
    null = indicators(label, count)
    wanted = c - count
    width = min(wanted + GUARD, m - count)
    scale = float(lap.diagonal().max())
    if m <= dense_rows or 5 * width > m - count:
        # lifts the null space above the spectrum, which ends at 2 * largest degree
        lifted = lap.toarray() + 4.0 * scale * (null @ null.T)
        values, vectors = scipy.linalg.eigh(lifted, subset_by_index=[0, wanted - 1])
        block = vectors
    else:
        rng = np.random.default_rng(seed)
        block = first_block(null, start, width, rng)
        values, block = deflated_lobpcg(lap, null, block, wanted, tol * scale, rounds, rng)
        values, vectors = values[:wanted], block[:, :wanted]
    residual = np.linalg.norm(lap @ vectors - vectors * values, axis=0).max(initial=0.0)
    return Embedding(
        np.concatenate((null, vectors), axis=1),
        np.concatenate((np.zeros(count), values)),
        float(residual),
        block,
    )


def pair_distances(vectors: Floats, column: Ints) -> Floats:
    """Squared distances between row i and each row of ``column[i]``: float64 ``[m, w]``."""
    out = np.empty(column.shape)
    step = max(1, _CHUNK_ELEMENTS // (column.shape[1] * vectors.shape[1]))
    for start in range(0, len(column), step):
        part = slice(start, start + step)
        gap = vectors[column[part]]
        gap -= vectors[part, None]
        np.einsum("rwc,rwc->rw", gap, gap, out=out[part])
    return out
