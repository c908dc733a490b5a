"""What each method needs besides its model: the graph, and defaults for what is not said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pyg_hash.cli.options import TrainConfig, UsageError, check_options

if TYPE_CHECKING:
    from torch_geometric.transforms import BaseTransform

Steps = Callable[[TrainConfig], "list[BaseTransform]"]


@dataclass(frozen=True)
class Method:
    """How the command line trains one class of ``pyg_hash.models``.

    Attributes:
        defaults: values of the settings that this method has and others may not have. A setting
            whose default is None elsewhere and that is not named here cannot be given.
        graph: the transforms after masks and scaling.
    """

    defaults: dict[str, Any]
    graph: Steps


def method(name: str) -> Method:
    """The method of a model class.

    Raises:
        UsageError: the class has no entry in this file.
    """
    if name not in METHODS:
        raise UsageError(f"model: {name} cannot be trained here; add it to pyg_hash/cli/methods.py")
    return METHODS[name]


def resolve(config: TrainConfig, name: str) -> TrainConfig:
    """Fill in the defaults of the model class ``name``.

    Raises:
        UsageError: a setting that this method does not have.
    """
    defaults = method(name).defaults
    given = {key for key in ALL_SETTINGS if getattr(config, key) not in (None, {})}
    foreign = sorted(given - set(defaults))
    if foreign:
        raise UsageError(
            f"{foreign[0]}: {name} has no such setting; leave it out (it has "
            f"{', '.join(defaults) or 'none of its own'})"
        )
    return replace(config, **{k: v for k, v in defaults.items() if k not in given})


def _mcgcn(config: TrainConfig) -> list[BaseTransform]:
    from pyg_hash.graph.protocol import PROTOCOLS
    from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub

    assert config.k and config.metric and config.protocol and config.match
    options = config.graph_options
    check_options(IntraKNN, options, "graph_options", {"k", "metric", "anchors", "weight"})
    intra, inter = PROTOCOLS[config.protocol]
    return [
        IntraKNN(config.k, config.metric, anchors=intra, weight=config.weight, **options),
        InterKNN(anchors=inter),
        LabelHub(match=config.match),
    ]


def _sgch(config: TrainConfig) -> list[BaseTransform]:
    from pyg_hash.transforms import SGCHGraph

    assert config.k and config.metric and config.protocol
    options = config.graph_options
    check_options(SGCHGraph, options, "graph_options", {"k", "metric", "anchors"})
    reading = options.get("graph", "paper")
    # only the code's graph leads across the modalities, and it does so for all nodes or for none
    wide = "transductive" if reading == "code" else "strict"
    anchors = {"inductive": "train", wide: "all"}.get(config.protocol)
    if anchors is None:
        raise UsageError(
            f"protocol: SGCH on the graph {reading!r} is inductive or {wide}, "
            f"not {config.protocol}; choose one of these"
        )
    return [SGCHGraph(config.k, metric=config.metric, anchors=anchors, **options)]


def _sgeh(config: TrainConfig) -> list[BaseTransform]:
    from pyg_hash.transforms import UnifiedAffinity

    assert config.k
    check_options(UnifiedAffinity, config.graph_options, "graph_options", {"k"})
    return [UnifiedAffinity(k=config.k, **config.graph_options)]


_LABELS = {"label_rate": 0.3}
_GRAPH = {"protocol": "inductive", "k": 20, "metric": "cosine"}
_BATCHES: dict[str, Any] = {"batch_size": None, "loader_options": {}}
METHODS: dict[str, Method] = {
    "MCGCN": Method(
        {"epochs": 80, "lr": 2e-3, **_LABELS, **_GRAPH, **_BATCHES}
        | {"weight": None, "match": "shared", "graph_options": {}},
        _mcgcn,
    ),
    "GCH": Method({"epochs": 25, "lr": 1e-3, "label_rate": 1.0}, lambda config: []),
    "SGCH": Method(
        {"epochs": 80, "lr": 5e-3, **_LABELS, **_GRAPH, **_BATCHES, "graph_options": {}}, _sgch
    ),
    "SGEH": Method({"epochs": 80, "lr": 1e-3, "k": 50, "graph_options": {}}, _sgeh),
}
METHODS |= {
    name: Method(defaults, lambda config: [])
    for name, defaults in {
        **dict.fromkeys(("LSH", "CCA", "ITQ", "CMFH", "IMH"), {}),
        **dict.fromkeys(("ClassCodes", "SCM"), _LABELS),
        "DCMH": {"epochs": 60, "lr": 1e-3, **_LABELS},
        "DJSRH": {"epochs": 40, "lr": 2.5e-3},
        "JDSH": {"epochs": 60, "lr": 1.8e-3},
        "DGCPN": {"epochs": 80, "lr": 1.5e-3},
    }.items()
}
ALL_SETTINGS = frozenset(name for known in METHODS.values() for name in known.defaults)
"""Settings that some method has; all others belong to every run."""
