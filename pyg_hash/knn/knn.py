"""The k nearest neighbours of feature vectors: exact, or approximate where asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pyg_hash.knn.exact import (
    ELEMENTS,
    DenseScores,
    Largest,
    PreparedRows,
    candidates,
    nearest,
    ranked,
    ready,
)
from pyg_hash.knn.sparse import CSRScores, check_rows, density, is_csr, ready_csr, to_csr
from pyg_hash.typing import Metric
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.checks import (
    check_choice,
    check_features,
    check_nonzero_rows,
    check_positive_int,
)

_BACKENDS = ("torch", "faiss", "sparse")
_FAISS_ROWS = 16  # from so many it is faster than torch.topk
_SMALL = 1 << 34  # multiplications: less is not worth a look at the zeros
_SPARSE = 0.05  # part of entries that are not zero: below, sparse products are faster
_QUERY_ELEMENTS, _DATABASE_ELEMENTS = 1 << 25, 1 << 24  # of stored rows: 128 and 64 MB of float32

APPROXIMATE = ("pca", "ivf", "hnsw")
_PCA_WIDTH = 128
_PCA_FIT = 2048  # rows
_PCA_FETCH = 3  # times k
_IVF_PROBE = 16  # lists
_HNSW_LINKS, _HNSW_EFFORT = 32, 64


class StoredRows(Protocol):
    """Feature rows somewhere else, such as :class:`pyg_hash.datasets.StoredMatrix` in HDF5."""

    shape: tuple[int, int]

    def read_rows(self, start: int, stop: int, out: np.ndarray[Any, Any]) -> None:
        """Write rows ``start .. stop - 1`` into ``out``, float32 ``[stop - start, d]``."""


Rows = Tensor | PreparedRows


@torch.no_grad()
def knn(
    query: Tensor | StoredRows,
    database: Rows | StoredRows,
    k: int,
    *,
    metric: Metric = "cosine",
    exclude_self: bool = False,
    backend: str = "auto",
    approximate: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest rows of ``database`` for each row of ``query``.

    The search is exhaustive unless ``approximate`` says otherwise. Rows are ordered best first;
    equal float32 scores are ordered by lower index, so the answer is the same for every backend and
    block size up to rounding. The scores of the neighbours found are computed again, pair by pair,
    hence identical rows have identical scores.

    Beyond the features (a float32 copy of them, normalised or moved) and the answer it takes two
    tiles of scores: at most 32 MB each, 1 GB each on a GPU. A progress bar shows after five
    seconds.

    Args:
        query: float ``[q, d]``, dense or ``torch.sparse_csr``; or a
            :class:`~pyg_hash.datasets.StoredMatrix` in an open HDF5 file, dense or CSR, which is
            read in blocks: its features need not fit in memory (about 0.5 GB are used).
        database: ``[n, d]`` of the same kinds on the same device; or, for many searches of the same
            rows, what :func:`~pyg_hash.knn.prepare` made of them for this metric.
        k: number of neighbours, 1 to n (to n - 1 with ``exclude_self``).
        metric: ``'cosine'`` similarity, ``'ip'`` inner product, or ``'l2'`` **squared** distance.
        exclude_self: row i never gets neighbour i; by index, so duplicates of row i are kept.
            ``query`` must be ``database``.
        backend: how candidates are found. ``'torch'``: products and the largest of their rows, on
            the device of the tensors. ``'faiss'``: FAISS keeps the largest; on the CPU.
            ``'sparse'``: dense blocks of queries meet sparse rows; for CSR, and dense rows that are
            mostly zeros. ``'auto'``: ``'sparse'`` for CSR, and for large work on dense rows with at
            most 5 % nonzero entries on the CPU; else, where FAISS is installed, ``'faiss'`` on the
            CPU from 16 queries; else ``'torch'``.
        approximate: do without a look at all pairs in full, for many rows (from about 30,000).
            Scores are exact, but a neighbour may be missing: measure with :func:`recall`.
            ``'pca'``: the best ``3 k`` by the leading 128 directions of 2,048 evenly spaced rows;
            good where few directions hold most of the data. ``'ivf'``: FAISS, the 16 nearest of
            ``sqrt(n)`` lists. ``'hnsw'``: FAISS, a graph of 32 links a row between near ones.

    Scores, float32 ``[q, k]``, and index, int64 ``[q, k]``, are on the device of ``query``.

    ``TypeError``: inputs that are not floating-point tensors, dense or CSR; ``k`` no integer.
    ``ValueError``: wrong shapes or widths, no rows, NaN or inf, zero rows under cosine, ``k`` out
    of range, two devices, scores that overflow float32, unknown options, or such as do not go
    together. ``ImportError``: ``backend='faiss'`` and FAISS is not installed.
    """
    check_choice(metric, ("cosine", "ip", "l2"), "metric")
    check_backend(backend, approximate)
    if backend == "faiss":
        _faiss.load()
    _check(query, database, k, metric, exclude_self)
    both = [x for x in (query, database) if isinstance(x, Rows)]
    if approximate is not None and len(both) < 2:
        raise ValueError("approximate: stored rows are searched exactly; read them first")
    asking, needed = database if exclude_self else query, k + int(exclude_self)
    device, origin, found = both[0].device if both else None, None, []
    # every block of queries meets every block of the database, L2 around one point for all
    for _, rows in _blocks(asking, _QUERY_ELEMENTS, "query", metric, device):
        best: tuple[Tensor, Tensor] | None = None
        for left, block in _blocks(database, _DATABASE_ELEMENTS, "database", metric, device):
            a, b = _ready(rows, block, metric, backend, approximate, origin)
            origin = b.origin
            value, place = _search(a, b, min(needed, b.shape[0]), backend, approximate)
            if best is not None:  # blocks come in order: a stable sort keeps the lower index first
                value, place = torch.cat((best[0], value), 1), torch.cat((best[1], place + left), 1)
                value, order = value.sort(dim=1, descending=metric != "l2", stable=True)
                value, place = value[:, :needed], place.gather(1, order[:, :needed])
            best = value, place
        assert best is not None  # no side is empty
        found.append(best)
    scores, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    if exclude_self:
        return _drop(scores, index, torch.arange(index.size(0), device=index.device))
    return scores, index


@torch.no_grad()
def prepare(x: Tensor, metric: str = "cosine") -> PreparedRows:
    """Check, normalise and copy rows once for many searches; a ``database`` for :func:`knn`.

    They are float ``[n, d]``, dense or ``torch.sparse_csr``, ``metric`` is that of :func:`knn`, as
    errors are. L2 is measured around a point near the data, of CSR rows around 0.
    """
    check_rows(x, "database")
    return (ready_csr if is_csr(x) else ready)(x, metric, name="database")


def _drop(scores: Tensor, index: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Remove entry ``own[i]`` from row i of ``[q, k + 1]``, or the last where it is not there."""
    out = index == own.unsqueeze(1)
    if bool(out[:, 0].all()):  # no row has an equal one before it
        return scores[:, 1:].contiguous(), index[:, 1:].contiguous()
    out[:, -1] |= ~out.any(1)
    keep = (~out).nonzero()[:, 1].view(index.size(0), -1)
    return scores.gather(1, keep), index.gather(1, keep)


def check_backend(backend: str, approximate: str | None) -> None:
    """Raise ``ValueError`` unless both are known and at most one is chosen."""
    check_choice(backend, ("auto", *_BACKENDS), "backend")
    check_choice(approximate, (None, *APPROXIMATE), "approximate")
    if approximate is not None and backend != "auto":
        both = f"{approximate!r} and backend={backend!r}"
        raise ValueError(f"approximate: {both} are two ways to search; leave one of them out")


def _search(
    a: PreparedRows, b: PreparedRows, k: int, backend: str, approximate: str | None
) -> tuple[Tensor, Tensor]:
    if approximate is not None:
        return approximate_neighbours(a, b, k, approximate)
    if is_csr(b.x):
        return nearest(CSRScores(a, b), k)
    suits = a.shape[0] >= _FAISS_ROWS and _faiss.is_installed()
    use_faiss = (backend == "faiss" or (backend == "auto" and suits)) and a.device.type == "cpu"
    return nearest(DenseScores(a, b), k, faiss_candidates if use_faiss else None)


def _ready(
    query: Rows,
    database: Rows,
    metric: str,
    backend: str,
    approximate: str | None,
    origin: Tensor | None,
) -> tuple[PreparedRows, PreparedRows]:
    """Checked rows of both sides, prepared in the layout of the backend."""
    a, b = (x.x if isinstance(x, PreparedRows) else x for x in (query, database))
    if isinstance(database, PreparedRows):  # its layout is settled
        sparse = is_csr(b)
        if not sparse and (is_csr(a) or backend == "sparse"):
            what = "was prepared from dense rows, which no sparse ones can meet"
            raise ValueError(f"database: {what}; give prepare(...) a torch.sparse_csr matrix")
    elif backend == "auto" and approximate is None:  # are the zeros worth to be left out?
        large = a.size(0) * b.size(0) * a.size(1) >= _SMALL and a.device.type == "cpu"
        sparse = is_csr(a) or is_csr(b) or (large and max(density(a), density(b)) <= _SPARSE)
    else:
        sparse = backend == "sparse"

    def side(x: Rows, name: str, origin: Tensor | None) -> PreparedRows:
        if isinstance(x, PreparedRows):
            return x
        if is_csr(x) and not sparse:
            what = f"{approximate or backend!r} needs dense rows, got CSR"
            raise ValueError(f"{name}: {what}; call .to_dense() or use backend='sparse'")
        if sparse:
            return ready_csr(x if is_csr(x) else to_csr(x), metric, name)
        return ready(x, metric, name, origin)

    rows = side(database, "database", origin)
    return (rows if query is database else side(query, "query", rows.origin)), rows


def _blocks(
    x: Rows | StoredRows, elements: int, name: str, metric: str, device: torch.device | None
) -> Iterator[tuple[int, Rows]]:
    """``(first row, rows)`` over all rows, checked; what is in memory is one block."""
    if isinstance(x, Rows):
        yield 0, x
        return
    n, d = x.shape
    step = max(1, elements // d)
    for start in range(0, n, step):
        stop = min(start + step, n)
        block = torch.empty(stop - start, d, dtype=torch.float32, device="cpu")
        x.read_rows(start, stop, block.numpy())
        check_features(block, f"{name}[{start}:{stop}]")
        if metric == "cosine":
            check_nonzero_rows(block, f"{name}[{start}:{stop}]")
        yield start, block.to(device)


def _check(
    query: Rows | StoredRows, database: Rows | StoredRows, k: int, metric: str, exclude_self: bool
) -> None:
    """What can be said before the search; zero rows are found when rows are prepared."""
    for name, x in {"query": query, "database": database}.items():
        if isinstance(x, PreparedRows):
            if x.metric != metric:
                raise ValueError(f"{name}: prepared for {x.metric!r}, but metric is {metric!r}")
        elif not hasattr(x, "read_rows"):
            if name == "database" or query is not database:
                check_rows(x, name)
        elif len(x.shape) != 2 or min(x.shape) < 1:
            raise ValueError(f"{name}: expected shape [n, d], got {list(x.shape)}")
    if query.shape[1] != database.shape[1]:
        widths = f"{query.shape[1]} and {database.shape[1]} features a row"
        raise ValueError(f"query, database: {widths}; both must come from the same feature space")
    devices = {x.device for x in (query, database) if isinstance(x, Rows)}
    if len(devices) > 1:
        raise ValueError(f"query, database: on {' and '.join(map(str, devices))}; move one")
    check_positive_int(k, "k")
    n = database.shape[0] - int(exclude_self)
    if k > n:
        besides = " besides the row itself" if exclude_self else ""
        there = f"the database has only {n} candidates{besides}"
        raise ValueError(f"k: {k} neighbours asked for, but {there}; use k <= {n}")
    if exclude_self and not (query is database or _equal(query, database)):
        raise ValueError("exclude_self: needs query to be the database; pass the same tensor twice")


def _equal(a: object, b: object) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return False
    if (a.dtype, a.layout, a.shape) != (b.dtype, b.layout, b.shape):
        return False
    parts = (Tensor.crow_indices, Tensor.col_indices, Tensor.values)
    return all(torch.equal(p(a), p(b)) for p in (parts if is_csr(a) else (Tensor.detach,)))


def approximate_neighbours(
    query: PreparedRows, database: PreparedRows, k: int, way: str
) -> tuple[Tensor, Tensor]:
    """As :func:`pyg_hash.knn.exact.nearest`, of dense rows, by a ``way`` of ``approximate``."""
    scores = DenseScores(query, database)
    if way == "pca" and database.shape[1] <= _PCA_WIDTH:
        return nearest(scores, k)
    index = _by_pca(query, database, k) if way == "pca" else _by_faiss(query, database, k, way)
    short = (index < 0).any(1).nonzero().squeeze(1)  # fewer than k rows were looked at
    values, index = ranked(scores, slice(0, query.shape[0]), index.clamp_(min=0))
    values, index = values[:, :k].contiguous(), index[:, :k].contiguous()
    if short.numel():
        squares = None if query.squares is None else query.squares[short]
        part = replace(query, x=query.x[short], squares=squares)
        values[short], index[short] = nearest(DenseScores(part, database), k)
    return values, index


def _by_pca(query: PreparedRows, database: PreparedRows, k: int) -> Tensor:
    n = database.shape[0]
    sample = database.x[:: max(1, n // _PCA_FIT)]
    _, vectors = torch.linalg.eigh(sample.T @ sample)  # ascending
    basis = vectors[:, -_PCA_WIDTH:]
    # norms, which L2 needs, are those of the full rows
    low = replace(database, x=database.x @ basis)
    own = low if query is database else replace(query, x=query.x @ basis)
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

    mirrored_from = 128

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
    """:func:`pyg_hash.knn.exact.candidates`, all that there are, kept by FAISS's heaps."""
    d, wide = scores.query.size(1), Largest.mirrored_from
    scores.rows = min(scores.shape[0], 256 if scores.symmetric and d >= wide else 512)
    scores.columns = max(1 << 12, ELEMENTS // scores.rows)
    if scores.symmetric and _Heaps.mirrored_from <= d < wide:
        scores.columns = 512  # what is turned over stays in the cache
    return candidates(scores, k, _Heaps)


def recall(
    index: Tensor,
    query: Tensor,
    database: Tensor,
    *,
    metric: Metric = "cosine",
    exclude_self: bool = False,
    sample: int = 256,
    seed: int = 0,
) -> float:
    """The part, 0 to 1, of the true nearest neighbours that ``index`` holds, on sampled queries.

    ``index``, int64 ``[q, k]``, was found for dense ``query``, ``database``, ``metric`` and
    ``exclude_self`` of :func:`knn`; ``sample`` queries are drawn, by ``seed``, without replacement.
    ``ValueError``: ``index`` and ``query`` do not match. Other errors are those of :func:`knn`.
    """
    check_positive_int(sample, "sample")
    if index.dim() != 2 or index.size(0) != query.size(0):
        wanted = f"a row for each of the {query.size(0)} queries"
        raise ValueError(f"index: expected [q, k] with {wanted}, got {list(index.shape)}")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(query.size(0), generator=generator, device="cpu")[:sample].to(
        query.device
    )
    k = index.size(1)
    scores, true = knn(query[rows], database, k + int(exclude_self), metric=metric)
    if exclude_self:
        _, true = _drop(scores, true, rows)
    found = (true.unsqueeze(2) == index[rows].unsqueeze(1)).any(2)
    return float(found.float().mean())
