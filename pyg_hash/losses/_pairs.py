"""The sum of a likelihood over many pairs of codes, with both gradients, in one pass of tiles."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyg_hash.losses._labels import similar_pairs

Tile = tuple[slice, slice]
Bounds = tuple[list[int], list[int]]
_CPU_TILE = 512  # two float32 buffers of this many rows and columns stay in a core's cache
_GPU_TILE = 4096
_FOLDS = 4


@dataclass(frozen=True)
class Likelihood:
    r"""Cost of a pair: ``log(1 + e^t) - S t``, or its square, of ``t = factor <a, b>``.

    Attributes:
        factor: of the inner product.
        similar: ``S`` of similar pairs, which is 0 for others.
        squared: whether the cost is squared.
    """

    factor: float = 0.5
    similar: float = 1.0
    squared: bool = False


def sum_of_pairs(
    a: Tensor,
    b: Tensor,
    a_y: Tensor,
    b_y: Tensor,
    likelihood: Likelihood,
    chunk_size: int | None = None,
    samples: int | None = None,
) -> Tensor:
    """Sum of the costs of all pairs, or of some; first derivatives only.

    Args:
        a: codes, float32 or float64 ``[n, num_bits]``.
        b: codes, same dtype ``[m, num_bits]``.
        a_y: labels of ``a``, see :func:`pyg_hash.losses._labels.comparable_labels`.
        b_y: labels of ``b``, likewise.
        likelihood: what a pair costs.
        chunk_size: rows and columns of a tile; None suits the device.
        samples: columns that each block of rows meets, the next ones round and round; None means
            all.

    Returns:
        A scalar of the codes' dtype.
    """
    bounds = None
    if samples is not None:  # which pairs meet must not depend on the device
        tiles = _some_tiles(a.size(0), b.size(0), chunk_size or _CPU_TILE, samples)
    else:
        size = chunk_size or (_CPU_TILE if a.device.type == "cpu" else _GPU_TILE)
        tiles = _tiles(slice(0, a.size(0)), slice(0, b.size(0)), size)
        if a_y.dim() == 1 and likelihood.similar == 1 and not likelihood.squared:
            # in order of classes the similar pairs of a tile form few rectangles
            bounds = _class_bounds(a_y, b_y)
            a, b = a[a_y.argsort()], b[b_y.argsort()]
    needs_grad = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    with torch.autocast(a.device.type, enabled=False):  # half precision would not be exact
        total: Tensor = _SumOfPairs.apply(  # type: ignore[no-untyped-call]
            a, b, a_y, b_y, likelihood, tiles, bounds, needs_grad
        )
    return total


def _tiles(rows: slice, columns: slice, size: int) -> list[Tile]:
    """Tiles of at most ``size`` rows and columns that cover a rectangle."""
    return [
        (slice(p, min(p + size, rows.stop)), slice(q, min(q + size, columns.stop)))
        for p in range(rows.start, rows.stop, size)
        for q in range(columns.start, columns.stop, size)
    ]


def _some_tiles(n: int, m: int, size: int, samples: int) -> list[Tile]:
    """Each block of rows with the next ``samples`` of ``m`` columns, round and round."""
    tiles = []
    for block, start in enumerate(range(0, n, size)):
        rows = slice(start, min(start + size, n))
        left = block * samples % max(m, 1)
        right = left + samples
        tiles += _tiles(rows, slice(left, min(right, m)), size)
        tiles += _tiles(rows, slice(0, max(right - m, 0)), size)
    return tiles


class _SumOfPairs(torch.autograd.Function):
    """Both gradients are made on the way: autograd would keep every tile until backward."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        a_y: Tensor,
        b_y: Tensor,
        cost: Likelihood,
        tiles: list[Tile],
        bounds: Bounds | None,
        needs_grad: bool,
    ) -> Tensor:
        largest = max(((r.stop - r.start) * (c.stop - c.start) for r, c in tiles), default=0)
        # fresh memory for each tile would cost more than its sum
        buffers = [a.new_empty(largest) for _ in range(2 if bounds else 3)]
        scaled = cost.factor * a
        grads = (torch.zeros_like(a), torch.zeros_like(b)) if needs_grad else ()
        total = a.new_zeros((), dtype=torch.float64)
        for rows, columns in tiles:
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            theta, scratch, *more = (x[: shape[0] * shape[1]].view(shape) for x in buffers)
            torch.mm(scaled[rows], b[columns].t(), out=theta)
            if bounds is not None:
                total += _sorted_nll(theta, scratch, _rectangles(theta, bounds, rows, columns))
            else:
                j = similar_pairs(a_y[rows], b_y[columns], more[0])
                if cost.squared or cost.similar != 1:
                    total += _any_cost(theta, scratch, j.mul_(cost.similar), cost.squared)
                else:
                    total += _nll(theta, scratch, j.mul_(-2).add_(1))
            if grads:
                grads[0][rows].addmm_(theta, b[columns], alpha=cost.factor)
                grads[1][columns].addmm_(theta.t(), scaled[rows])
        ctx.save_for_backward(*grads)
        return total.to(a.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # a constant gradient would make second derivatives wrong
            raise RuntimeError(
                "pairwise likelihood: has first derivatives only; keep it out of a backward pass "
                "with create_graph=True"
            )
        of_a, of_b = ctx.saved_tensors
        needs_a, needs_b = ctx.needs_input_grad[:2]
        none = (None,) * 6
        return (grad * of_a if needs_a else None, grad * of_b if needs_b else None, *none)


# Each of these takes the tile t = factor <a, b>, returns its sum and leaves the slopes in it.


def _nll(theta: Tensor, scratch: Tensor, sign: Tensor) -> Tensor:
    """``log(1 + e^-t)`` of similar pairs, where ``sign`` is -1, and ``log(1 + e^t)`` of others."""
    total = _softplus_sum(theta.mul_(sign), scratch)  # no cancellation, unlike log(1 + e^t) - t
    theta.sigmoid_().mul_(sign)
    return total


def _sorted_nll(theta: Tensor, scratch: Tensor, similar: list[Tensor]) -> Tensor:
    """As :func:`_nll`, with the similar pairs given as views of the tile."""
    for part in similar:
        part.neg_()
    total = _softplus_sum(theta, scratch)
    theta.sigmoid_()
    for part in similar:
        part.neg_()
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


def _class_bounds(a_y: Tensor, b_y: Tensor) -> Bounds:
    """Where the classes start among the sorted rows of both sets, and where the last one ends."""
    classes = max((int(y.max()) + 1 for y in (a_y, b_y) if y.numel()), default=0)
    counts = (y.bincount(minlength=classes).cumsum(0).tolist() for y in (a_y, b_y))
    first, second = ([0, *ends] for ends in counts)
    return first, second


def _rectangles(tile: Tensor, bounds: Bounds, rows: slice, columns: slice) -> list[Tensor]:
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
