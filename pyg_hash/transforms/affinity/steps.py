"""The closed-form updates of SGEH's stage 1: S, the weights of the views, and Z.

Graphs are padded rows, float64 ``[m, w]``, of the columns that ``Candidates`` lists: ``z`` is the
unified one, ``s`` that of a view. So are a view's squared distances b (inf where an entry is
impossible) and those between embeddings, ``d``. ``order``, int64 ``[m, k + 1]``, has the places of
a view's nearest neighbours, nearest first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

ROUNDING = 1e-12
"""Weights up to this are rounding errors of the projection and become zero."""
_SMALLEST = float(np.sqrt(np.finfo(np.float64).eps))


def neighbour_weights(cost: Floats, k: int) -> Floats:
    r"""Row-wise weights of the ``k`` cheapest entries, SGEH Eq. 4, which solves SGEH Eq. 3.

    .. math::
        s_j = \frac{(e_{(k+1)} - e_j)_+}{\sum_{h \le k} (e_{(k+1)} - e_{(h)})}

    This minimises :math:`e^T s + g \lVert s \rVert_2^2` on the simplex, with the row's own
    :math:`g = \frac12 \sum_{h \le k} (e_{(k+1)} - e_{(h)})`, the largest that keeps at most ``k``
    entries. Adding a constant to a row or multiplying it changes nothing. Where all ``k + 1``
    cheapest entries cost the same, each of the first ``k`` has weight ``1 / k``.

    Args:
        cost: float64 ``[m, w]``, at least ``k + 1`` finite entries a row, inf elsewhere.
        k: number of neighbours.

    Returns:
        float64 ``[m, w]``; rows sum to 1.
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
    r"""SGEH Eq. 18 as printed, and as in GMC's code: neighbours ranked by distance alone.

    Negative values become zero, so a row need not sum to 1. The denominator can be negative.
    """
    ranked = np.take_along_axis(cost, order, axis=1)
    gain = ranked[:, -1:] - ranked[:, :-1]
    total = gain.sum(axis=1, keepdims=True) + np.finfo(np.float64).eps
    out = np.zeros(cost.shape)
    np.put_along_axis(out, order[:, :-1], np.maximum(gain / total, 0.0), axis=1)
    return out


def update_view(
    distance: Floats, order: Ints, z: Floats, weight: float, *, rank: str = "effective"
) -> Floats:
    r"""The S-step: one view's graph given Z, SGEH Eq. 17, with :math:`S_{ii} = 0`.

    Each row minimises :math:`\sum_j b_j s_j + \lambda_1 \lVert s \rVert_2^2 +
    w \lVert z - s \rVert_2^2` on the simplex, so that at most ``k`` entries stay. Expanded, the
    cost of an entry is :math:`e_j = b_j - 2 w z_j`. (SGEH Eq. 16 is the sum over the views.)

    ``rank='effective'`` ranks by e: the exact solution; ``'gmc'`` by b, :func:`printed_weights`.
    """
    cost = distance - 2.0 * weight * z
    if rank == "gmc":
        return printed_weights(cost, order)
    return neighbour_weights(cost, order.shape[1] - 1)


def view_weight(z: Floats, s: Floats, *, rule: str = "gmc") -> float:
    r"""The weight of a view, SGEH Eq. 21.

    ``rule='gmc'`` is :math:`1 / (2 \lVert Z - S \rVert_F)`, the derivative of the square root in
    SGEH Eq. 19; ``'paper'`` leaves out the 2, as printed. Norms below 1.5e-8 count as 1.5e-8, so
    that equal graphs have a finite weight.
    """
    norm = max(float(np.linalg.norm(z - s)), _SMALLEST)
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
    r"""The nearest point of the simplex to each row, all rows at once, SGEH Eq. 23.

    .. math::
        z = \arg\min_z \lVert z - q \rVert_2^2
        \quad \text{s.t.} \quad z \ge 0,\; \mathbf{1}^T z = 1,\;
        z_j = 0 \text{ outside the support}

    The solution is :math:`z_j = (q_j - t)_+`. The paper finds :math:`t` by Newton's method; here
    it is exact, from the sorted row.

    Args:
        q: float64 ``[m, w]``; values outside the support are never read.
        support: bool ``[m, w]``; every row has at least one entry.

    Returns:
        float64 ``[m, w]``; rows sum to 1.

    Raises:
        ValueError: a row without support.
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
    z[z <= ROUNDING] = 0.0
    return z
