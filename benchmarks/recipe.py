"""What a recipe is: the settings of a published experiment and the numbers reported for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import pyg_hash.models

Values = Mapping[str, Mapping[str, Mapping[int, tuple[float, ...]]]]
"""Method -> task -> bits -> one number a column."""
_NO_KEYWORDS = ("epochs", "lr", "optimizer", "schedule")


@dataclass(frozen=True)
class Table:
    """Numbers that a paper or report prints.

    Attributes:
        source: where.
        metric: what they are called there.
        values: method -> task (``i2t``, ``t2i``, ...) -> bits -> one number for each column.
        columns: what the numbers differ in, e.g. the share of labels.
        deviations: standard deviations of some of the values, laid out like them.
        remark: what is odd about them.
    """

    source: str
    metric: str
    values: Values
    columns: tuple[str, ...] = ("",)
    deviations: Values = field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True)
class Recipe:
    """One experiment: what to build, how to train it, and what is reported for it.

    Attributes:
        method: a class of ``pyg_hash.models``.
        data: data set and features.
        split: how many items train, ask and are searched.
        model: keywords of the model, besides the sizes that the data decide.
        graph: class of ``pyg_hash.transforms`` -> its keywords, in order of application.
        training: optimiser of ``torch.optim``, ``lr`` (as :func:`optimizers` takes it, or None:
            unstated), further keywords of the optimiser, ``epochs`` where known, and
            ``schedule`` in words.
        tables: the numbers.
        source: where the settings stand.
        unstated: what the source leaves open, or contradicts itself about.
        bits: code lengths of the tables.
    """

    method: str
    data: str
    split: str
    model: Mapping[str, Any]
    graph: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Any]
    tables: tuple[Table, ...]
    source: str
    unstated: str
    bits: tuple[int, ...] = (16, 32, 64)

    def build(self, num_features: Mapping[str, int], num_classes: int, num_bits: int) -> Any:
        """The model of the recipe, untrained."""
        sizes: dict[str, Any] = {"num_features": num_features, "num_bits": num_bits}
        if self.method != "SGEH":
            sizes["num_classes"] = num_classes
        return getattr(pyg_hash.models, self.method)(**sizes, **self.model)


def by_bits(*values: float, bits: tuple[int, ...] = (16, 32, 64)) -> dict[int, tuple[float, ...]]:
    """One number for each code length, as the one column of a table."""
    return {b: (value,) for b, value in zip(bits, values, strict=True)}


def optimizers(model: Any, training: Mapping[str, Any]) -> Any:
    """The optimiser that the settings name, or one for each part with a rate of its own.

    Args:
        model: the model.
        training: ``lr`` is a number, or a mapping part of the model -> number, or -> mapping path
            of a submodule -> number; ``optimizer`` a class of ``torch.optim``; ``epochs`` and
            ``schedule`` are ignored, everything else is a keyword of the optimiser.
    """
    options = {k: v for k, v in training.items() if k not in _NO_KEYWORDS}
    make = getattr(torch.optim, training.get("optimizer", "Adam"))
    lr = training["lr"]
    if not isinstance(lr, Mapping):
        return make(model.parameters(), lr=lr, **options)
    made = {}
    for part, rate in lr.items():
        groups: Any = model.parts()[part]
        if isinstance(rate, Mapping):
            named = [(model.get_submodule(path), r) for path, r in rate.items()]
            groups = [{"params": list(m.parameters()), "lr": r} for m, r in named]
            made[part] = make(groups, lr=max(rate.values()), **options)
        else:
            made[part] = make(groups, lr=rate, **options)
    return made
