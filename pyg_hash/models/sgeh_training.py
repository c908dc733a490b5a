"""What SGEH trains on: the training rows of a data set and their affinity graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.models.batches import BatchDraw, Share, cut
from pyg_hash.nn import LocalAffinity
from pyg_hash.transforms.affinity.transform import AFFINITY
from pyg_hash.typing import IMAGE, MODALITIES, TEXT
from pyg_hash.utils.checks import check_features
from pyg_hash.utils.modes import exact

BATCHES = ("nodes", "edges")


class TrainingSet(NamedTuple):
    """Training rows, int64 ``[m]``, and their affinity, whose node i is ``rows[i]``."""

    rows: Tensor
    affinity: LocalAffinity

    def batches(
        self, kind: str, batch_size: int, share: Share | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The mini-batches of an epoch.

        Args:
            kind: ``'nodes'``, a partition of the training rows, or ``'edges'``, a partition of
                the edges of their graph, each batch with the edges' end points.
            batch_size: nodes or edges of a batch.
            share: which of the batches, in random order; None: all, in the stored order.

        Yields:
            nodes, int64 ``[n]``, ascending, and edges as positions in it, int64 ``[t, 2]`` (none
            where nodes are drawn).
        """
        graph = self.affinity.graph
        if kind == "edges":
            generator = None if share is None else share.generator()
            every = graph.pair_batches(batch_size, shuffle=share is not None, generator=generator)
            for pairs in every if share is None else share.of(every):
                yield graph.local(pairs)
            return
        places = torch.arange(len(self.rows), device=self.rows.device)
        drawn = (
            cut(places, batch_size)
            if share is None
            else BatchDraw(self.rows, batch_size, share).own()
        )
        for batch in drawn:
            yield batch.sort().values, places.new_empty((0, 2))


def training_set(
    data: HeteroData, *, adjacency: str, walk_steps: int, image_share: float
) -> TrainingSet:
    """Check the training rows of ``data`` and their graph."""
    edges = data[AFFINITY] if AFFINITY in data.edge_types else {}
    if "edge_index" not in edges or "edge_weight" not in edges:
        raise ValueError("data: has no affinity edges; apply UnifiedAffinity first")
    mask = data[IMAGE].train_mask
    rows = mask.nonzero().flatten()
    if not len(rows):
        raise ValueError("train_mask: no training node")
    if len(rows) == 1:
        raise ValueError("train_mask: one training node, which makes no pair; use more")
    edge_index = edges["edge_index"]
    if not bool(mask[edge_index].all()):
        raise ValueError(
            "data: the affinity graph has rows outside train_mask; apply UnifiedAffinity "
            "after whatever changes the masks"
        )
    x = {m: data[m].x[rows] for m in MODALITIES}
    for m in MODALITIES:
        check_features(x[m], f"data['{m}'].x under train_mask")
    place = torch.cumsum(mask, dim=0) - 1
    with exact(mask):
        affinity = LocalAffinity(
            place[edge_index],
            edges["edge_weight"],
            x[IMAGE],
            x[TEXT],
            adjacency=adjacency,
            steps=walk_steps,
            share=image_share,
        )
    return TrainingSet(rows, affinity)


def watched(data: HeteroData) -> list[Tensor]:
    """What the training set is made of."""
    edges = data[AFFINITY] if AFFINITY in data.edge_types else {}
    tensors = [edges[key] for key in ("edge_index", "edge_weight") if key in edges]
    return [*tensors, data[IMAGE].train_mask, *(data[m].x for m in MODALITIES)]
