"""Rows of different lengths, stored one after the other: taken whole or sampled."""

from __future__ import annotations

import torch
from torch import Tensor


def row_starts(row: Tensor, num_rows: int) -> Tensor:
    """Where each row starts: int64 ``[num_rows + 1]``, given the ascending row of each entry."""
    counts = torch.bincount(row, minlength=num_rows)
    return torch.cat((counts.new_zeros(1), counts.cumsum(0)))


def take_rows(start: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """All entries of some rows.

    Args:
        start: where each row starts, int64 ``[R + 1]``.
        rows: int64 ``[n]``.

    Returns:
        for each entry the position of its row in ``rows``, and its own position; int64.
    """
    return _take(start[rows], start[rows + 1] - start[rows])


def sample_rows(start: Tensor, rows: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""At most ``size`` entries of each row, each entry of a row with the same probability.

    Systematic sampling without replacement: of :math:`d` entries those at
    :math:`\lfloor (u + t) d / s \rfloor`, :math:`t = 0 \dots s - 1`, with one uniform :math:`u`
    a row. Each is taken with probability exactly :math:`s / d`, so that a sum over the taken
    ones, times :math:`d / s`, is unbiased; nothing is sorted.

    Args:
        start: where each row starts, int64 ``[R + 1]``.
        rows: int64 ``[n]``.
        size: :math:`s`; -1 takes all.

    Returns:
        as :func:`take_rows`, and float64 :math:`d / s` of each entry.
    """
    first, length = start[rows], start[rows + 1] - start[rows]
    count = length if size < 0 else length.clamp(max=size)
    ratio = length.double() / count.clamp(min=1)
    row, rank = _take(torch.zeros_like(first), count)
    # 24 random bits: u + t and the product stay clear of the next integer in float64
    shift = torch.rand(rows.numel(), device=rows.device).double()
    offset = ((shift[row] + rank) * ratio[row]).long()
    return row, first[row] + offset, ratio[row]


def sample_weighted(cumulative: Tensor) -> Tensor:
    """Positions drawn without replacement with given probabilities (Madow's systematic sampling).

    Args:
        cumulative: running sum of the probabilities, each at most 1, float64 ``[n]``.

    Returns:
        int64, ascending; as many as the probabilities' sum, rounded up or down.
    """
    total = float(cumulative[-1]) if cumulative.numel() else 0.0
    shift = float(torch.rand(()))
    points = torch.arange(shift, max(total, shift), dtype=torch.float64, device=cumulative.device)
    return torch.searchsorted(cumulative, points, right=True).clamp(max=cumulative.numel() - 1)


def _take(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    row = torch.arange(count.numel(), device=count.device).repeat_interleave(count)
    before = count.cumsum(0) - count
    rank = torch.arange(row.numel(), device=count.device) - before[row]
    return row, first[row] + rank
