"""Euclidean projection of rows onto the probability simplex."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

ROUNDING = 1e-12
"""Weights up to this are rounding errors of the projection and become zero."""


def project_rows(q: Floats, support: Bools) -> Floats:
    r"""The nearest point of the simplex to each row, all rows at once: SGEH Eq. 23.

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
