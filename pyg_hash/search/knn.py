"""The k nearest neighbours of feature vectors: exact, or approximate where asked for."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pyg_hash.search import _bf16, _flat, _sparse, _torch
from pyg_hash.search._choose import choose
from pyg_hash.search._prepare import check_rows, l2_origin, prepare
from pyg_hash.search._rows import is_csr
from pyg_hash.search._search import Find, drop, search
from pyg_hash.typing import Metric
from pyg_hash.validation import check_choice, check_positive_int

Backend = Literal["auto", "sparse", "bf16", "faiss", "torch"]

_BACKENDS: dict[str, Find] = {
    "sparse": _sparse.candidates,
    "bf16": _bf16.candidates,
    "faiss": _flat.candidates,
    "torch": _torch.candidates,
}
BACKENDS = ("auto", *_BACKENDS)


@torch.no_grad()
def knn(
    query: Tensor,
    database: Tensor,
    k: int,
    *,
    metric: Metric = "cosine",
    exclude_self: bool = False,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest rows of ``database`` for each row of ``query``, by exhaustive search.

    Rows are ordered best first; equal float32 scores are ordered by lower index, so the answer
    is the same for every backend and block size up to rounding. Scores are recomputed pair by
    pair for the neighbours found, hence identical rows have identical scores.

    Args:
        query: float ``[q, d]``, dense or ``torch.sparse_csr``.
        database: float ``[n, d]`` on the same device.
        k: number of neighbours, 1 to n (to n - 1 with ``exclude_self``).
        metric: ``'cosine'`` similarity, ``'ip'`` inner product, or ``'l2'`` **squared** distance.
        exclude_self: row i never gets neighbour i; by index, so duplicates of row i are kept.
            ``query`` must be ``database``.
        backend: how candidates are found; scores are exact float32 in all of them.

            * ``'torch'``: float32 products on the device of the tensors, each block once in a
              self-join of wide rows.
            * ``'bf16'``: bfloat16 products, then exact scores of the best; rows that rounding
              may have changed are searched again in float32.
            * ``'sparse'``: sparse queries against dense blocks; for CSR, and dense rows that are
              mostly zeros.
            * ``'faiss'``: ``IndexFlat``; on a GPU when faiss-gpu is installed.
            * ``'auto'``: ``'sparse'`` for CSR; ``'torch'`` for tensors on a GPU and for small
              work; faiss-gpu where there is one; ``'sparse'`` for dense rows with at most 5 %
              nonzero entries; else the fastest of the other three, measured once per process
              (0.1 s).

    Returns:
        ``(scores, index)``: float32 ``[q, k]`` and int64 ``[q, k]`` on the device of ``query``.

    Raises:
        TypeError: inputs that are not floating-point tensors, dense or CSR; ``k`` no integer.
        ValueError: wrong shapes or widths, no rows, NaN or inf, zero rows under cosine, ``k``
            out of range, different devices, ``exclude_self`` with ``query`` other than
            ``database``, unknown metric or backend, CSR with a dense backend, values whose scores
            overflow float32.
        ImportError: ``backend='faiss'`` and FAISS is not installed.
    """
    check_choice(metric, ("cosine", "ip", "l2"), "metric")
    check_choice(backend, BACKENDS, "backend")
    _check_input(query, database, metric)
    _check_k(k, database.size(0), exclude_self)
    same = query is database
    if exclude_self and not same:
        if not _equal(query, database):
            raise ValueError(
                "exclude_self: needs query to be the database; pass the same tensor twice"
            )
        same = True
    chosen = choose(query, database) if backend == "auto" else backend
    base = _layout(database, "database", chosen)
    origin = l2_origin(base) if metric == "l2" and not is_csr(base) else None
    base = prepare(base, metric, origin, "database")
    rows = base if same else prepare(_layout(query, "query", chosen), metric, origin, "query")
    needed = k + int(exclude_self)
    scores, index = search(rows, base, needed, metric == "l2", _BACKENDS[chosen])
    if exclude_self:
        return drop(scores, index, torch.arange(index.size(0), device=index.device))
    return scores, index


def _check_input(query: Tensor, database: Tensor, metric: str) -> None:
    if query is not database:
        check_rows(query, "query", metric)
    check_rows(database, "database", metric)
    if query.size(1) != database.size(1):
        raise ValueError(
            f"query, database: {query.size(1)} and {database.size(1)} features a row; both must "
            "come from the same feature space"
        )
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
            f"{name}: backend={backend!r} needs dense rows, got CSR; call .to_dense() or use "
            "backend='sparse'"
        )
    return x


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.layout != b.layout or a.shape != b.shape:
        return False
    if not is_csr(a):
        return torch.equal(a, b)
    parts = ((x.crow_indices(), x.col_indices(), x.values()) for x in (a, b))
    return all(p.shape == q.shape and bool((p == q).all()) for p, q in zip(*parts, strict=True))
