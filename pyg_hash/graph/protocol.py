"""The evaluation protocol that a graph implements."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


PROTOCOLS: dict[str, tuple[str, str]] = {
    "inductive": ("train", "train"),
    "strict": ("all", "train"),
    "transductive": ("all", "all"),
}
"""Protocol name -> ``anchors`` of :class:`IntraKNN` and of :class:`InterKNN`."""


def protocol(data: HeteroData) -> str:
    """Name the protocol of a graph, read from its anchors.

    * ``'transductive'``: all nodes are anchors, and the inter edges of a query may be chosen by
      its own other modality (the papers' setting).
    * ``'strict'``: all nodes are anchors, but nothing of a query's other modality reaches its
      code; so too without edges across the modalities (:class:`SGCHGraph`).
    * ``'inductive'``: only training nodes are anchors; a query changes no other node.
    * ``'none'``: the data carries no graph.
    """
    graph = data.graph if "graph" in data else {}
    if "intra_anchors" not in graph:
        return "none"
    intra = graph["intra_anchors"]
    pair = (intra, graph.get("inter_anchors", intra))
    return next(name for name, anchors in PROTOCOLS.items() if anchors == pair)
