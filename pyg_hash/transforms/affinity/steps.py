"""The closed-form updates of SGEH's stage 1: S, the weights of the views, and Z."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyg_hash.transforms.affinity.simplex import Bools, Floats, Ints, project_rows

_SMALLEST = float(np.sqrt(np.finfo(np.float64).eps))


def neighbour_weights(cost: Floats, k: int) -> Floats:
    r"""Row-wise weights of the ``k`` cheapest entries: SGEH Eq. 4, and Eq. 18 ranked by cost.

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

    Args:
        cost: :math:`e = b - 2 w z`, float64 ``[m, w]``.
        order: positions of the ``k + 1`` nearest neighbours, nearest first, int64 ``[m, k + 1]``.

    Returns:
        float64 ``[m, w]``.
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
    r"""The S-step, SGEH Eq. 16-18: one view's graph given Z, with :math:`S_{ii} = 0`.

    Each row minimises :math:`\sum_j b_j s_j + \lambda_1 \lVert s \rVert_2^2 +
    w \lVert z - s \rVert_2^2` on the simplex, so that at most ``k`` entries stay. Expanded, the
    cost of an entry is :math:`e_j = b_j - 2 w z_j`.

    Args:
        distance: squared distances b, float64 ``[m, w]``, inf where an entry is impossible.
        order: positions of the ``k + 1`` nearest neighbours, nearest first, int64 ``[m, k + 1]``.
        z: the unified graph, float64 ``[m, w]``.
        weight: w of the view.
        rank: ``'effective'`` ranks by e: the exact solution. ``'gmc'`` ranks by b as Eq. 18 is
            printed, see :func:`printed_weights`.
    """
    cost = distance - 2.0 * weight * z
    if rank == "gmc":
        return printed_weights(cost, order)
    return neighbour_weights(cost, order.shape[1] - 1)


def view_weight(z: Floats, s: Floats, *, rule: str = "gmc") -> float:
    r"""The weight of a view, SGEH Eq. 21.

    Args:
        z: the unified graph, float64 ``[m, w]``.
        s: the view's graph, float64 ``[m, w]``.
        rule: ``'gmc'`` is :math:`1 / (2 \lVert Z - S \rVert_F)`, the derivative of Eq. 19's square
            root; ``'paper'`` leaves out the 2, as Eq. 21 is printed. Norms below 1.5e-8 count as
            1.5e-8, so that equal graphs have a finite weight.
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
    r"""The Z-step, SGEH Eq. 22-23: the unified graph given everything else.

    Each row minimises :math:`\sum_v w_v \lVert z - s_v \rVert_2^2 + \lambda d^T z` on the simplex.
    The paper's :math:`\lambda_1` in Eq. 22 is Eq. 7's :math:`\lambda_2`, and :math:`d_{ij}` is a
    squared distance between embeddings (GMC), not a similarity.

    Args:
        s: the views' graphs, float64 ``[m, w]`` each.
        weights: one w a view.
        d: squared distances between embeddings, float64 ``[m, w]``.
        lam: :math:`\lambda`.
        support: where Z may be positive, bool ``[m, w]``.
        u_step: ``'exact'`` projects :math:`(\sum_v w_v s_v - \frac{\lambda}{2} d) / \sum_v w_v`.
            ``'gmc'`` projects the mean of :math:`s_v - \frac{\lambda}{2 V w_v} d`, which is Eq. 23;
            it solves the problem only if the weights are equal.
    """
    if u_step == "gmc":
        pull = sum(0.5 * lam / (len(s) * weight) for weight in weights) / len(s)
        mean = np.mean(s, axis=0)
    else:
        total = sum(weights)
        pull = 0.5 * lam / total
        mean = sum((weight / total) * view for weight, view in zip(weights, s, strict=True))
    return project_rows(mean - pull * d, support)
