"""The rows of the tables: what is trained, how, and under which protocols.

Settings are those of ``pyg-hash train``: what a row does not name is the command line's default,
so that no number stands in two places.
"""

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any

import pyg_hash.models
from benchmarks.record import stated
from pyg_hash.cli import build
from pyg_hash.cli.options import TrainConfig
from pyg_hash.models.files import stored_config
from pyg_hash.models.mcgcn import WEIGHTS as DEFAULTS
from pyg_hash.recipes import EVERY, presets
from pyg_hash.recipes import METHODS as RECIPES
from pyg_hash.typing import MODALITIES

ORDER = ("inductive", "strict", "transductive")  # from the one that lets a code depend on least
HELD_OUT = 0.2  # share of the labelled items that choose a setting
CHOICE_SEEDS = (0, 1, 2)
CHOICE_BITS = 32


def _with(options, path, value):
    """``options`` with another value at a path, ``('weights', 'balance')``."""
    name, *rest = path
    return {**options, name: _with(options.get(name) or {}, rest, value) if rest else value}


@cache  # thousands of lines have few settings
def _all_options(kind, options):
    """All options of a model, groups filled up, from some as JSON; but its sizes and its seed."""
    sizes = {"num_classes": 2} if "num_classes" in inspect.signature(kind).parameters else {}
    model = kind(dict.fromkeys(MODALITIES, 1), **sizes, **json.loads(options))
    left_out = ("num_features", "num_classes", "num_bits", "seed")
    found = {name: v for name, v in stored_config(model.config).items() if name not in left_out}
    if found.get("weights", {}).get("contrast") == 0:  # lines from before there was this term
        found["weights"] = {n: v for n, v in found["weights"].items() if n != "contrast"}
    return found


@dataclass(frozen=True)
class Method:
    name: str  # of the row; unique
    model: str  # a class of pyg_hash.models
    config: dict[str, Any] = field(default_factory=dict)  # what differs from pyg-hash train's
    # what its graph can be; a method whose codes need no graph is inductive
    protocols: tuple[str, ...] = ("inductive",)
    # settings for with_values(): held-out labels choose one for each data set and label rate
    choices: tuple[Mapping[str, Any], ...] = ()
    data: tuple[str, ...] = ()  # where it is run, if not everywhere

    @property
    def labels(self):
        """Whether it reads labels; one that does not has one result for all label rates."""
        return "label_rate" in RECIPES[self.model] and self.config.get("label_rate") != 0

    def with_values(self, values):
        """The row under other settings, without a choice.

        By name: ``lr``, ``epochs`` or ``k`` as in ``pyg-hash train``, ``model.X`` for the keyword X
        of the model, ``graph.X`` for one of the graph.
        """
        config = self.config
        for name, value in values.items():
            part, *path = name.split(".")
            config = _with(config, [f"{part}_options", *path] if path else [part], value)
        return replace(self, config=config, choices=())

    def candidates(self):
        """What there is to choose from, by the settings' text; empty for a row without choices."""
        rows = map(self.with_values, self.choices)
        texts = (", ".join(f"{name}={v}" for name, v in one.items()) for one in self.choices)
        return {text or "defaults": row for text, row in zip(texts, rows, strict=True)}

    def under(self, choice):
        """The row that is trained: that of a choice, as a cell's line has it, if there was one."""
        return self.candidates()[choice["chosen"]] if choice else self

    def train_config(self, bits, labels, seed, protocol, **changes):
        """All settings of one run, ``changes`` included; those that the method lacks left out."""
        lacking = set().union(*RECIPES.values()) - set(EVERY) - set(RECIPES[self.model])
        asked = {"label_rate": labels, "protocol": protocol}
        given, own = ({k: of[k] for k in of if k not in lacking} for of in (asked, changes))
        mine = {**given, **self.config, **own}
        return build.with_defaults(TrainConfig(model=self.model, num_bits=bits, seed=seed, **mine))

    def settings(self, protocol, **changes):
        """All that decides its codes besides data, bits, labels and seed, as JSON values."""
        config = self.train_config(32, 0.5 if self.labels else None, 0, protocol, **changes)
        kind = getattr(pyg_hash.models, self.model)
        options = _all_options(kind, json.dumps(config.model_options, sort_keys=True))
        about = {"model": self.model, "options": options}
        about["graph"] = [repr(step) for step in build.recipe_of(config).graph]
        if config.epochs is not None:  # else it has a closed form
            steps = {"optimizer": "Adam", "lr": config.lr, "epochs": config.epochs}
            steps |= {"optimizer" if k == "name" else k: v for k, v in config.optimizer.items()}
            about["training"] = steps | ({} if config.decay == 1 else {"decay": config.decay})
        if config.scaling:
            about["scaling"] = config.scaling
        if self.choices:
            made = {"held_out": HELD_OUT, "seeds": CHOICE_SEEDS, "bits": CHOICE_BITS}
            about["choices"] = {"of": self.choices, **made}
        return json.loads(json.dumps(about))


LETTERS = {"alpha": "quantization", "beta": "balance", "gamma": "prediction"}
LETTERS["eta"] = "reconstruction"
WEIGHTS = {letter: DEFAULTS[term] for letter, term in LETTERS.items()}  # that Fig. 5 varies
FACTORS = (0.01, 0.1, 10.0, 100.0)


def varied(weight, factor):
    return f"MCGCN, {weight} x {factor:g}"


PAPER, CODE = "paper's settings", "code's settings"


def _read():
    for name, config in stated(__file__).items():
        own = {k: tuple(config.pop(k)) for k in ("protocols", "choices", "data") if k in config}
        if "recipe" in config:
            settings = presets()[config["recipe"]].settings
            own["protocols"] = (settings.get("protocol", "inductive"),)
        model = re.match(r"\w+", name)[0]
        if model == "SGEH":
            config = _with(config, ("graph_options", "progress"), False)
        yield Method(name, model, config, **own)
    for (letter, value), factor in product(WEIGHTS.items(), FACTORS):
        weights = {"weights": {LETTERS[letter]: value * factor}}
        yield Method(varied(letter, factor), "MCGCN", {"model_options": weights}, ORDER)


METHODS = {row.name: row for row in _read()}  # those of MCGCN's Fig. 5 included
