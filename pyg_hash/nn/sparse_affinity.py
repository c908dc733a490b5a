"""A sparse affinity graph, cut into mini-batches of edges and small dense blocks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.csr import csr_matrix


class SparseAffinity:
    r"""Edges in CSR form: what SGEH's mini-batches are cut from (Sec. 2.3, before Eq. 8).

    Zhao et al., "From Sparse to Dense: Semantic Graph Evolutionary Hashing for Unsupervised
    Cross-Modal Retrieval" (SGEH), ACCV 2022, draws edges, not nodes: with :math:`t` edges a
    batch has :math:`2 \le n \le 2t` nodes, their end points.

    Args:
        edge_index: int64 ``[2, E]``, row i and column j of each entry, none of them twice.
        value: float ``[E]``.
        num_nodes: number of nodes N.

    Attributes:
        indptr: int64 ``[N + 1]``.
        column: int64 ``[E]``.
        value: float ``[E]``.
        pairs: int64 ``[M, 2]``, i < j, each pair that has an entry in either direction, once; on
            the CPU, where batches are made of them: a GPU then never has to be waited for.

    Raises:
        ValueError: shapes that do not match, nodes that do not exist, or no pair of two nodes.
    """

    def __init__(self, edge_index: Tensor, value: Tensor, num_nodes: int) -> None:
        check_positive_int(num_nodes, "num_nodes")
        if edge_index.shape != (2, value.numel()) or value.dim() != 1:
            raise ValueError(
                f"edge_index and value: expected [2, E] and [E], got {list(edge_index.shape)} and "
                f"{list(value.shape)}"
            )
        if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < (
            num_nodes
        ):
            raise ValueError(f"edge_index: names nodes outside 0..{num_nodes - 1}")
        order = (edge_index[0] * num_nodes + edge_index[1]).argsort()
        row, self.column = edge_index[:, order]
        self.value = value[order]
        count = torch.bincount(row, minlength=num_nodes)
        self.indptr = torch.cat([count.new_zeros(1), count.cumsum(0)])
        low, high = edge_index.amin(dim=0), edge_index.amax(dim=0)
        key = torch.unique((low * num_nodes + high)[low < high])
        self.pairs = torch.stack([key // num_nodes, key % num_nodes], dim=1).cpu()
        if not len(self.pairs):
            raise ValueError("edge_index: no edge between two nodes; there is nothing to train on")
        self.num_nodes = num_nodes

    def batches(self, batch_size: int, *, shuffle: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        """Visit every pair once, ``batch_size`` pairs at a time.

        Args:
            batch_size: pairs a batch; the last one may have fewer.
            shuffle: in an order drawn from torch's global generator; else in the stored order.

        Yields:
            nodes, int64 ``[n]``, ascending, and the batch's pairs as positions in it, int64
            ``[t, 2]``.
        """
        for pairs in self.pair_batches(batch_size, shuffle=shuffle):
            yield self.local(pairs)

    def pair_batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, ...]:
        """The pairs of each batch as node numbers, int64 ``[t, 2]``; see :meth:`batches`.

        Args:
            batch_size: pairs a batch.
            shuffle: in random order.
            generator: draws that order; None is torch's global one.
        """
        check_positive_int(batch_size, "batch_size")
        count = len(self.pairs)
        order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
        return torch.split(self.pairs[order], batch_size)

    def local(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The nodes of some pairs, ascending, and the pairs as positions among them."""
        nodes, position = torch.unique(pairs, return_inverse=True)
        device = self.value.device
        return nodes.to(device, non_blocking=True), position.to(device, non_blocking=True)

    def block(self, nodes: Tensor) -> Tensor:
        """The entries between some nodes: float ``[n, n]``, zero where there is none.

        Args:
            nodes: int64 ``[n]``, ascending.
        """
        n = nodes.numel()
        start = self.indptr[nodes]
        count = self.indptr[nodes + 1] - start
        total = int(count.sum())
        row = torch.repeat_interleave(count, output_size=total)
        first = start - (count.cumsum(0) - count)  # of each row, less the entries before it
        column = self.column[torch.arange(total, device=row.device) + first[row]]
        position = torch.searchsorted(nodes, column).clamp_(max=n - 1)
        inside = (nodes[position] == column).nonzero().flatten()
        dense = self.value.new_zeros(n * n)
        entry = (torch.arange(total, device=row.device) + first[row])[inside]
        dense[row[inside] * n + position[inside]] = self.value[entry]
        return dense.view(n, n)

    def smooth(self, x: Tensor, steps: int) -> Tensor:
        r"""Move each row half-way to the weighted mean of its neighbours' rows, ``steps`` times.

        A lazy random walk, :math:`(\tfrac12 I + \tfrac12 D^{-1} A)^s x`; a node without edges
        keeps its row.

        Args:
            x: float ``[N, d]``, in the type of the values.
            steps: :math:`s`, at least 0.
        """
        matrix = csr_matrix(self.indptr, self.column, self.value, self.num_nodes)
        degree = matrix @ x.new_ones(self.num_nodes, 1)
        lonely = degree <= 0
        scale = torch.where(lonely, 0.0, 0.5 / degree.masked_fill(lonely, 1.0))
        keep = torch.where(lonely, 1.0, 0.5).to(x)
        for _ in range(steps):
            x = keep * x + scale * (matrix @ x)
        return x
