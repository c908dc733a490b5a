"""Mini-batches of a graph for the models' own losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor
from torch.utils.data import Sampler
from torch_geometric.data import HeteroData
from torch_geometric.loader import NodeLoader
from torch_geometric.sampler import HeteroSamplerOutput

from pyg_hash.sampling.sampler import InstanceSampler
from pyg_hash.typing import IMAGE, INTER, INTRA, JOINT, JOINT_NEAREST, MODALITIES, NEAREST, Modality
from pyg_hash.utils.checks import check_positive_int

_LOSS_MASKS = ("labeled_mask", "anchor_mask", "train_mask")


class InstanceLoader(NodeLoader):
    r"""Mini-batches for :class:`MCGCN` and :class:`SGCH`, by neighbour sampling.

    A batch is a :class:`~torch_geometric.data.HeteroData` like the whole graph, for
    ``fit(..., loader=...)`` or any loop around ``model.objectives(batch, epoch)``. Its first
    ``batch_size`` rows are the seeds; the others only send. The masks that losses read select
    seeds alone. With all neighbours, all members and all nodes as one batch the loss is that of
    the whole graph.

    **What is unbiased.** Every propagation is (see :class:`InstanceSampler`): its expectation is
    the product with the whole graph's operator. A loss is not, for two reasons that shrink with
    more neighbours and larger batches: tanh of an unbiased estimate is none, and terms over pairs
    of instances (similarity, balance) see each seed with itself more often than the whole graph
    does. With all neighbours and members the gradients of all other terms are unbiased.

    Args:
        data: what training sees: ``model.training_view(data)``.
        num_neighbors: see :class:`InstanceSampler`, as ``num_members``.
        num_members: labelled instances that stand for all in a batch.
        seeds: nodes to train on, bool ``[N]`` or int64 ``[n]``; None takes all.
        cell_size: seeds of a batch come in cells of so many neighbours (:class:`CellShuffle`);
            1 draws each by itself. Cells of 100 need several times fewer nodes a seed, so that an
            epoch is as much cheaper; but a cell is no sample of all nodes: keep several in a batch.
        shuffle: draw seeds, or cells, in random order.
        **kwargs: of :class:`~torch_geometric.loader.NodeLoader` and of
            :class:`torch.utils.data.DataLoader`: ``batch_size``, ``num_workers``, ``drop_last``,
            ``generator`` (of the order alone; neighbours are drawn by torch's global one), ...

    Raises:
        TypeError, ValueError: see :class:`InstanceSampler`; no seeds; cells without ``shuffle``.
    """

    def __init__(
        self,
        data: HeteroData,
        num_neighbors: Sequence[int] = (30, 10),
        num_members: int = 256,
        *,
        seeds: Tensor | None = None,
        cell_size: int = 1,
        shuffle: bool = False,
        **kwargs: Any,
    ) -> None:
        check_positive_int(cell_size, "cell_size")
        if cell_size > 1 and not shuffle:
            raise ValueError("cell_size: cells are drawn in random order; add shuffle=True")
        sampler = InstanceSampler(data, num_neighbors, num_members)
        if seeds is None:
            seeds = torch.arange(data[IMAGE].x.size(0))
        elif seeds.dtype == torch.bool:
            seeds = seeds.nonzero().flatten()
        if seeds.numel() == 0:
            raise ValueError("seeds: none, so that there is nothing to train on")
        if cell_size > 1:
            rank = close_order(sampler.graph.start, sampler.graph.source).argsort()
            order = rank[seeds.cpu()].argsort()
            kwargs["sampler"] = CellShuffle(order, cell_size, kwargs.get("generator"))
        else:
            kwargs["shuffle"] = shuffle
        super().__init__(_nodes_only(data, sampler), sampler, (IMAGE, seeds), **kwargs)

    def filter_fn(self, out: HeteroSamplerOutput) -> HeteroData:
        """The batch: features and labels of the sampled nodes, and the edges between them."""
        batch = super().filter_fn(out)
        num_seeds = batch[IMAGE].batch_size
        for m in MODALITIES:
            for name in _LOSS_MASKS:
                if name in batch[m]:
                    batch[m][name][num_seeds:] = False
        for kind, weight in out.metadata[2].items():
            batch[kind].edge_index = torch.stack((out.row[kind], out.col[kind]))
            batch[kind].edge_weight = weight
        return batch


class CellShuffle(Sampler[int]):
    r"""Random order of cells: runs of nodes that are close in the graph, cut anew each epoch.

    Neighbours among the seeds need the same neighbourhood once. As in Chiang et al., "Cluster-GCN:
    An efficient algorithm for training deep and large graph convolutional networks", KDD 2019, Sec.
    3.2, but no edge is dropped, and clusters are runs of ``order`` (:func:`close_order`).
    """

    def __init__(
        self, order: Tensor, cell_size: int, generator: torch.Generator | None = None
    ) -> None:
        self.order = order
        self.cell_size = cell_size
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        shift = int(torch.randint(self.order.numel(), (), generator=self.generator))
        cells = torch.split(self.order.roll(shift), self.cell_size)
        for cell in torch.randperm(len(cells), generator=self.generator).tolist():
            yield from cells[cell].tolist()

    def __len__(self) -> int:
        return self.order.numel()


def close_order(start: Tensor, source: Tensor) -> Tensor:
    """All nodes in reverse Cuthill-McKee order, neighbours close: int64 ``[N]``, on the CPU."""
    ones = np.ones(source.numel(), dtype=np.int8)
    shape = (start.numel() - 1, start.numel() - 1)
    matrix = csr_array((ones, source.cpu().numpy(), start.cpu().numpy()), shape=shape)
    # edges between anchors go both ways; those of nodes that only receive change little
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    return torch.from_numpy(order.astype(np.int64))


def _nodes_only(data: HeteroData, sampler: InstanceSampler) -> HeteroData:
    """Nodes with what a batch needs of them; the sampler has the edges."""
    nodes = HeteroData()
    nodes.graph = dict(data.graph)
    if "num_classes" in data:
        nodes.num_classes = data.num_classes
    for m in MODALITIES:
        num_nodes = data[m].x.size(0)
        for name, value in data[m].items():  # names and raw texts are of no use to a loss
            if isinstance(value, Tensor) and value.dim() > 0 and value.size(0) == num_nodes:
                nodes[m][name] = value
        if "self_loop" not in nodes[m]:
            nodes[m].self_loop = torch.ones(num_nodes, device=data[m].x.device)
        nodes[m].update(_true_degrees(sampler, m, nodes[m].self_loop))
    return nodes


def _true_degrees(sampler: InstanceSampler, m: Modality, loop: Tensor) -> dict[str, Tensor]:
    """Degrees in the whole graph by name, float ``[N]``; ``view``: of nodes as new items."""
    hub = 0.0 if sampler.hubs is None else sampler.hubs.degree
    edges = sampler.graph.degree
    found = {"degree": loop + edges[INTRA[m]] + hub}
    if NEAREST[m] in edges:
        found["view_degree"] = 1 + edges[NEAREST[m]]
    if INTER[m] in edges:
        own = edges.get(JOINT[m], edges[INTRA[m]])
        found["joint_degree"] = loop + own + edges[INTER[m]] + 2 * hub
        if NEAREST[m] in edges:
            near = edges.get(JOINT_NEAREST[m], edges[NEAREST[m]])
            found["joint_view_degree"] = 1 + 2 * near
    return found
