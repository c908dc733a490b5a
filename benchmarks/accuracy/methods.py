"""The rows of the tables: what is trained, and under which protocols.

Settings are those of ``pyg-hash train``: what a row does not name is the command line's default,
so that no number stands in two places.
"""

from __future__ import annotations

import importlib
import inspect
import json
from dataclasses import dataclass, field
from typing import Any

import pyg_hash.models
from pyg_hash.cli import build
from pyg_hash.cli.methods import METHODS as COMMAND_LINE
from pyg_hash.cli.options import TrainConfig

ORDER = ("inductive", "strict", "transductive")
"""Protocols, from the one that lets a code depend on least."""


@dataclass(frozen=True)
class Method:
    """One way to get codes.

    Attributes:
        name: of the row; unique.
        model: a class of ``pyg_hash.models`` or ``pyg_hash.models.baselines``.
        config: settings of ``pyg-hash train`` that differ from its defaults.
        protocols: what its graph can be; a method whose codes need no graph is inductive.
        labels: whether it reads labels; one that does not has one result for all label rates.
    """

    name: str
    model: str
    config: dict[str, Any] = field(default_factory=dict)
    protocols: tuple[str, ...] = ("inductive",)
    labels: bool = True

    @property
    def kind(self) -> Any:
        """The class."""
        if self.is_baseline:
            return getattr(importlib.import_module("pyg_hash.models.baselines"), self.model)
        return getattr(pyg_hash.models, self.model)

    @property
    def is_there(self) -> bool:
        """Whether the library has it."""
        known = importlib.import_module("pyg_hash.models.baselines").__all__
        return not self.is_baseline or (
            self.model in known and (self.is_solved or self.model in COMMAND_LINE)
        )

    @property
    def is_baseline(self) -> bool:
        """Whether it is none of the four methods."""
        return self.model not in pyg_hash.models.__all__

    @property
    def is_solved(self) -> bool:
        """Whether it has a closed form: ``solve(data)`` takes the place of a training."""
        return hasattr(self.kind, "solve")

    def build(self, num_features: Any, num_classes: int, bits: int, seed: int) -> Any:
        """A model with a closed form, not solved yet."""
        known = inspect.signature(self.kind).parameters
        sizes = {"num_classes": num_classes, "num_bits": bits, "seed": seed}
        given = {name: value for name, value in sizes.items() if name in known}
        return self.kind(num_features, **given, **self.config.get("model_options", {}))

    def train_config(
        self, bits: int, labels: float | None, seed: int, protocol: str, **changes: Any
    ) -> TrainConfig:
        """The settings of one training, all of them."""
        has = COMMAND_LINE[self.model].defaults
        asked = {"label_rate": labels, "protocol": protocol}
        given = {name: value for name, value in asked.items() if name in has}
        mine = {**given, **self.config, **changes}
        return build.with_defaults(TrainConfig(model=self.model, num_bits=bits, seed=seed, **mine))

    def settings(self, protocol: str, **changes: Any) -> dict[str, Any]:
        """All that decides its codes besides data, bits, labels and seed, as JSON values."""
        known = inspect.signature(self.kind).parameters.values()
        options = {p.name: p.default for p in known if p.default is not p.empty}
        for name in ("num_bits", "seed"):
            options.pop(name, None)
        about = {"model": self.model, "options": options | self.config.get("model_options", {})}
        if not self.is_solved:
            rate = 0.5 if self.labels else None
            config = self.train_config(32, rate, 0, protocol, **changes)
            about["graph"] = [repr(step) for step in COMMAND_LINE[self.model].graph(config)]
            about["training"] = {"optimizer": "Adam", "lr": config.lr, "epochs": config.epochs}
        plain: dict[str, Any] = json.loads(json.dumps(about))
        return plain


def _model(**options: Any) -> dict[str, Any]:
    return {"model_options": options}


def _graph(**options: Any) -> dict[str, Any]:
    return {"graph_options": options}


def _without_labels(name: str, model: str | None = None, **config: Any) -> Method:
    return Method(name, model or name, config, labels=False)


_PAPER_SGCH = ("inductive", "strict")  # no edge leads across the modalities
_CODE_SGCH = ("inductive", "transductive")
_SGEH = _graph(progress=False)
_ROWS = [
    Method("ClassCodes", "ClassCodes"),
    Method("ClassCodes, centred", "ClassCodes", _model(center=True)),
    Method("SCM", "SCM"),
    Method("DCMH", "DCMH"),
    Method("GCH", "GCH"),
    Method("GCH-A", "GCH", _model(variant="GCH-A")),
    Method("GCH Try1", "GCH", _model(variant="Try1")),
    Method("GCH Try2", "GCH", _model(variant="Try2")),
    Method("SGCH", "SGCH", {}, _PAPER_SGCH),
    Method("SGCH v1", "SGCH", _model(variant="v1"), _PAPER_SGCH),
    Method("SGCH, code's graph", "SGCH", _graph(graph="code"), _CODE_SGCH),
    Method("MCGCN", "MCGCN", {}, ORDER),
    *(Method(f"MCGCN-{v}", "MCGCN", _model(variant=v), ORDER) for v in ("S", "IT", "A", "C")),
    Method("MCGCN, Eq. 1", "MCGCN", {"weight": "binary"} | _model(view_weight=0.0), ORDER),
    *(
        _without_labels(name)
        for name in ("LSH", "CCA", "ITQ", "CMFH", "IMH", "DJSRH", "JDSH", "DGCPN")
    ),
    _without_labels("ITQ, weighted", "ITQ", **_model(weighted=True)),
    _without_labels("SGEH", **_SGEH),
    *(
        _without_labels(f"SGEH-{n}", "SGEH", **_SGEH, **_model(variant=f"SGEH-{n}"))
        for n in (1, 2, 3, 4)
    ),
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
