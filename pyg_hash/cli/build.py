"""From settings to objects: the data set, its graph and the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from typing import TYPE_CHECKING

from pyg_hash.cli.methods import method, resolve
from pyg_hash.cli.options import TrainConfig, UsageError, check_options

if TYPE_CHECKING:
    import torch
    from torch_geometric.data import HeteroData
    from torch_geometric.loader import NodeLoader
    from torch_geometric.transforms import BaseTransform, Compose

    from pyg_hash.datasets import CrossModalDataset
    from pyg_hash.models import HashModel
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


def model_class(config: TrainConfig) -> type[HashModel]:
    """The model class that the settings name, its options checked."""
    from pyg_hash.models import HashModel

    known = choices("pyg_hash.models", HashModel)
    cls: type[HashModel] = find(config.model, known, "model")
    taken = {"num_features", "num_classes", "num_bits", "match", "seed"}
    options = {name: v for name, v in config.model_options.items() if name not in cls.old_keywords}
    check_options(cls, options, "model_options", taken)
    return cls


def with_defaults(config: TrainConfig) -> TrainConfig:
    """``config`` with the defaults of its method.

    Raises:
        UsageError: an unknown model or model option, or a setting that the method does not have.
    """
    return resolve(config, model_class(config).__name__)


def graph(config: TrainConfig) -> Compose:
    """The transforms that make masks, scaled features and the graph of the method."""
    import torch_geometric.transforms as T

    own = method(model_class(config).__name__).graph(config)
    return T.Compose([*before_graph(config), *own])


def before_graph(config: TrainConfig) -> list[BaseTransform]:
    """The transforms that make masks and scaled features, the same for all methods."""
    from pyg_hash import transforms

    steps: list[BaseTransform] = []
    if config.label_rate is not None:
        steps.append(transforms.LabelRate(config.label_rate, seed=config.seed))
    steps.append(transforms.ScaleFeatures())  # no label: the items held out count as training ones
    if config.val_rate:
        steps.append(transforms.ValidationSplit(config.val_rate, seed=config.seed))
    return steps


def build_dataset(config: TrainConfig) -> CrossModalDataset:
    """The data set with its graph; computed once, then read from ``root/processed``."""
    cls: Callable[..., CrossModalDataset] = dataset_class(config)
    keywords = dict(config.dataset_options, pre_transform=graph(config))
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


def build_model(config: TrainConfig, data: HeteroData) -> HashModel:
    """A new model for ``data``, its weights drawn with ``config.seed``."""
    from torch_geometric import seed_everything

    from pyg_hash.typing import MODALITIES

    cls = model_class(config)
    seed_everything(config.seed)
    num_features = {modality: data[modality].num_features for modality in MODALITIES}
    keywords = dict(config.model_options, num_bits=config.num_bits)
    known = inspect.signature(cls).parameters
    if "num_classes" in known:
        keywords["num_classes"] = data.num_classes
    if "seed" in known:
        keywords["seed"] = config.seed
    if config.match is not None and "match" in known:
        keywords["match"] = config.match  # the graph and the loss must agree on what is similar
    make: Callable[..., HashModel] = cls  # the base class does not fix the keywords of models
    return make(num_features, **keywords)


def build_loader(config: TrainConfig, model: HashModel, data: HeteroData) -> NodeLoader | None:
    """Mini-batches of ``batch_size`` instances; None if the method takes all or makes its own.

    Raises:
        UsageError: options without a size, or unknown ones.
    """
    from pyg_hash.sampling import InstanceLoader

    options = config.loader_options
    if config.batch_size is None:
        if options:
            raise UsageError("loader_options: there are no mini-batches; give --batch_size too")
        return None
    keywords = {"shuffle": True, **options, "batch_size": config.batch_size}
    try:
        loader: NodeLoader = InstanceLoader(model.training_view(data), **keywords)
    except TypeError as error:
        raise UsageError(f"loader_options: {error}") from error
    return loader


def build_optimizers(
    config: TrainConfig, model: HashModel
) -> torch.optim.Optimizer | dict[str, torch.optim.Optimizer]:
    """Adam for the whole model, or one for each part that has a learning rate of its own.

    Raises:
        UsageError: learning rates for other parts than the model has.
    """
    import torch

    adam = partial(torch.optim.Adam, fused=True)  # a step is one pass over a parameter, not ten
    if not isinstance(config.lr, dict):
        assert config.lr is not None
        return adam(model.parameters(), lr=config.lr)
    parts = model.parts()
    if set(config.lr) != set(parts):
        raise UsageError(
            f"lr: {type(model).__name__} has the parts {', '.join(parts)}; give one number, or one "
            f"for each of them (got {', '.join(config.lr)})"
        )
    return {name: adam(parts[name], lr=lr) for name, lr in config.lr.items()}
