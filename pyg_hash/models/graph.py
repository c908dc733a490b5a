"""The contract of the models that propagate along the edges of a graph."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyg_hash.graph import (
    BLOCK,
    BlockedGraph,
    NewItems,
    Place,
    WholeGraph,
    anchor_view,
    build_graphs,
    edge_weights,
    protocol,
)
from pyg_hash.knn import neighbours, ready
from pyg_hash.losses import quantization_loss, squared_distance_loss
from pyg_hash.models.base import HashModel, Intake
from pyg_hash.models.common import GraphCache, Widths, check_widths, like_of, pair_contrast
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Modality, Reduction
from pyg_hash.utils.checks import check_nonzero_rows
from pyg_hash.utils.digests import row_prints, same_rows

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


@dataclass(eq=False)
class AnchorBank(Intake):
    """The anchors of a graph: features to find neighbours by, and what each anchor sends.

    Further tensors: ``x.image`` and ``x.text``, scaled features, float ``[n, d]``; ``joint``, bool
    ``[n]``, anchors in the cross-modal graph; ``messages.CHANNEL.CALL``, ``[n, channels]``, of
    channel ``image``, ``text`` or ``joint`` (``[2n, channels]``, images first); ``codes.image`` and
    ``codes.text``, relaxed, for anchors that come as new items. ``about['graph']``: settings of
    the kNN graph.
    """

    def __post_init__(self) -> None:
        self.joint, self.graph = self.tensors["joint"], self.about["graph"]
        self._made: dict[Any, Any] = {}

    @classmethod
    def from_graph(
        cls, data: HeteroData, messages: dict[str, list[Tensor]], codes: Mapping[str, Tensor]
    ) -> AnchorBank:
        """Keep the anchors of new items, of the ``messages`` and codes that **all** nodes have."""
        store, base = data[IMAGE], Intake.of(data)
        mask = store.neighbor_mask if data.graph.get("reading") == "code" else store.anchor_mask
        joint = store.joint_anchor_mask if "joint_anchor_mask" in store else mask
        tensors = {"joint": joint[mask], **{f"x.{m}": data[m].x[mask] for m in MODALITIES}}
        tensors |= {f"codes.{m}": z[mask] for m, z in codes.items()}
        for name, layers in messages.items():
            rows = mask.repeat(2 if name == "joint" else 1)
            tensors |= {f"messages.{name}.{i}": sent[rows] for i, sent in enumerate(layers)}
        return cls(base.tensors | tensors, {**base.about, "graph": dict(data.graph)})

    def messages(self, channel: str) -> list[Tensor]:
        """What the anchors send at each call of a place's ``receive``; empty: there is none."""
        paths = (f"messages.{channel}.{call}" for call in count())
        return [self.tensors[path] for path in takewhile(self.tensors.__contains__, paths)]

    def prepare(self, x: Tensor, modality: Modality, like: Tensor) -> Tensor:
        """See :meth:`Intake.prepare`; ``ValueError`` too for a zero row, scaled, under cosine."""
        scaled = super().prepare(x, modality, like)
        if self.graph["metric"] == "cosine":
            check_nonzero_rows(scaled, "x")
        return scaled

    def known(self, x: Tensor, z: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes ``z`` of scaled new items ``x``, those of anchors as they are stored."""
        if modality not in self._made:
            self._made[modality] = row_prints(self.tensors[f"x.{modality}"])
        place = same_rows(row_prints(x), self._made[modality]).to(x.device)
        rows = (place >= 0).nonzero().flatten()
        near = self.tensors[f"x.{modality}"][place[rows]]
        limit = 1e-5 * near.abs().amax(1, keepdim=True)
        rows = rows[((x[rows] - near).abs() <= limit).all(1)]
        return z.index_copy(0, rows, self.tensors[f"codes.{modality}"][place[rows]].to(z))

    def places(self, x: Tensor, modality: Modality) -> dict[str, NewItems]:
        """Where scaled new items ``[n, d']`` stand in each channel: at their nearest anchors."""
        n, num_anchors = x.size(0), self.joint.numel()
        places: dict[str, NewItems] = {}
        source, target, weight = self._nearest(x, modality, torch.ones_like(self.joint))
        if sent := self.messages(modality):
            edges = torch.stack((source, target))
            places[modality] = NewItems(edges, weight, n, num_anchors, sent)
        if sent := self.messages("joint"):
            if not bool(self.joint.all()):
                source, target, weight = self._nearest(x, modality, self.joint)
            edges = torch.stack((torch.cat((source, source + num_anchors)), target.repeat(2)))
            places["joint"] = NewItems(edges, weight.repeat(2), n, 2 * num_anchors, sent)
        return places

    def _nearest(
        self, x: Tensor, modality: Modality, allowed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Source, target and weight of edges from the nearest of the allowed anchors."""
        rows = allowed.nonzero().flatten()
        k, metric = min(self.graph["k"], len(rows)), self.graph["metric"]
        key = modality, rows.numel() == allowed.numel()
        if key not in self._made:  # for one query, checks and a copy take most of the time
            anchors = self.tensors[f"x.{modality}"]
            self._made[key] = ready(anchors if key[1] else anchors[rows], metric)
        scores, index = neighbours(x, self._made[key], k)
        target = torch.arange(x.size(0), device=x.device).repeat_interleave(k)
        weight = edge_weights(scores, self.graph["weight"]).flatten().to(x.dtype)
        return rows[index.flatten()], target, self.graph.get("neighbor_weight", 1.0) * weight


class GraphHashModel(HashModel):
    """A model whose nodes exchange messages along the edges of a graph.

    The network is written once, in :meth:`propagate`. Training runs it on the whole graph, encoding
    in blocks of rows, whose memory beyond the codes is what all nodes send in one layer of one
    channel; a new item is a node that no other node sees. ``specific``, ``joint``: whether there
    are channels on each modality's own graph, and on both's.
    """

    intake_class = AnchorBank
    learns_views = False  # training encodes the labelled nodes as new items too

    def __init__(
        self, num_bits: int, num_features: Widths, *, specific: bool = True, joint: bool = True
    ) -> None:
        super().__init__(num_bits, num_features=num_features)
        self.has_specific, self.has_shared = specific, joint
        self._graphs = GraphCache(partial(build_graphs, specific=specific, joint=joint))

    @abstractmethod
    def propagate(
        self, x: Mapping[Modality, Sequence[Tensor]], places: Mapping[str, Place]
    ) -> dict[str, Tensor]:
        """The network, on nodes that may be a graph's or new.

        Args:
            x: scaled features in consecutive parts of rows, of both modalities or of one.
            places: where the nodes of ``'image'``, ``'text'`` and ``'joint'`` (those of ``x``
                after each other) stand, for the channels to take: as often for one modality as for
                both, else codes of new items end in a ``ValueError``.

        Returns:
            relaxed codes ``[n, num_bits]`` of each modality in ``x``, and what :meth:`loss` needs
            (``HashOutput.aux``), such as ``'image_view'`` where the places have views.
        """

    @property
    def is_whole(self) -> bool:
        """Whether a graph is worked on at once, as a backward pass needs it, not in blocks."""
        return self.training or torch.is_grad_enabled()

    def forward(
        self, data: HeteroData, messages: dict[str, list[Tensor]] | None = None
    ) -> HashOutput:
        """Relaxed codes of all nodes; ``ValueError``: features or edges that do not fit.

        Without gradient, ``messages`` gets what nodes send, for each channel one tensor a call.
        """
        check_widths(data, self.num_features, like_of(self))
        graphs = self._graphs(data)
        views = graphs.views if self.training and self.learns_views else {}
        places: dict[str, Place] = {}
        for name, operator in graphs.operators.items():
            if self.is_whole:
                places[name] = WholeGraph(operator, views.get(name), constant=graphs.constant)
            else:
                sent = None if messages is None else messages.setdefault(name, [])
                places[name] = BlockedGraph(operator, sent)
        x: dict[Modality, Sequence[Tensor]] = {
            m: [data[m].x] if self.is_whole else data[m].x.split(BLOCK) for m in MODALITIES
        }
        aux = self.propagate(x, places)
        return HashOutput(aux.pop(IMAGE), aux.pop(TEXT), aux)

    def relaxed_new(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes of new items; an anchor keeps its own, which may know its label."""
        assert isinstance(self.intake, AnchorBank)
        places = self.intake.places(x, modality)
        z = self.propagate({modality: [x]}, places)[modality]
        for name, place in places.items():
            if place.received not in (0, calls := len(place.messages)):
                raise ValueError(
                    f"propagate: places[{name!r}].receive is called {place.received} times for "
                    f"{modality} alone, but {calls} for both; call it alike, or not at all"
                )
        return self.intake.known(x, z, modality)

    def protocol(self, data: HeteroData) -> str:
        """The protocol of the graph, see :func:`pyg_hash.graph.protocol`."""
        return protocol(data)

    def training_view(self, data: HeteroData) -> HeteroData:
        """The anchors alone: under ``anchors='train'`` no query takes part in any way."""
        return anchor_view(data)

    def make_intake(self, data: HeteroData) -> Intake:
        """The anchors and what they send."""
        if "anchor_mask" not in data[IMAGE]:
            raise ValueError("data: has no anchors; apply IntraKNN first")
        messages: dict[str, list[Tensor]] = {}
        out = self(data, messages)
        return AnchorBank.from_graph(data, messages, {m: out[m] for m in MODALITIES})


def both(term: Callable[[Modality], Tensor]) -> Tensor:
    """The sum of a term over the two modalities."""
    return term(IMAGE) + term(TEXT)


def selected(x: Tensor, mask: Tensor) -> Tensor:
    """The rows of ``x`` under a mask, and ``x`` itself, not a copy, if that is all of them."""
    return x if bool(mask.all()) else x[mask]


def under(out: HashOutput, mask: Tensor) -> dict[Modality, Tensor]:
    """The relaxed codes of the nodes under a mask."""
    return {m: selected(out[m], mask) for m in MODALITIES}


def views(out: HashOutput) -> dict[Modality, Tensor]:
    """The relaxed codes of labelled nodes as new items; empty where these were not made."""
    return {m: out.aux[f"{m}_view"] for m in MODALITIES if f"{m}_view" in out.aux}


def view_terms(
    similarity: Callable[[Tensor, Tensor], Tensor],
    view: Mapping[Modality, Tensor],
    known: Mapping[Modality, Tensor],
    weights: Mapping[str, float],
    reduction: Reduction,
) -> Tensor:
    """Similarity of nodes as new items to the same nodes in the graph, and their quantization."""
    across = 0.5 * similarity(view[IMAGE], known[TEXT]) + 0.5 * similarity(known[IMAGE], view[TEXT])
    return across + weights["quantization"] * both(lambda m: quantization_loss(view[m], reduction))


def pair_terms(
    codes: Mapping[Modality, Tensor], weights: Mapping[str, float], reduction: Reduction
) -> dict[str, Tensor]:
    """``pairing`` and ``contrast`` of pairs of codes, where these terms have a weight."""
    of = {"pairing": squared_distance_loss, "contrast": pair_contrast}
    return {
        name: loss(codes[IMAGE], codes[TEXT], reduction)
        for name, loss in of.items()
        if weights[name] > 0
    }
