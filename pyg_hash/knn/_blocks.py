"""The largest scores of each row, block by block: the loop of every exact torch search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

MARGIN = 8  # further candidates, so that exact scores decide between near-equal neighbours
_ROWS = 512
_BLOCK_ELEMENTS = 1 << 24  # a block of scores holds at most 64 MB
_GROUP = 4  # neighbouring scores that their maximum stands for
_TOP_ELEMENTS = 1 << 20  # scores whose largest are looked for at once: what a cache holds
_GPU_SCALE = 4  # blocks of a GPU have so many times more rows and columns: 1 GB
_BAR_SECONDS = 5.0


class Scores(Protocol):
    """All scores ``[q, n]`` between two sets of rows, made block by block."""

    shape: tuple[int, int]
    device: torch.device
    dtype: torch.dtype  # in which scores compete
    rows: int  # of a block

    def block(self, rows: slice | Tensor, columns: slice) -> Tensor:
        """The scores of some rows, given by a slice or by int64 numbers, and columns."""


@dataclass
class DenseScores:
    """Inner products of dense rows, minus a number for each database row.

    Attributes:
        query: ``[q, d]``.
        database: ``[n, d]`` of the same type.
        bias: float32 ``[n]`` or None.
    """

    query: Tensor
    database: Tensor
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        self.shape = (self.query.size(0), self.database.size(0))
        self.device = self.query.device
        self.dtype = torch.float32
        self.rows = _ROWS * (_GPU_SCALE if self.device.type == "cuda" else 1)

    def block(self, rows: slice | Tensor, columns: slice) -> Tensor:
        """See :class:`Scores`."""
        scores = self.query[rows] @ self.database[columns].T
        return scores if self.bias is None else scores.float().sub_(self.bias[columns])


def top_scores(scores: Scores, k: int, *, symmetric: bool = False) -> tuple[Tensor, Tensor]:
    """The ``k`` largest scores of each row; which of equal ones is left open.

    Memory: two blocks, whatever the number of rows, and the result.

    Args:
        scores: of ``q`` rows and ``n`` columns.
        k: 1 to n.
        symmetric: the score of (i, j) is that of (j, i) but for ``scores.bias``: each block
            is computed once and read along both sides.

    Returns:
        ``(values, index)``: float and int64 ``[q, k]``, largest first.
    """
    q, n = scores.shape
    step = min(q, scores.rows)
    limit = _BLOCK_ELEMENTS * (_GPU_SCALE**2 if scores.device.type == "cuda" else 1)
    width = max(1, limit // step)
    best = _Best(q, k, scores.device, scores.dtype)
    total = q * (n + step) // 2 if symmetric else q * n
    with tqdm(
        total=total, desc="kNN", unit="pair", unit_scale=True, delay=_BAR_SECONDS, leave=False
    ) as bar:
        for top in range(0, q, step):
            rows = slice(top, min(top + step, q))
            for left in range(top if symmetric else 0, n, width):
                columns = slice(left, min(left + width, n))
                block = scores.block(rows, columns)
                best.add(rows, block, left)
                below = slice(max(rows.stop, left), columns.stop)
                if symmetric and below.start < below.stop:
                    mirrored = block[:, below.start - left :].T.contiguous()
                    bias = getattr(scores, "bias", None)
                    if bias is not None:  # (i, j) has the bias of j, (j, i) that of i
                        mirrored += bias[below].unsqueeze(1) - bias[rows]
                    best.add(below, mirrored, top)
                bar.update(block.numel())
    return best.values, best.index


class _Best:
    """The largest scores seen so far, row by row, largest first."""

    def __init__(self, rows: int, k: int, device: torch.device, dtype: torch.dtype) -> None:
        self.values = torch.full((rows, k), -torch.inf, device=device, dtype=dtype)
        self.index = torch.zeros((rows, k), dtype=torch.int64, device=device)
        self._k = k
        self._seen = 0  # rows from here on are still empty

    def add(self, rows: slice, block: Tensor, left: int) -> None:
        """Let the scores of some rows compete; column 0 of the block is database row ``left``."""
        values, index = top_of_rows(block, min(self._k, block.size(1)))
        values, index = values.to(self.values.dtype), index.add_(left)
        if rows.start < self._seen or values.size(1) < self._k:
            values, place = torch.cat((self.values[rows], values), 1).topk(self._k, dim=1)
            index = torch.cat((self.index[rows], index), 1).gather(1, place)
        self.values[rows], self.index[rows] = values, index
        self._seen = max(self._seen, rows.stop)


def top_of_rows(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``x.topk(k)``, twice as fast on the CPU where rows are wide.

    The columns of a row are put in groups. The ``k`` groups with the largest maxima hold ``k``
    largest entries, so only these are compared one by one.

    Args:
        x: float ``[n, w]`` without NaN.
        k: 1 to w.

    Returns:
        ``(values, index)``: float and int64 ``[n, k]``, largest first; which of equal entries is
        left open.
    """
    if x.is_cuda or x.size(1) < 2 * _GROUP * k:
        return x.topk(k, dim=1)
    parts = torch.split(x, max(1, _TOP_ELEMENTS // x.size(1)))
    found = [_top_by_groups(part, k) for part in parts]
    return torch.cat([part[0] for part in found]), torch.cat([part[1] for part in found])


def _top_by_groups(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    groups = x.size(1) // _GROUP
    end = groups * _GROUP
    largest = x[:, :end].view(x.size(0), _GROUP, groups).amax(1)
    _, best = top_of_rows(largest, k)
    columns = (best.unsqueeze(2) + torch.arange(0, end, groups)).flatten(1)
    rest = torch.arange(end, x.size(1)).expand(x.size(0), -1)
    columns = torch.cat((columns, rest), 1)
    values, place = x.gather(1, columns).topk(k, dim=1)
    return values, columns.gather(1, place)


def stable_top_scores(
    scores: Scores, k: int, *, further: int = MARGIN, symmetric: bool = False
) -> tuple[Tensor, Tensor]:
    """The ``k`` largest scores of each row, among equal ones those of the lowest columns, and more.

    Args:
        scores: of ``q`` rows and ``n`` columns.
        k: 1 to n.
        further: number of candidates beyond these.
        symmetric: as :func:`top_scores`.

    Returns:
        ``(values, index)``: float and int64 ``[q, min(n, k + further)]``, in no particular order
        within a row.
    """
    n = scores.shape[1]
    fetch = min(n, k + further)
    values, index = top_scores(scores, fetch, symmetric=symmetric)
    if fetch == n:
        return values, index
    tied = (values[:, k - 1] == values[:, -1]).nonzero().squeeze(1)  # and maybe more outside
    for part in torch.split(tied, max(1, _BLOCK_ELEMENTS // n)):
        block = scores.block(part, slice(0, n))
        index[part] = stable_topk(block, fetch)
        values[part] = block.gather(1, index[part]).to(values.dtype)
    return values, index


def stable_topk(scores: Tensor, k: int) -> Tensor:
    """Indices of the ``k`` largest entries of each row; among equal entries the lowest indices.

    ``torch.topk`` leaves open which of several equal entries it returns.

    Args:
        scores: float ``[q, n]`` without NaN.
        k: 1 to n.

    Returns:
        int64 ``[q, k]``, in no particular order within a row.
    """
    bound = scores.topk(k, dim=1).values[:, -1:]
    better, tied = scores > bound, scores == bound
    free = k - better.sum(1, keepdim=True)
    chosen = better | (tied & (tied.cumsum(1) <= free))
    return chosen.nonzero()[:, 1].view(-1, k)
