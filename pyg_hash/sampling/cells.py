"""Seeds in groups of neighbours, which share most of what they need."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor
from torch.utils.data import Sampler


class CellShuffle(Sampler[int]):
    r"""Random order of cells: runs of nodes that are close in the graph.

    The seeds of a batch that are neighbours need the same neighbourhood once. The idea is that of
    Chiang et al., "Cluster-GCN: An efficient algorithm for training deep and large graph
    convolutional networks", KDD 2019, Sec. 3.2, whose batches are the union of several random
    clusters; but no edge is dropped, and the clusters are the runs of a bandwidth-reducing order
    (reverse Cuthill-McKee), which takes one pass over the edges. Each epoch cuts the order at
    another place.

    Args:
        order: seeds in an order with neighbours next to each other, int64 ``[n]``.
        cell_size: seeds of a cell.
        generator: decides the order; None is torch's global one.
    """

    def __init__(
        self, order: Tensor, cell_size: int, generator: torch.Generator | None = None
    ) -> None:
        self.order = order
        self.cell_size = cell_size
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        """The seeds of an epoch."""
        shift = int(torch.randint(self.order.numel(), (), generator=self.generator))
        cells = torch.split(self.order.roll(shift), self.cell_size)
        for cell in torch.randperm(len(cells), generator=self.generator).tolist():
            yield from cells[cell].tolist()

    def __len__(self) -> int:
        return self.order.numel()


def close_order(start: Tensor, source: Tensor) -> Tensor:
    """An order of all nodes in which neighbours are close.

    Args:
        start: where the neighbours of each node start, int64 ``[N + 1]``.
        source: neighbours, integer ``[E]``.

    Returns:
        The nodes, int64 ``[N]``, on the CPU.
    """
    indices = source.cpu().numpy().astype(np.int32, copy=False)
    ones = np.ones(indices.size, dtype=np.int8)
    num_nodes = start.numel() - 1
    matrix = csr_array((ones, indices, start.cpu().numpy()), shape=(num_nodes, num_nodes))
    # edges between anchors go both ways; those of nodes that only receive change little
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    return torch.from_numpy(order.astype(np.int64))
