"""The rows of the tables: what is trained, and under which protocols.

Settings are those of ``pyg-hash train``: what a row does not name is the command line's default,
so that no number stands in two places.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyg_hash.models
from pyg_hash.cli import build
from pyg_hash.cli.methods import ALL_SETTINGS
from pyg_hash.cli.methods import METHODS as COMMAND_LINE
from pyg_hash.cli.options import TrainConfig
from pyg_hash.models import baselines

ORDER = ("inductive", "strict", "transductive")
"""Protocols, from the one that lets a code depend on least."""
HELD_OUT = 0.2
"""Share of the labelled items that choose a setting."""
CHOICE_SEEDS = (0, 1, 2)
CHOICE_BITS = 32
_PARTS = {"model": "model_options", "graph": "graph_options"}


@dataclass(frozen=True)
class Method:
    """One way to get codes.

    Attributes:
        name: of the row; unique.
        model: a class of ``pyg_hash.models`` or ``pyg_hash.models.baselines``.
        config: settings of ``pyg-hash train`` that differ from its defaults.
        protocols: what its graph can be; a method whose codes need no graph is inductive.
        choices: settings, as :meth:`with_values` takes them. Held-out labels choose one of them
            for each data set and label rate, see ``chosen.py``.
    """

    name: str
    model: str
    config: dict[str, Any] = field(default_factory=dict)
    protocols: tuple[str, ...] = ("inductive",)
    choices: tuple[Mapping[str, Any], ...] = ()

    @property
    def kind(self) -> Any:
        """The class."""
        return getattr(pyg_hash.models, self.model, None) or getattr(baselines, self.model)

    @property
    def labels(self) -> bool:
        """Whether it reads labels; one that does not has one result for all label rates."""
        return "label_rate" in COMMAND_LINE[self.model].defaults

    def with_values(self, values: Mapping[str, Any]) -> Method:
        """The row under other settings, without a choice.

        Args:
            values: by name: ``lr``, ``epochs`` or ``k`` as in ``pyg-hash train``, ``model.X`` for
                the keyword X of the model, ``graph.X`` for one of the graph.
        """
        config = dict(self.config)
        for name, value in values.items():
            part, _, option = name.rpartition(".")
            if part:
                config[_PARTS[part]] = {**config.get(_PARTS[part], {}), option: value}
            else:
                config[name] = value
        return replace(self, config=config, choices=())

    def candidates(self) -> dict[str, Method]:
        """What there is to choose from, by the settings' text; empty for a row without choices."""
        return {
            ", ".join(f"{name}={value}" for name, value in one.items())
            or "defaults": self.with_values(one)
            for one in self.choices
        }

    def train_config(
        self, bits: int, labels: float | None, seed: int, protocol: str, **changes: Any
    ) -> TrainConfig:
        """The settings of one run, all of them.

        Args:
            bits: code length.
            labels: label rate.
            seed: of labels, parameters and training.
            protocol: of the graph.
            changes: further settings; those that the method does not have are left out.
        """
        has = COMMAND_LINE[self.model].defaults
        asked = {"label_rate": labels, "protocol": protocol}
        given = {name: value for name, value in asked.items() if name in has}
        own = {k: v for k, v in changes.items() if k in has or k not in ALL_SETTINGS}
        mine = {**given, **self.config, **own}
        return build.with_defaults(TrainConfig(model=self.model, num_bits=bits, seed=seed, **mine))

    def settings(self, protocol: str, **changes: Any) -> dict[str, Any]:
        """All that decides its codes besides data, bits, labels and seed, as JSON values."""
        known = inspect.signature(self.kind).parameters.values()
        options = {p.name: p.default for p in known if p.default is not p.empty}
        for name in ("num_bits", "seed"):
            options.pop(name, None)
        about = {"model": self.model, "options": options | self.config.get("model_options", {})}
        config = self.train_config(32, 0.5 if self.labels else None, 0, protocol, **changes)
        about["graph"] = [repr(step) for step in COMMAND_LINE[self.model].graph(config)]
        if config.epochs is not None:  # else it has a closed form
            about["training"] = {"optimizer": "Adam", "lr": config.lr, "epochs": config.epochs}
        if self.choices:
            about["choices"] = {
                **{"of": self.choices, "held_out": HELD_OUT},
                **{"seeds": CHOICE_SEEDS, "bits": CHOICE_BITS},
            }
        plain: dict[str, Any] = json.loads(json.dumps(about))
        return plain


def _model(**options: Any) -> dict[str, Any]:
    return {"model_options": options}


def _graph(**options: Any) -> dict[str, Any]:
    return {"graph_options": options}


_PAPER_SGCH = ("inductive", "strict")  # no edge leads across the modalities
_CODE_SGCH = ("inductive", "transductive")
_QUIET = _graph(progress=False)
_EDGES = _model(batches="edges", batch_size=128)
_EQ_1 = _graph(neighbor_weight=1.0)
_ROWS = [
    Method("ClassCodes", "ClassCodes"),
    Method("ClassCodes, centred", "ClassCodes", _model(center=True)),
    Method("SCM", "SCM"),
    Method("DCMH", "DCMH"),
    Method("DCMH, chosen", "DCMH", choices=({}, {"lr": 2e-3, "epochs": 100})),
    Method("GCH", "GCH"),
    Method("GCH-A", "GCH", _model(variant="GCH-A")),
    Method("GCH Try1", "GCH", _model(variant="Try1")),
    Method("GCH Try2", "GCH", _model(variant="Try2")),
    Method("GCH squared_nll", "GCH", _model(pair_loss="squared_nll")),
    Method("GCH without self-loops", "GCH", _model(add_self_loops=False)),
    Method("SGCH", "SGCH", {}, _PAPER_SGCH),
    Method(
        "SGCH, chosen",
        "SGCH",
        protocols=_PAPER_SGCH,
        choices=(
            *({}, {"graph.neighbor_weight": 0.2}),
            {"epochs": 200, "graph.neighbor_weight": 0.05},
        ),
    ),
    Method("SGCH v1", "SGCH", _model(variant="v1"), _PAPER_SGCH),
    Method("SGCH, code's graph", "SGCH", _graph(graph="code"), _CODE_SGCH),
    # ablations are of the paper's model: its graph is that of Eq. 1, where a neighbour weighs 1
    Method("SGCH, paper's weight", "SGCH", _EQ_1, _PAPER_SGCH),
    Method("SGCH v1, paper's weight", "SGCH", _EQ_1 | _model(variant="v1")),
    Method("SGCH reversal, paper's weight", "SGCH", _EQ_1 | _model(adversary="reversal")),
    Method("SGCH linear, paper's weight", "SGCH", _EQ_1 | _model(similarity="linear")),
    Method(
        "SGCH, code's graph, paper's weight",
        "SGCH",
        _graph(graph="code", neighbor_weight=1.0),
        _CODE_SGCH,
    ),
    Method("MCGCN", "MCGCN", {}, ORDER),
    Method(
        "MCGCN, chosen",
        "MCGCN",
        protocols=ORDER,
        choices=({}, {"lr": 5e-3, "epochs": 200, "k": 50}),  # more labels: more steps, wider graph
    ),
    *(Method(f"MCGCN-{v}", "MCGCN", _model(variant=v), ORDER) for v in ("S", "IT", "A", "C")),
    Method(
        "MCGCN, paper terms",
        "MCGCN",
        {"weight": "binary"} | _model(beta=0.1, pair_weight=0.0, view_weight=0.0),
        ORDER,
    ),
    *(
        Method(name, name)
        for name in ("LSH", "CCA", "ITQ", "CMFH", "IMH", "DJSRH", "JDSH", "DGCPN")
    ),
    Method("ITQ, unweighted", "ITQ", _model(weighted=False)),
    # features of few dimensions are alike: our defaults, 9 and 4.8, ask for cosines above 1
    Method("DJSRH, paper's factor", "DJSRH", _model(mu=1.5)),
    Method("JDSH, code's factor", "JDSH", _model(mu=1.4)),
    Method("SGEH", "SGEH", _QUIET),
    *(Method(f"SGEH-{n}", "SGEH", _QUIET | _model(variant=f"SGEH-{n}")) for n in (1, 2, 3, 4)),
    *(
        Method(f"SGEH adjacency '{a}'", "SGEH", _QUIET | _model(adjacency=a))
        for a in ("induced", "paper")
    ),
    Method("SGEH, edge batches", "SGEH", _QUIET | {"epochs": 4} | _EDGES),
]
_DEFAULTS = inspect.signature(pyg_hash.models.MCGCN).parameters
WEIGHTS = {name: float(_DEFAULTS[name].default) for name in ("alpha", "beta", "gamma", "eta")}
"""The weights of MCGCN's loss that its Fig. 5 varies, and their defaults here."""
FACTORS = (0.01, 0.1, 10.0, 100.0)


def varied(weight: str, factor: float) -> str:
    """The row of MCGCN with one weight of its loss multiplied."""
    return f"MCGCN, {weight} x {factor:g}"


_ROWS += [
    Method(varied(name, factor), "MCGCN", _model(**{name: value * factor}), ORDER)
    for name, value in WEIGHTS.items()
    for factor in FACTORS
]
METHODS = {row.name: row for row in _ROWS}
assert len(METHODS) == len(_ROWS)
