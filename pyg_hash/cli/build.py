"""From settings to objects: the data set, its graph and the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyg_hash.cli.options import Command, TrainConfig, UsageError, option
from pyg_hash.runs import Run
from pyg_hash.utils.checksums import say_once
from pyg_hash.utils.provenance import data_rows, differences, trained_queries
from pyg_hash.utils.settings import check_options, find

if TYPE_CHECKING:
    from torch import Tensor

    from pyg_hash.datasets import CrossModalDataset
    from pyg_hash.models import HashModel
    from pyg_hash.recipes import Recipe


def dataset_class(config: TrainConfig) -> type[CrossModalDataset]:
    """The data set class that the settings name, its options checked."""
    from pyg_hash import datasets

    base = datasets.CrossModalDataset
    public = {name.lower(): getattr(datasets, name) for name in datasets.__all__}
    sets = {name: cls for name, cls in public.items() if isinstance(cls, type)}
    known = {name: cls for name, cls in sets.items() if issubclass(cls, base) and cls is not base}
    of_files = known.pop("featurefile")  # is named by the file
    more = "or the path of an .h5 file"
    cls = of_files if is_file(config) else find(config.dataset, known, "dataset", more)
    taken = {"root", "path", "transform", "pre_transform", "force_reload"}
    check_options(cls, config.dataset_options, "dataset_options", taken)
    for name, one in inspect.signature(cls).parameters.items():
        if one.default is one.empty and name not in {*taken, *config.dataset_options}:
            raise UsageError(
                f"dataset_options: {cls.__name__} needs {name!r}; give --dataset_options.{name}"
            )
    return cls


def recipe_of(config: TrainConfig) -> Recipe:
    """How the settings' method is trained; ``UsageError`` for settings that it cannot have."""
    from pyg_hash.recipes import EVERY, METHODS, method, recipe

    for name in ("model", "recipe"):
        if getattr(config, name) == "":
            raise UsageError(f"{name}: is empty; name one, or leave it out")
    if ":" in (config.recipe or ""):
        raise UsageError(f"recipe: {config.recipe} is no preset; a class of your own is a --model")
    if config.recipe:
        method(config.recipe.partition("/")[0], "recipe", "and their presets, e.g. mcgcn/wikipedia")
    names = set(EVERY).union(*METHODS.values())
    made = recipe(
        config.recipe or config.model or "mcgcn", **{name: getattr(config, name) for name in names}
    )
    if config.recipe and config.model and recipe(config.model).kind is not made.kind:
        raise UsageError(
            f"model: {config.model} is not what the recipe {config.recipe} trains; leave one out"
        )
    return made


def with_defaults(config: TrainConfig) -> TrainConfig:
    """``config`` with the defaults of its method."""
    made = recipe_of(config)
    known = {f.name for f in fields(config)}
    settings = {name: value for name, value in made.settings.items() if name in known}
    return replace(config, model=config.model or made.kind.__name__.lower(), **settings)


def build_dataset(config: TrainConfig) -> CrossModalDataset:
    """The data set with its graph; computed once, then read from ``root/processed``."""
    cls: Callable[..., CrossModalDataset] = dataset_class(config)
    keywords = dict(config.dataset_options, pre_transform=recipe_of(config).transforms)
    if is_file(config):
        return cls(config.dataset, root=config.root, **keywords)
    if (root := root_of(config)) is not None:
        keywords["root"] = root
    return cls(**keywords)


def root_of(config: TrainConfig) -> str | None:
    """The folder of a named data set; None for one without, and for a feature file."""
    if is_file(config) or "root" not in inspect.signature(dataset_class(config)).parameters:
        return None
    return config.root or str(Path("data") / config.dataset.lower())


def load_model(run: Run, config: TrainConfig | None = None) -> HashModel:
    """The trained model of a run; ``config`` are its settings, if they are read already."""
    from pyg_hash.recipes import method

    config = config or TrainConfig.from_dict(run.config())
    kind = method(config.model) if config.model else recipe_of(config).kind
    model = kind.load(run.path / "model")
    if "model" not in run.record():
        say_unrecorded(run)
    run.check("model", model.digest(), f"model: {run.path / 'model'}")
    return model


def say_unrecorded(run: Run) -> None:
    """Warn, once, of a run without a record."""
    say_once(
        "record",
        f"run: {run.path} does not say which model and data belong to it, as an earlier version "
        "wrote it; that they belong together is not checked",
    )


def rows_of(dataset: CrossModalDataset) -> dict[str, Tensor]:
    """What a run remembers of its data."""
    return data_rows(dataset.row_prints(), dataset[0])


def check_data(run: Run, dataset: CrossModalDataset, *, force: bool) -> list[str]:
    """How data differ from those that a run was trained on, a line each; mostly none.

    Raises:
        ValueError: they differ, and ``force`` is False.
    """
    stored, now = run.rows(), rows_of(dataset)
    found = differences(stored, now) if stored else []
    if not stored or not found:
        return []
    listed = "; ".join(found)
    seen = trained_queries(stored, now)
    leak = [f"training rows among the queries: {seen:,} of them"] if seen else []
    if not force:
        raise ValueError(
            f"data: are not those that {run.path} was trained on ({'; '.join([*leak, listed])}); "
            "go back to the right ones or train anew into another folder; evaluate and report take "
            "others under --force"
        )
    return [*leak, f"other data than those of the training: {listed}"]


@dataclass(frozen=True, kw_only=True)
class RunCommand(Command):
    """A command about a run."""

    run: str = option(MISSING, "a run folder", ["run"])
    model: str | None = option(
        None, "MODULE:CLASS of a model of your own: code that a file names is never run"
    )

    def settings(self, run: Run) -> TrainConfig:
        """The settings of the run; a class of somebody's own must be the one of ``--model``."""
        config = TrainConfig.from_dict(run.config())
        if (":" in (config.model or "") or self.model) and self.model != config.model:
            remedy = f"; to run that code, add --model {config.model}"
            if self.model:
                remedy = f", not of {self.model}"
            raise UsageError(f"model: {run.path} is a run of {config.model}{remedy}")
        return config


@dataclass(frozen=True, kw_only=True)
class PictureCommand(RunCommand):
    """A command that shows the items of a run."""

    images_root: str | None = option(
        None,
        "where the pictures of the run lie, if they have moved",
        ["--images_root", "--images-root"],
    )


def is_file(config: TrainConfig) -> bool:
    """Whether the data set is a feature file."""
    return config.dataset.lower().endswith((".h5", ".hdf5"))
