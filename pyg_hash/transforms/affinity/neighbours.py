"""The nearest neighbours of each view, and the entries that affinities may occupy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from pyg_hash.knn import knn
from pyg_hash.transforms.affinity.steps import Bools, Floats, Ints
from pyg_hash.utils.checks import check_features, check_positive_int

_CHUNK_ELEMENTS = 1 << 21


@dataclass(frozen=True)
class Neighbours:
    """The ``k + 1`` nearest rows of each row in one view, the row itself excluded.

    ``Neighbours(*knn(x, x, k + 1, metric='l2', exclude_self=True), x)`` makes one.

    Attributes:
        distance: **squared** Euclidean distances, float ``[m, k + 1]``.
        index: int64 ``[m, k + 1]``.
        features: float ``[m, d]``, or None if only the neighbours are known. They give the
            distances to rows that are neighbours in another view only, and all distances in
            float64; without them such rows count as infinitely far in this view.
    """

    distance: Tensor
    index: Tensor
    features: Tensor | None = None


def nearest_neighbours(x: Tensor, k: int) -> Neighbours:
    """The ``k + 1`` nearest rows: ``k`` neighbours and the one that bounds their weights.

    Args:
        x: float ``[m, d]``.
        k: number of neighbours.

    Raises:
        TypeError: no floating-point tensor; ``k`` no integer.
        ValueError: NaN or inf; fewer than ``k + 2`` rows.
    """
    check_features(x, "x")
    check_positive_int(k, "k")
    if x.size(0) < k + 2:
        raise ValueError(
            f"k: {k} neighbours need at least {k + 2} rows (the row, k neighbours and the next), "
            f"got {x.size(0)}; use k <= {max(x.size(0) - 2, 1)}"
        )
    distance, index = knn(x, x, k + 1, metric="l2", exclude_self=True)
    return Neighbours(distance, index, x)


def check_neighbours(view: Neighbours, k: int, name: str) -> None:
    """Check one view: ``k + 1`` columns, finite distances of at least 0, other rows, each once.

    Raises:
        TypeError: distances that are not floating point, an index that is not int64.
        ValueError: anything else.
    """
    distance, index, features = view.distance, view.index, view.features
    if not isinstance(distance, Tensor) or not distance.is_floating_point():
        raise TypeError(f"{name}.distance: expected a floating-point tensor [m, k + 1]")
    if not isinstance(index, Tensor) or index.dtype != torch.int64:
        raise TypeError(f"{name}.index: expected an int64 tensor [m, k + 1]")
    if distance.shape != index.shape or index.dim() != 2 or index.size(1) != k + 1:
        raise ValueError(
            f"{name}: expected distance and index of shape [m, {k + 1}] (k + 1 neighbours for "
            f"k={k}), got {list(distance.shape)} and {list(index.shape)}"
        )
    if not bool((torch.isfinite(distance) & (distance >= 0)).all()):
        raise ValueError(f"{name}.distance: expected finite squared distances of at least 0")
    rows = index.size(0)
    if rows == 0 or int(index.min()) < 0 or int(index.max()) >= rows:
        raise ValueError(f"{name}.index: expected row numbers 0..{rows - 1}")
    if bool((index == torch.arange(rows, device=index.device)[:, None]).any()):
        raise ValueError(f"{name}.index: a row is its own neighbour; use knn(exclude_self=True)")
    if bool((index.sort(dim=1).values.diff(dim=1) == 0).any()):
        raise ValueError(f"{name}.index: a row has the same neighbour twice")
    if features is not None:
        check_features(features, f"{name}.features")
        if features.size(0) != rows:
            raise ValueError(
                f"{name}.features: has {features.size(0)} rows, but there are {rows} lists of "
                "neighbours; row i of both must be the same instance"
            )


@dataclass(frozen=True)
class Candidates:
    """All entries that any affinity may occupy, as padded rows; everything else stays zero.

    Row i lists the neighbours of i in any view, by ascending row number. Its width is the number
    of views times ``k + 1``, so memory is linear in the rows.

    Attributes:
        column: row numbers, int64 ``[m, w]``.
        valid: bool ``[m, w]``; False marks padding.
        support: bool ``[m, w]``; the ``k`` nearest neighbours in at least one view: where Z lives.
        distance: squared distances in each view, float64 ``[m, w]``, inf where unknown.
        order: for each view the positions of its ``k + 1`` neighbours, nearest first,
            int64 ``[m, k + 1]``.
    """

    column: Ints
    valid: Bools
    support: Bools
    distance: tuple[Floats, ...]
    order: tuple[Ints, ...]

    def matrix(self, values: Floats) -> sp.csr_array:
        """The positive ones of some values, float64 ``[m, w]``, as a matrix ``[m, m]``."""
        keep = values > 0.0
        indptr = np.concatenate(([0], np.cumsum(keep.sum(axis=1))))
        parts = (values[keep], self.column[keep], indptr)
        return sp.csr_array(parts, shape=(len(keep), len(keep)))


def candidates(views: Sequence[Neighbours]) -> Candidates:
    """The union of the views' neighbours; see :class:`Candidates`."""
    lists = [view.index.cpu().numpy() for view in views]
    joined = np.concatenate(lists, axis=1)
    arrangement = np.argsort(joined, axis=1, kind="stable")
    column = np.take_along_axis(joined, arrangement, axis=1)
    valid = np.ones(column.shape, dtype=bool)
    valid[:, 1:] = column[:, 1:] != column[:, :-1]
    first = np.maximum.accumulate(np.where(valid, np.arange(column.shape[1]), 0), axis=1)
    place = np.empty_like(first)  # of each entry of joined in the sorted row, repeats merged
    np.put_along_axis(place, arrangement, first, axis=1)

    support = np.zeros(column.shape, dtype=bool)
    distances, orders = [], []
    starts = np.cumsum([view.index.size(1) for view in views])[:-1]
    for view, own in zip(views, np.split(place, starts, axis=1), strict=True):
        known = view.distance.cpu().double().numpy()
        near = np.full(column.shape, np.inf)
        np.put_along_axis(near, own, known, axis=1)
        ranked = near
        if view.features is not None:  # in float64, so that all distances have one rounding
            exact = row_distances(view.features, column)
            ranked = np.where(np.isinf(near), near, exact)
            near = np.where(valid, exact, np.inf)
        order = np.argsort(ranked, axis=1, kind="stable")[:, : own.shape[1]]
        np.put_along_axis(support, order[:, :-1], True, axis=1)
        distances.append(near)
        orders.append(order)
    return Candidates(column, valid, support, tuple(distances), tuple(orders))


def row_distances(x: Tensor, column: Ints) -> Floats:
    """Squared distances in float64 between row i and each row of ``column[i]``, block by block.

    Args:
        x: float ``[m, d]``.
        column: row numbers, int64 ``[m, w]``.
    """
    x = x.detach().cpu()
    out = np.empty(column.shape)
    step = max(1, _CHUNK_ELEMENTS // (column.shape[1] * x.size(1)))
    for start in range(0, len(column), step):
        part = slice(start, start + step)
        pairs = x[torch.from_numpy(column[part])].double().sub_(x[part, None].double())
        out[part] = pairs.square_().sum(dim=2).numpy()
    return out
