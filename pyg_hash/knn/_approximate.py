"""Candidates that need no look at all pairs in full: faster for many rows, and not exact.

The scores of what they find are exact; a neighbour may be missing. Measure how many:
:func:`pyg_hash.knn.recall`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyg_hash.knn import _faiss, _torch
from pyg_hash.knn._blocks import DenseScores, top_scores
from pyg_hash.knn._search import Find

_PCA_WIDTH = 128
_PCA_FIT = 2048  # rows
_PCA_FETCH = 3  # times k
_IVF_PROBE = 16  # lists
_HNSW_LINKS, _HNSW_EFFORT = 32, 64


def pca_candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> tuple[Tensor, None]:
    """Three times ``k`` rows by inner products in the leading 128 directions of the database.

    The directions are the right singular vectors of 2,048 evenly spaced rows. Norms, which L2
    needs, are those of the full rows. Rows of at most 128 features are searched exactly.

    Args, Returns: as :func:`pyg_hash.knn._torch.candidates`, but not the best for certain.
    """
    n, d = database.shape
    if d <= _PCA_WIDTH:
        return _torch.candidates(query, database, k, l2)
    sample = database[:: max(1, n // _PCA_FIT)]
    _, vectors = torch.linalg.eigh(sample.T @ sample)  # ascending
    basis = vectors[:, -_PCA_WIDTH:]
    low = database @ basis
    scores = DenseScores(low if query is database else query @ basis, low)
    scores.bias = _torch.bias(database, l2)
    return top_scores(scores, min(n, max(_PCA_FETCH * k, k + 8)))[1], None


def ivf_candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> tuple[Tensor, None]:
    """By FAISS's ``IndexIVFFlat``: the 16 nearest of about ``sqrt(n)`` lists.

    Args, Returns: as :func:`pyg_hash.knn._torch.candidates`, but not the best for certain.
    """
    faiss = _faiss.load()
    n, d = database.shape
    lists = max(1, round(math.sqrt(n)))
    metric = faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT
    quantizer = faiss.IndexFlatL2(d) if l2 else faiss.IndexFlatIP(d)
    index = faiss.IndexIVFFlat(quantizer, d, lists, metric)
    index.cp.min_points_per_centroid = 1  # no warning: lists are many on purpose
    index.nprobe = _IVF_PROBE
    index.train(database.cpu().numpy())
    return _from_index(index, query, database, k, l2), None


def hnsw_candidates(query: Tensor, database: Tensor, k: int, l2: bool) -> tuple[Tensor, None]:
    """By FAISS's ``IndexHNSWFlat``, a graph of 32 links a row.

    Args, Returns: as :func:`pyg_hash.knn._torch.candidates`, but not the best for certain.
    """
    faiss = _faiss.load()
    metric = faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexHNSWFlat(database.size(1), _HNSW_LINKS, metric)
    index.hnsw.efSearch = max(_HNSW_EFFORT, 2 * k)
    return _from_index(index, query, database, k, l2), None


def _from_index(index: Any, query: Tensor, database: Tensor, k: int, l2: bool) -> Tensor:
    index.add(database.cpu().numpy())
    _, ids = index.search(query.cpu().numpy(), k)
    found: Tensor = torch.from_numpy(ids).to(query.device)
    short = (found < 0).any(1).nonzero().squeeze(1)
    if short.numel():  # fewer than k rows were looked at: look at all
        scores = DenseScores(query[short], database, _torch.bias(database, l2))
        found[short] = top_scores(scores, k)[1]
    return found


APPROXIMATE: dict[str, Find] = {
    "pca": pca_candidates,
    "ivf": ivf_candidates,
    "hnsw": hnsw_candidates,
}
