"""Exact neighbours of dense rows, made ready so that inner products rank as the metric does.

Tiles of scores, the best of each row, then each pair scored alone.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyg_hash.utils.checks import check_nonzero_rows
from pyg_hash.utils.csr import csr_matrix

ELEMENTS = 1 << 20  # temporary values of pairs: what a cache holds
BAR_SECONDS = 5.0
_FEW_ROWS = 3  # up to so many queries NumPy's product with each is faster than one with all
_ONEDNN_FROM = 1 << 24  # multiplications: of a new shape the first product takes a millisecond more
_SMALLEST = 1e-15  # squares of parts of such a row keep all their digits
_MAX_NORM = 4e18  # products and squared distances of such rows stay below the float32 limit
Finder = Callable[["DenseScores", int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class PreparedRows:
    """Rows that were checked and prepared, to be searched many times."""

    x: Tensor  #: float32 ``[n, d]``, dense or CSR: unit rows under cosine, moved ones under L2
    metric: str  #: ``'cosine'``, ``'ip'`` or ``'l2'``
    origin: Tensor | None = None  #: ``[d]``, that L2 of dense rows is measured around
    squares: Tensor | None = None  #: float32 ``[n]``, squared norms; None of unit rows

    @property
    def shape(self) -> torch.Size:
        """Of the rows."""
        return self.x.shape

    @property
    def device(self) -> torch.device:
        """Of the rows."""
        return self.x.device


def ready(x: Tensor, metric: str, name: str = "x", origin: Tensor | None = None) -> PreparedRows:
    """Finite dense rows as the metric needs them; ``ValueError``: zero rows (cosine), overflow."""
    if metric == "cosine":
        x = x if x.dtype == torch.float64 else x.float()
        norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        low, high = norm.aminmax()
        if float(low) < _SMALLEST or float(high) > _MAX_NORM:  # squares overflow or vanish
            check_nonzero_rows(x, name)
            x = x / x.abs().amax(1, keepdim=True)
            norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return PreparedRows((x / norm).float().contiguous(), metric)
    if metric == "ip":
        rows = x.float().contiguous()
    else:
        if origin is None:  # near the data, on a coarse binary grid: around it L2 cancels less
            wide = x if x.dtype == torch.float64 else x.float()
            mean, spread = wide.mean(0), wide.std(0, correction=0)
            spread = torch.maximum(spread, mean.abs() * 2.0**-20)
            grid = torch.where(spread > 0, spread.log2().floor().exp2(), 1.0)
            origin = ((mean / grid).round() * grid).nan_to_num(0.0)
        rows = (x.to(origin.dtype) - origin).float().contiguous()
    parts = torch.split(rows, max(1, ELEMENTS // rows.size(1)))
    squares = torch.cat([part.square().sum(1) for part in parts])
    check_scale(squares, name)
    return PreparedRows(rows, metric, origin, squares)


def check_scale(squares: Tensor, name: str) -> None:
    """Raise ``ValueError`` for squared norms whose sums overflow float32."""
    if not bool((squares.sqrt() < _MAX_NORM).all()):
        raise ValueError(f"{name}: values so large that scores overflow float32; scale down")


def neighbours(query: Tensor, database: PreparedRows, k: int) -> tuple[Tensor, Tensor]:
    """:func:`pyg_hash.knn.knn` of dense queries that are known to be right, float ``[q, d]``."""
    rows = ready(query, database.metric, origin=database.origin)
    return nearest(DenseScores(rows, database), k)


def nearest(scores: DenseScores, k: int, find: Finder | None = None) -> tuple[Tensor, Tensor]:
    """The ``k`` best database rows of each query, best first, ties by lower index.

    What ``find``, or :func:`candidates`, finds is scored again, each pair alone, so that equal rows
    score equally. Where rounding may have kept a row out, all rows that are as good up to rounding
    are scored alone: mostly one more, which was found too, else all are looked at again.
    """
    q, n = scores.shape
    values, index = (find or candidates)(scores, min(n, k + 2))
    best = ranked(scores, slice(0, q), index[:, :k], values[:, :k])
    bound = values[:, k - 1] - scores.rounding
    if n == k or not bool((unclear := values[:, k] >= bound).any()):
        return best
    there = (values[:, -1] < bound) | (index.size(1) == n)
    if bool((one_more := unclear & there).any()):
        rows = one_more.nonzero().squeeze(1)
        score, index = ranked(scores, rows, index[rows], values[rows])
        best[0][rows], best[1][rows] = score[:, :k], index[:, :k]
    unclear = (unclear & ~there).nonzero().squeeze(1)
    for rows in torch.split(unclear, max(1, 4 * ELEMENTS // n)) if unclear.numel() else ():
        tile = scores.tile(rows, slice(0, n))[:, :n]
        bound = tile.topk(k).values[:, -1] - scores.rounding[rows]
        values, index = tile.topk(int((tile >= bound.unsqueeze(1)).sum(1).max()))
        score, index = ranked(scores, rows, index, values)
        best[0][rows], best[1][rows] = score[:, :k], index[:, :k]
    return best


def ranked(
    scores: DenseScores, rows: slice | Tensor, index: Tensor, values: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The pairs ``(rows[i], index[i, j])`` scored alone, best first; ``values`` found them."""
    index = index.contiguous()
    score = scores.exact(rows, index, values).contiguous()
    ahead, behind = score[:, :-1], score[:, 1:]
    ordered = ahead < behind if scores.l2 else ahead > behind
    if not bool(ordered.all()):
        wrong = (~ordered.all(1)).nonzero().squeeze(1)  # few: ties, or mixed up by rounding
        by_index = index[wrong].argsort(dim=1)
        value = score[wrong].gather(1, by_index)
        value, order = value.sort(dim=1, descending=not scores.l2, stable=True)
        score[wrong] = value
        index[wrong] = index[wrong].gather(1, by_index.gather(1, order))
    return score, index


class Largest:
    """The largest scores of each row among those seen so far."""

    mirrored_from = 1024  # features: below, torch.topk of mirrored tiles costs more than it saves

    def __init__(self, rows: int, k: int, like: Tensor) -> None:
        self.values = like.new_full((rows, k), -torch.inf)
        self.index = torch.zeros((rows, k), dtype=torch.int64, device=like.device)

    def add(self, rows: slice, tile: Tensor, left: int) -> None:
        """Let the scores of some rows compete; column 0 of the tile is database row ``left``."""
        k = self.values.size(1)
        values, index = tile.topk(min(k, tile.size(1)), dim=1)
        self.values[rows], place = torch.cat((self.values[rows], values), 1).topk(k, dim=1)
        self.index[rows] = torch.cat((self.index[rows], index.add_(left)), 1).gather(1, place)

    def result(self) -> tuple[Tensor, Tensor]:
        """``(values, index)``, largest first."""
        return self.values, self.index


def candidates(scores: DenseScores, k: int, kind: type[Largest] = Largest) -> tuple[Tensor, Tensor]:
    """The ``k`` largest scores of each row, largest first; which of equal ones is left open."""
    q, n = scores.shape
    if kind is Largest and q <= scores.rows and n <= scores.columns:
        values, index = scores.tile(slice(0, q), slice(0, n))[:, :n].topk(k)
        return values, index
    symmetric = scores.symmetric and scores.query.size(1) >= kind.mirrored_from
    step = min(q, scores.rows)
    best = kind(q, k, scores.memory(0, 0))
    with tqdm(
        total=q, desc="kNN", unit="row", delay=BAR_SECONDS, leave=False, disable=q <= step
    ) as bar:
        for top in range(0, q, step):
            rows = slice(top, min(top + step, q))
            for left in range(top if symmetric else 0, n, scores.columns):
                columns = slice(left, min(left + scores.columns, n))
                tile = scores.tile(rows, columns)
                best.add(rows, tile, left)
                below = slice(max(rows.stop, left), columns.stop)
                if symmetric and below.start < below.stop:
                    part = slice(below.start - left, below.stop - left)
                    best.add(below, tile[:, part].T.contiguous(), top)
                del tile  # the next one finds its memory free
            bar.update(rows.stop - top)
    return best.result()


def _by_onednn(x: Tensor, y: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, y, None, "none", [], "")
    return product


@cache
def _onednn_is_faster() -> bool:
    """Whether it clearly beats BLAS at ``x @ y.T``, measured once a process."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # torch was built without oneDNN
        return False
    x = torch.ones(256, 256, dtype=torch.float32, device="cpu")
    ours, blas = (
        min(timeit.repeat(partial(product, x, x), number=1, repeat=5))
        for product in (_by_onednn, lambda x, y: torch.mm(x, y.T))
    )
    return ours < 0.9 * blas


class DenseScores:
    """All scores between two sets of dense rows, larger is better, made tile by tile.

    Inner products; under L2 minus half the squared norm of the database row, which orders alike.
    """

    def __init__(self, query: PreparedRows, database: PreparedRows) -> None:
        self.query, self.database, self.squares = query.x, database.x, database.squares
        self.l2 = database.metric == "l2"
        self.shape = (self.query.size(0), self.database.size(0))
        self.device = self.query.device
        cpu = self.device.type == "cpu"
        self.symmetric = query is database and cpu and not self.l2  # (i, j) scores as (j, i)
        self.rows, self.columns = (512, 1 << 14) if cpu else (1 << 12, 1 << 16)  # of a tile
        # float32 [q]; scores that are further apart than the rounding are in the true order
        eps = torch.finfo(torch.float32).eps * self.query.size(1) ** 0.5
        if query.squares is None or database.squares is None:  # unit rows
            self.rounding = torch.full(self.shape[:1], eps, dtype=torch.float32, device=self.device)
        else:
            own, most = query.squares.sqrt(), database.squares.max().sqrt()
            self.rounding = eps * ((own + most).square() / 2 if self.l2 else own * most)
        self._memory = torch.empty(0, dtype=torch.float32, device=self.device)

    def tile(self, rows: slice | Tensor, columns: slice) -> Tensor:
        """Scores ``[r, >= c]``, filled up by ``-inf``; the next call may reuse them."""
        query, database = self.query[rows], self.database[columns]
        width = database.size(0)
        large = self.device.type == "cpu" and query.numel() * width >= _ONEDNN_FROM
        if self.device.type == "cpu" and self.shape[0] <= _FEW_ROWS:
            tile = self.memory(query.size(0), width)
            for one, scores in zip(query.detach().numpy(), tile.numpy(), strict=True):
                np.matmul(database.numpy(), one, out=scores)
        elif large and _onednn_is_faster():
            tile = _by_onednn(query, database)
        else:  # BLAS prefers rows that are aligned to 32 bytes
            tile = self.memory(query.size(0), -(-width // 8) * 8)
            torch.mm(query, database.T, out=tile[:, :width])
        if self.l2 and self.squares is not None:
            tile[:, :width] -= self.squares[columns] / 2
        tile[:, width:] = -torch.inf
        return tile

    def memory(self, rows: int, columns: int) -> Tensor:
        """Room for a tile, kept from tile to tile: new memory costs more than the scores in it."""
        if self._memory.numel() < rows * columns:
            self._memory = self._memory.new_empty(rows * columns)
        return self._memory[: rows * columns].view(rows, columns)

    def exact(self, rows: slice | Tensor, index: Tensor, values: Tensor | None) -> Tensor:
        """The metric's scores of the pairs ``(rows[i], index[i, j])``, each computed alone."""
        query, database = self.query[rows], self.database
        sampled = not self.l2 and self.device.type == "cpu"
        size = index.size(1) * (1 if sampled else query.size(1))
        step = max(1, ELEMENTS * (1 if self.device.type == "cpu" else 256) // size)
        scores = []
        for own, wanted in zip(torch.split(query, step), torch.split(index, step), strict=True):
            if sampled:  # copies no row; each pair is one dot
                row = torch.arange(0, wanted.numel() + 1, wanted.size(1), device="cpu")
                nothing = own.new_zeros(wanted.numel())
                pattern = csr_matrix(row, wanted.flatten(), nothing, database.size(0))
                found = torch.sparse.sampled_addmm(pattern, own, database.T, beta=0.0)
                scores.append(found.values().view(wanted.shape))
                continue
            pairs, own = database[wanted], own.unsqueeze(1)
            pairs = pairs.sub_(own).square_() if self.l2 else pairs.mul_(own)
            scores.append(pairs.sum(2))
        return torch.cat(scores)
