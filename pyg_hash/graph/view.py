"""The part of a graph that training needs."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.typing import CLASS, IMAGE, MODALITIES


def anchor_view(data: HeteroData) -> HeteroData:
    """The subgraph of the anchors; ``data`` itself if all nodes are anchors or there is no graph.

    Other nodes only receive, so leaving them out changes nothing for the anchors. What is left is
    symmetric and smaller.
    """
    store = data[IMAGE]
    if "anchor_mask" not in store or bool(store.anchor_mask.all()):
        return data
    subset: dict[str, Tensor] = {modality: data[modality].anchor_mask for modality in MODALITIES}
    if CLASS in data.node_types:  # left out, PyG would build its mask on the CPU
        subset[CLASS] = store.anchor_mask.new_ones(data[CLASS].num_nodes)
    return data.subgraph(subset)
