"""Label cliques in a mini-batch: a few labelled instances stand for all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.sampling._rows import row_starts, sample_weighted, take_rows
from pyg_hash.typing import CLASS, IMAGE, IN_CLASS, OVERLAP, TEXT


class HubSampler:
    r"""The label cliques :math:`P M P^T` of :class:`LabelHub`, estimated from few members.

    In a batch the same members stand for all members, for every receiving node. Member *j* is
    drawn with probability :math:`\pi_j = \min(1, s / n_u)`, where :math:`n_u` is the size of its
    hub and *s* the same for all hubs, so that rare classes are complete; its edges weigh
    :math:`1 / \pi_j`. So the expected edge is the true one.

    Args:
        data: a graph with hubs.
        num_members: members in a batch; -1 takes all.
        dtype: of the weights.

    Attributes:
        degree: what the cliques of one modality add to each node's degree, itself excluded, float
            ``[N]``.

    Raises:
        ValueError: images and texts belong to different hubs.
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
        self._start = row_starts(node[order], num_nodes)
        every = torch.arange(num_hubs, device=hub.device)
        pairs = data[OVERLAP].edge_index if OVERLAP in data.edge_types else every.expand(2, -1)
        pairs = pairs[:, pairs[0].argsort(stable=True)]
        self._joined, self._joined_start = pairs[1], row_starts(pairs[0], num_hubs)
        size = torch.bincount(hub, minlength=num_hubs)

        joined = torch.zeros_like(size).index_add_(0, pairs[0], size[pairs[1]])
        self.degree = torch.zeros(num_nodes, dtype=dtype, device=hub.device)
        self.degree.index_add_(0, node, joined[hub].to(dtype))
        meets_itself = torch.zeros(num_hubs, dtype=dtype, device=hub.device)
        meets_itself[pairs[0][pairs[0] == pairs[1]]] = 1.0
        self.degree.index_add_(0, node, -meets_itself[hub])

        first = self._hubs[self._start[:-1].clamp(max=max(self._hubs.numel() - 1, 0))]
        members = (self._start.diff() > 0).nonzero().flatten()
        members = members[first[members].argsort(stable=True)]  # so that each hub is well spread
        self._members = members
        probability = self._probability(first[members], num_hubs, num_members)
        self._cumulative = probability.cumsum(0)
        self._weight = torch.ones(num_nodes, dtype=dtype, device=hub.device)
        self._weight[members] = probability.reciprocal().to(dtype)

    @staticmethod
    def _probability(hub: Tensor, num_hubs: int, budget: int) -> Tensor:
        """Of each member, float64; they sum to the budget."""
        size = torch.bincount(hub, minlength=num_hubs).double()
        if budget < 0 or budget >= hub.numel():
            return torch.ones_like(hub, dtype=torch.float64)
        low, high = 0.0, float(size.max())
        for _ in range(60):  # the largest number a hub that the budget allows
            middle = 0.5 * (low + high)
            if float(size.clamp(max=middle).sum()) <= budget:
                low = middle
            else:
                high = middle
        return (low / size).clamp(max=1.0)[hub]

    def members(self) -> Tensor:
        """The members of a batch, drawn anew: int64 ``[m]``."""
        return self._members[sample_weighted(self._cumulative)]

    def edges(self, members: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What some nodes receive from the members, themselves excluded.

        Args:
            members: what :meth:`members` gave.
            target: nodes, int64 ``[n]``.

        Returns:
            source (a node), position in ``target``, and weight, of each edge. Members that share
            several hubs with the target occur several times; their weights add up.
        """
        row, place = take_rows(self._start, members)
        hub = self._hubs[place]
        order = hub.argsort(stable=True)
        senders = members[row[order]]
        start = row_starts(hub[order], self._joined_start.numel() - 1)

        of_target, place = take_rows(self._start, target)
        of_hub, place = take_rows(self._joined_start, self._hubs[place])
        of_sender, place = take_rows(start, self._joined[place])
        source = senders[place]
        position = of_target[of_hub[of_sender]]
        keep = source != target[position]
        source, position = source[keep], position[keep]
        return source, position, self._weight[source]
