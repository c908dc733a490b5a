"""The steps of SGEH's stage 1: S, the weights of the views, Z, and the embedding D.

Graphs are padded rows, float64 ``[m, w]``, of the columns that ``Candidates`` lists: ``z`` is the
unified one, ``s`` that of a view. So are a view's squared distances b (inf where an entry is
impossible) and those between embeddings, ``d``. ``order``, int64 ``[m, k + 1]``, has the places of
a view's nearest neighbours, nearest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_ROUNDING = 1e-12  # weights up to this are rounding errors of the projection and become zero
_SMALLEST = float(np.sqrt(np.finfo(np.float64).eps))
_LEAST_WIDTH = 60  # of the Krylov space: narrower ones are restarted too often
_RESTARTS = 5000


def neighbour_weights(cost: Floats, k: int) -> Floats:
    r"""Row-wise weights of the ``k`` cheapest entries, SGEH Eq. 4, which solves SGEH Eq. 3.

    .. math::
        s_j = \frac{(e_{(k+1)} - e_j)_+}{\sum_{h \le k} (e_{(k+1)} - e_{(h)})}

    This minimises :math:`e^T s + g \lVert s \rVert_2^2` on the simplex, with the largest :math:`g`
    that keeps at most ``k`` entries of the row. Where all ``k + 1`` cheapest (finite in every row)
    cost the same, the first ``k`` weigh ``1 / k``.
    """
    order = np.argsort(cost, axis=1, kind="stable")[:, : k + 1]
    ranked = np.take_along_axis(cost, order, axis=1)
    gain = ranked[:, k:] - ranked[:, :k]
    total = gain.sum(axis=1, keepdims=True)
    even = total == 0.0
    weight = np.where(even, 1.0 / k, gain / np.where(even, 1.0, total))
    out = np.zeros(cost.shape)
    np.put_along_axis(out, order[:, :k], weight, axis=1)
    return out


def printed_weights(cost: Floats, order: Ints) -> Floats:
    """SGEH Eq. 18 as printed, and as in GMC's code: ranked by distance; rows need not sum to 1."""
    ranked = np.take_along_axis(cost, order, axis=1)
    gain = ranked[:, -1:] - ranked[:, :-1]
    total = gain.sum(axis=1, keepdims=True) + np.finfo(np.float64).eps
    out = np.zeros(cost.shape)
    np.put_along_axis(out, order[:, :-1], np.maximum(gain / total, 0.0), axis=1)
    return out


def update_view(
    distance: Floats, order: Ints, z: Floats, weight: float, *, rank: str = "effective"
) -> Floats:
    r"""The S-step: one view's graph given Z, SGEH Eq. 17 (SGEH Eq. 16 is the sum over the views).

    Each row minimises :math:`\sum_j b_j s_j + \lambda_1 \lVert s \rVert_2^2 +
    w \lVert z - s \rVert_2^2` on the simplex, so that at most ``k`` entries stay. Expanded, the
    cost of an entry is :math:`e_j = b_j - 2 w z_j`. ``rank='effective'`` ranks by e: the exact
    solution; ``'gmc'`` by b, :func:`printed_weights`.
    """
    cost = distance - 2.0 * weight * z
    if rank == "gmc":
        return printed_weights(cost, order)
    return neighbour_weights(cost, order.shape[1] - 1)


def view_weight(z: Floats, s: Floats, *, rule: str = "gmc") -> float:
    r"""The weight of a view, SGEH Eq. 21.

    ``rule='gmc'`` is :math:`1 / (2 \lVert Z - S \rVert_F)`, the derivative of the square root in
    SGEH Eq. 19; ``'paper'`` leaves out the 2, as printed.
    """
    norm = max(float(np.linalg.norm(z - s)), _SMALLEST)  # equal graphs have a finite weight
    return 1.0 / norm if rule == "paper" else 0.5 / norm


def update_unified(
    s: Sequence[Floats],
    weights: Sequence[float],
    d: Floats,
    lam: float,
    support: Bools,
    *,
    u_step: str = "exact",
) -> Floats:
    r"""The Z-step: the unified graph given everything else, SGEH Eq. 22.

    Each row minimises :math:`\sum_v w_v \lVert z - s_v \rVert_2^2 + \lambda d^T z` on the simplex
    (for :math:`\lambda = 0` that is SGEH Eq. 5). The :math:`\lambda_1` that is printed is
    :math:`\lambda_2`, and :math:`d_{ij}` is a squared distance between embeddings (GMC), not a
    similarity. ``u_step='exact'`` projects
    :math:`(\sum_v w_v s_v - \frac{\lambda}{2} d) / \sum_v w_v`; ``'gmc'`` the mean of
    :math:`s_v - \frac{\lambda}{2 V w_v} d`, as printed, which solves the problem only if the
    weights are equal.
    """
    if u_step == "gmc":
        pull = sum(0.5 * lam / (len(s) * weight) for weight in weights) / len(s)
        mean = np.mean(s, axis=0)
    else:
        total = sum(weights)
        pull = 0.5 * lam / total
        mean = sum((weight / total) * view for weight, view in zip(weights, s, strict=True))
    return project_rows(mean - pull * d, support)


def project_rows(q: Floats, support: Bools) -> Floats:
    r"""The nearest point of the simplex to each row, SGEH Eq. 23.

    .. math::
        z = \arg\min_z \lVert z - q \rVert_2^2
        \quad \text{s.t.} \quad z \ge 0,\; \mathbf{1}^T z = 1,\;
        z_j = 0 \text{ outside the support}

    The solution is :math:`z_j = (q_j - t)_+`, here with the exact :math:`t` from the sorted row,
    not by Newton's method as in the paper. A row without support is a ``ValueError``.
    """
    if not support.any(axis=1).all():
        raise ValueError("support: a row has no entry; there is no simplex to project on")
    top = np.where(support, q, -np.inf).max(axis=1, keepdims=True)
    # the projection does not change when a row is shifted, and is zero below the largest entry - 1
    shifted = np.where(support, q - top, -2.0)
    ordered = -np.sort(-shifted, axis=1)
    count = np.arange(1, q.shape[1] + 1)
    threshold = (np.cumsum(ordered, axis=1) - 1.0) / count
    kept = (ordered > threshold).sum(axis=1, keepdims=True)
    z: Floats = shifted - np.take_along_axis(threshold, kept - 1, axis=1)
    z[z <= _ROUNDING] = 0.0
    return z


class Embedding(NamedTuple):
    """Orthonormal eigenvectors ``[m, c]``, those of eigenvalue 0 first, and the eigenvalues."""

    vectors: Floats
    values: Floats
    residual: float  # the largest |L f - v f| of any column


def components(graph: sp.csr_array) -> tuple[int, Ints]:
    """Number of weakly connected components and that of each row, numbered by first row; exact."""
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
    member = (label[:, None] == np.arange(count)).astype(np.float64)
    out: Floats = member / np.sqrt(member.sum(axis=0))
    return out


def smallest_eigenvectors(
    lap: sp.csr_array,
    label: Ints,
    count: int,
    c: int,
    *,
    tol: float = 1e-10,
    seed: int = 0,
    dense_rows: int = 1000,
) -> Embedding:
    """The ``c`` smallest eigenpairs of a Laplacian, SGEH Eq. 6; ``count`` components, ``label``.

    The null space is known; the rest is LAPACK's up to ``dense_rows`` rows, above Lanczos', with
    residuals of ``tol`` times twice the largest degree at most, or a ``RuntimeError``.
    """
    m, wanted = lap.shape[0], c - count
    null = indicators(label, count)
    top = 2.0 * float(lap.diagonal().max())  # the spectrum ends there

    def flipped(x: Floats) -> Floats:  # off the null space, the smallest pairs become the largest
        out: Floats = top * (x - null @ (null.T @ x)) - lap @ x
        return out

    if m <= dense_rows:
        lifted = lap.toarray() + 2.0 * top * (null @ null.T)  # the null space goes above it
        values, vectors = scipy.linalg.eigh(lifted, subset_by_index=[0, wanted - 1])
    else:
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
                f"affinity: {len(error.eigenvalues)} of {wanted} eigenvectors found; the graph is "
                "hard to embed, use a larger k, fewer clusters, or a larger tol"
            ) from error
        order = np.argsort(-values)
        values, vectors = top - values[order], vectors[:, order]
    residual = np.linalg.norm(lap @ vectors - vectors * values, axis=0).max(initial=0.0)
    return Embedding(
        np.concatenate((null, vectors), axis=1),
        np.concatenate((np.zeros(count), values)),
        float(residual),
    )
