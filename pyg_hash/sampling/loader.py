"""Mini-batches of a graph for the models' own losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.loader import NodeLoader
from torch_geometric.sampler import HeteroSamplerOutput

from pyg_hash.sampling.cells import CellShuffle
from pyg_hash.sampling.instance_graph import self_loops, true_degrees
from pyg_hash.sampling.sampler import InstanceSampler
from pyg_hash.typing import IMAGE, MODALITIES
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
        num_neighbors: see :class:`InstanceSampler`.
        num_members: see :class:`InstanceSampler`.
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
            rank = sampler.graph.close_order().argsort()
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


def _nodes_only(data: HeteroData, sampler: InstanceSampler) -> HeteroData:
    """Nodes with what a batch needs of them; the sampler has the edges."""
    nodes = HeteroData()
    nodes.graph = dict(data.graph)
    if "num_classes" in data:
        nodes.num_classes = data.num_classes
    hubs = sampler.hubs
    degrees = true_degrees(data, sampler.graph, 0.0 if hubs is None else hubs.degree)
    for m in MODALITIES:
        num_nodes = data[m].x.size(0)
        for name, value in data[m].items():  # names and raw texts are of no use to a loss
            if isinstance(value, Tensor) and value.dim() > 0 and value.size(0) == num_nodes:
                nodes[m][name] = value
        nodes[m].self_loop = self_loops(data, m)
        nodes[m].update(degrees[m])
    return nodes
