"""What a setting is worth: mAP of labelled training items that were held out, never of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.accuracy.cell import Bench
from benchmarks.accuracy.methods import METHODS
from benchmarks.accuracy.table import Cell
from benchmarks.tune.spaces import SPACES, Between, One, Space, Whole
from pyg_hash.cli import build

NUM_BITS = 32
PROTOCOL = "inductive"


class Case(NamedTuple):
    """One training of a setting."""

    data: str
    labels: float | None
    seed: int


def cases(
    name: str, data: Sequence[str], rates: Sequence[float], seeds: Sequence[int]
) -> list[Case]:
    """What a setting is measured on; seed by seed, so that a bad one is known early."""
    shown: Sequence[float | None] = rates if METHODS[name].labels else [None]
    return [Case(where, rate, seed) for seed in seeds for where in data for rate in shown]


def ask(trial: Any, space: Space) -> dict[str, Any]:
    """A setting from an Optuna trial."""
    found: dict[str, Any] = {}
    for name, of in space.items():
        if isinstance(of, Between):
            found[name] = trial.suggest_float(name, of.low, of.high, log=of.log)
        elif isinstance(of, Whole):
            found[name] = trial.suggest_int(name, of.low, of.high, step=of.step)
        else:
            found[name] = trial.suggest_categorical(name, of.of)
    return found


def defaults(name: str, space: Space) -> dict[str, Any]:
    """Today's values of what is varied."""
    method = METHODS[name]
    now = method.settings(PROTOCOL)
    known = {f"model.{option}": value for option, value in now["options"].items()}
    for option, value in now["options"].items():
        if isinstance(value, dict):  # a group
            known |= {f"model.{option}.{entry}": own for entry, own in value.items()}
    config = method.train_config(NUM_BITS, 0.5 if method.labels else None, 0, PROTOCOL)
    known |= {"lr": config.lr, "epochs": config.epochs, "k": config.k}
    for step in build.recipe_of(config).graph:
        known |= {f"graph.{option}": value for option, value in vars(step).items()}
    return {name: known[name] for name in space}


def space_of(name: str) -> Space:
    """What is varied, wide enough for today's values."""
    widened: dict[str, Between | Whole | One] = {}
    now = defaults(name, SPACES[name])
    for setting, of in SPACES[name].items():
        value = now[setting]
        if isinstance(of, One):
            widened[setting] = of if value in of.of else One((*of.of, value))
        else:
            widened[setting] = of._replace(low=min(of.low, value), high=max(of.high, value))
    return widened


def worth(bench: Bench, name: str, values: Mapping[str, Any], case: Case) -> float:
    """Mean of i2t and t2i of the held-out items against the rest of the database.

    Raises:
        FloatingPointError: the training diverged.
    """
    cell = Cell(case.data, name, NUM_BITS, case.labels, case.seed, PROTOCOL)
    return bench.worth(cell, METHODS[name].with_values(values))
