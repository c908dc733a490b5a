"""The result: a sparse graph with its clusters and how it was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class AffinityGraph:
    r"""A unified affinity graph Z in CSR form, with its clusters. All tensors are on the CPU.

    Attributes:
        indptr: int64 ``[m + 1]``.
        indices: column of each entry, ascending in each row, int64 ``[E]``.
        values: float64 ``[E]``, positive; each row sums to 1, there is no diagonal.
        cluster: connected component of each row, int64 ``[m]``, numbered by first row.
        num_components: number of clusters.
        converged: whether there are exactly as many as asked for.
        iterations: number of iterations.
        lam: :math:`\lambda` of the last iteration.
        weights: weight of each view.
        history: one dict an iteration: ``iteration``, ``lam``, ``num_components``,
            ``largest_component``, ``num_edges``, ``weights``; and ``eigenvalue_sum`` (of the c
            smallest) and ``residual`` of the eigenvectors, None where none were needed.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor
    cluster: Tensor
    num_components: int
    converged: bool
    iterations: int
    lam: float
    weights: list[float]
    history: list[dict[str, Any]]

    @property
    def edge_index(self) -> Tensor:
        """Rows i and columns j of the entries, sorted by i, then j: int64 ``[2, E]``."""
        count = self.indptr.numel() - 1
        row = torch.arange(count).repeat_interleave(self.indptr[1:] - self.indptr[:-1])
        return torch.stack((row, self.indices))

    def to_dense(self) -> Tensor:
        """Z, float64 ``[m, m]``; for small graphs."""
        count = self.indptr.numel() - 1
        dense = torch.zeros(count, count, dtype=torch.float64)
        dense[tuple(self.edge_index)] = self.values
        return dense
