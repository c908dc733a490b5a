"""The k nearest neighbours of feature vectors: exact, or approximate where asked for."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pyg_hash.knn import _bf16, _flat, _sparse, _torch
from pyg_hash.knn._approximate import APPROXIMATE
from pyg_hash.knn._choose import choose
from pyg_hash.knn._prepare import check_rows, l2_origin, prepare
from pyg_hash.knn._rows import is_csr
from pyg_hash.knn._search import Find, drop, search
from pyg_hash.knn._stored import StoredRows, stored_neighbours
from pyg_hash.typing import Metric
from pyg_hash.utils.checks import check_choice, check_positive_int

_BACKENDS: dict[str, Find] = {
    "sparse": _sparse.candidates,
    "bf16": _bf16.candidates,
    "faiss": _flat.candidates,
    "torch": _torch.candidates,
}


@torch.no_grad()
def knn(
    query: Tensor | StoredRows,
    database: Tensor | StoredRows,
    k: int,
    *,
    metric: Metric = "cosine",
    exclude_self: bool = False,
    backend: str = "auto",
    approximate: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest rows of ``database`` for each row of ``query``.

    The search is exhaustive unless ``approximate`` says otherwise.

    Rows are ordered best first; equal float32 scores are ordered by lower index, so the answer
    is the same for every backend and block size up to rounding. Scores are recomputed pair by
    pair for the neighbours found, hence identical rows have identical scores.

    Beyond the features (a float32 copy of them, normalised or moved) and the answer it takes two
    blocks of scores: 64 MB each, 1 GB each on a GPU. A progress bar shows after five seconds.

    Args:
        query: float ``[q, d]``, dense or ``torch.sparse_csr``; or a
            :class:`~pyg_hash.datasets.StoredMatrix` in an open HDF5 file, dense or CSR, which is
            read in blocks: its features need not fit in memory (about 0.5 GB are used).
        database: float ``[n, d]`` on the same device; or stored.
        k: number of neighbours, 1 to n (to n - 1 with ``exclude_self``).
        metric: ``'cosine'`` similarity, ``'ip'`` inner product, or ``'l2'`` **squared** distance.
        exclude_self: row i never gets neighbour i; by index, so duplicates of row i are kept.
            ``query`` must be ``database``.
        backend: how candidates are found; scores are exact float32 in all of them.

            * ``'torch'``: float32 products on the device of the tensors, each block once in a
              self-join of wide rows.
            * ``'bf16'``: bfloat16 products, then exact scores of the best; rows that rounding
              may have changed are searched again in float32.
            * ``'sparse'``: dense blocks of queries meet sparse rows; for CSR, and dense rows that
              are mostly zeros.
            * ``'faiss'``: ``IndexFlat``; on a GPU when faiss-gpu is installed.
            * ``'auto'``: ``'sparse'`` for CSR; ``'torch'`` for tensors on a GPU and for small
              work; faiss-gpu where there is one; ``'sparse'`` for dense rows with at most 5 %
              nonzero entries; else the fastest of the other three, measured once per process
              (0.1 s).
        approximate: do without a look at all pairs in full, for many rows (from about 15,000).
            Scores are exact, but a neighbour may be missing: measure with :func:`recall`.

            * ``'pca'``: the best ``3 k`` by 128 leading directions; good where few directions
              hold most of the data.
            * ``'ivf'``: FAISS, the 16 nearest of ``sqrt(n)`` lists.
            * ``'hnsw'``: FAISS, a graph of links between near rows.

    Returns:
        ``(scores, index)``: float32 ``[q, k]`` and int64 ``[q, k]`` on the device of ``query``.

    Raises:
        TypeError: inputs that are not floating-point tensors, dense or CSR; ``k`` no integer.
        ValueError: wrong shapes or widths, no rows, NaN or inf, zero rows under cosine, ``k``
            out of range, different devices, ``exclude_self`` with ``query`` other than
            ``database``, unknown metric or backend, CSR with a dense backend, values whose scores
            overflow float32, ``approximate`` with a backend, CSR or stored rows.
        ImportError: ``backend='faiss'`` and FAISS is not installed.
    """
    check_choice(metric, ("cosine", "ip", "l2"), "metric")
    check_backend(backend, approximate)
    same = query is database
    stored = isinstance(query, StoredRows) or isinstance(database, StoredRows)
    if not same:
        _check_input(query, "query", metric)
    _check_input(database, "database", metric)
    _check_match(query, database)
    _check_k(k, database.shape[0], exclude_self)
    if exclude_self and not (same or _equal(query, database)):
        raise ValueError("exclude_self: needs query to be the database; pass the same tensor twice")

    if stored:
        if approximate is not None:
            raise ValueError("approximate: stored rows are searched exactly; read them first")
        find = partial(neighbours, backend=backend)
        return stored_neighbours(query, database, k, metric, exclude_self, find)
    assert isinstance(query, Tensor) and isinstance(database, Tensor)
    query = database if exclude_self else query
    needed = k + int(exclude_self)
    scores, index = neighbours(
        query, database, needed, metric, backend=backend, approximate=approximate
    )
    if exclude_self:
        return drop(scores, index, torch.arange(index.size(0), device=index.device))
    return scores, index


def neighbours(
    query: Tensor,
    database: Tensor,
    k: int,
    metric: str,
    origin: Tensor | None = None,
    *,
    backend: str = "auto",
    approximate: str | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`knn` of checked tensors; ``origin`` is that of L2 distances, None finds one."""
    if approximate is not None:
        chosen, find = approximate, APPROXIMATE[approximate]
    else:
        chosen = choose(query, database) if backend == "auto" else backend
        find = _BACKENDS[chosen]
    base = _layout(database, "database", chosen)
    if metric == "l2" and origin is None and not is_csr(base):
        origin = l2_origin(base)
    rows = base = prepare(base, metric, origin, "database")
    if query is not database:
        rows = prepare(_layout(query, "query", chosen), metric, origin, "query")
    return search(rows, base, k, metric == "l2", find)


def check_backend(backend: str, approximate: str | None) -> None:
    """Raise ``ValueError`` unless both are known and at most one is chosen."""
    check_choice(backend, ("auto", *_BACKENDS), "backend")
    check_choice(approximate, (None, *APPROXIMATE), "approximate")
    if approximate is not None and backend != "auto":
        raise ValueError(
            f"approximate: {approximate!r} and backend={backend!r} are two ways to search; "
            "leave one of them out"
        )


def _check_input(x: Tensor | StoredRows, name: str, metric: str) -> None:
    if not isinstance(x, StoredRows):
        check_rows(x, name, metric)
    elif len(x.shape) != 2 or min(x.shape) < 1:
        raise ValueError(f"{name}: expected shape [n, d], got {list(x.shape)}")


def _check_match(query: Tensor | StoredRows, database: Tensor | StoredRows) -> None:
    if query.shape[1] != database.shape[1]:
        raise ValueError(
            f"query, database: {query.shape[1]} and {database.shape[1]} features a row; both must "
            "come from the same feature space"
        )
    if not isinstance(query, Tensor) or not isinstance(database, Tensor):
        return
    if query.device != database.device:
        raise ValueError(f"query, database: on {query.device} and {database.device}; move one")


def _check_k(k: int, n: int, exclude_self: bool) -> None:
    check_positive_int(k, "k")
    if k > n - int(exclude_self):
        besides = " besides the row itself" if exclude_self else ""
        raise ValueError(
            f"k: {k} neighbours asked for, but the database has only {n - int(exclude_self)} "
            f"candidates{besides}; use k <= {n - int(exclude_self)}"
        )


def _layout(x: Tensor, name: str, backend: str) -> Tensor:
    """``x`` in the layout that the backend works on."""
    if backend == "sparse":
        return x if is_csr(x) else _sparse.to_csr(x)
    if is_csr(x):
        raise ValueError(
            f"{name}: {backend!r} needs dense rows, got CSR; call .to_dense() or use "
            "backend='sparse'"
        )
    return x


def _equal(a: Tensor | StoredRows, b: Tensor | StoredRows) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return False
    if a.dtype != b.dtype or a.layout != b.layout or a.shape != b.shape:
        return False
    if not is_csr(a):
        return torch.equal(a, b)
    parts = ((x.crow_indices(), x.col_indices(), x.values()) for x in (a, b))
    return all(p.shape == q.shape and bool((p == q).all()) for p, q in zip(*parts, strict=True))
