"""The likelihood of all pairs of two labelled sets of codes, without a matrix of all pairs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pyg_hash.losses.contrast import MadeGradients, check_codes
from pyg_hash.typing import Match, Reduction
from pyg_hash.utils.checks import (
    check_choice,
    check_labels,
    check_number,
    check_positive,
    check_reduction,
    reduced,
)
from pyg_hash.utils.modes import exact

PairLoss = Literal["nll", "squared_nll"]
_CPU_TILE = 512  # two float32 buffers of this many rows and columns stay in a core's cache
_GPU_TILE = 4096
_FOLDS = 4


def pairwise_nll(
    a: Tensor,
    b: Tensor,
    a_y: Tensor,
    b_y: Tensor,
    *,
    match: Match = "shared",
    kind: PairLoss = "nll",
    factor: float | None = None,
    similar: float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Negative log-likelihood of the similarity of all pairs of two sets of codes.

    The first term of MCGCN Eq. 7, and of GCH Eq. 3, GCH Eq. 5 and GCH Eq. 8:

    .. math::
        -\sum_{p,q} \left( J_{pq}\,\omega_{pq} - \log(1 + e^{\omega_{pq}}) \right), \qquad
        \omega_{pq} = \tfrac{1}{2} \langle a_p, b_q \rangle

    where :math:`J_{pq} = 1` if the two are similar, else 0. GCH's released code descends the square
    of each summand, without the factor 1/2 and with :math:`J_{pq} = 0.999`, which makes the optimum
    finite (:math:`\omega \approx 6.9`): ``kind='squared_nll'``. Exact, in :math:`O(n m K)` time and
    :math:`O((n + m) K)` memory: one pass over tiles makes the value and both gradients.

    Codes are float ``[n, num_bits]`` and ``[m, num_bits]``, labels class indices ``[n]`` and
    ``[m]``, or multi-hot with C columns: then two are similar if one label at least is
    ``'shared'``, or if all are ``'equal'``. ``factor`` multiplies the inner product (None: 1/2, or
    1 of ``'squared_nll'``); ``similar``, in (0, 1], is :math:`J` of similar pairs (None: 1 or
    0.999). ``'sum'`` is the formula; ``'mean'`` divides it by ``n * m``.
    ``ValueError``: class indices below 0, multi-hot ones but 0 and 1, a ``factor`` that is not
    positive, another ``similar``; other errors: see :mod:`pyg_hash.losses`.
    """
    check_choice(kind, ("nll", "squared_nll"), "kind")
    squared = kind == "squared_nll"
    factor = (1.0 if squared else 0.5) if factor is None else factor
    similar = (0.999 if squared else 1.0) if similar is None else similar
    check_likelihood(factor, similar)
    a, b, a_y, b_y = comparable(a, b, a_y, b_y, match, reduction)
    cost = Cost(_same_label, factor, similar, squared)
    if a_y.dim() == 1 and similar == 1 and not squared:
        # in order of classes the similar pairs of a tile form few rectangles
        cost = cost._replace(bounds=_class_bounds(a_y, b_y))
        a, b = a[a_y.argsort()], b[b_y.argsort()]
    return mean_of_pairs(a, b, a_y, b_y, cost, reduction)


class Cost(NamedTuple):
    """What a pair costs: the likelihood of ``t = factor <a, b>``, or its square."""

    similarity: Callable[[Tensor, Tensor, Tensor], Tensor]  # of labels, written into the third
    factor: float
    similar: float = 1.0
    squared: bool = False
    bounds: tuple[list[int], list[int]] | None = None  # of classes that a and b are sorted by


def mean_of_pairs(
    a: Tensor, b: Tensor, a_y: Tensor, b_y: Tensor, cost: Cost, reduction: Reduction
) -> Tensor:
    """The cost of all pairs of codes, mean or sum."""
    with exact(a):  # half precision would not be
        total: Tensor = _SumOfPairs.apply(  # type: ignore[no-untyped-call]
            a, b, a_y, b_y, cost, torch.is_grad_enabled()
        )
    return reduced(total, a.size(0) * b.size(0), reduction)


def check_likelihood(
    factor: float, similar: float, names: tuple[str, str] = ("factor", "similar")
) -> None:
    """Raise unless ``factor > 0`` and ``0 < similar <= 1``; ``names`` is what errors call them."""
    check_positive(factor, names[0])
    if not 0 < check_number(similar, names[1]) <= 1:
        raise ValueError(f"{names[1]}: expected a number above 0 and at most 1, got {similar!r}")


def comparable(
    a: Tensor, b: Tensor, a_y: Tensor, b_y: Tensor, match: str, reduction: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes, checked; labels as numbers, equal where similar, or multi-hot, sharing one there."""
    check_choice(match, ("shared", "equal"), "match")
    check_reduction(reduction)
    a, b = check_codes(a, b)
    check_labels(a_y, "a_y", num_rows=a.size(0))
    check_labels(b_y, "b_y", num_rows=b.size(0))
    if a_y.shape[1:] != b_y.shape[1:]:
        raise ValueError(
            f"a_y and b_y: shapes {list(a_y.shape)} and {list(b_y.shape)}; use class indices for "
            "both, or multi-hot labels with the same classes"
        )
    if a_y.dim() == 2 and match == "shared":
        if not bool((a_y.sum(1) == 1).all() and (b_y.sum(1) == 1).all()):
            return a, b, a_y.to(a.dtype), b_y.to(a.dtype)
        a_y, b_y = a_y.int().argmax(1), b_y.int().argmax(1)
    both = torch.cat([a_y, b_y])
    dim = None if both.dim() == 1 else 0  # numbers are compared, or whole rows
    numbers = torch.unique(both if dim is None else both.bool(), dim=dim, return_inverse=True)[1]
    return a, b, numbers[: len(a_y)], numbers[len(a_y) :]


def _same_label(a_y: Tensor, b_y: Tensor, out: Tensor) -> Tensor:
    """``J`` of comparable labels, written into ``out`` ``[n, m]``."""
    if a_y.dim() == 2:
        return torch.mm(a_y, b_y.t(), out=out).clamp_(max=1)
    # numbers as floats: a boolean mask would take several times as long on a CPU
    return torch.eq(a_y.to(out.dtype)[:, None], b_y.to(out.dtype), out=out)


def num_classes(a_y: Tensor, b_y: Tensor) -> int:
    """Classes of comparable labels that are numbers."""
    return max((int(y.max()) + 1 for y in (a_y, b_y) if y.numel()), default=0)


def tiles(n: int, m: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the tiles of an ``[n, m]`` matrix."""
    for p, q in product(range(0, n, size), range(0, m, size)):
        yield slice(p, min(p + size, n)), slice(q, min(q + size, m))


class _SumOfPairs(MadeGradients):
    """Sum of all pairs' costs; makes both gradients on the way, so that no tile is kept."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, a_y: Tensor, b_y: Tensor, cost: Cost, grad_enabled: bool
    ) -> Tensor:
        similarity, factor, similar, squared, bounds = cost
        hard = similarity is _same_label and similar == 1 and not squared
        size = _CPU_TILE if a.device.type == "cpu" else _GPU_TILE
        # fresh memory for each tile would cost more than its sum
        largest = min(size, len(a)) * min(size, len(b))
        buffers = [a.new_empty(largest) for _ in range(2 if bounds else 3)]
        scaled = factor * a
        needs_a, needs_b = ctx.needs_input_grad[:2]
        of_a = torch.zeros_like(a) if needs_a and grad_enabled else None
        of_b = torch.zeros_like(b) if needs_b and grad_enabled else None
        total = a.new_zeros((), dtype=torch.float64)
        for rows, columns in tiles(len(a), len(b), size):
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            theta, scratch, *more = (x[: shape[0] * shape[1]].view(shape) for x in buffers)
            torch.mm(scaled[rows], b[columns].t(), out=theta)
            if bounds is not None:
                total += _nll(theta, scratch, _rectangles(theta, bounds, rows, columns))
            else:
                j = similarity(a_y[rows], b_y[columns], more[0])
                if hard:
                    total += _nll(theta, scratch, j.mul_(-2).add_(1))
                else:
                    total += _any_cost(theta, scratch, j.mul_(similar), squared)
            if of_a is not None:
                of_a[rows].addmm_(theta, b[columns], alpha=factor)
            if of_b is not None:
                of_b[columns].addmm_(theta.t(), scaled[rows])
        ctx.save_for_backward(of_a, of_b)
        return total.to(a.dtype)


# Both take the tile t = factor <a, b>, return its sum and leave the slopes in it.


def _nll(theta: Tensor, scratch: Tensor, similar: Tensor | list[Tensor]) -> Tensor:
    """``log(1 + e^-t)`` of similar pairs, views of the tile or -1 among ones; else of ``t``."""
    signs = [(theta, similar)] if isinstance(similar, Tensor) else [(x, -1) for x in similar]
    for part, sign in signs:
        part.mul_(sign)
    total = _softplus_sum(theta, scratch)  # no cancellation, unlike log(1 + e^t) - t
    theta.sigmoid_()
    for part, sign in signs:
        part.mul_(sign)
    return total


def _any_cost(theta: Tensor, scratch: Tensor, target: Tensor, squared: bool) -> Tensor:
    """``log(1 + e^t) - target t``, or its square."""
    # as max(t, 0) - target t + log(1 + e^-|t|), without the cancellation of two large numbers
    torch.clamp_min(theta, 0, out=scratch)
    tail = torch.add(theta, scratch, alpha=-2).exp_().log1p_()
    cost = scratch.addcmul_(theta, target, value=-1).add_(tail)
    total = cost.square().sum() if squared else cost.sum()
    theta.sigmoid_().sub_(target)
    if squared:
        theta.mul_(cost).mul_(2)
    return total


def _softplus_sum(x: Tensor, scratch: Tensor) -> Tensor:
    """Sum of ``log(1 + e^x)`` as that of ``max(x, 0) + log(1 + e^-|x|)``."""
    torch.clamp_min(x, 0, out=scratch)
    total = scratch.sum()
    e = torch.add(x, scratch, alpha=-2, out=scratch).exp_().view(-1)  # -|x| = x - 2 max(x, 0)
    for _ in range(_FOLDS):  # a logarithm costs ten times as much as a product
        if e.numel() % 2:
            break
        u, v = e.view(2, -1)
        e = u.addcmul_(u, v).add_(v)  # (1 + u)(1 + v) - 1, for which tiny u and v are not too small
    return total + e.log1p_().sum()


def _class_bounds(a_y: Tensor, b_y: Tensor) -> tuple[list[int], list[int]]:
    """Where the classes start among the sorted rows of both sets, and where the last one ends."""
    classes = num_classes(a_y, b_y)
    first, second = ([0, *y.bincount(minlength=classes).cumsum(0).tolist()] for y in (a_y, b_y))
    return first, second


def _rectangles(
    tile: Tensor, bounds: tuple[list[int], list[int]], rows: slice, columns: slice
) -> list[Tensor]:
    """Views of a tile's parts where rows and columns are of the same class."""
    own, others = bounds
    first = max(bisect_right(own, rows.start), bisect_right(others, columns.start)) - 1
    last = min(bisect_left(own, rows.stop), bisect_left(others, columns.stop))
    return [
        tile[
            max(own[c] - rows.start, 0) : own[c + 1] - rows.start,
            max(others[c] - columns.start, 0) : others[c + 1] - columns.start,
        ]
        for c in range(first, last)
    ]
