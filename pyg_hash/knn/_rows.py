"""Feature rows, dense or ``torch.sparse_csr``: pick them, find equal ones, score single pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.utils.csr import csr_matrix

_CHUNK_ELEMENTS = 1 << 20  # a few MB of temporary values: what a cache holds
_SAMPLE = 64


def is_csr(x: Tensor) -> bool:
    """Whether ``x`` is a ``torch.sparse_csr`` matrix."""
    return x.layout == torch.sparse_csr


def take(x: Tensor, rows: Tensor | slice) -> Tensor:
    """Some rows, in the layout of ``x``.

    Args:
        x: ``[n, d]``, dense or CSR.
        rows: int64 ``[m]``, or a slice of step 1.
    """
    if not is_csr(x):
        return x[rows]
    start, column, value = x.crow_indices(), x.col_indices(), x.values()
    if isinstance(rows, slice):
        part = start[rows.start : rows.stop + 1].long()
        low, high = int(part[0]), int(part[-1])
        return csr_matrix(part - low, column[low:high], value[low:high], x.size(1))
    new, entry = _entries(start, rows)
    return csr_matrix(new, column[entry], value[entry], x.size(1))


def _entries(start: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where the picked rows start in the new matrix, and the places of their entries."""
    count = start.diff().long()[rows]
    new = torch.cat((count.new_zeros(1), count.cumsum(0)))
    shift = (start[:-1].long()[rows] - new[:-1]).repeat_interleave(count)
    return new, shift + torch.arange(shift.numel(), device=shift.device)


def to_double(x: Tensor) -> Tensor:
    """A CSR matrix in float64."""
    return csr_matrix(x.crow_indices(), x.col_indices(), x.values().double(), x.size(1))


def squared_norms(x: Tensor) -> Tensor:
    """Squared Euclidean norm of each row, ``[n]``, in the type of ``x``."""
    if is_csr(x):
        return _row_sums(x.values().square(), x.crow_indices().diff())
    parts = torch.split(x, max(1, _CHUNK_ELEMENTS // x.size(1)))
    return torch.cat([part.square().sum(1) for part in parts])


def _row_sums(value: Tensor, count: Tensor) -> Tensor:
    """Sums of consecutive runs of entries, each added up in its own order."""
    sums: Tensor = torch.segment_reduce(value, "sum", lengths=count.long(), initial=0)
    return sums


def first_equal_row(x: Tensor) -> Tensor | None:
    """For each row the index of the first row equal to it, or ``None`` if all rows differ.

    Rows are grouped by a hash of their bits; a group that the hash put together wrongly is left
    apart, which costs nothing but the tie guarantee for that group.

    Args:
        x: float32 ``[n, d]``, dense or CSR.
    """
    rows = torch.arange(x.size(0), device=x.device)
    if not is_csr(x):  # most rows differ in a few columns already
        rows = rows[_shared(_hash(x[:, :: max(1, x.size(1) // _SAMPLE)], rows))]
    hashes = _hash_csr(x) if is_csr(x) else _hash(x, rows)
    rows, hashes = rows[_shared(hashes)], hashes[_shared(hashes)]
    if rows.numel() == 0:
        return None
    _, group = torch.unique(hashes, return_inverse=True)
    lowest = torch.full_like(rows, x.size(0)).scatter_reduce_(0, group, rows, "amin")
    first = torch.arange(x.size(0), device=x.device)
    first[rows] = lowest[group]
    repeated = rows[lowest[group] != rows]
    for part in torch.split(repeated, max(1, _CHUNK_ELEMENTS // x.size(1))):
        pair = take(x, part), take(x, first[part])
        a, b = (some.to_dense() if is_csr(some) else some for some in pair)
        differs = (a != b).any(1)
        first[part[differs]] = part[differs]
    return first


def _shared(values: Tensor) -> Tensor:
    """Which entries occur more than once: bool ``[n]``."""
    _, group, count = torch.unique(values, return_inverse=True, return_counts=True)
    shared: Tensor = count[group] > 1
    return shared


def _weights(num_columns: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-(2**30), 2**30, (num_columns,), dtype=torch.int32, generator=generator)
    return (2 * weight + 1).to(device)  # odd: no bit of a feature is lost


def _hash(x: Tensor, rows: Tensor) -> Tensor:
    """A hash of the bits of some dense rows, int64; products wrap around."""
    weight = _weights(x.size(1), x.device)
    parts = torch.split(rows, max(1, _CHUNK_ELEMENTS // x.size(1)))
    # + 0.0 makes 0.0 of -0.0
    hashes = [((x[part] + 0.0).view(torch.int32) * weight).sum(1) for part in parts]
    return torch.cat(hashes) if hashes else rows


def _hash_csr(x: Tensor) -> Tensor:
    weight = _weights(x.size(1), x.device)
    products = (x.values() + 0.0).view(torch.int32) * weight[x.col_indices()]
    total = torch.cat((products.new_zeros(1, dtype=torch.int64), products.cumsum(0)))
    return total[x.crow_indices().long()].diff()


def pair_scores(query: Tensor, database: Tensor, index: Tensor, l2: bool) -> Tensor:
    """Scores of the pairs ``(i, index[i, j])``, each computed alone: equal rows score equally.

    Args:
        query: float32 ``[q, d]``, dense or CSR.
        database: float32 ``[n, d]`` in the same layout.
        index: int64 ``[q, m]``.
        l2: squared L2 distances instead of inner products.

    Returns:
        float32 ``[q, m]``.
    """
    if is_csr(query):
        return _csr_pairs(query, database, index, l2)
    if not l2 and query.device.type == "cpu":
        return _sampled_pairs(query, database, index)
    scores = torch.empty(index.shape, dtype=torch.float32, device=query.device)
    limit = _CHUNK_ELEMENTS if query.device.type == "cpu" else 256 * _CHUNK_ELEMENTS
    step = max(1, limit // (index.size(1) * query.size(1)))
    for start in range(0, query.size(0), step):
        part = slice(start, start + step)
        pairs = database[index[part]]
        own = query[part].unsqueeze(1)
        pairs = (pairs.sub_(own)).square_() if l2 else pairs.mul_(own)
        torch.sum(pairs, dim=2, out=scores[part])
    return scores


def _sampled_pairs(query: Tensor, database: Tensor, index: Tensor) -> Tensor:
    """Inner products by ``sampled_addmm``, which copies no row; on the CPU each pair is one dot."""
    width = index.size(1)
    scores = []
    for part, wanted in zip(
        torch.split(query, max(1, _CHUNK_ELEMENTS // width)),
        torch.split(index, max(1, _CHUNK_ELEMENTS // width)),
        strict=True,
    ):
        start = torch.arange(0, wanted.numel() + 1, width)
        zeros = torch.zeros(wanted.numel())
        pattern = csr_matrix(start, wanted.flatten(), zeros, database.size(0))
        found = torch.sparse.sampled_addmm(pattern, part, database.T, beta=0.0)
        scores.append(found.values().view(-1, width))
    return torch.cat(scores)


def _csr_pairs(query: Tensor, database: Tensor, index: Tensor, l2: bool) -> Tensor:
    """A dense block of queries meets the stored entries of its candidates, in float64 under L2."""
    if l2:
        query, database = to_double(query), to_double(database)
        norms = squared_norms(database)
    start, column, value = database.crow_indices(), database.col_indices(), database.values()
    stored = max(1, value.numel() // database.size(0))
    step = max(1, _CHUNK_ELEMENTS // max(query.size(1), index.size(1) * stored))
    scores = []
    for low in range(0, query.size(0), step):
        rows = slice(low, min(low + step, query.size(0)))
        part, wanted = take(query, rows), index[rows]
        new, entry = _entries(start, wanted.flatten())
        first = torch.arange(0, wanted.size(0) * query.size(1), query.size(1), device=new.device)
        first = first.repeat_interleave(new[:: wanted.size(1)].diff())
        products = part.to_dense().view(-1)[first.add_(column[entry])].mul_(value[entry])
        found = _row_sums(products, new.diff()).view(wanted.shape)
        if l2:
            own = squared_norms(part).unsqueeze(1)
            found = (own + norms[wanted] - 2 * found).clamp_(min=0)
        scores.append(found.float())
    return torch.cat(scores)
