"""The graphs of MCGCN and SGCH: nearest neighbours inside and across the modalities, and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage, NodeStorage
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import coalesce

from pyg_hash.graph import PROTOCOLS, edge_weights, has_hubs, joint_edges, through_hubs
from pyg_hash.knn import knn, recall
from pyg_hash.knn.knn import check_backend
from pyg_hash.transforms.masks import as_pairs, require_labels
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
    Metric,
    Modality,
)
from pyg_hash.utils.checks import (
    check_choice,
    check_features,
    check_labels,
    check_nonzero_rows,
    check_positive_int,
    check_weight,
)
from pyg_hash.utils.oddities import has_label

ANCHORS = ("train", "all")


def anchor_mask(store: NodeStorage, anchors: str) -> Tensor:
    """Nodes that may be a neighbour of others: bool ``[N]``."""
    train: Tensor = store.train_mask
    return train if anchors == "train" else train | True


@dataclass(eq=False)
class IntraKNN(BaseTransform):
    r"""k-nearest-neighbour edges inside each modality: the kNN case of MCGCN Eq. 1.

    Two anchors are joined iff either is among the ``k`` nearest anchors of the other. A node
    that is no anchor receives edges from its ``k`` nearest anchors and sends none. The
    ``('image', 'nearest', 'image')`` edges (and those of texts) lead to each node from its own
    ``k`` nearest anchors alone, as they would to a new item.

    Args:
        k: number of neighbours, excluding the node itself (by index).
        metric: ``'cosine'``, ``'ip'`` or ``'l2'``; the papers leave it unstated.
        anchors: which nodes may be somebody's neighbour, ``'train'`` or ``'all'``
            (transductive, as in the papers).
        weight: ``'binary'`` (1, as in MCGCN) or ``'similarity'`` (the cosine itself, as in SGCH;
            a neighbour whose cosine is not positive is none). None is ``'similarity'`` under
            cosine, and ``'binary'`` under the others.
        neighbor_weight: a factor :math:`\omega` of all these weights, above 0; 1 in the papers.
        backend, approximate: of :func:`~pyg_hash.knn.knn`. Of approximate neighbours
            ``data.graph['recall']`` has by modality the part of the true ones that was found,
            measured on 256 nodes. New items get their true neighbours.

    ``ValueError``: NaN or inf features, zero vectors under cosine, ``k`` not smaller than the
    number of anchors, image and text rows, or masks of them, that do not match.
    """

    k: int = 20
    metric: Metric = "cosine"
    anchors: str = "train"
    weight: str | None = None
    neighbor_weight: float = 1.0
    backend: str = "auto"
    approximate: str | None = None

    # whether only labelled anchors may be somebody's nearest (the graph of SGCH's program)
    _labeled_only = False

    def __post_init__(self) -> None:
        check_positive_int(self.k, "k")
        check_choice(self.metric, ("cosine", "ip", "l2"), "metric")
        check_choice(self.anchors, ANCHORS, "anchors")
        if self.weight is None:
            self.weight = "similarity" if self.metric == "cosine" else "binary"
        check_choice(self.weight, ("binary", "similarity"), "weight")
        if self.weight == "similarity" and self.metric != "cosine":
            got = f"got {self.metric!r}; use 'binary'"
            raise ValueError(f"weight: 'similarity' needs metric='cosine', {got}")
        check_weight(self.neighbor_weight, "neighbor_weight")
        if self.neighbor_weight == 0:
            raise ValueError("neighbor_weight: 0 leaves no kNN edge; use a number above 0")
        check_backend(self.backend, self.approximate)

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with intra edges and ``anchor_mask`` in both modalities."""
        if "graph" in data:
            raise ValueError("IntraKNN: the graph exists already; start from data without one")
        data = as_pairs(data, "train_mask", labels=False)
        found = {}
        for modality in MODALITIES:
            store = data[modality]
            mask = anchor_mask(store, self.anchors)
            sources = mask & store.labeled_mask if self._labeled_only else mask
            count = int(sources.sum())
            if self.k >= count:
                kind = "labelled anchors" if self._labeled_only else "anchors"
                there = f"only {count} {kind} (anchors={self.anchors!r}); use k < {max(count, 1)}"
                raise ValueError(f"k: {self.k} neighbours asked for, but {there}")
            name = f"data['{modality}'].x"
            check_features(store.x, name)  # here, where row numbers are those of the data
            if self.metric == "cosine":
                check_nonzero_rows(store.x, name)
            try:
                index, weight, found[modality] = self._nearest(store.x, sources)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            data[NEAREST[modality]].update({"edge_index": index, "edge_weight": weight})
            back = mask[index[1]]  # between anchors both directions: the "or" of the equation
            both = torch.cat((index, index[:, back].flip(0)), 1)
            merge_edges(data[INTRA[modality]], both, torch.cat((weight, weight[back])), mask, "max")
            store.anchor_mask = mask
        kept = ("k", "metric", "weight", "neighbor_weight")
        data.graph = {name: getattr(self, name) for name in kept} | {"intra_anchors": self.anchors}
        if self.approximate is not None:
            data.graph |= {"approximate": self.approximate, "recall": found}
        return data

    def _nearest(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, float]:
        """Edges to each node from its k nearest sources, and the part of the true ones found."""
        sources, rest = mask.nonzero().flatten(), (~mask).nonzero().flatten()
        database = x[sources]
        near, found = [], 0.0
        for rows in (sources, rest) if rest.numel() else (sources,):
            own = rows is sources
            query = database if own else x[rows]
            what: dict[str, Any] = {"metric": self.metric, "exclude_self": own}
            how: dict[str, Any] = {"backend": self.backend, "approximate": self.approximate}
            near.append(knn(query, database, self.k, **what, **how))
            if self.approximate is not None:
                found += recall(near[-1][1], query, database, **what) * rows.numel() / x.size(0)
        scores, index = (torch.cat(parts) for parts in zip(*near, strict=True))
        target = torch.cat((sources, rest)).repeat_interleave(self.k)
        weight = self.neighbor_weight * edge_weights(scores, str(self.weight)).flatten()
        keep = weight > 0
        return torch.stack((sources[index.flatten()], target))[:, keep], weight[keep], found


def merge_edges(
    edges: EdgeStorage, index: Tensor, weight: Tensor, like: Tensor, reduce: str = "sum"
) -> None:
    """Store edges between as many nodes as ``like`` has, parallel ones joined, by their targets."""
    merged = coalesce(index, weight, len(like), reduce, sort_by_row=False)
    edges.edge_index, edges.edge_weight = merged


@dataclass(eq=False)
class InterKNN(BaseTransform):
    r"""Edges across modalities: the off-diagonal blocks of MCGCN Eq. 2.

    Between two anchors the weight is :math:`(G^I_{mn} + G^T_{mn}) / 2`; the pair is the bridge. A
    node that is no anchor takes the edges of **its own modality's graph** with weight
    :math:`G^I_{mn}` alone, so that nothing of its other modality can choose them.

    The diagonal blocks are the intra edges; in the *strict* protocol alone edges of their own,
    ``('image', 'joint', 'image')``, as :class:`IntraKNN` with the anchors of this transform would
    make them: else a query would tell its own image about its text.

    Args:
        anchors: ``'train'``, ``'all'`` or None for the anchors of :class:`IntraKNN`.
            ``IntraKNN(anchors='all')`` with ``InterKNN(anchors='train')`` is the *strict*
            protocol.
        pair_edges: which images and texts of the same instance are joined, with weight 1:
            ``'all'`` anchors, ``'labeled'`` ones (the paper read literally, once
            :class:`LabelHub` is applied), or ``'none'``.
    """

    anchors: str | None = None
    pair_edges: str = "all"

    def __post_init__(self) -> None:
        check_choice(self.anchors, (*ANCHORS, None), "anchors")
        check_choice(self.pair_edges, ("all", "labeled", "none"), "pair_edges")

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with inter edges and ``joint_anchor_mask``."""
        if "graph" not in data or "intra_anchors" not in data.graph:
            raise ValueError("InterKNN: the data has no intra edges; apply IntraKNN first")
        if "self_loops" in data.graph:
            raise ValueError("InterKNN: label edges exist already; apply it before LabelHub")
        intra = data.graph["intra_anchors"]
        anchors = self.anchors or intra
        if (intra, anchors) not in PROTOCOLS.values():
            both = f"{anchors!r} with IntraKNN(anchors={intra!r}) is no protocol"
            raise ValueError(f"anchors: {both}; inter anchors must be intra anchors too")
        for modality in MODALITIES:
            data[modality].joint_anchor_mask = anchor_mask(data[modality], anchors)
        for edge_type in {*JOINT.values(), *JOINT_NEAREST.values()}.intersection(data.edge_types):
            del data[edge_type]  # of an earlier application
        if anchors != intra:  # edges of their own inside the modalities
            own = ("x", "train_mask")
            bare = HeteroData({m: {name: data[m][name] for name in own} for m in MODALITIES})
            same = {key: data.graph[key] for key in ("k", "metric", "weight", "neighbor_weight")}
            same["approximate"] = data.graph.get("approximate")
            bare = IntraKNN(anchors=anchors, **same)(bare)
            if "recall" in bare.graph:
                data.graph = data.graph | {"joint_recall": bare.graph["recall"]}
            for modality in MODALITIES:
                for ours, theirs in ((JOINT, INTRA), (JOINT_NEAREST, NEAREST)):
                    data[ours[modality]].update(bare[theirs[modality]])
        joint = {m: joint_edges(data, m) for m in MODALITIES}
        for modality in MODALITIES:  # source in the other one, target in this one
            is_anchor = data[modality].joint_anchor_mask
            index, weight = averaged_edges(joint, modality, is_anchor)
            if self.pair_edges == "all":
                pair = is_anchor.nonzero().flatten()
                index = torch.cat((index, pair.expand(2, -1)), 1)
                weight = torch.cat((weight, weight.new_ones(len(pair))))
            merge_edges(data[INTER[modality]], index, weight, is_anchor)
        data.graph = data.graph | {"inter_anchors": anchors, "pair_edges": self.pair_edges}
        return data


def averaged_edges(
    edges: Mapping[Modality, EdgeStorage], modality: Modality, is_anchor: Tensor
) -> tuple[Tensor, Tensor]:
    """Edges to one modality's nodes: half of both's to anchors (twice if equal), own to others."""
    indices, weights = [], []
    for each, store in edges.items():
        to_anchor = is_anchor[store.edge_index[1]]
        keep = to_anchor | (each == modality)
        indices.append(store.edge_index[:, keep])
        weights.append((store.edge_weight * (1.0 - 0.5 * to_anchor.to(store.edge_weight)))[keep])
    return torch.cat(indices, 1), torch.cat(weights)


class LabelSets(NamedTuple):
    """The same-label matrix :math:`P M P^T` of labelled nodes, without an N x N or U x U array."""

    row: Tensor  # int64 [m], a node of each entry of P, whose entries are 1
    hub: Tensor  # int64 [m], its set: the column of P
    num_sets: int
    overlap: Tensor  # int64 [2, p], pairs of sets whose nodes match: the ones of M, by rows


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
        self_loops: ``'clean'``: every node has itself once. ``'literal'``: a labelled node has the
            same label as itself, so that :math:`\tilde G_{mm} = 2`.
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
        if CLASS in data.node_types:
            raise ValueError(f"{name}: makes nodes 'class', which the data have; rename theirs")
        require_labels(data, name)
        data = as_pairs(data, "train_mask", "labeled_mask", "num_classes")
        store = data[IMAGE]
        labeled = store.labeled_mask
        if bool((labeled & ~store.train_mask).any()):
            raise ValueError("labeled_mask: labelled nodes must be training nodes")
        check_labels(store.y[labeled], "y", num_classes=data.num_classes)
        nodes = labeled.nonzero().flatten()
        sets = label_sets(store.y[labeled], data.num_classes, self.match)
        for kind in (INTRA, JOINT, INTER, NEAREST, JOINT_NEAREST):
            for edge_type in set(kind.values()).intersection(data.edge_types):
                edges = data[edge_type]
                source, target = labeled[edges.edge_index]
                # of the nearest all go to labelled nodes: only these learn to be new items
                keep = target if kind in (NEAREST, JOINT_NEAREST) else ~(source & target)
                edges.edge_index = edges.edge_index[:, keep]
                edges.edge_weight = edges.edge_weight[keep]
        data.graph = data.graph | {"self_loops": self.self_loops, "match": self.match}
        data[CLASS].num_nodes = sets.num_sets
        alone = torch.arange(sets.num_sets, device=labeled.device)
        if not torch.equal(sets.overlap, alone.expand(2, -1)):  # a set matches others too
            data[OVERLAP].edge_index = sets.overlap
        for modality in MODALITIES:
            data[IN_CLASS[modality]].edge_index = torch.stack((nodes[sets.row], sets.hub))
            same_as_self = through_hubs(data, modality)
            once = torch.ones_like(same_as_self)
            literal = self.self_loops == "literal"
            data[modality].self_loop = once + same_as_self if literal else once
            if INTER[modality] in data.edge_types:
                choice = {"all": once, "labeled": same_as_self, "none": 0 * once}
                weight = choice[data.graph["pair_edges"]] * labeled
                pairs = weight.nonzero().flatten()  # nodes that are joined to their own pairs
                edges = data[INTER[modality]]
                index = torch.cat((edges.edge_index, pairs.expand(2, -1)), dim=1)
                merge_edges(edges, index, torch.cat((edges.edge_weight, weight[pairs])), labeled)
        return data


@dataclass(eq=False)
class SGCHGraph(BaseTransform):
    r"""The graphs of SGCH, one a modality, in one step.

    Shen, Zhai, Liu, Jiang, "Semi-supervised graph convolutional hashing network for large-scale
    cross-modal retrieval", ICIP 2020. SGCH Eq. 1:

    .. math::
        W_{ij} = \begin{cases}
            l_i^\top l_j & \text{both labelled: the number of shared labels} \\
            \omega \cos(x_i, x_j) & i \text{ among the } k \text{ nearest of } j, \text{ or } j
                \text{ of } i \\
            0 & \text{otherwise}
        \end{cases}

    The model works with :math:`D^{-1/2} (W + I) D^{-1/2}`, where :math:`D` holds the row sums of
    :math:`W + I` (the authors' code; the paper's are those of :math:`W`, which are 0 for a node
    without edges). It is :class:`IntraKNN` with ``LabelHub(match='count')``: hubs in place of
    label edges, so that nothing of size N x N is stored.

    :math:`\omega` (``neighbor_weight``) is 1 in the paper. A new item then is little more than the
    mean of its neighbours; under the smaller default its own features count more. Which is better
    depends on the data: held-out labels tell (:class:`ValidationSplit`).

    ``graph='code'`` is what the authors' program builds instead: cosines are 1 (labelled nodes
    are joined if they share a label), a node without label is joined to the ``k`` nearest
    **labelled** nodes alone, and both modalities get the mean :math:`(W^I + W^T) / 2`.

    **That mean leaks.** With ``anchors='all'`` an image query is joined to the neighbours of its
    own text: the protocol is *transductive*. With ``anchors='train'`` only training nodes take the
    mean, a query the edges of its own modality (*inductive*). The paper's graph never mixes the
    modalities: there ``anchors='all'`` is *strict*.

    Args:
        k: number of neighbours (code: 20), the node itself excluded.
        graph: ``'paper'`` or ``'code'``.
        metric: ``'cosine'`` (paper), ``'ip'`` or ``'l2'``; neighbours under the latter two weigh 1.
        anchors: which nodes may be somebody's neighbour: ``'train'``, or ``'all'`` as in the paper.
        self_loops: see :class:`LabelHub`; ``'literal'`` adds :math:`W_{ii} = l_i^\top l_i`.
        neighbor_weight: :math:`\omega`, above 0.
        backend, approximate: see :class:`IntraKNN`.

    ``ValueError``: as of :class:`IntraKNN` and :class:`LabelHub`.
    """

    k: int = 20
    graph: str = "paper"
    metric: Metric = "cosine"
    anchors: str = "train"
    self_loops: str = "clean"
    neighbor_weight: float = 0.1
    backend: str = "auto"
    approximate: str | None = None

    def __post_init__(self) -> None:
        check_choice(self.graph, ("paper", "code"), "graph")
        self._steps()  # check their options

    def _steps(self) -> tuple[IntraKNN, LabelHub]:
        paper = self.graph == "paper"
        own = {key: v for key, v in vars(self).items() if key not in ("graph", "self_loops")}
        nearest = IntraKNN(**own, weight=None if paper else "binary")
        nearest._labeled_only = not paper
        return nearest, LabelHub(self.self_loops, match="count" if paper else "shared")

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with intra edges, class hubs and ``anchor_mask`` in both modalities.

        With ``graph='code'`` also ``neighbor_mask``: the anchors that new items are joined to.
        """
        if "graph" in data:
            raise ValueError("SGCHGraph: the graph exists already; start from data without one")
        require_labels(data, "SGCHGraph")
        data = as_pairs(data, "train_mask", "labeled_mask", "num_classes")
        for step in self._steps():
            data = step(data)
        reach = "train"  # in the paper no edge leads across the modalities, whatever the anchors
        if self.graph == "code":  # both modalities get the mean; their hubs are the same already
            reach = self.anchors
            is_anchor = data[IMAGE].anchor_mask
            own = {m: data[INTRA[m]] for m in MODALITIES}
            averaged = {m: averaged_edges(own, m, is_anchor) for m in MODALITIES}
            for m, edges in own.items():
                merge_edges(edges, *averaged[m], is_anchor)
                data[m].neighbor_mask = is_anchor & data[m].labeled_mask
        data.graph = data.graph | {"inter_anchors": reach, "reading": self.graph}
        return data


def check_hubs(data: HeteroData) -> None:
    """Raise ``ValueError`` unless label hubs join what ``y`` says, which may be changed since."""
    if not has_hubs(data) or "y" not in data[IMAGE]:
        return
    y = data[IMAGE].y
    for m in MODALITIES:
        node, hub = data[IN_CLASS[m]].edge_index
        if data.graph.get("match") == "count" and y.dim() == 2:
            number = int((y[data[m].labeled_mask] != 0).sum())
            same = number == len(node) and bool((y[node, hub] != 0).all())
        else:  # without the sorting of all rows that made the sets
            sets = y.new_zeros(data[CLASS].num_nodes, *y.shape[1:])
            sets[hub] = y[node]
            each = sets[hub.unique()]
            same = torch.equal(sets[hub], y[node]) and len(each.float().unique(dim=0)) == len(each)
        if not same:
            what = f"data[{m!r}]: the graph's label hubs are not those of y, changed since"
            raise ValueError(f"{what}; make the graph anew")


def check_graph(data: HeteroData) -> None:
    """Raise ``ValueError`` unless a graph's edges go with the masks: else labels would leak."""
    graph, again = data.get("graph", {}), "; set masks first, and make the graph anew"
    if SAMPLED in graph:  # a batch of InstanceLoader, of a graph that was looked at
        return
    if len(data[IMAGE].x) != len(data[TEXT].x):
        counts = f"{len(data[IMAGE].x)} images and {len(data[TEXT].x)} texts"
        raise ValueError(f"data: has {counts}; row i of both must be a pair")
    for m in MODALITIES:
        store = data[m]
        for edge_type in (INTRA[m], NEAREST[m]):
            if edge_type not in data.edge_types or "edge_weight" not in data[edge_type]:
                lacks = "edge_weight" if edge_type in data.edge_types else "edges"
                raise ValueError(f"data[{edge_type!r}]: has no {lacks}; make them by IntraKNN")
        dtype = data[INTRA[m]].edge_weight.dtype
        if store.x.is_floating_point() and store.x.dtype != dtype:
            what = f"is {store.x.dtype}, but the graph's weights are {dtype}; use x.to({dtype})"
            raise TypeError(f"data[{m!r}].x: {what}, and a model of that type")
        if bool((store.get("self_loop", store.x.new_ones(1)) < 1).any()):
            raise ValueError(
                f"data[{m!r}].self_loop: below 1, so the graph is of an earlier version; make "
                "it anew: force_reload=True, or delete the data's folder processed/ or FILE.cache/"
            )
        if "labeled_mask" not in store:
            raise ValueError(f"data[{m!r}]: has no labeled_mask; apply LabelRate, or set it")
        for name, of, kinds in (
            ("anchor_mask", "intra_anchors", (INTRA, NEAREST)),
            ("joint_anchor_mask", "inter_anchors", (JOINT, JOINT_NEAREST, INTER)),
        ):
            if name not in store:
                continue
            train = store.get("train_mask", store[name])
            if graph.get(of) == "train" and not torch.equal(store[name], train):
                raise ValueError(f"data[{m!r}].train_mask: is not that of the graph, {name}{again}")
            for edge_type in {kind[m] for kind in kinds}.intersection(data.edge_types):
                source, target = data[edge_type].edge_index
                inner = edge_type != INTER[m]  # where a node's loop tells nobody anything
                if bool((~store[name][source] & ~(inner & (source == target))).any()):
                    what = f"data[{edge_type!r}]: leads from nodes outside {name} (ToUndirected?)"
                    raise ValueError(what + again)
        if has_hubs(data):
            member, labeled = torch.zeros_like(store.labeled_mask), store.labeled_mask
            member[data[IN_CLASS[m]].edge_index[0]] = True
            if "y" in data[IMAGE]:  # rows without a label are in no hub, or in one of their own
                labeled = torch.where(has_label(data[IMAGE].y), labeled, labeled & member)
            if not torch.equal(member, labeled):
                what = f"data[{m!r}].labeled_mask: is not that of the graph's label hubs"
                raise ValueError(what + again)
