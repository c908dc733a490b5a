"""From settings to objects: the data set, its graph and the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from typing import TYPE_CHECKING

from pyg_hash.cli.options import TrainConfig, UsageError, check_options

if TYPE_CHECKING:
    from pyg_hash.datasets import CrossModalDataset
    from pyg_hash.models import HashModel
    from pyg_hash.recipes import Recipe
    from pyg_hash.runs import Run

_FEATURE_FILES = (".h5", ".hdf5")
_MORE = "or the path of an .h5 file"


def choices(package: str, base: type) -> dict[str, type]:
    """The public subclasses of ``base`` in a package, by lower-case name."""
    module = import_module(package)
    members = {name: getattr(module, name) for name in module.__all__}
    return {
        name.lower(): member
        for name, member in members.items()
        if isinstance(member, type)
        and issubclass(member, base)
        and member is not base
        and not isabstract(member)
    }


def find(name: str, known: dict[str, type], argument: str, more: str = "") -> type:
    """The class called ``name``, in any case or cut short as long as it is unique.

    Raises:
        UsageError: there is no such class, or there are several; the message lists the choices.
    """
    wanted = name.lower().replace("-", "").replace("_", "")
    if wanted in known:
        return known[wanted]
    starting = [key for key in known if wanted and key.startswith(wanted)]
    if len(starting) != 1:
        listed = f"{', '.join(known)} {more}".strip()
        raise UsageError(f"{argument}: {name!r} is not known; use one of {listed}")
    return known[starting[0]]


def dataset_class(config: TrainConfig) -> type[CrossModalDataset]:
    """The data set class that the settings name, its options checked."""
    from pyg_hash.datasets import CrossModalDataset, FeatureFile

    known = choices("pyg_hash.datasets", CrossModalDataset)
    del known["featurefile"]  # is named by the file
    cls = FeatureFile if _is_file(config) else find(config.dataset, known, "dataset", _MORE)
    taken = {"root", "path", "transform", "pre_transform", "force_reload"}
    check_options(cls, config.dataset_options, "dataset_options", taken)
    return cls


def recipe_of(config: TrainConfig) -> Recipe:
    """How the settings' method is trained.

    Raises:
        UsageError: an unknown method or option, or a setting that the method does not have.
    """
    from pyg_hash.recipes import EVERY, METHODS, recipe

    names = set(EVERY).union(*METHODS.values())
    name = config.recipe or config.model
    return recipe(name, **{name: getattr(config, name) for name in names})


def model_class(config: TrainConfig) -> type[HashModel]:
    """The model class that the settings name."""
    return recipe_of(config).kind


def with_defaults(config: TrainConfig) -> TrainConfig:
    """``config`` with the defaults of its method."""
    made = recipe_of(config)
    model = made.kind.__name__.lower() if config.recipe else config.model
    return replace(config, model=model, **made.settings)


def build_dataset(config: TrainConfig) -> CrossModalDataset:
    """The data set with its graph; computed once, then read from ``root/processed``."""
    cls: Callable[..., CrossModalDataset] = dataset_class(config)
    keywords = dict(config.dataset_options, pre_transform=recipe_of(config).transforms)
    if _is_file(config):
        return cls(config.dataset, root=config.root, **keywords)
    if "root" in inspect.signature(cls).parameters:
        keywords["root"] = config.root or str(Path("data") / config.dataset.lower())
    return cls(**keywords)


def trained_with(run: Run, data: str | None = None) -> TrainConfig:
    """The settings of a run.

    Args:
        run: a run folder.
        data: where its data lie now, if they have moved: the feature file, or the folder of a
            named data set.
    """
    config = TrainConfig.from_dict(run.config())
    if data is None:
        return config
    return replace(config, dataset=data) if _is_file(config) else replace(config, root=data)


def _is_file(config: TrainConfig) -> bool:
    return config.dataset.endswith(_FEATURE_FILES)
