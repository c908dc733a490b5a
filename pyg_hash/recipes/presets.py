"""Papers and programs to the letter: their settings, and the numbers reported for them, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from pyg_hash.utils.settings import SettingError

Values = Mapping[str, Mapping[str, Mapping[int, list[float]]]]
"""Method -> task (``i2t``, ``t2i``, ...) -> bits -> one number a column."""


@dataclass(frozen=True)
class Reported:
    """A table that a paper or report prints."""

    source: str  #: where
    metric: str  #: what its numbers are called there
    values: Values
    columns: tuple[str, ...] = ("",)  #: what the numbers differ in, e.g. the share of labels
    deviations: Values = field(default_factory=dict)  #: standard deviations of some of the values
    remark: str = ""  #: what is odd about them


@dataclass(frozen=True)
class Preset:
    """One published experiment.

    A paper's number belongs beside ours only on the paper's own data, features and metric. Write
    the features that you have with :func:`~pyg_hash.datasets.write_feature_file`.
    """

    settings: Mapping[str, Any]  #: of :func:`pyg_hash.recipes.recipe`; the others are our defaults
    data: str  #: data set and features
    split: str  #: how many items train, ask and are searched
    source: str  #: where the settings stand
    unstated: str  #: what the source leaves open or contradicts itself about, and what is done here
    tables: tuple[Reported, ...] = ()
    bits: tuple[int, ...] = (16, 32, 64)  #: code lengths of the tables


@cache
def presets() -> dict[str, Preset]:
    """All presets by name, ``method/preset``, e.g. ``'mcgcn/wikipedia'``."""
    import yaml  # our defaults need no file

    found = {}
    for file in sorted(files(__package__).iterdir(), key=lambda path: path.name):
        method, _, ending = file.name.rpartition(".")
        if ending != "yaml":
            continue
        for name, entry in yaml.safe_load(file.read_text(encoding="utf-8")).items():
            tables = tuple(
                Reported(**{**table, "columns": tuple(table.get("columns", ("",)))})
                for table in entry.pop("tables", ())
            )
            bits = tuple(entry.pop("bits", Preset.bits))
            found[f"{method}/{name}"] = Preset(**entry, tables=tables, bits=bits)
    return found


def preset(name: str) -> Preset:
    """The preset ``method/preset``; a ``SettingError`` lists those of the method."""
    known = presets()
    if name not in known:
        own = [key for key in known if key.split("/")[0] == name.split("/")[0]] or list(known)
        raise SettingError(f"recipe: {name!r} is not known; use one of {', '.join(own)}")
    return known[name]
