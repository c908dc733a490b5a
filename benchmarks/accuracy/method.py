"""One row of a table: what is trained, and how.

Settings are those of ``pyg-hash train``: what a row does not name is the command line's default,
so that no number stands in two places.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch_geometric.data import HeteroData
from torch_geometric.transforms import Compose

import pyg_hash.models
from pyg_hash.cli import build
from pyg_hash.cli.options import TrainConfig
from pyg_hash.models.files import stored_config
from pyg_hash.recipes import EVERY
from pyg_hash.recipes import METHODS as RECIPES
from pyg_hash.typing import MODALITIES

HELD_OUT = 0.2
"""Share of the labelled items that choose a setting."""
CHOICE_SEEDS = (0, 1, 2)
CHOICE_BITS = 32
_OPTIONS: dict[Any, dict[str, Any]] = {}
_PARTS = {"model": "model_options", "graph": "graph_options"}


def _with(options: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """``options`` with another value at a path, ``('weights', 'balance')``."""
    name, *rest = path
    return {**options, name: _with(options.get(name) or {}, rest, value) if rest else value}


def all_options(kind: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a model, those that are groups filled up; but its sizes and its seed."""
    key = kind, json.dumps(options, sort_keys=True)  # thousands of lines have few settings
    if key in _OPTIONS:
        return dict(_OPTIONS[key])
    sizes = {"num_classes": 2} if "num_classes" in inspect.signature(kind).parameters else {}
    config = stored_config(kind(dict.fromkeys(MODALITIES, 1), **sizes, **options).config)
    left_out = ("num_features", "num_classes", "num_bits", "seed")
    _OPTIONS[key] = {name: value for name, value in config.items() if name not in left_out}
    return dict(_OPTIONS[key])


@dataclass(frozen=True)
class Method:
    """One way to get codes.

    Attributes:
        name: of the row; unique.
        model: a class of ``pyg_hash.models``.
        config: settings of ``pyg-hash train`` that differ from its defaults.
        protocols: what its graph can be; a method whose codes need no graph is inductive.
        choices: settings, as :meth:`with_values` takes them. Held-out labels choose one of them
            for each data set and label rate, see ``cell.py``.
        data: where it is run, if not everywhere.
    """

    name: str
    model: str
    config: dict[str, Any] = field(default_factory=dict)
    protocols: tuple[str, ...] = ("inductive",)
    choices: tuple[Mapping[str, Any], ...] = ()
    data: tuple[str, ...] = ()

    @property
    def kind(self) -> Any:
        """The class."""
        return getattr(pyg_hash.models, self.model)

    @property
    def labels(self) -> bool:
        """Whether it reads labels; one that does not has one result for all label rates."""
        return "label_rate" in RECIPES[self.model]

    def with_values(self, values: Mapping[str, Any]) -> Method:
        """The row under other settings, without a choice.

        Args:
            values: by name: ``lr``, ``epochs`` or ``k`` as in ``pyg-hash train``, ``model.X`` for
                the keyword X of the model, ``graph.X`` for one of the graph.
        """
        config = dict(self.config)
        for name, value in values.items():
            part, *path = name.split(".")
            if path:
                config[_PARTS[part]] = _with(config.get(_PARTS[part], {}), path, value)
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
        has = RECIPES[self.model]
        asked = {"label_rate": labels, "protocol": protocol}
        given = {name: value for name, value in asked.items() if name in has}
        others = set().union(*RECIPES.values()) - set(EVERY)
        own = {k: v for k, v in changes.items() if k in has or k not in others}
        mine = {**given, **self.config, **own}
        return build.with_defaults(TrainConfig(model=self.model, num_bits=bits, seed=seed, **mine))

    def settings(self, protocol: str, **changes: Any) -> dict[str, Any]:
        """All that decides its codes besides data, bits, labels and seed, as JSON values."""
        config = self.train_config(32, 0.5 if self.labels else None, 0, protocol, **changes)
        options = all_options(self.kind, config.model_options)
        about: dict[str, Any] = {"model": self.model, "options": options}
        about["graph"] = [repr(step) for step in build.recipe_of(config).graph]
        if config.epochs is not None:  # else it has a closed form
            steps = {"optimizer": "Adam", "lr": config.lr, "epochs": config.epochs}
            own = dict(config.optimizer)
            about["training"] = steps | {"optimizer": own.pop("name", "Adam")} | own
            if config.decay != 1:
                about["training"]["decay"] = config.decay
        if config.scaling:
            about["scaling"] = config.scaling
        if self.choices:
            about["choices"] = {
                **{"of": self.choices, "held_out": HELD_OUT},
                **{"seeds": CHOICE_SEEDS, "bits": CHOICE_BITS},
            }
        plain: dict[str, Any] = json.loads(json.dumps(about))
        return plain

    def transform(self, config: TrainConfig) -> Compose:
        """Masks, scaled features and graph of one run."""
        return build.recipe_of(config).transforms

    def train(self, config: TrainConfig, data: HeteroData) -> Any:
        """The model of one run, trained as ``pyg-hash train`` does it."""
        recipe = build.recipe_of(config)
        model = recipe.model(data)
        recipe.fit(model, data, patience=config.patience, progress=False)
        return model
