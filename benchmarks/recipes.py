"""Settings of published experiments, with the numbers the papers report for them.

A paper's number belongs beside ours only on the paper's own data and features. The features of
MCGCN (VGG fc7 images, bag-of-words texts) are not public, so these recipes are for those who have
them, in a :class:`pyg_hash.datasets.FeatureFile`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Reported = dict[str, dict[int, tuple[float, float, float]]]
"""Task -> bits -> mAP at 30, 70 and 100 % labels."""


@dataclass(frozen=True)
class Recipe:
    """One experiment: what to build, how to train it, and what the paper reports.

    Attributes:
        model: keyword arguments of the model.
        graph: keyword arguments of ``IntraKNN``, ``InterKNN`` and ``LabelHub``.
        lr: learning rate.
        reported: the paper's mAP; its cut-off is unstated.
        source: where the paper says so.
        unstated: what the paper leaves open.
    """

    model: dict[str, Any]
    graph: dict[str, dict[str, Any]]
    lr: float
    reported: Reported
    source: str
    unstated: str


_LITERAL_LOSS = {
    # Eq. 7 as sums, Eq. 6 and 8 as means, Sec. 4.2's weights; nothing of ours
    "reduction": "sum",
    "beta": 0.1,
    "gamma": 1000.0,
    "eta": 0.01,
    "adv_weight": 1.0,
    "view_weight": 0.0,
    "out_activation": "relu",
}
_LITERAL_GRAPH: dict[str, dict[str, Any]] = {
    "intra": {"k": 20, "anchors": "all", "weight": "binary"},
    "inter": {"pair_edges": "labeled"},
    "labels": {"self_loops": "literal"},
}
_UNSTATED = "metric of the neighbours, number of epochs, optimiser ('stochastic gradient descent')"

MCGCN_WIKIPEDIA = Recipe(
    model=_LITERAL_LOSS
    | {"alpha": 1.0, "hidden_channels": 512, "latent_channels": 2048, "shared_channels": 1024},
    graph=_LITERAL_GRAPH,
    lr=1e-4,
    reported={
        "i2t": {16: (0.544, 0.678, 0.770), 32: (0.638, 0.747, 0.824), 64: (0.654, 0.751, 0.825)},
        "t2i": {16: (0.553, 0.680, 0.765), 32: (0.641, 0.745, 0.823), 64: (0.653, 0.751, 0.824)},
    },
    source="Wu et al., Pattern Recognition 136, 2023, Sec. 4.2 and Table 1",
    unstated=_UNSTATED,
)

MCGCN_NUSWIDE10K = Recipe(
    model=_LITERAL_LOSS
    | {
        "alpha": 0.1,
        "hidden_channels": (1024, 512),
        "latent_channels": 1024,
        "shared_channels": 512,
    },
    graph=_LITERAL_GRAPH,
    lr=1e-4,
    reported={
        "i2t": {16: (0.569, 0.689, 0.753), 32: (0.590, 0.701, 0.781), 64: (0.594, 0.702, 0.782)},
        "t2i": {16: (0.576, 0.687, 0.777), 32: (0.592, 0.703, 0.780), 64: (0.593, 0.705, 0.781)},
    },
    source="Wu et al., Pattern Recognition 136, 2023, Sec. 4.2 and Table 2",
    unstated=_UNSTATED,
)
