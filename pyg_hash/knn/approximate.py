"""Candidates that need no look at all pairs in full: faster for many rows, and not exact."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyg_hash.knn.exact import (
    BAR_SECONDS,
    ELEMENTS,
    DenseScores,
    Largest,
    PreparedRows,
    candidates,
    nearest,
    ranked,
)
from pyg_hash.utils import faiss as _faiss

APPROXIMATE = ("pca", "ivf", "hnsw")
_PCA_WIDTH = 128
_PCA_FIT = 2048  # rows
_PCA_FETCH = 3  # times k
_IVF_PROBE = 16  # lists
_HNSW_LINKS, _HNSW_EFFORT = 32, 64
_BLOCK_ROWS = 1024  # queries, below which FAISS's own blocks are slower


def approximate_neighbours(
    query: PreparedRows, database: PreparedRows, k: int, way: str
) -> tuple[Tensor, Tensor]:
    """As :func:`pyg_hash.knn.exact.nearest` on dense rows, but not the best for certain.

    ``way`` is ``approximate`` of :func:`pyg_hash.knn.knn`; rows of at most 128 features are
    searched exactly in place of ``'pca'``.
    """
    scores = DenseScores(query, database)
    if way == "pca" and database.shape[1] <= _PCA_WIDTH:
        return nearest(scores, k)
    index = _by_pca(query, database, k) if way == "pca" else _by_faiss(query, database, k, way)
    short = (index < 0).any(1).nonzero().squeeze(1)  # fewer than k rows were looked at
    values, index = ranked(scores, slice(0, query.shape[0]), index.clamp_(min=0))
    values, index = values[:, :k].contiguous(), index[:, :k].contiguous()
    if short.numel():
        squares = None if query.squares is None else query.squares[short]
        part = PreparedRows(query.x[short], query.metric, query.origin, squares)
        values[short], index[short] = nearest(DenseScores(part, database), k)
    return values, index


def _by_pca(query: PreparedRows, database: PreparedRows, k: int) -> Tensor:
    n = database.shape[0]
    sample = database.x[:: max(1, n // _PCA_FIT)]
    _, vectors = torch.linalg.eigh(sample.T @ sample)  # ascending
    basis = vectors[:, -_PCA_WIDTH:]
    # norms, which L2 needs, are those of the full rows
    low = PreparedRows(database.x @ basis, database.metric, None, database.squares)
    own = (
        low
        if query is database
        else PreparedRows(query.x @ basis, query.metric, None, query.squares)
    )
    return candidates(DenseScores(own, low), min(n, max(_PCA_FETCH * k, k + 8)))[1]


def _by_faiss(query: PreparedRows, database: PreparedRows, k: int, way: str) -> Tensor:
    faiss = _faiss.load()
    n, d = database.shape
    rows = database.x.cpu().numpy()
    l2 = database.metric == "l2"
    metric = faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT
    index: Any
    if way == "ivf":
        quantizer = faiss.IndexFlatL2(d) if l2 else faiss.IndexFlatIP(d)
        index = faiss.IndexIVFFlat(quantizer, d, max(1, round(math.sqrt(n))), metric)
        index.cp.min_points_per_centroid = 1  # no warning: lists are many on purpose
        index.nprobe = _IVF_PROBE
        index.train(rows)
    else:
        index = faiss.IndexHNSWFlat(d, _HNSW_LINKS, metric)
        index.hnsw.efSearch = max(_HNSW_EFFORT, 2 * k)
    index.add(rows)
    found: Tensor = torch.from_numpy(index.search(query.x.cpu().numpy(), k)[1])
    return found.to(query.device)


class _Heaps(Largest):
    """The same in FAISS's heaps: a score that is too small costs one comparison."""

    def __init__(self, rows: int, k: int, like: Tensor) -> None:
        super().__init__(rows, k, like)
        self._faiss = _faiss.load()
        self._heaps = self._faiss.float_minheap_array_t()
        self._heaps.nh, self._heaps.k = rows, k
        self._heaps.val = self._faiss.swig_ptr(self.values.numpy())
        self._heaps.ids = self._faiss.swig_ptr(self.index.numpy())
        self._heaps.heapify()

    def add(self, rows: slice, tile: Tensor, left: int) -> None:
        pointer = self._faiss.swig_ptr(tile.numpy())
        self._heaps.addn(tile.size(1), pointer, left, rows.start, tile.size(0))

    def result(self) -> tuple[Tensor, Tensor]:
        self._heaps.reorder()
        return self.values, self.index


def faiss_candidates(scores: DenseScores, k: int) -> tuple[Tensor, Tensor]:
    """:func:`pyg_hash.knn.exact.candidates`, all that there are, found by FAISS.

    Products of few queries, or of wide rows with themselves, are torch's and meet FAISS's heaps;
    of the rest its own blocks are as fast.
    """
    q = scores.shape[0]
    if scores.symmetric or q < _BLOCK_ROWS:
        scores.rows = 256 if scores.symmetric else q
        scores.columns = ELEMENTS // scores.rows
        return candidates(scores, k, _Heaps)
    faiss = _faiss.load()
    metric = faiss.METRIC_L2 if scores.l2 else faiss.METRIC_INNER_PRODUCT
    values, index = [], []
    parts = torch.split(scores.query, 4096)  # as FAISS splits it
    for rows in tqdm(parts, "kNN", unit="block", delay=BAR_SECONDS, leave=False):
        value, place = faiss.knn(rows.numpy(), scores.database.numpy(), k, metric=metric)
        values.append(torch.from_numpy(value))
        index.append(torch.from_numpy(place))
    value = torch.cat(values)
    return value.mul_(-0.5) if scores.l2 else value, torch.cat(index)
