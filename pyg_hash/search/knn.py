"""Exact k nearest neighbours of feature vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pyg_hash.search import _faiss, _torch
from pyg_hash.typing import Metric
from pyg_hash.validation import (
    check_choice,
    check_features,
    check_nonzero_rows,
    check_positive_int,
)

Backend = Literal["auto", "faiss", "torch"]

# (query, database, k, l2) -> at least the k best rows of each query, in no particular order
_BACKENDS: dict[str, Callable[[Tensor, Tensor, int, bool], Tensor]] = {
    "faiss": _faiss.candidates,
    "torch": _torch.candidates,
}
_RESCORE_ELEMENTS = 1 << 20
_MAX_NORM = 4e18  # products and squared distances of such rows stay below the float32 limit


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
        query: float ``[q, d]``.
        database: float ``[n, d]`` on the same device.
        k: number of neighbours, 1 to n (to n - 1 with ``exclude_self``).
        metric: ``'cosine'`` similarity, ``'ip'`` inner product, or ``'l2'`` **squared** distance.
        exclude_self: row i never gets neighbour i; by index, so duplicates of row i are kept.
            ``query`` must be ``database``.
        backend: ``'faiss'`` (``IndexFlat``; on a GPU when faiss-gpu is installed), ``'torch'``,
            or ``'auto'``: FAISS for CPU tensors when it is installed, else torch.

    Returns:
        ``(scores, index)``: float32 ``[q, k]`` and int64 ``[q, k]`` on the device of ``query``.

    Raises:
        TypeError: inputs that are not dense floating-point tensors; ``k`` not an integer.
        ValueError: wrong shapes or widths, no rows, NaN or inf, zero rows under cosine, ``k``
            out of range, different devices, ``exclude_self`` with ``query`` other than
            ``database``, unknown metric or backend, values whose scores overflow float32.
        ImportError: ``backend='faiss'`` and FAISS is not installed.
    """
    check_choice(metric, ("cosine", "ip", "l2"), "metric")
    check_choice(backend, ("auto", *_BACKENDS), "backend")
    same = query is database
    _check_input(query, database, same, metric)
    _check_k(k, database.size(0), exclude_self)
    if exclude_self and not same and not _equal(query, database):
        raise ValueError("exclude_self: needs query to be the database; pass the same tensor twice")
    if backend == "auto":
        backend = "torch" if query.is_cuda or not _faiss.is_installed() else "faiss"

    base = _prepare(database, database, metric)
    rows = base if same else _prepare(query, database, metric)
    for x, name in ((rows, "query"), (base, "database")):
        if not bool((x.norm(dim=1) < _MAX_NORM).all()):
            raise ValueError(f"{name}: values so large that scores overflow float32; scale down")
    needed = k + int(exclude_self)
    index = _BACKENDS[backend](rows, base, needed, metric == "l2").sort(dim=1).values
    scores = _rescore(rows, base, index, metric == "l2")
    scores, order = scores.sort(dim=1, descending=metric != "l2", stable=True)
    index = index.gather(1, order)
    if exclude_self:
        scores, index = _drop_self(scores[:, :needed], index[:, :needed])
    return scores[:, :k].contiguous(), index[:, :k].contiguous()


def _check_input(query: Tensor, database: Tensor, same: bool, metric: str) -> None:
    for x, name in ((query, "query"), (database, "database")):
        if same and name == "query":
            continue
        if isinstance(x, Tensor) and x.layout != torch.strided:
            raise TypeError(f"{name}: {x.layout} is not supported; call .to_dense() first")
        check_features(x, name)
        if metric == "cosine":
            check_nonzero_rows(x, name)
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


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def _prepare(x: Tensor, database: Tensor, metric: str) -> Tensor:
    """Float32 rows whose inner products (or L2 distances) rank as the metric does."""
    if metric == "ip":
        return x.float().contiguous()
    if metric == "cosine":
        x = x if x.dtype == torch.float64 else x.float()
        x = x / x.abs().amax(1, keepdim=True)  # squares neither overflow nor vanish
        return x.div_(x.norm(dim=1, keepdim=True)).float().contiguous()
    # L2 distances do not change when the origin moves near the data, but |q|^2 + |d|^2 - 2 q.d
    # then cancels less. The origin lies on a coarse binary grid: integers stay exact.
    wide = database if database.dtype == torch.float64 else database.float()
    mean, spread = wide.mean(0), wide.std(0, correction=0)
    spread = torch.maximum(spread, mean.abs() * 2.0**-20)
    grid = torch.where(spread > 0, spread.log2().floor().exp2(), 1.0)
    origin = ((mean / grid).round() * grid).nan_to_num(0.0)
    return (x.to(wide.dtype) - origin).float().contiguous()


def _rescore(query: Tensor, database: Tensor, index: Tensor, l2: bool) -> Tensor:
    """Scores of the pairs ``(i, index[i, j])``, each computed alone: float32 ``[q, m]``."""
    scores = torch.empty(index.shape, dtype=torch.float32, device=query.device)
    step = max(1, _RESCORE_ELEMENTS // (index.size(1) * query.size(1)))
    for start in range(0, query.size(0), step):
        part = slice(start, start + step)
        pairs = database[index[part]]
        own = query[part].unsqueeze(1)
        pairs = (pairs.sub_(own)).square_() if l2 else pairs.mul_(own)
        torch.sum(pairs, dim=2, out=scores[part])
    return scores


def _drop_self(scores: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Remove entry i from row i, or the last entry where i is not among the neighbours."""
    own = index == torch.arange(index.size(0), device=index.device).unsqueeze(1)
    own[:, -1] |= ~own.any(1)
    keep = (~own).nonzero()[:, 1].view(index.size(0), -1)
    return scores.gather(1, keep), index.gather(1, keep)
