"""The likelihood of all pairs of two sets of codes whose labels are known as probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.losses.contrast import check_codes
from pyg_hash.losses.pairs import Cost, mean_of_pairs
from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_floats, check_positive, check_reduction


def expected_pairwise_nll(
    a: Tensor,
    b: Tensor,
    a_p: Tensor,
    b_p: Tensor,
    *,
    exclusive: bool = True,
    factor: float = 0.5,
    reduction: Reduction = "mean",
) -> Tensor:
    r""":func:`~pyg_hash.losses.pairwise_nll` where labels are known as probabilities.

    It is linear in :math:`J_{pq}`, so its mean over the labels, drawn for each item on its own, has
    the probability that the two share one in its place:

    .. math::
        \mathrm{E} J_{pq} = \sum_c P_{pc} P_{qc}
        \quad\text{or}\quad 1 - \prod_c (1 - P_{pc} P_{qc})

    the first for classes that exclude each other. With zeros and ones it is ``pairwise_nll``. Ours;
    as exact, and as cheap in memory.

    Codes are ``[n, num_bits]`` and ``[m, num_bits]``, probabilities of their classes, of the same
    dtype, ``[n, C]`` and ``[m, C]``, and constants. ``exclusive``: an item has one class, else each
    with its own probability. ``ValueError``: probabilities outside [0, 1] or of another dtype, a
    ``factor`` that is not positive; other errors: see :mod:`pyg_hash.losses`.
    """
    check_reduction(reduction)
    a, b = check_codes(a, b)
    check_positive(factor, "factor")
    for name, codes, p in (("a_p", a, a_p), ("b_p", b, b_p)):
        check_floats(p, name)
        widths = p.dtype.itemsize, a.dtype.itemsize
        other = p.dtype != a.dtype and widths != (2, 4)  # half precision becomes float32
        if other or len(p) != len(codes) or p.size(1) != a_p.size(1):
            raise ValueError(
                f"{name}: expected {a.dtype} [{len(codes)}, {a_p.size(1)}], got {p.dtype} "
                f"{list(p.shape)}"
            )
        if p.numel() and not bool(((p >= 0) & (p <= 1)).all()):
            raise ValueError(f"{name}: holds numbers outside [0, 1]; give probabilities")
    a_p, b_p = a_p.to(a.dtype), b_p.to(a.dtype)
    similarity = _one_class_in_common if exclusive else _any_class_in_common
    return mean_of_pairs(a, b, a_p, b_p, Cost(similarity, factor), reduction)


def _one_class_in_common(a_p: Tensor, b_p: Tensor, out: Tensor) -> Tensor:
    return torch.mm(a_p, b_p.t(), out=out).clamp_(max=1)  # rounding


def _any_class_in_common(a_p: Tensor, b_p: Tensor, out: Tensor) -> Tensor:
    both = torch.empty_like(out)
    out.fill_(1)
    # columns that lie apart would take several times as long
    columns = (p.t().contiguous() for p in (a_p, b_p))
    for own, others in zip(*columns, strict=True):
        out.addcmul_(out, torch.outer(own, others, out=both), value=-1)
    return out.neg_().add_(1)
