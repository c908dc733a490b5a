"""The unified affinity graph of image-text pairs: SGEH's first stage as a transform."""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_hash.transforms.affinity.unified import check_options, unified_affinity
from pyg_hash.typing import AFFINITY, IMAGE, MODALITIES, PAIR, TEXT
from pyg_hash.utils.checks import check_same_rows


class UnifiedAffinity(BaseTransform):
    r"""The sparse graph that both modalities agree on, with ``num_clusters`` components.

    The first stage of SGEH (Zhao et al., ACCV 2022), see
    :func:`~pyg_hash.transforms.affinity.unified_affinity`, whose options these are. Only pairs of
    ``train_mask`` take part; all others, queries above all, are never looked at. No label is read.
    Put it after :class:`ScaleFeatures`, which brings the distances of both modalities to one scale,
    and after :class:`ValidationSplit`.

    Adds ``data['pair']`` with ``num_nodes`` (all N pairs) and ``cluster`` (int64 ``[N]``, the
    component, -1 outside ``train_mask``); ``data['pair', 'affinity', 'pair']`` with
    ``edge_index`` (row 0 is i and row 1 is j of :math:`Z_{ij}`, sorted by i, then j) and
    ``edge_weight`` (float32; the rows of Z sum to 1; Z is not symmetric); and the settings and
    the course of the search in ``data.affinity``.

    The number of clusters is the paper's c, but its numbers (10,000 of NUS-WIDE's 20,000 pairs)
    contradict its code, which uses 10 clusters and 5 neighbours on Wikipedia; a guess of the
    number of classes is what c means.

    Args:
        num_clusters: number of connected components of the graph; None takes the number of classes
            that the data set names (``data.num_classes``), without a look at any label.
        k: neighbours of a pair in each modality, by squared Euclidean distance.
        rank: ``'effective'`` or ``'gmc'``, the S-step.
        weight_rule: ``'gmc'`` or ``'paper'``, the weights of the modalities.
        u_step: ``'exact'`` or ``'gmc'``, the Z-step.
        lam: the first :math:`\lambda`.
        max_iter: most turns of the search.
        seed: seed of the eigensolver.
        progress: show a progress bar.

    Warns:
        UserWarning: no ``num_clusters`` components after ``max_iter`` turns.

    Raises:
        TypeError: numbers of the wrong type.
        ValueError: unknown options; NaN or inf in training rows; fewer than ``k + 2`` training
            rows; ``num_clusters`` out of reach; an affinity graph that exists already.
    """

    def __init__(
        self,
        num_clusters: int | None = None,
        k: int = 5,
        *,
        rank: str = "effective",
        weight_rule: str = "gmc",
        u_step: str = "exact",
        lam: float = 1.0,
        max_iter: int = 20,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        check_options(
            1 if num_clusters is None else num_clusters, k, rank, weight_rule, u_step, lam, max_iter
        )
        self.num_clusters, self.k = num_clusters, k
        self.steps: dict[str, Any] = {"rank": rank, "weight_rule": weight_rule, "u_step": u_step}
        self.search: dict[str, Any] = {"lam": lam, "max_iter": max_iter, "seed": seed}
        self.search["progress"] = progress

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with the affinity graph."""
        if "affinity" in data:
            raise ValueError("UnifiedAffinity: the affinity graph exists already; apply it once")
        check_same_rows(data[IMAGE].x, data[TEXT].x, "data['image'].x", "data['text'].x")
        num_clusters = self.num_clusters or int(data.num_classes if "num_classes" in data else 0)
        if num_clusters == 0:
            raise ValueError("num_clusters: the data names no classes; say how many clusters")
        rows = data[IMAGE].train_mask.nonzero().flatten()
        if rows.numel() < self.k + 2:
            raise ValueError(
                f"k: {self.k} neighbours need at least {self.k + 2} training pairs, but "
                f"train_mask has {rows.numel()}; lower k"
            )
        views = []
        for modality in MODALITIES:
            x = data[modality].x[rows]
            bad = rows[~torch.isfinite(x).all(dim=1)]
            if bad.numel():
                raise ValueError(
                    f"data['{modality}'].x: {bad.numel()} of {rows.numel()} training rows contain "
                    f"NaN or inf (first: row {int(bad[0])}); clean or drop them"
                )
            views.append(x)
        graph = unified_affinity(views, num_clusters, self.k, **self.steps, **self.search)
        pair = data[PAIR]
        pair.num_nodes = data[IMAGE].x.size(0)
        pair.cluster = torch.full((pair.num_nodes,), -1, device=rows.device)
        pair.cluster[rows] = graph.cluster.to(rows.device)
        edges = data[AFFINITY]
        edges.edge_index = rows[graph.edge_index.to(rows.device)]
        edges.edge_weight = graph.values.float().to(rows.device)
        data.affinity = {
            **{"num_clusters": num_clusters, "k": self.k, "metric": "l2", **self.steps},
            "num_components": graph.num_components,
            "converged": graph.converged,
            "iterations": graph.iterations,
            "lam": graph.lam,
            "weights": dict(zip(MODALITIES, graph.weights, strict=True)),
            "history": graph.history,
        }
        return data

    def __repr__(self) -> str:
        settings = {"num_clusters": self.num_clusters, "k": self.k, **self.steps, **self.search}
        listed = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        return f"{type(self).__name__}({listed})"
