"""Recipes: the graph, the rates and the epochs of each method.

What a method needs besides its model stands here and nowhere else: the command line, the examples
and the benchmarks train by these recipes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch_geometric.transforms as T
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_hash import models, transforms
from pyg_hash.graph.protocol import PROTOCOLS
from pyg_hash.models import ClosedFormModel, HashModel
from pyg_hash.sampling import InstanceLoader
from pyg_hash.training import History, fit
from pyg_hash.training.fit import Optimizers
from pyg_hash.typing import IMAGE, MODALITIES
from pyg_hash.utils.checks import SettingError

__all__ = ["EVERY", "METHODS", "Recipe", "recipe"]

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How one method is trained; :func:`recipe` makes it.

    Attributes:
        kind: the class of the model.
        settings: everything that decides it, by name: ``num_bits``, ``seed``, ``val_rate``,
            ``model_options``, and those that the method has, see :func:`recipe`.
    """

    kind: type[HashModel]
    settings: Settings

    @property
    def epochs(self) -> int | None:
        """Passes over the data; None for a method that is solved."""
        epochs: int | None = self.settings.get("epochs")
        return epochs

    @property
    def transforms(self) -> T.Compose:
        """Masks, scaled features and the graph: a data set's ``pre_transform``."""
        return T.Compose([*self.masks, *self.graph])

    @property
    def graph(self) -> list[BaseTransform]:
        """The transforms that make the graph, behind :attr:`masks`."""
        make = _GRAPHS.get(self.kind.__name__)
        return [] if make is None else make(self.settings)

    @property
    def masks(self) -> list[BaseTransform]:
        """The transforms that make masks and scaled features, the same for all methods."""
        rate, held_out = self.settings.get("label_rate"), self.settings["val_rate"]
        seed = self.settings["seed"]
        steps: list[BaseTransform] = []
        if rate is not None:
            steps.append(transforms.LabelRate(rate, seed=seed))
        steps.append(transforms.ScaleFeatures())  # reads no label: items held out count as training
        if held_out:
            steps.append(transforms.ValidationSplit(held_out, seed=seed))
        return steps

    def model(self, data: HeteroData) -> HashModel:
        """A new model for the widths and classes of ``data``, its weights drawn with the seed.

        It is where ``data`` is.
        """
        seed_everything(self.settings["seed"])
        keywords = dict(self.settings["model_options"], num_bits=self.settings["num_bits"])
        known = inspect.signature(self.kind).parameters
        if "num_classes" in known:
            keywords["num_classes"] = data.num_classes
        if "seed" in known:
            keywords["seed"] = self.settings["seed"]
        if "match" in known and self.settings.get("match") is not None:
            keywords["match"] = self.settings["match"]  # graph and loss agree on what is similar
        make: Callable[..., HashModel] = self.kind  # the base does not fix the keywords of models
        model = make({m: data[m].num_features for m in MODALITIES}, **keywords)
        return model.to(data[IMAGE].x.device)

    def optimizers(self, model: HashModel) -> Optimizers:
        """Adam for the whole model, or one for each part that has a learning rate of its own.

        Raises:
            SettingError: learning rates for other parts than the model has.
        """
        lr = self.settings["lr"]
        adam = partial(torch.optim.Adam, fused=True)  # a step is one pass over a parameter, not ten
        if not isinstance(lr, Mapping):
            return adam(model.parameters(), lr=lr)
        parts = model.parts()
        if set(lr) != set(parts):
            raise SettingError(
                f"lr: {type(model).__name__} has the parts {', '.join(parts)}; give one number, or "
                f"one for each of them (got {', '.join(lr)})"
            )
        return {name: adam(parts[name], lr=rate) for name, rate in lr.items()}

    def loader(self, model: HashModel, data: HeteroData) -> InstanceLoader | None:
        """Mini-batches of ``batch_size`` instances; None if the method takes all or makes its own.

        Raises:
            SettingError: options without a size, or unknown ones.
        """
        size, options = self.settings.get("batch_size"), self.settings.get("loader_options", {})
        if size is None:
            if options:
                raise SettingError("loader_options: there are no mini-batches; give batch_size too")
            return None
        keywords = {"shuffle": True, **options, "batch_size": size}
        try:
            return InstanceLoader(model.training_view(data), **keywords)
        except TypeError as error:
            raise SettingError(f"loader_options: {error}") from error

    def fit(self, model: HashModel, data: HeteroData, **options: Any) -> History:
        """Train a model, or solve it, whichever its method does.

        Args:
            model: what :meth:`model` made for ``data``.
            data: what :attr:`transforms` made.
            options: of :func:`pyg_hash.training.fit`, e.g. ``progress=False``; a method that is
                solved has no use for them.

        Returns:
            One row an epoch; none if it was solved.
        """
        if isinstance(model, ClosedFormModel):
            model.solve(data)
            return History()
        assert self.epochs is not None
        options = {"loader": self.loader(model, data), **options}
        return fit(model, data, self.optimizers(model), epochs=self.epochs, **options)


def recipe(name: str, **settings: Any) -> Recipe:
    """How a method is trained, by default or as said.

    Args:
        name: the class of the model, in any case, e.g. ``'mcgcn'``; or the class itself.
        settings: ``num_bits``, ``seed``, ``val_rate`` (share of the training items held out) and
            ``model_options`` (keywords of the model) for every method; where the method has them,
            see :data:`METHODS`, also ``label_rate``, ``protocol``, ``k``, ``metric``, ``weight``,
            ``match``, ``graph_options`` (keywords of its graph's transform), ``epochs``, ``lr``
            (of Adam; one number, or a mapping part -> number), ``batch_size`` and
            ``loader_options`` (of :class:`~pyg_hash.sampling.InstanceLoader`). None stands for the
            default.

    Raises:
        SettingError: a method, a setting or an option that does not exist; a protocol that the
            method's graph cannot have.

    Example:
        >>> mcgcn = recipe("mcgcn", num_bits=64, label_rate=0.3)
        >>> data = Emoji("data/emoji", pre_transform=mcgcn.transforms)[0]
        >>> model = mcgcn.model(data)
        >>> history = mcgcn.fit(model, data)
    """
    kind = _find(name)
    defaults = {**EVERY, **METHODS[kind.__name__]}
    given = {key: value for key, value in settings.items() if value not in (None, {})}
    foreign = sorted(set(given) - set(defaults))
    if foreign:
        raise SettingError(
            f"{foreign[0]}: {kind.__name__} has no such setting; leave it out (it has "
            f"{', '.join(METHODS[kind.__name__]) or 'none of its own'})"
        )
    made = Recipe(kind, {**defaults, **given})
    taken = {"num_features", "num_classes", "num_bits", "match", "seed"}
    _check_options(kind, made.settings["model_options"], "model_options", taken)
    return made


def _find(name: str | type[HashModel]) -> type[HashModel]:
    """The class of a method by its name, in any case, or cut short as long as it is unique."""
    if isinstance(name, type):
        return name
    known = {key.lower(): key for key in METHODS}
    wanted = name.lower().replace("-", "").replace("_", "")
    starting = (
        [wanted] if wanted in known else [k for k in known if wanted and k.startswith(wanted)]
    )
    if len(starting) != 1:
        raise SettingError(f"model: {name!r} is not known; use one of {', '.join(known)}")
    kind: type[HashModel] = getattr(models, known[starting[0]])
    return kind


def _check_options(kind: type, options: Settings, argument: str, taken: set[str]) -> None:
    """Raise ``SettingError`` unless every option is a keyword of the constructor of ``kind``."""
    allowed = [name for name in inspect.signature(kind).parameters if name not in taken]
    allowed += getattr(kind, "old_keywords", ())
    unknown = [name for name in options if name not in allowed]
    if unknown:
        raise SettingError(
            f"{argument}: {kind.__name__} has no option {', '.join(map(repr, unknown))}; "
            f"use some of {', '.join(allowed) or '(none)'}"
        )


def _mcgcn(settings: Settings) -> list[BaseTransform]:
    options = settings["graph_options"]
    taken = {"k", "metric", "anchors", "weight"}
    _check_options(transforms.IntraKNN, options, "graph_options", taken)
    intra, inter = PROTOCOLS[settings["protocol"]]
    own = {"anchors": intra, "weight": settings["weight"], **options}
    return [
        transforms.IntraKNN(settings["k"], settings["metric"], **own),
        transforms.InterKNN(anchors=inter),
        transforms.LabelHub(match=settings["match"]),
    ]


def _sgch(settings: Settings) -> list[BaseTransform]:
    options, asked = settings["graph_options"], settings["protocol"]
    _check_options(transforms.SGCHGraph, options, "graph_options", {"k", "metric", "anchors"})
    reading = options.get("graph", "paper")
    # only the code's graph leads across the modalities, and it does so for all nodes or for none
    wide = "transductive" if reading == "code" else "strict"
    anchors = {"inductive": "train", wide: "all"}.get(asked)
    if anchors is None:
        raise SettingError(
            f"protocol: SGCH on the graph {reading!r} is inductive or {wide}, not {asked}; choose "
            "one of these"
        )
    own = {"metric": settings["metric"], "anchors": anchors, **options}
    return [transforms.SGCHGraph(settings["k"], **own)]


def _sgeh(settings: Settings) -> list[BaseTransform]:
    options = settings["graph_options"]
    _check_options(transforms.UnifiedAffinity, options, "graph_options", {"k"})
    return [transforms.UnifiedAffinity(k=settings["k"], **options)]


_GRAPHS: dict[str, Callable[[Settings], list[BaseTransform]]] = {
    "MCGCN": _mcgcn,
    "SGCH": _sgch,
    "SGEH": _sgeh,
}
EVERY: Settings = {"num_bits": 32, "seed": 0, "val_rate": 0.0, "model_options": {}}
"""The settings of every method, with their defaults."""
_LABELS: Settings = {"label_rate": 0.3}
_GRAPH: Settings = {
    **_LABELS,
    **{"protocol": "inductive", "k": 20, "metric": "cosine", "graph_options": {}},
    **{"batch_size": None, "loader_options": {}},
}
METHODS: dict[str, Settings] = {
    "MCGCN": {"epochs": 80, "lr": 2e-3, **_GRAPH, "weight": None, "match": "shared"},
    "GCH": {"epochs": 25, "lr": 1e-3, "label_rate": 1.0},
    "SGCH": {"epochs": 80, "lr": 5e-3, **_GRAPH},
    "SGEH": {"epochs": 80, "lr": 1e-3, "k": 50, "graph_options": {}},
    "DCMH": {"epochs": 60, "lr": 1e-3, **_LABELS},
    "DJSRH": {"epochs": 40, "lr": 2.5e-3},
    "JDSH": {"epochs": 60, "lr": 1.8e-3},
    "DGCPN": {"epochs": 80, "lr": 1.5e-3},
    **dict.fromkeys(("ClassCodes", "SCM"), _LABELS),
    **dict.fromkeys(("LSH", "CCA", "ITQ", "CMFH", "IMH"), {}),
}
"""The settings that each method has besides those of every method, with their defaults."""
