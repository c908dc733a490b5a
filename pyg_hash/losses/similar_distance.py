"""Distance between the codes of similar pairs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.losses._labels import check_code_sets, comparable_labels, similar_sums
from pyg_hash.losses._reduction import check_reduction, reduce_sum
from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_positive_int


def similar_distance_loss(
    a: Tensor,
    b: Tensor,
    a_y: Tensor,
    b_y: Tensor,
    *,
    reduction: Reduction = "mean",
    chunk_size: int = 1024,
) -> Tensor:
    r"""Squared distances of the codes of all similar pairs.

    The fourth term of Eq. (11) of the reproduction report of GCH ("Try1"), without its factor
    :math:`\lambda`:

    .. math:: \sum_{i,j} S_{ij} \lVert h_i - h'_j \rVert_2^2

    with :math:`S_{ij} = 1` if the two share a label, else 0. Exact, in :math:`O((n + m) K)` memory
    beside one tile of :math:`S`; for one label a row also in that time. First derivatives only.

    Args:
        a: relaxed codes, float32 or float64 ``[n, num_bits]``.
        b: relaxed codes, same dtype, ``[m, num_bits]``.
        a_y: labels of ``a``, class index ``[n]`` or multi-hot ``[n, C]``.
        b_y: labels of ``b``, class index ``[m]`` or multi-hot ``[m, C]``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``n * m``.
        chunk_size: rows and columns of one tile of :math:`S`.

    Returns:
        A scalar; an exact zero if there are no pairs.

    Raises:
        TypeError, ValueError: as :func:`similarity_likelihood`.
    """
    check_reduction(reduction)
    check_positive_int(chunk_size, "chunk_size")
    check_code_sets(a, b, a_y, b_y)
    a_y, b_y = comparable_labels(a_y, b_y, a.dtype)
    with torch.no_grad():
        # a column of ones beside the codes counts the similar pairs
        more_a, more_b = (F.pad(x, (0, 1), value=1.0) for x in (a, b))
        to_a, to_b = similar_sums(more_a, more_b, a_y, b_y, chunk_size)
        product = (a * to_a[:, :-1]).sum()
    # twice the product less itself: the value is one product, the gradient is of both factors
    cross = (a * to_a[:, :-1]).sum() + (b * to_b[:, :-1]).sum() - product
    near = (a.square() * to_a[:, -1:]).sum() + (b.square() * to_b[:, -1:]).sum()
    return reduce_sum(near - 2 * cross, a.size(0) * b.size(0), reduction)
