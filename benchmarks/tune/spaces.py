"""What is varied for each method, and between which bounds.

A name is that of a setting of ``pyg-hash train`` (``lr``, ``epochs``, ``k``), or of a keyword:
``model.NAME`` of the model, ``graph.NAME`` of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Between(NamedTuple):
    """A number between two bounds, by equal steps of itself or (``log``) of its logarithm."""

    low: float
    high: float
    log: bool = True


class Whole(NamedTuple):
    """A whole number: ``low``, ``low + step``, ... up to ``high``."""

    low: int
    high: int
    step: int


class One(NamedTuple):
    """One of some values."""

    of: tuple[Any, ...]


Space = Mapping[str, Between | Whole | One]

_WIDTH = One((128, 256, 512))
_DROPOUT = Between(0.0, 0.6, log=False)
_BATCH = One((32, 64, 128, 256))
_SHARE = Between(0.0, 1.0, log=False)
_TRAINED: Space = {
    "lr": Between(3e-4, 5e-3),
    "epochs": Whole(20, 100, 20),
    "model.hidden_channels": One((256, 512, 1024)),
    "model.dropout": _DROPOUT,
    "model.batch_size": _BATCH,
}
_RIDGE: Space = {"model.ridge": Between(1e-2, 1e3)}
SPACES: dict[str, Space] = {
    "MCGCN": {
        "lr": Between(5e-4, 1e-2),
        "epochs": Whole(40, 200, 20),
        "k": One((10, 20, 40)),
        "graph.neighbor_weight": Between(0.03, 1.0),
        "model.hidden_channels": _WIDTH,
        "model.latent_channels": _WIDTH,
        "model.shared_channels": _WIDTH,
        "model.weights.quantization": Between(1e-3, 1.0),
        "model.weights.balance": Between(1e-3, 10.0),
        "model.weights.prediction": Between(0.1, 10.0),
        "model.weights.reconstruction": Between(1e-4, 0.1),
        "model.weights.adversarial": Between(1e-3, 1.0),
        "model.weights.pairing": Between(0.1, 30.0),
        "model.weights.view": Between(0.03, 3.0),
    },
    "GCH": {
        "lr": Between(3e-4, 5e-3),
        "epochs": Whole(10, 50, 5),
        "model.hidden_channels": _WIDTH,
        "model.beacon.channels": One((256, 512, 1024)),
        "model.dropout": _DROPOUT,
        "model.weights.pairwise": Between(0.1, 10.0),
        "model.weights.beacon": Between(0.1, 10.0),
        "model.weights.prediction": Between(0.1, 10.0),
        "model.batch_size": _BATCH,
    },
    "SGCH": {
        "lr": Between(5e-4, 1e-2),
        "epochs": Whole(40, 200, 20),
        "k": One((10, 20, 40)),
        "graph.neighbor_weight": Between(0.03, 1.0),
        "model.hidden_channels": _WIDTH,
        "model.out_channels": _WIDTH,
        "model.weights.balance": Between(0.1, 100.0),
        "model.weights.quantization": Between(1e-3, 1.0),
        "model.weights.pairing": Between(0.03, 10.0),
        "model.weights.adversarial": Between(1e-3, 1.0),
        "model.weights.view": Between(0.03, 3.0),
    },
    "SGEH": {
        "lr": Between(3e-4, 5e-3),
        "epochs": Whole(20, 100, 20),
        "k": One((10, 20, 30, 50)),
        "model.hidden_channels": _WIDTH,
        "model.dropout": _DROPOUT,
        "model.batch_size": _BATCH,
        "model.walk_steps": One((1, 2, 3)),
        "model.alpha": Between(1.0, 6.0, log=False),
        "model.lambda3": Between(0.1, 1.0, log=False),
        "model.lambda4": Between(0.1, 0.9, log=False),
        "model.weights.affinity_ii": Between(0.03, 3.0),
        "model.weights.affinity_tt": Between(0.03, 3.0),
        "model.weights.prior": Between(1e-4, 0.1),
    },
    "CCA": _RIDGE,
    "ITQ": {**_RIDGE, "model.weighted": One((False, True))},
    "LSH": _RIDGE,
    "SCM": {"model.ridge": Between(1e-3, 1e2), "model.variant": One(("sequential", "orthogonal"))},
    "ClassCodes": {"model.penalty": Between(1e-3, 1e2), "model.center": One((False, True))},
    "IMH": {
        "model.k": One((5, 10, 20, 40)),
        "model.weight": Between(1e-4, 1.0),
        "model.ridge": Between(1e-3, 1e2),
    },
    "CMFH": {
        "model.share": Between(0.1, 0.9, log=False),
        "model.mu": Between(1.0, 1e3),
        "model.gamma": Between(1e-3, 1e2),
    },
    "DCMH": {
        **_TRAINED,
        "model.gamma": Between(0.01, 10.0),
        "model.eta": Between(0.01, 10.0),
    },
    "DJSRH": {
        **_TRAINED,
        "model.beta": _SHARE,
        "model.eta": _SHARE,
        "model.mu": Between(1.0, 20.0),
        "model.lambda1": Between(0.03, 3.0),
        "model.lambda2": Between(0.03, 3.0),
    },
    "JDSH": {
        **_TRAINED,
        "model.alpha": _SHARE,
        "model.beta": _SHARE,
        "model.mu": Between(1.0, 20.0),
        "model.intra": Between(0.03, 3.0),
    },
    "DGCPN": {
        **_TRAINED,
        "model.k": One((20, 50, 100, 200)),
        "model.a1": _SHARE,
        "model.a2": _SHARE,
        "model.consistency": Between(0.03, 3.0),
    },
}
"""Method -> what is varied."""
