"""Contrasts between pairs: an item's own partner against the other items.

InfoNCE: van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding",
2018.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import (
    check_floats,
    check_positive,
    check_reduction,
    check_same_rows,
    reduced,
)
from pyg_hash.utils.modes import exact

_CPU_BLOCK = 1 << 19  # cosines that are alive at a time
_GPU_BLOCK = 1 << 26


def contrastive_loss(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float = 0.3,
    others: Tensor | None = None,
    own: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""How hard it is to tell the partner of each row of ``a`` from the others, by their cosines.

    InfoNCE Eq. 4 with :math:`f = e^{\cos / \tau}`, row i of ``a`` and of ``b`` being a pair:

    .. math:: -\frac{1}{n} \sum_i \log \frac{e^{\cos(a_i, b_i) / \tau}}
        {\sum_j e^{\cos(a_i, b_j) / \tau}}

    One direction: rows of ``a`` look for theirs in ``b``. For both, add
    ``contrastive_loss(b, a)``, with a bank of the other modality.

    With a bank ``others`` the sum runs over its rows, each a constant, but for row ``own[i]``,
    in whose place the live ``b[i]`` stands: a batch against codes of all items as they last were.

    A zero row has cosine 0. Exact, in :math:`O(n m K)` time: one pass over blocks of rows makes the
    value and the gradients, and no more than one block of the ``[n, m]`` cosines is in memory.

    Codes are float ``[n, num_bits]``, ``others`` ``[m, num_bits]`` (None: ``b``, live) and ``own``
    int64 ``[n]``. A smaller ``temperature`` :math:`\tau` looks at the nearest others alone.
    ``'mean'`` is the formula; ``'sum'`` does not divide by ``n``.
    ``ValueError``: ``others`` or ``own`` alone, row numbers outside ``others``, a ``temperature``
    that is not positive and finite; other errors: see :mod:`pyg_hash.losses`.
    """
    check_reduction(reduction)
    check_positive(temperature, "temperature")
    if (others is None) != (own is None):
        raise ValueError("others and own: give both, the bank and where in it b is, or neither")
    given = b
    a, b = check_codes(a, b)
    check_same_rows(a, b, "a", "b")
    if others is not None and own is not None:
        others, _ = check_codes(others, given, "others", "b")
        if own.dtype != torch.int64:
            raise TypeError(f"own: expected row numbers, int64 [n], got {own.dtype}")
        if own.shape != b.shape[:1]:
            raise ValueError(f"own: expected shape [{len(b)}], got {list(own.shape)}")
        if len(own) and not 0 <= int(own.min()) <= int(own.max()) < len(others):
            raise ValueError(
                f"own: row numbers run from {int(own.min())} to {int(own.max())}, outside the "
                f"{len(others)} rows of others"
            )
    return reduced(sum_of_rows(a, b, temperature, others, own), len(a), reduction)


def check_codes(a: Tensor, b: Tensor, name_a: str = "a", name_b: str = "b") -> list[Tensor]:
    """Both, if they are ``[rows, num_bits]`` of one dtype; half precision becomes float32."""
    check_floats(a, name_a)
    check_floats(b, name_b)
    both, dtypes = f"{name_a} and {name_b}", f"{a.dtype} and {b.dtype}"
    a, b = (x.float() if x.dtype.itemsize == 2 else x for x in (a, b))
    if a.dtype != b.dtype or a.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{both}: expected both float32 or both float64, got {dtypes}; cast them")
    if a.size(1) != b.size(1):
        raise ValueError(f"{both}: {a.size(1)} and {b.size(1)} bits; codes must be equally long")
    return [a, b]


def sum_of_rows(
    a: Tensor,
    b: Tensor,
    temperature: float,
    others: Tensor | None = None,
    own: Tensor | None = None,
    cut: tuple[float, float] = (math.inf, 0.0),
) -> Tensor:
    """The sum over the rows of ``a``, block by block."""
    if not len(a):
        return a.sum() + b.sum()  # an exact zero that has gradients
    own = torch.arange(len(a), device=a.device) if own is None else own
    with exact(a):
        a, b = _directions(a), _directions(b)
        bank = b if others is None else _directions(others.detach())
        total: Tensor = _SumOfRows.apply(  # type: ignore[no-untyped-call]
            a, b, bank, own, temperature, *cut, torch.is_grad_enabled()
        )
    return total


def _directions(x: Tensor) -> Tensor:
    """Rows of length 1; a zero row stays zero, with a finite gradient."""
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / length.masked_fill(length == 0, 1.0)


class MadeGradients(torch.autograd.Function):
    """A sum that saves the gradients of its first arguments, made on the way."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        if torch.is_grad_enabled():  # a constant gradient would make second derivatives wrong
            raise RuntimeError(
                "likelihoods and contrasts of codes have first derivatives only; keep them out of "
                "a backward pass with create_graph=True"
            )
        made = [None if x is None else grad * x for x in ctx.saved_tensors]
        return (*made, *[None] * (len(ctx.needs_input_grad) - len(made)))


class _SumOfRows(MadeGradients):
    """Sum of all rows' ``log sum exp - own``; makes the gradients on the way, keeps no block."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        bank: Tensor,
        own: Tensor,
        temperature: float,
        margin: float,  # a logit, as shift
        shift: float,
        grad_enabled: bool,
    ) -> Tensor:
        wanted = [needed and grad_enabled for needed in ctx.needs_input_grad[:3]]
        of_a, of_b, of_bank = (
            torch.zeros_like(x) if needed else None
            for x, needed in zip((a, b, bank), wanted, strict=True)
        )
        size = _CPU_BLOCK if a.device.type == "cpu" else _GPU_BLOCK
        height = min(max(size // len(bank), 1), len(a))
        buffer = a.new_empty(height, len(bank))
        total = a.new_zeros((), dtype=torch.float64)
        for start in range(0, len(a), height):
            rows = slice(start, min(start + height, len(a)))
            scaled, place = a[rows] / temperature, own[rows, None]
            right = (scaled * b[rows]).sum(1, keepdim=True)
            block = torch.mm(scaled, bank.t(), out=buffer[: len(place)]).scatter_(1, place, right)
            if shift:
                block.sub_((block < right - margin).to(block), alpha=shift)
            top = block.amax(1, keepdim=True)
            sums = block.sub_(top).exp_().sum(1, keepdim=True)
            total += (sums.log() + top - right).sum()
            if not any(wanted):
                continue
            slope = block.gather(1, place) / sums - 1  # of the own logit; what is left are others
            block.scatter_(1, place, 0.0)
            if of_a is not None:
                of_a[rows] = (block @ bank / sums + slope * b[rows]) / temperature
            if of_b is not None:
                of_b[rows] = slope * scaled
            if of_bank is not None:
                of_bank.addmm_(block.t(), scaled / sums)
        ctx.save_for_backward(of_a, of_b, of_bank)
        return total.to(a.dtype)
