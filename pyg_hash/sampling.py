"""Mini-batches of a graph for the models' own losses; the sampling keeps propagation unbiased."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any, NoReturn

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor
from torch.utils.data import Sampler
from torch_geometric.data import HeteroData
from torch_geometric.index import index2ptr, ptr2index
from torch_geometric.loader import NodeLoader
from torch_geometric.sampler import BaseSampler, HeteroSamplerOutput, NodeSamplerInput
from torch_geometric.utils import cumsum

from pyg_hash.graph import has_hubs
from pyg_hash.typing import (
    CLASS,
    IMAGE,
    IN_CLASS,
    INTER,
    INTRA,
    JOINT,
    JOINT_NEAREST,
    MODALITIES,
    NEAREST,
    OVERLAP,
    SAMPLED,
    TEXT,
    EdgeType,
    kind_of,
)
from pyg_hash.utils.checks import check_collection, check_flags, check_positive_int

__all__ = ["InstanceLoader", "InstanceSampler"]

_LAYERS = 2  # of every GCN of this library
_VIEWS = (*NEAREST.values(), *JOINT_NEAREST.values())  # what nodes receive as new items
_KINDS = (*INTRA.values(), *INTER.values(), *JOINT.values(), *_VIEWS)
_LOSS_MASKS = ("labeled_mask", "anchor_mask", "train_mask")


class InstanceLoader(NodeLoader):
    r"""Mini-batches for :class:`MCGCN` and :class:`SGCH`, by neighbour sampling.

    A batch is a :class:`~torch_geometric.data.HeteroData` like the whole graph, for
    ``fit(..., loader=...)`` or any loop around ``model.objectives(batch, epoch)``. Its first
    ``batch_size`` rows are the seeds, which the masks that losses read select alone; the others
    only send. What is unbiased, and what to choose: :doc:`/large_graphs`.

    Args:
        data: what training sees: ``model.training_view(data)``.
        num_neighbors, num_members: see :class:`InstanceSampler`.
        seeds: nodes of ``data`` to train on, bool ``[N]`` or int64 ``[n]``; None takes all.
        cell_size: seeds of a batch come in cells of so many neighbours (``CellShuffle``);
            1 draws each by itself. A cell is no sample of all nodes: keep several in a batch.
        shuffle: draw seeds, or cells, in random order.
        **kwargs: of :class:`~torch_geometric.loader.NodeLoader` and of
            :class:`torch.utils.data.DataLoader`: ``batch_size``, ``num_workers``, ``drop_last``,
            ``generator`` (of the order alone; neighbours are drawn by torch's global one), ...

    Raises:
        TypeError, ValueError: see :class:`InstanceSampler`; unfit seeds; cells without ``shuffle``.
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
        check_flags(shuffle=shuffle)
        if cell_size > 1 and not shuffle:
            raise ValueError("cell_size: cells are drawn in random order; add shuffle=True")
        sampler = InstanceSampler(data, num_neighbors, num_members)
        num_nodes = data[IMAGE].x.size(0)
        where = f"but data, the training view, has {num_nodes} nodes"
        if seeds is None:
            seeds = torch.arange(num_nodes, device="cpu")
        if not isinstance(seeds, Tensor) or seeds.dim() != 1 or seeds.is_floating_point():
            raise TypeError(f"seeds: expected bool [N] or int64 [n], got {kind_of(seeds)}")
        if seeds.dtype == torch.bool:
            if len(seeds) != num_nodes:
                raise ValueError(f"seeds: a mask of {len(seeds)}, {where}")
            seeds = seeds.nonzero().flatten()
        if seeds.numel() == 0:
            raise ValueError("seeds: none, so that there is nothing to train on")
        low, high = int(seeds.min()), int(seeds.max())
        if low < 0 or high >= num_nodes:
            raise ValueError(f"seeds: rows {low} to {high}, {where}")
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

    As in Chiang et al., "Cluster-GCN: An efficient algorithm for training deep and large graph
    convolutional networks", KDD 2019, Sec. 3.2, but no edge is dropped, and clusters are runs of
    ``order`` (:func:`close_order`).
    """

    def __init__(
        self, order: Tensor, cell_size: int, generator: torch.Generator | None = None
    ) -> None:
        self.order, self.cell_size, self.generator = order, cell_size, generator

    def __iter__(self) -> Iterator[int]:
        shift = int(torch.randint(self.order.numel(), (), generator=self.generator))
        cells = torch.split(self.order.roll(shift), self.cell_size)
        for cell in torch.randperm(len(cells), generator=self.generator, device="cpu").tolist():
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
    """Nodes with what a batch needs of them, degrees included; the sampler has the edges."""
    nodes = HeteroData()
    nodes.graph = {**data.graph, SAMPLED: True}
    if "num_classes" in data:
        nodes.num_classes = data.num_classes
    edges, hub = sampler.graph.degree, 0.0 if sampler.hubs is None else sampler.hubs.degree
    for m in MODALITIES:
        store, num_nodes = nodes[m], data[m].x.size(0)
        for name, value in data[m].items():  # names and raw texts are of no use to a loss
            if isinstance(value, Tensor) and value.dim() > 0 and value.size(0) == num_nodes:
                store[name] = value
        if "self_loop" not in store:
            store.self_loop = torch.ones(num_nodes, device=data[m].x.device)
        # degrees in the whole graph; those of a view: as new items
        intra, near = edges[INTRA[m]], edges[NEAREST[m]]
        store.degree = store.self_loop + intra + hub
        store.view_degree = 1 + near
        if INTER[m] in edges:
            own = store.self_loop + edges.get(JOINT[m], intra)
            store.joint_degree = own + edges[INTER[m]] + 2 * hub
            store.joint_view_degree = 1 + 2 * edges.get(JOINT_NEAREST[m], near)
    return nodes


class InstanceSampler(BaseSampler):
    r"""Samples the neighbourhoods of image-text pairs, class hubs included.

    Layer by layer, each node receives from at most ``num_neighbors`` others. An edge that is
    taken with probability :math:`p` weighs :math:`1/p` of what it is, and degrees stay those of
    the whole graph, so that each row of a batch's operator has the row of
    :math:`\hat A = D^{-1/2}(A + P M P^\top + S)D^{-1/2}` as its expectation. The same members
    stand for a class in the whole batch. The weights and degrees reach a batch through
    :class:`InstanceLoader`; another ``NodeLoader`` takes the nodes alone.

    Neighbours are sampled as :class:`~torch_geometric.loader.NeighborLoader` does it (Hamilton,
    Ying, Leskovec: "Inductive representation learning on large graphs", NIPS 2017, Algorithm 2),
    but in torch operations alone, without replacement, and one draw serves all edge types.

    Args:
        data: a graph, all of whose nodes may be sampled.
        num_neighbors: neighbours of an instance in each of the two layers, the outer (that of the
            seeds) first; -1 takes all.
        num_members: labelled instances that stand for all in a batch; -1 takes all, which makes
            as many edges as there are pairs of equal label.

    ``TypeError`` or ``ValueError``: no graph, or numbers that are not -1 or positive integers.
    """

    def __init__(
        self, data: HeteroData, num_neighbors: Sequence[int] = (30, 10), num_members: int = 256
    ) -> None:
        check_collection(num_neighbors, "num_neighbors")
        if len(num_neighbors) != _LAYERS:
            raise ValueError(
                f"num_neighbors: {list(num_neighbors)} has {len(num_neighbors)} entries; the "
                f"models have {_LAYERS} layers, give one number for each"
            )
        sizes = {f"num_neighbors[{i}]": size for i, size in enumerate(num_neighbors)}
        for name, size in (sizes | {"num_members": num_members}).items():
            if not isinstance(size, Integral) or size != -1:
                check_positive_int(size, name)
        if not isinstance(data, HeteroData) or "intra_anchors" not in data.get("graph", {}):
            raise ValueError("data: has no graph to sample; apply IntraKNN or SGCHGraph first")
        self.num_neighbors = tuple(num_neighbors)
        self.graph = InstanceGraph(data)
        joins = has_hubs(data) and data[IN_CLASS[IMAGE]].edge_index.numel() > 0
        self.hubs = HubSampler(data, num_members, self.graph.dtype) if joins else None

    def sample_from_nodes(self, index: NodeSamplerInput, **_: Any) -> HeteroSamplerOutput:
        """The instances, seeds first, and third in ``metadata`` the edges' weights by edge type."""
        graph = self.graph
        position = torch.full_like(graph.start[1:], -1)  # of each node in the batch
        seeds = index.node.to(position.device)
        members = seeds[:0] if self.hubs is None else self.hubs.members()
        # of each type the sources and targets, as positions among the nodes, and the weights
        parts: dict[EdgeType, list[tuple[Tensor, Tensor, Tensor]]] = {k: [] for k in graph.kinds}
        position[seeds] = torch.arange(seeds.numel(), device=seeds.device)
        nodes, frontier, start = seeds, seeds, 0
        for size in self.num_neighbors:
            source, target, weights = graph.sample(frontier, size)
            reached = torch.cat((source, members))  # the members receive like neighbours
            new = torch.unique(reached[position[reached] < 0])
            position[new] = torch.arange(new.numel(), device=new.device) + nodes.numel()
            nodes = torch.cat((nodes, new))
            for kind, weight in weights.items():
                keep = weight != 0
                parts[kind].append((position[source[keep]], target[keep] + start, weight[keep]))
            if self.hubs is not None:
                source, target, weight = self.hubs.edges(members, frontier)
                for kind in graph.kinds:
                    if kind not in _VIEWS:
                        parts[kind].append((position[source], target + start, weight))
            for kind, pair_weight in graph.pair_weight.items():
                weight = pair_weight[frontier]
                own = weight.nonzero().flatten()
                parts[kind].append((own + start, own + start, weight[own]))
            start, frontier = nodes.numel() - new.numel(), new
        rows, cols, weights = (
            {kind: torch.cat([part[i] for part in parts[kind]]) for kind in parts} for i in range(3)
        )
        return HeteroSamplerOutput(
            node={IMAGE: nodes, TEXT: nodes},
            row=rows,
            col=cols,
            edge=dict.fromkeys(rows),
            metadata=(index.input_id, index.time, weights),
        )

    def sample_from_edges(self, index: Any, neg_sampling: Any = None) -> NoReturn:
        """Raises ``NotImplementedError``: the models learn from nodes."""
        raise NotImplementedError("InstanceSampler samples from nodes; use sample_from_nodes")


class InstanceGraph:
    """Who receives from whom, by instances: row *i* of images and texts is one instance.

    Two instances are joined if any edge type joins their images or texts. Edges of an instance's
    image with its own text are apart: they are never left out.
    """

    def __init__(self, data: HeteroData) -> None:
        num_nodes = data[IMAGE].x.size(0)
        self.kinds = [kind for kind in _KINDS if kind in data.edge_types]  # that a batch has
        # by edge type, float [N]: of an instance's own edge, and the sum that each node receives
        self.pair_weight: dict[EdgeType, Tensor] = {}
        self.degree: dict[EdgeType, Tensor] = {}
        key = torch.empty(0, dtype=torch.long, device=data[IMAGE].x.device)
        for kind in self.kinds:  # a type at a time: all keys together would be most memory
            source, target = data[kind].edge_index
            weight = data[kind].edge_weight
            self.degree[kind] = weight.new_zeros(num_nodes).index_add_(0, target, weight)
            pair = source == target
            if kind in INTER.values() or bool(pair.any()):  # self-loops of one's own
                own = weight.new_zeros(num_nodes).index_add_(0, target[pair], weight[pair])
                self.pair_weight[kind] = own
            key = torch.unique(torch.cat((key, (target * num_nodes + source)[~pair])))
        self.dtype = data[INTRA[IMAGE]].edge_weight.dtype
        shape = (key.numel(), len(self.kinds))
        self._weight = torch.zeros(shape, dtype=self.dtype, device=key.device)
        for column, kind in enumerate(self.kinds):
            source, target = data[kind].edge_index
            keep = source != target
            place = torch.searchsorted(key, (target * num_nodes + source)[keep])
            weight = data[kind].edge_weight[keep]
            self._weight[:, column].index_add_(0, place, weight)
        # where the neighbours of each start, int64 [N + 1]; and they, [E], in half the memory
        self.start: Tensor = index2ptr(key // num_nodes, num_nodes)
        self.source = (key % num_nodes).int()

    def sample(self, target: Tensor, size: int) -> tuple[Tensor, Tensor, dict[EdgeType, Tensor]]:
        """Edges from ``size`` neighbours (-1: all), weighted so that sums over them are unbiased.

        These are source, position in ``target``, and by edge type the weight (0: not of that type).
        """
        position, place, ratio = sample_rows(self.start, target, size)
        weight = self._weight[place] * ratio.to(self.dtype).unsqueeze(1)
        by_kind = dict(zip(self.kinds, weight.unbind(1), strict=True))
        return self.source[place].long(), position, by_kind


class HubSampler:
    r"""The label cliques :math:`P M P^T` of :class:`LabelHub`, estimated from few members.

    Member *j* is drawn with probability :math:`\pi_j = \min(1, s / n_u)`, where :math:`n_u` is the
    size of its hub and *s* the same for all hubs, so that rare classes are complete; its edges
    weigh :math:`1 / \pi_j`.
    """

    def __init__(self, data: HeteroData, num_members: int, dtype: torch.dtype) -> None:
        node, hub = data[IN_CLASS[IMAGE]].edge_index
        if not torch.equal(data[IN_CLASS[IMAGE]].edge_index, data[IN_CLASS[TEXT]].edge_index):
            raise ValueError(
                "data: images and texts belong to different class hubs, but instances are sampled "
                "as pairs; make the hubs by LabelHub"
            )
        num_nodes, num_hubs = data[IMAGE].x.size(0), int(data[CLASS].num_nodes)
        order = node.argsort(stable=True)
        self._hubs = hub[order]
        self._start: Tensor = index2ptr(node[order], num_nodes)
        every = torch.arange(num_hubs, device=hub.device)
        pairs = data[OVERLAP].edge_index if OVERLAP in data.edge_types else every.expand(2, -1)
        pairs = pairs[:, pairs[0].argsort(stable=True)]
        self._joined, self._joined_start = pairs[1], index2ptr(pairs[0].contiguous(), num_hubs)
        size = torch.bincount(hub, minlength=num_hubs)
        joined = torch.zeros_like(size).index_add_(0, pairs[0], size[pairs[1]])
        joined[pairs[0][pairs[0] == pairs[1]]] -= 1  # a node is no neighbour of its own
        # what the cliques of one modality add to each node's degree, itself excluded
        self.degree = torch.zeros(num_nodes, dtype=dtype, device=hub.device)
        self.degree.index_add_(0, node, joined[hub].to(dtype))

        members = (self._start.diff() > 0).nonzero().flatten()
        first = self._hubs[self._start[members]]
        order = first.argsort(stable=True)  # so that each hub is well spread
        self._members: Tensor = members[order]
        hub = first[order]
        probability = torch.ones_like(hub, dtype=torch.float64)  # of each to be drawn
        if 0 <= num_members < len(hub):
            size = torch.bincount(hub).double()
            ordered = size[size > 0].sort().values
            smaller = ordered.cumsum(0) - ordered
            larger = torch.arange(ordered.numel(), 0, -1, device=hub.device)
            # the largest number a hub that the budget allows
            limit = ((num_members - smaller) / larger).max()
            probability = (limit / size).clamp(max=1.0)[hub]
        self._cumulative = probability.cumsum(0)
        self._weight = torch.ones(num_nodes, dtype=dtype, device=hub.device)
        self._weight[self._members] = probability.reciprocal().to(dtype)

    def members(self) -> Tensor:
        """The members of a batch, drawn anew: int64 ``[m]``."""
        return self._members[sample_weighted(self._cumulative)]

    def edges(self, members: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Source, position in ``target``, weight of edges to others, one a shared hub."""
        row, place = take_rows(self._start, members)
        hub = self._hubs[place]
        order = hub.argsort(stable=True)
        senders = members[row[order]]
        start = index2ptr(hub[order], self._joined_start.numel() - 1)

        of_target, place = take_rows(self._start, target)
        of_hub, place = take_rows(self._joined_start, self._hubs[place])
        of_sender, place = take_rows(start, self._joined[place])
        source = senders[place]
        position = of_target[of_hub[of_sender]]
        keep = source != target[position]
        source, position = source[keep], position[keep]
        return source, position, self._weight[source]


def take_rows(start: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """All entries of some rows, given where each row starts: position in ``rows``, and its own."""
    row, rank = _ranks(start[rows + 1] - start[rows])
    return row, start[rows][row] + rank


def sample_rows(start: Tensor, rows: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""At most ``size`` entries of each row (-1: all); sums times the ratio, third, are unbiased.

    Systematic sampling: of :math:`d` entries those at :math:`\lfloor (u + t) d / s \rfloor`,
    :math:`t = 0 \dots s - 1`, with one uniform :math:`u` a row; the ratio is :math:`d / s`.
    """
    first, length = start[rows], start[rows + 1] - start[rows]
    count = length if size < 0 else length.clamp(max=size)
    ratio = length.double() / count.clamp(min=1)
    row, rank = _ranks(count)
    # 24 random bits: u + t and the product stay clear of the next integer in float64
    shift = torch.rand(rows.numel(), device=rows.device).double()
    offset = ((shift[row] + rank) * ratio[row]).long()
    return row, first[row] + offset, ratio[row]


def sample_weighted(cumulative: Tensor) -> Tensor:
    """Ascending positions, by Madow's systematic sampling from the probabilities' running sum."""
    total = float(cumulative[-1]) if cumulative.numel() else 0.0
    shift = float(torch.rand((), dtype=torch.float32, device="cpu"))
    points = torch.arange(shift, max(total, shift), dtype=torch.float64, device=cumulative.device)
    return torch.searchsorted(cumulative, points, right=True).clamp(max=cumulative.numel() - 1)


def _ranks(count: Tensor) -> tuple[Tensor, Tensor]:
    """The row of each entry, and its rank in there, of rows with so many entries."""
    start = cumsum(count)
    row = ptr2index(start)
    return row, torch.arange(row.numel(), device=count.device) - start[row]
