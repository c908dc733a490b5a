"""Same-label edges between labelled nodes, through class hubs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_hash.transforms.intra import merge_edges
from pyg_hash.transforms.masks import require_labels
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
)
from pyg_hash.utils.checks import check_choice, check_labels


class LabelSets(NamedTuple):
    """The same-label matrix :math:`P M P^T` of labelled nodes, without an N x N or U x U array."""

    row: Tensor  # int64 [m], a node of each entry of P, whose entries are 1
    hub: Tensor  # int64 [m], its set: the column of P
    num_sets: int
    overlap: Tensor  # int64 [2, p], pairs of sets whose nodes match: the ones of M, by rows

    def diagonal(self, num_rows: int) -> Tensor:
        """The weight of each node with itself: float ``[num_rows]``."""
        source, target = self.overlap
        matches = torch.zeros(self.num_sets, device=self.row.device)
        matches[source[source == target]] = 1.0
        # a node in several sets ('count') meets itself in each; these do not overlap
        return matches.new_zeros(num_rows).index_add_(0, self.row, matches[self.hub])


def label_sets(y: Tensor, num_classes: int, match: str) -> LabelSets:
    """Group labelled nodes: a set a label vector; with ``'count'`` a class, several for a node."""
    row, count = torch.arange(y.size(0), device=y.device), num_classes
    if y.dim() == 1:
        hub = y.long()
    elif match == "count":
        row, hub = y.nonzero(as_tuple=True)
    else:
        sets, hub = torch.unique(y.float(), dim=0, return_inverse=True)
        if match == "shared":
            return LabelSets(row, hub, sets.size(0), _sharing(sets))
        count = sets.size(0)
    return LabelSets(row, hub, count, torch.arange(count, device=y.device).repeat(2, 1))


def _sharing(sets: Tensor, chunk_size: int = 1024) -> Tensor:
    """Pairs of label vectors that share a label: int64 ``[2, p]``."""
    found = [((rows @ sets.T) > 0).nonzero() for rows in torch.split(sets, chunk_size)]
    for number, pairs in enumerate(found):
        pairs[:, 0] += number * chunk_size
    return torch.cat(found).T.contiguous()


@dataclass(eq=False)
class LabelHub(BaseTransform):
    r"""Same-label cliques as hubs, exact and in O(N) storage: the label case of MCGCN Eq. 1.

    Labelled nodes connect to the hub of their label set; two propagation hops through the hubs
    equal the :math:`N_L^2 / C` clique edges, in all four blocks of the joint graph. Label sets
    that overlap are joined by ``('class', 'overlap', 'class')`` edges. A hub joins different
    instances alone: the weight of a node with itself is ``self_loop``, that with its pair an edge
    across the modalities. The kNN edges between labelled nodes go.

    Args:
        self_loops: ``'clean'`` (default): every node has itself once, as :math:`G + I` means for
            a graph without self-loops. ``'literal'``: to the letter, where a labelled node has
            the same label as itself, so that :math:`\tilde G_{mm} = 2`.
        match: multi-label nodes are joined if they have a ``'shared'`` label or ``'equal'``
            label vectors; ``'count'`` weighs them by the number of shared labels (SGCH), which
            makes one hub a class, with several for a node.
    """

    self_loops: str = "clean"
    match: str = "shared"

    def __post_init__(self) -> None:
        check_choice(self.self_loops, ("clean", "literal"), "self_loops")
        check_choice(self.match, ("shared", "equal", "count"), "match")

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with hubs in place of kNN edges between labelled nodes."""
        name = type(self).__name__
        if "graph" not in data or "intra_anchors" not in data.graph:
            raise ValueError(f"{name}: the data has no intra edges; apply IntraKNN first")
        if "self_loops" in data.graph:
            raise ValueError(f"{name}: label edges exist already; apply it once")
        require_labels(data, name)
        store = data[IMAGE]
        labeled = store.labeled_mask
        if bool((labeled & ~store.train_mask).any()):
            raise ValueError("labeled_mask: labelled nodes must be training nodes")
        check_labels(store.y[labeled], "y", num_classes=data.num_classes)
        nodes = labeled.nonzero().flatten()
        sets = label_sets(store.y[labeled], data.num_classes, self.match)
        same_as_self = torch.zeros(labeled.numel(), device=labeled.device)
        same_as_self[nodes] = sets.diagonal(nodes.numel())
        self._drop_knn(data, labeled)
        data[CLASS].num_nodes = sets.num_sets
        alone = torch.arange(sets.num_sets, device=labeled.device)
        if not torch.equal(sets.overlap, alone.expand(2, -1)):  # a set matches others too
            data[OVERLAP].edge_index = sets.overlap
        once = torch.ones_like(same_as_self)
        for modality in MODALITIES:
            data[IN_CLASS[modality]].edge_index = torch.stack((nodes[sets.row], sets.hub))
            literal = self.self_loops == "literal"
            data[modality].self_loop = once + same_as_self if literal else once
            if INTER[modality] in data.edge_types:
                choice = {"all": once, "labeled": same_as_self, "none": 0 * once}
                weight = choice[data.graph["pair_edges"]] * labeled
                pairs = weight.nonzero().flatten()  # nodes that are joined to their own pairs
                edges = data[INTER[modality]]
                source, target = torch.cat((edges.edge_index, pairs.expand(2, -1)), dim=1)
                weight = torch.cat((edges.edge_weight, weight[pairs]))
                merged = merge_edges(source, target, weight, labeled.numel(), reduce="sum")
                edges.edge_index, edges.edge_weight = merged
        data.graph = data.graph | {"self_loops": self.self_loops, "match": self.match}
        return data

    @staticmethod
    def _drop_knn(data: HeteroData, labeled: Tensor) -> None:
        for kind in (INTRA, JOINT, INTER, NEAREST, JOINT_NEAREST):
            for edge_type in set(kind.values()).intersection(data.edge_types):
                edges = data[edge_type]
                source, target = labeled[edges.edge_index]
                # of the nearest all go to labelled nodes: only these learn to be new items
                keep = target if kind in (NEAREST, JOINT_NEAREST) else ~(source & target)
                edges.edge_index = edges.edge_index[:, keep]
                edges.edge_weight = edges.edge_weight[keep]
