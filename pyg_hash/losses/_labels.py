"""Which pairs of two labelled sets are similar."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.losses._reduction import check_matrix
from pyg_hash.typing import Match
from pyg_hash.utils.checks import check_labels


def check_code_sets(
    a: Tensor, b: Tensor, a_y: Tensor, b_y: Tensor, names: tuple[str, str] = ("a", "b")
) -> None:
    """Raise unless two sets of codes have the same kind of codes and of labels.

    ``names`` is what errors call the sets; their labels have ``_y`` after it.
    """
    one, two = names
    check_matrix(a, one)
    check_matrix(b, two)
    if a.dtype != b.dtype or a.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{one} and {two}: expected both float32 or both float64, got {a.dtype} and "
            f"{b.dtype}; convert them"
        )
    if a.size(1) != b.size(1):
        raise ValueError(
            f"{one} and {two}: {a.size(1)} and {b.size(1)} bits; codes must be equally long"
        )
    check_labels(a_y, f"{one}_y", num_rows=a.size(0))
    check_labels(b_y, f"{two}_y", num_rows=b.size(0))
    if a_y.shape[1:] != b_y.shape[1:]:
        raise ValueError(
            f"{one}_y and {two}_y: shapes {list(a_y.shape)} and {list(b_y.shape)}; use class "
            "indices for both, or multi-hot labels with the same classes"
        )


def comparable_labels(
    a_y: Tensor, b_y: Tensor, dtype: torch.dtype, match: Match = "shared"
) -> tuple[Tensor, Tensor]:
    """Labels of both sets in the cheapest form that says which pairs are similar.

    Args:
        a_y: class index ``[n]`` or multi-hot ``[n, C]``.
        b_y: class index ``[m]`` or multi-hot ``[m, C]``, as ``a_y``.
        dtype: of the codes.
        match: ``'shared'``, a label in common, or ``'equal'``, the same label set.

    Returns:
        int64 ``[n]`` and ``[m]``, numbers 0, 1, ... that are equal where a pair is similar; or
        multi-hot labels of ``dtype``, where it is similar if it shares one.
    """
    if a_y.dim() == 2 and match == "shared":
        if not bool((a_y.sum(1) == 1).all() and (b_y.sum(1) == 1).all()):
            return a_y.to(dtype), b_y.to(dtype)
        a_y, b_y = a_y.int().argmax(1), b_y.int().argmax(1)
    if a_y.dim() == 1:  # dim=0 would compare whole rows
        numbers = torch.unique(torch.cat([a_y, b_y]), return_inverse=True)[1]
    else:
        both = torch.cat([a_y.bool(), b_y.bool()])
        numbers = torch.unique(both, dim=0, return_inverse=True)[1]
    return numbers[: len(a_y)], numbers[len(a_y) :]


def similar_pairs(a_y: Tensor, b_y: Tensor, out: Tensor) -> Tensor:
    """``J``: 1 where a pair is similar, else 0, written into ``out`` ``[n, m]``.

    Takes what :func:`comparable_labels` returns, and the codes' dtype. On the CPU, arithmetic is
    several times as fast as comparisons that make boolean masks.
    """
    if a_y.dim() == 2:
        return torch.mm(a_y, b_y.t(), out=out).clamp_(max=1)
    torch.sub(a_y.to(out.dtype)[:, None], b_y.to(out.dtype), out=out)
    return out.abs_().clamp_(max=1).neg_().add_(1)


def similar_sums(
    a: Tensor, b: Tensor, a_y: Tensor, b_y: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Sum of the other set's similar rows for each row: ``J b`` ``[n, d]``, ``J^T a`` ``[m, d]``.

    Class numbers need no pairs at all; multi-hot labels are compared in tiles.
    """
    if a_y.dim() == 1:
        classes = max((int(y.max()) + 1 for y in (a_y, b_y) if y.numel()), default=0)
        of_a, of_b = (
            x.new_zeros(classes, x.size(1)).index_add_(0, y, x) for x, y in ((a, a_y), (b, b_y))
        )
        return of_b[a_y], of_a[b_y]
    to_a, to_b = torch.zeros_like(a), torch.zeros_like(b)
    with torch.autocast(a.device.type, enabled=False):
        for p in range(0, a.size(0), chunk_size):
            for q in range(0, b.size(0), chunk_size):
                rows, columns = slice(p, p + chunk_size), slice(q, q + chunk_size)
                j = (a_y[rows] @ b_y[columns].t()).clamp_(max=1)
                to_a[rows].addmm_(j, b[columns])
                to_b[columns].addmm_(j.t(), a[rows])
    return to_a, to_b
