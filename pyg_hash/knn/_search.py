"""From candidates to neighbours: exact scores, ties by lower index, equal rows searched once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyg_hash.knn._rows import first_equal_row, pair_scores, take

# (query, database, k, l2) -> at least the k best rows of each query, in no particular order, and
# their exact scores where the backend has them already
Find = Callable[[Tensor, Tensor, int, bool], tuple[Tensor, Tensor | None]]

_CHUNK_ELEMENTS = 1 << 22


def search(query: Tensor, database: Tensor, k: int, l2: bool, find: Find) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest database rows of each query, best first, ties by lower index.

    Equal database rows are searched and scored once: a product may round the same dot product
    differently in different columns, and near-equal scores must not keep copies of a row out.

    Args:
        query: float32 ``[q, d]``, dense or CSR; the database itself for a self-join.
        database: float32 ``[n, d]`` in the same layout.
        k: 1 to n.
        l2: squared L2 distances instead of inner products.
        find: the backend.

    Returns:
        ``(scores, index)``, float32 and int64 ``[q, k]``.
    """
    first = first_equal_row(database)
    if first is None:
        return _ranked(query, database, k, l2, find)
    kept, group = torch.unique(first, return_inverse=True)
    distinct = take(database, kept)
    same = query is database
    fetch = min(k, kept.numel())
    scores, index = _ranked(distinct if same else query, distinct, fetch, l2, find)
    scores, index = _with_copies(scores, index, group, k, l2)
    return (scores[group], index[group]) if same else (scores, index)


def _ranked(query: Tensor, database: Tensor, k: int, l2: bool, find: Find) -> tuple[Tensor, Tensor]:
    index, scores = find(query, database, k, l2)
    index, order = index.sort(dim=1)
    scores = pair_scores(query, database, index, l2) if scores is None else scores.gather(1, order)
    scores, order = scores.sort(dim=1, descending=not l2, stable=True)
    return scores[:, :k].contiguous(), index.gather(1, order)[:, :k]


def _with_copies(
    scores: Tensor, index: Tensor, group: Tensor, k: int, l2: bool
) -> tuple[Tensor, Tensor]:
    """Put all rows of a group in the place of the group.

    Args:
        scores: ``[q, m]``, best first, ``m <= k``.
        index: groups, int64 ``[q, m]``.
        group: of each row, int64 ``[n]``.
        k: number of rows wanted.
        l2: smaller scores are better.

    Returns:
        as :func:`search`.
    """
    member = group.argsort(stable=True)
    count = group.bincount()
    start = count.cumsum(0) - count
    out_index = member[start[index]]
    out_scores = scores
    if index.size(1) < k:
        missing = k - index.size(1)
        out_index = torch.nn.functional.pad(out_index, (0, missing))
        out_scores = torch.nn.functional.pad(scores, (0, missing))
    rows = (count[index].amax(1) > 1).nonzero().squeeze(1)
    widest = int(count.clamp(max=k).max())
    worst = torch.inf if l2 else -torch.inf
    copy = torch.arange(widest, device=group.device)
    for part in torch.split(rows, max(1, _CHUNK_ELEMENTS // (index.size(1) * widest))):
        groups = index[part].unsqueeze(2)
        valid = copy < count[groups]
        each = member[(start[groups] + copy).clamp_(max=member.numel() - 1)]
        each = each.masked_fill(~valid, member.numel()).flatten(1)
        value = scores[part].unsqueeze(2).where(valid, worst).flatten(1)
        each, order = each.sort(dim=1)
        value, place = value.gather(1, order).sort(dim=1, descending=not l2, stable=True)
        out_scores[part], out_index[part] = value[:, :k], each.gather(1, place)[:, :k]
    return out_scores, out_index


def drop(scores: Tensor, index: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Remove entry ``own[i]`` from row i, or the last entry where it is not among the neighbours.

    Args:
        scores: ``[q, k + 1]``.
        index: int64 ``[q, k + 1]``.
        own: int64 ``[q]``.

    Returns:
        scores and index ``[q, k]``.
    """
    out = index == own.unsqueeze(1)
    out[:, -1] |= ~out.any(1)
    keep = (~out).nonzero()[:, 1].view(index.size(0), -1)
    return scores.gather(1, keep), index.gather(1, keep)
