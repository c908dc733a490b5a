"""What a fitted model keeps of its graph to encode new items alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.graph import Receiver
from pyg_hash.graph.edges import edge_weights
from pyg_hash.knn import PreparedRows, knn, prepare
from pyg_hash.models.intake import (
    Intake,
    fitted_scaling,
    holds_features,
    item_shapes,
    map_scaling,
    stored_scaling,
)
from pyg_hash.typing import MODALITIES, Modality
from pyg_hash.utils.checks import check_nonzero_rows


@dataclass(kw_only=True)
class AnchorBank(Intake):
    """The anchors of a graph: features to find neighbours by, and what each anchor sends.

    Attributes:
        x: scaled features of the anchors, float ``[n, d]`` a modality.
        joint: bool ``[n]``, anchors that take part in the cross-modal graph.
        messages: one ``[n, channels]`` tensor a layer, for each channel of the model.
        graph: settings of the kNN graph (``data.graph``).
    """

    x: dict[str, Tensor]
    joint: Tensor
    messages: dict[str, list[Tensor]]
    graph: dict[str, Any]
    _prepared: dict[tuple[Modality, bool], PreparedRows] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def from_graph(cls, data: HeteroData, messages: dict[str, list[Tensor]]) -> AnchorBank:
        """Keep the anchors of ``data``.

        Args:
            data: the graph that the model was fitted on.
            messages: what **all** nodes send, ``[N, channels]`` or, for a joint channel,
                ``[2N, channels]``; the anchors are picked here.
        """
        mask = data["image"].anchor_mask
        both = torch.cat((mask, mask))
        kept = {
            name: [m[mask if m.size(0) == mask.numel() else both] for m in sent]
            for name, sent in messages.items()
        }
        joint = data["image"].joint_anchor_mask if "joint_anchor_mask" in data["image"] else mask
        return cls(
            shapes=item_shapes(data),
            is_features=holds_features(data),
            scaling=fitted_scaling(data),
            x={m: data[m].x[mask] for m in MODALITIES},
            joint=joint[mask],
            messages=kept,
            graph=dict(data.graph),
        )

    def prepare(self, x: Tensor, modality: Modality, like: Tensor) -> Tensor:
        """Check and scale features of new items: float ``[n, d]`` -> ``[n, d']``.

        Raises:
            TypeError, ValueError: see :meth:`Intake.prepare`; a row that is zero after scaling
                under cosine (for example a text without any known word).
        """
        scaled = super().prepare(x, modality, like)
        if self.graph["metric"] == "cosine":
            check_nonzero_rows(scaled, "x")
        return scaled

    def receivers(self, x: Tensor, modality: Modality) -> tuple[Receiver, Receiver]:
        """How new items receive, joined to their nearest anchors as :class:`IntraKNN` does.

        Args:
            x: scaled features, float ``[n, d']``.
            modality: of the new items.

        Returns:
            the receiver on the modality's own graph, and that on the joint graph, bridged through
            the pairs: the same anchors, as images and as texts.
        """
        num_anchors = self.joint.numel()
        own = self._nearest(x, modality, torch.ones_like(self.joint))
        joint = own if bool(self.joint.all()) else self._nearest(x, modality, self.joint)
        source, target, weight = joint
        both = torch.stack((torch.cat((source, source + num_anchors)), target.repeat(2)))
        return (
            Receiver(torch.stack(own[:2]), own[2], x.size(0), num_anchors),
            Receiver(both, weight.repeat(2), x.size(0), 2 * num_anchors),
        )

    def _nearest(
        self, x: Tensor, modality: Modality, allowed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Source, target and weight of edges from the nearest of the allowed anchors."""
        rows = allowed.nonzero().flatten()
        k, metric = self.graph["k"], self.graph["metric"]
        key = modality, rows.numel() == allowed.numel()
        if key not in self._prepared:  # for one query, checks and a copy take most of the time
            anchors = self.x[modality] if key[1] else self.x[modality][rows]
            self._prepared[key] = prepare(anchors, metric)
        scores, index = knn(x, self._prepared[key], k, metric=metric)
        target = torch.arange(x.size(0), device=x.device).repeat_interleave(k)
        weight = edge_weights(scores, self.graph["weight"]).flatten().to(x.dtype)
        weight = self.graph.get("neighbor_weight", 1.0) * weight
        return rows[index.flatten()], target, weight

    def map(self, function: Callable[[Tensor], Tensor]) -> AnchorBank:
        """Apply ``function`` to every tensor (used by ``model.to(device)``)."""
        return AnchorBank(
            shapes=self.shapes,
            is_features=self.is_features,
            scaling=map_scaling(self.scaling, function),
            x={m: function(x) for m, x in self.x.items()},
            joint=function(self.joint),
            messages={name: [function(m) for m in sent] for name, sent in self.messages.items()},
            graph=self.graph,
        )

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Flat tensors and JSON metadata, for :func:`pyg_hash.utils.files.save_tensors`."""
        tensors, metadata = super().to_tensors()
        tensors["joint"] = self.joint
        tensors |= {f"x.{m}": x for m, x in self.x.items()}
        for name, sent in self.messages.items():
            tensors |= {f"messages.{name}.{layer}": m for layer, m in enumerate(sent)}
        channels = {name: len(sent) for name, sent in self.messages.items()}
        return tensors, metadata | {"graph": self.graph, "channels": channels}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> AnchorBank:
        """Inverse of :meth:`to_tensors`."""
        return cls(
            shapes=metadata["shapes"],
            is_features=metadata["is_features"],
            scaling=stored_scaling(tensors, metadata),
            x={m: tensors[f"x.{m}"] for m in MODALITIES},
            joint=tensors["joint"],
            messages={
                name: [tensors[f"messages.{name}.{layer}"] for layer in range(count)]
                for name, count in metadata["channels"].items()
            },
            graph=metadata["graph"],
        )
