"""How many of the true neighbours a search found."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.knn.knn import drop, knn
from pyg_hash.typing import Metric
from pyg_hash.utils.checks import check_positive_int


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
    """The part of the true nearest neighbours that ``index`` holds, on a sample of queries.

    Args:
        index: what was found, int64 ``[q, k]``.
        query: dense float ``[q, d]``.
        database: dense float ``[n, d]``; ``query`` itself with ``exclude_self``.
        metric: of :func:`knn`.
        exclude_self: whether row i must not be its own neighbour, as in :func:`knn`.
        sample: number of queries, drawn without replacement.
        seed: of the draw.

    Returns:
        a number from 0 to 1.

    Raises:
        ValueError: ``index`` and ``query`` do not match, and as :func:`knn`.
    """
    check_positive_int(sample, "sample")
    if index.dim() != 2 or index.size(0) != query.size(0):
        raise ValueError(
            f"index: expected [q, k] with a row for each of the {query.size(0)} queries, got "
            f"{list(index.shape)}"
        )
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(query.size(0), generator=generator)[:sample].to(query.device)
    k = index.size(1)
    scores, true = knn(query[rows], database, k + int(exclude_self), metric=metric)
    if exclude_self:
        _, true = drop(scores, true, rows)
    found = (true.unsqueeze(2) == index[rows].unsqueeze(1)).any(2)
    return float(found.float().mean())
