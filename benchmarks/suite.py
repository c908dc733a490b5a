"""What ``methods.py`` compares. Numbers to tune stand in ``SETTINGS``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from baselines import ITQCCA, ClassCodeBaseline, SignCCA
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

import pyg_hash.models
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, SGCHGraph, UnifiedAffinity
from pyg_hash.transforms.protocol import PROTOCOLS

NUM_BITS = 32
CHOICE_SEEDS = (0, 1, 2)

# One row a method: epochs, learning rate (a number, or one for each part of the model), optimiser
# of torch.optim (Adam if none is named; other keys are its keywords). The same for all data sets.
SETTINGS: dict[str, dict[str, Any]] = {
    "MCGCN": {"epochs": 80, "lr": 2e-3},
    "GCH": {"epochs": 25, "lr": 1e-3},
    "SGCH": {"epochs": 80, "lr": 5e-3},
    "SGEH": {"epochs": 3, "lr": 1e-3},
}

BASELINES = {
    "class codes": ClassCodeBaseline,
    "sign of CCA": SignCCA,
    "ITQ on CCA": ITQCCA,
}


def _mcgcn(data: HeteroData, protocol: str = "inductive") -> list[BaseTransform]:
    intra, inter = PROTOCOLS[protocol]
    return [IntraKNN(20, anchors=intra), InterKNN(anchors=inter), LabelHub()]


def _sgch(data: HeteroData, **options: Any) -> list[BaseTransform]:
    return [SGCHGraph(20, **options)]


def _sgeh(data: HeteroData, **options: Any) -> list[BaseTransform]:
    # as many clusters as classes: the one thing about the labels that the method is told
    return [UnifiedAffinity(k=30, progress=False, **options)]


GRAPHS: dict[str, Callable[..., list[BaseTransform]]] = {
    "MCGCN": _mcgcn,
    "SGCH": _sgch,
    "SGEH": _sgeh,
}


@dataclass(frozen=True)
class Method:
    """One way to get codes: a row of a table.

    Attributes:
        name: what the row is called; unique.
        family: a key of ``SETTINGS`` (a class of ``pyg_hash.models``) or of ``BASELINES``.
        options: keywords of the model.
        graph: keywords of its graph, see ``GRAPHS``.
        settings: what differs from ``SETTINGS``.
        choices: a keyword of the graph and its values, of which one is chosen for each data set
            and label rate, see :func:`cells.choose`.
    """

    name: str
    family: str
    options: dict[str, Any] = field(default_factory=dict)
    graph: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    choices: tuple[str, tuple[float, ...]] | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether it is no method of the library."""
        return self.family in BASELINES

    def training(self) -> dict[str, Any]:
        """Epochs, learning rate and optimiser; empty for a baseline."""
        return {} if self.is_baseline else SETTINGS[self.family] | self.settings

    def described(self) -> dict[str, Any]:
        """All that decides its codes, as JSON values: a result under other ones is stale."""
        about = {"options": self.options, "graph": self.graph, "training": self.training()}
        described: dict[str, Any] = {"family": self.family, "num_bits": NUM_BITS, **about}
        if self.choices is not None:
            described["choices"] = [*self.choices, CHOICE_SEEDS]
        return json.loads(json.dumps(described))

    def build(self, data: HeteroData, seed: int) -> Any:
        """An untrained model, or a baseline."""
        if self.is_baseline:
            return BASELINES[self.family](NUM_BITS, seed, **self.options)
        kind = getattr(pyg_hash.models, self.family)
        sizes = {} if self.family == "SGEH" else {"num_classes": data.num_classes}
        return kind(data.num_features, num_bits=NUM_BITS, **sizes, **self.options)

    def candidates(self) -> list[Method]:
        """The method with each of its choices; itself if it has none."""
        if self.choices is None:
            return [self]
        name, values = self.choices
        return [replace(self, graph=self.graph | {name: v}, choices=None) for v in values]

    def graph_steps(self, data: HeteroData) -> list[BaseTransform]:
        """The transforms after masks and scaling."""
        return GRAPHS[self.family](data, **self.graph) if self.family in GRAPHS else []


@dataclass(frozen=True)
class Ablation:
    """A variant, what it is compared with, and what the paper says of it.

    Attributes:
        variant: name of a method.
        full: name of the method it is compared with.
        claimed: sign of variant minus full in i2t and t2i that the source reports, each ``+``,
            ``-`` or ``?`` (no claim).
        source: where.
    """

    variant: str
    full: str
    claimed: tuple[str, str]
    source: str


_OURS = "no claim: a choice that paper and code make differently"
_SGCH_V1 = "own tables, 10 bits: v1 lower in 9 of 10 cells i2t, 5 of 10 t2i (mean lower in both)"
_EQ_1 = {"neighbor_weight": 1.0}  # the weights of the paper's graph, for the ablations too
_ROWS = [
    Method("class codes", "class codes"),
    Method("class codes, centred", "class codes", {"center": True}),
    Method("MCGCN", "MCGCN"),
    Method("GCH", "GCH"),
    Method("SGCH", "SGCH"),
    Method("SGCH, weight chosen", "SGCH", choices=("neighbor_weight", (0.1, 0.2))),
    Method("sign of CCA", "sign of CCA"),
    Method("ITQ on CCA", "ITQ on CCA"),
    Method("ITQ on CCA, weighted", "ITQ on CCA", {"weighted": True}),
    Method("SGEH", "SGEH"),
    Method("GCH-A", "GCH", {"variant": "GCH-A"}),
    Method("GCH Try1", "GCH", {"variant": "Try1"}),
    Method("GCH Try2", "GCH", {"variant": "Try2"}),
    Method("GCH squared_nll", "GCH", {"pair_loss": "squared_nll"}),
    Method("GCH without self-loops", "GCH", {"add_self_loops": False}),
    Method("SGCH v1", "SGCH", {"variant": "v1"}, _EQ_1),
    Method("SGCH reversal", "SGCH", {"adversary": "reversal"}, _EQ_1),
    Method("SGCH linear", "SGCH", {"similarity": "linear"}, _EQ_1),
    Method("SGCH, paper's weight", "SGCH", graph=_EQ_1),
    Method("SGCH code graph", "SGCH", graph=_EQ_1 | {"graph": "code"}),
    Method("SGCH, all anchors", "SGCH", graph=_EQ_1 | {"anchors": "all"}),
    Method(
        "SGCH code graph, all anchors", "SGCH", graph=_EQ_1 | {"graph": "code", "anchors": "all"}
    ),
    Method("SGEH-1", "SGEH", {"variant": "SGEH-1"}),
    Method("SGEH-2 (DJSRH-style)", "SGEH", {"variant": "SGEH-2"}),
    Method("SGEH-3", "SGEH", {"variant": "SGEH-3"}),
    Method("SGEH-4", "SGEH", {"variant": "SGEH-4"}),
    Method("SGEH adjacency 'induced'", "SGEH", {"adjacency": "induced"}),
    Method("SGEH adjacency 'paper'", "SGEH", {"adjacency": "paper"}),
]
METHODS = {row.name: row for row in _ROWS}
assert len(METHODS) == len(_ROWS)

SUPERVISED = [
    "class codes",
    "class codes, centred",
    "MCGCN",
    "GCH",
    "SGCH",
    "SGCH, weight chosen",
]
UNSUPERVISED = [
    "sign of CCA",
    "ITQ on CCA",
    "ITQ on CCA, weighted",
    "SGEH-2 (DJSRH-style)",
    "SGEH",
]
RATES = (0.3, 1.0)
ABLATIONS: dict[str, tuple[float | None, list[Ablation]]] = {
    "GCH": (
        1.0,
        [
            Ablation("GCH-A", "GCH", ("-", "-"), "Table 2, 16 bits, three data sets"),
            Ablation("GCH Try1", "GCH", ("+", "+"), "reproduction report, MIRFlickr, 32 bits"),
            Ablation("GCH Try2", "GCH", ("+", "-"), "reproduction report, MIRFlickr, 32 bits"),
            Ablation("GCH squared_nll", "GCH", ("?", "?"), _OURS),
            Ablation("GCH without self-loops", "GCH", ("?", "?"), _OURS),
        ],
    ),
    "SGCH": (
        0.3,
        [
            Ablation("SGCH v1", "SGCH, paper's weight", ("-", "-"), _SGCH_V1),
            Ablation(
                "SGCH reversal", "SGCH, paper's weight", ("?", "?"), "no claim: our alternative"
            ),
            Ablation("SGCH linear", "SGCH, paper's weight", ("?", "?"), _OURS),
            Ablation("SGCH, paper's weight", "SGCH", ("?", "?"), "no claim: Eq. 1 to the letter"),
            Ablation("SGCH code graph", "SGCH, paper's weight", ("?", "?"), _OURS),
            Ablation(
                "SGCH, all anchors",
                "SGCH, paper's weight",
                ("?", "?"),
                "no claim: the paper's protocol",
            ),
            Ablation("SGCH code graph, all anchors", "SGCH, all anchors", ("?", "?"), _OURS),
        ],
    ),
    "SGEH": (
        None,
        [
            *(
                Ablation(name, "SGEH", ("-", "-"), "Table 2, MIRFlickr, 32 bits")
                for name in ("SGEH-1", "SGEH-2 (DJSRH-style)", "SGEH-3", "SGEH-4")
            ),
            Ablation(
                "SGEH adjacency 'induced'", "SGEH", ("?", "?"), "no claim: A without diffusion"
            ),
            Ablation("SGEH adjacency 'paper'", "SGEH", ("?", "?"), "no claim: the paper's 2A - 1"),
        ],
    ),
}


@dataclass(frozen=True)
class Job:
    """A method at a label rate; None where no label is used."""

    method: Method
    labels: float | None


def jobs(parts: list[str], names: list[str] | None = None) -> list[Job]:
    """The runs of the chosen parts, each once, in the order of the tables.

    Args:
        parts: some of ``'supervised'``, ``'unsupervised'``, ``'ablations'``.
        names: methods or families to keep; None keeps all.

    Raises:
        ValueError: a name that is neither.
    """
    wanted: dict[tuple[str, float | None], None] = {}
    if "supervised" in parts:
        wanted |= {(name, rate): None for rate in RATES for name in SUPERVISED}
    if "unsupervised" in parts:
        wanted |= {(name, None): None for name in UNSUPERVISED}
    if "ablations" in parts:
        for rate, ablations in ABLATIONS.values():
            for ablation in ablations:
                wanted |= {(ablation.full, rate): None, (ablation.variant, rate): None}
    found = [Job(METHODS[name], rate) for name, rate in wanted]
    if names is None:
        return found
    known = {row.name for row in _ROWS} | {row.family for row in _ROWS}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(f"methods: {unknown[0]!r} is not known; use some of {sorted(known)}")
    return [job for job in found if {job.method.name, job.method.family} & set(names)]
