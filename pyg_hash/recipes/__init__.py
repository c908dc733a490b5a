"""Recipes: the graph, the rates and the epochs of each method, for all who train one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import entry_points
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from pyg_hash import models
from pyg_hash.graph import PROTOCOLS
from pyg_hash.models import ClosedFormModel, HashModel
from pyg_hash.typing import IMAGE, MODALITIES
from pyg_hash.utils.checks import (
    as_list,
    check_choice,
    check_fraction,
    check_positive,
    check_positive_int,
    check_seed,
    keywords_of,
)
from pyg_hash.utils.optional import imported
from pyg_hash.utils.settings import SettingError, check_options, find

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData
    from torch_geometric.transforms import BaseTransform, Compose

    from pyg_hash.sampling import InstanceLoader
    from pyg_hash.training import History
    from pyg_hash.training.fit import Optimizers

__all__ = ["Recipe", "presets", "recipe"]

Settings = Mapping[str, Any]
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
    """One published experiment; its numbers stand beside ours on its own data and metric only."""

    settings: Settings  #: of :func:`recipe`; the others, so of the scaling, are our defaults
    data: str  #: data set and features
    split: str  #: how many items train, ask and are searched
    source: str  #: where the settings stand
    unstated: str  #: what the source leaves open or contradicts itself about, and what is done here
    tables: tuple[Reported, ...] = ()
    bits: tuple[int, ...] = (16, 32, 64)  #: code lengths of the tables


@dataclass(frozen=True)
class Recipe:
    """How one method is trained: its model's class and all settings; :func:`recipe` makes it."""

    kind: type[HashModel]
    settings: Settings

    @property
    def epochs(self) -> int | None:
        """Passes over the data; None for a method that is solved."""
        return cast("int | None", self.settings.get("epochs"))

    @property
    def transforms(self) -> Compose:
        """Masks, scaled features and the graph: a data set's ``pre_transform``."""
        from torch_geometric.transforms import Compose

        from pyg_hash import transforms

        rate, held_out = self.settings.get("label_rate"), self.settings["val_rate"]
        seed = self.settings["seed"]
        # scaling reads no label: items held out count as training ones
        steps: list[BaseTransform] = [transforms.ScaleFeatures(**self.settings["scaling"])]
        if rate is not None:
            steps.insert(0, transforms.LabelRate(rate, seed=seed))
        if held_out:
            steps.append(transforms.ValidationSplit(held_out, seed=seed))
        return Compose([*steps, *self.graph])

    @property
    def graph(self) -> list[BaseTransform]:
        """The transforms that make the graph."""
        make = getattr(self.kind, "recipe_graph", _GRAPHS.get(_ours(self.kind)))
        made = [] if make is None else make(self.settings)
        if not isinstance(made, list | tuple):
            raise SettingError(
                f"recipe_graph: that of {self.kind.__name__} gave {made!r:.60}; return a list of "
                "transforms"
            )
        return [*made]

    def model(self, data: HeteroData) -> HashModel:
        """A new model for the widths, classes and type of ``data``, and there.

        The seed draws its weights, and all that :func:`~pyg_hash.training.fit` then draws for it,
        whatever you draw or seed in between: the model holds these numbers, and so do its copies.
        Generators are the process's: of threads at once, seeds decide nothing (a warning says so).
        Trained twice it goes on with them; for the same ones again make it anew. Your generators
        (``random``, NumPy, torch) are left as they were, but for GPUs that ``data`` is not on; a
        loop of your own draws from them.
        """
        from torch_geometric import seed_everything

        from pyg_hash.training.state import own_draws

        draws: dict[str, Any] = {}
        with own_draws(draws, _device(data)), torch.device("cpu"):  # whatever the default is
            seed_everything(self.settings["seed"])
            model = self._new_model(data)
        vars(model)["_recipe_draws"] = draws  # as training goes on with them
        return model

    def _new_model(self, data: HeteroData) -> HashModel:
        keywords = dict(self.settings["model_options"], num_bits=self.settings["num_bits"])
        known = keywords_of(self.kind)
        if "num_classes" in known:
            if "num_classes" not in data and "y" in data[IMAGE]:
                raise ValueError("data: has labels and no num_classes; set it to their number")
            keywords["num_classes"] = data.num_classes if "num_classes" in data else 0
        for name in ("seed", "match"):  # graph and loss agree on what is similar
            if name in known and self.settings.get(name) is not None:
                keywords[name] = self.settings[name]
        make: Callable[..., HashModel] = self.kind  # the base does not fix the keywords of models
        widths = {m: data[m].num_features for m in MODALITIES}
        try:
            model = make(widths, **keywords)
        except TypeError as error:  # a class that hands keywords on may give these by itself
            twice = re.search(r"multiple values for keyword argument '(\w+)'", str(error))
            ours = {"num_classes", "seed", "match"} - {*self.settings["model_options"]}
            ours -= {*inspect.signature(self.kind).parameters}
            if twice is None or twice[1] not in ours:
                raise
            model = make(widths, **{k: v for k, v in keywords.items() if k not in ours})
        x: Tensor = data[IMAGE].x
        is_solved = issubclass(self.kind, ClosedFormModel)  # of any type, in float64
        types = {torch.float32, torch.float64} - {torch.get_default_dtype()}
        if x.dtype in types and not is_solved:
            model = model.to(x.dtype)
        return model.to(x.device)

    def optimizers(self, model: HashModel) -> Optimizers:
        """One for the whole model, or one for each part that has a learning rate of its own."""
        kind, options = _optimizer(self.settings["optimizer"])
        if "fused" in inspect.signature(kind).parameters:
            options = {"fused": True, **options}  # a step is one pass over a parameter, not ten
        make: Callable[..., torch.optim.Optimizer] = partial(kind, **options)
        lr = self.settings["lr"]
        if not isinstance(lr, Mapping):
            return make(model.parameters(), lr=lr)
        parts = model.parts()
        if set(lr) != set(parts):
            raise SettingError(
                f"lr: {type(model).__name__} has the parts {', '.join(parts)}; give one number, or "
                f"one for each of them (got {', '.join(lr)})"
            )
        made = {}
        for name, rate in lr.items():
            if isinstance(rate, Mapping):  # of modules in this part, by their paths
                try:
                    groups = [(model.get_submodule(path), own) for path, own in rate.items()]
                except AttributeError as error:
                    raise SettingError(f"lr: {type(model).__name__}: {error}") from error
                listed = [{"params": list(m.parameters()), "lr": own} for m, own in groups]
                made[name] = make(listed, lr=max(rate.values()))
            else:
                made[name] = make(parts[name], lr=rate)
        return made

    def schedulers(self, optimizers: Optimizers) -> list[LRScheduler]:
        """What multiplies every learning rate by ``decay`` after each epoch; none if that is 1."""
        if self.settings["decay"] == 1:
            return []
        each = optimizers.values() if isinstance(optimizers, Mapping) else [optimizers]
        return [torch.optim.lr_scheduler.ExponentialLR(o, self.settings["decay"]) for o in each]

    def loader(self, model: HashModel, data: HeteroData) -> InstanceLoader | None:
        """Mini-batches of ``batch_size`` instances; None if the method takes all or its own."""
        size, options = self.settings.get("batch_size"), self.settings.get("loader_options", {})
        if "batch_size" in self.settings["model_options"]:  # it makes its own
            size = None
        if size is None:
            if options:
                raise SettingError("loader_options: there are no mini-batches; give batch_size too")
            return None
        from pyg_hash.sampling import InstanceLoader

        keywords = {"shuffle": True, **options, "batch_size": size}
        try:
            return InstanceLoader(model.training_view(data), **keywords)
        except TypeError as error:
            raise SettingError(f"loader_options: {error}") from error

    def fit(self, model: HashModel, data: HeteroData, **options: Any) -> History:
        """Train what :meth:`model` made for ``data``, which :attr:`transforms` made, or solve it.

        ``options`` are those of :func:`pyg_hash.training.fit`, e.g. ``progress=False``, before what
        the recipe says (its ``decay`` is that of a given ``optimizer`` too). A method that is
        solved has no history, nothing to make of ``epochs``, ``optimizer``, ``loader`` or
        ``schedulers``, and leaves the others unused.

        ``TypeError``: a model of another one, or an option that is not known.
        """
        from pyg_hash.training import History, fit
        from pyg_hash.training.fit import check_optimizers
        from pyg_hash.training.state import own_draws

        if not isinstance(getattr(model, "_orig_mod", model), self.kind):  # or a compiled one
            raise TypeError(
                f"model: a {type(model).__name__}, and this recipe trains a {self.kind.__name__}; "
                "give what its model(data) makes"
            )
        draws = own_draws(getattr(model, "_recipe_draws", None), _device(data))
        if issubclass(self.kind, ClosedFormModel):
            unused = {*inspect.signature(fit).parameters} - _OF_STEPS
            if unknown := sorted({*options} - unused):
                raise TypeError(
                    f"{unknown[0]}: {type(model).__name__} is solved, not trained, and takes of "
                    f"fit's options only {', '.join(sorted(unused))}, without effect; leave it out"
                )
            with draws:
                cast(ClosedFormModel, model).solve(data)
            return History()
        optimizer = options.pop("optimizer", None)
        if optimizer is None:
            optimizer = self.optimizers(model)
        else:
            check_optimizers(model, optimizer)
        own: dict[str, Any] = {name: self.settings.get(name) for name in ("epochs", "patience")}
        own["schedulers"] = self.schedulers(optimizer)
        with draws:  # its training view may draw
            own["loader"] = self.loader(model, data)
        return fit(model, data, optimizer, **(own | options))


@cache
def presets() -> dict[str, Preset]:
    """All presets by name, ``method/preset``, e.g. ``'mcgcn/wikipedia'``."""
    import yaml  # our defaults need no file

    found = {}
    for file in sorted(files(__package__).iterdir(), key=lambda path: path.name):
        method, _, ending = file.name.rpartition(".")
        if ending != "yaml":
            continue
        for name, shared in yaml.safe_load(file.read_text(encoding="utf-8")).items():
            entry = _plain(shared)  # what YAML's aliases share is each preset's own
            tables = tuple(
                Reported(**{**table, "columns": tuple(table.get("columns", ("",)))})
                for table in entry.pop("tables", ())
            )
            bits = tuple(entry.pop("bits", Preset.bits))
            found[f"{method}/{name}"] = Preset(**entry, tables=tables, bits=bits)
    return found


def recipe(name: str, preset: str | None = None, **settings: Any) -> Recipe:
    """How a method is trained: by default, as a paper or program has it, or as said.

    Args:
        name: the class of the model, in any case, e.g. ``'mcgcn'``; also ``'mcgcn/wikipedia'``. A
            class of your own is ``'module:MyHash'``, or the name of an entry point in the group
            ``pyg_hash.models``. If it derives from one of ours, it is trained as that one; else
            give ``epochs`` and ``lr``, or name them in the class: ``recipe_defaults = {'epochs':
            50, 'lr': 1e-3}``, which may hold any setting and any keyword of the constructor. A
            static method ``recipe_graph(settings)`` returns a list of its transforms.
        preset: one of the :func:`presets` of the method, or of the one that it derives from, e.g.
            ``'wikipedia'``; None for our defaults.
        settings: of every method ``num_bits``, ``seed``, ``val_rate`` (share of the training items
            held out), ``model_options`` (keywords of the model) and ``scaling`` (of ScaleFeatures);
            where :data:`METHODS` lists them, also ``label_rate``, ``protocol``, ``k``, ``metric``,
            ``weight``, ``match``, ``graph_options`` (keywords of the graph's transforms),
            ``epochs``, ``lr`` (one number, or a mapping part of the model -> number, or -> mapping
            path of a module -> number), ``optimizer`` (``{'name': 'Adam', ...}``, a class of
            ``torch.optim`` and its keywords), ``decay`` (of the rates, an epoch), ``batch_size``
            and ``loader_options`` (of :class:`~pyg_hash.sampling.InstanceLoader`). None stands for
            the default, and mappings add to it; but ``lr`` and an ``optimizer`` with a name
            replace it. ``patience`` is that of :func:`pyg_hash.training.fit`. A class of your own
            takes keywords of its constructor too, and no ``label_rate`` if ``reads_labels`` is
            False.

    Raises:
        SettingError: a method, a setting or an option that does not exist, a value out of range; a
            protocol that the method's graph cannot have (when its transforms are made).

    Example:
        >>> mcgcn = recipe("mcgcn", num_bits=64, label_rate=0.3)
        >>> data = Emoji("data/emoji", pre_transform=mcgcn.transforms)[0]
        >>> model = mcgcn.model(data)
        >>> history = mcgcn.fit(model, data)
    """
    for argument, text in (("name", name), ("preset", preset)):
        if not isinstance(text, str | None) or text is name is None:
            raise SettingError(f"{argument}: expected a text, got {text!r:.60}")
    name, slash, written = name.partition("/")
    if slash and (not written or preset not in (None, written)):
        said = f"and preset={preset!r}" if written else "without the name of a preset"
        raise SettingError(f"name: {name}/{written} {said}; say which one, once")
    kind = method(name)
    other = _LABELS if issubclass(kind, ClosedFormModel) else _OTHER
    own = METHODS.get(_ours(kind), other)
    own = {key: own[key] for key in own if key != "label_rate" or kind.reads_labels}
    defaults = {**EVERY, **own}
    taken = {"num_features", "num_classes", "num_bits", "match", "seed"}
    # a class of somebody else's may be given keywords of its constructor as settings
    foreign_class = not kind.__module__.startswith("pyg_hash.")
    options = {*keywords_of(kind)} - taken - {*defaults} if foreign_class else set[str]()
    stated = getattr(kind, "recipe_defaults", {})
    more = inspect.signature(init := kind.__init__).parameters.values()
    if any(p.kind == p.VAR_KEYWORD for p in more) and not init.__module__.startswith("pyg_hash."):
        options |= {*stated} - SETTINGS - taken  # only the constructor knows what it takes
    if unknown := sorted({*stated} - SETTINGS - options):
        raise SettingError(
            f"recipe_defaults: {unknown[0]!r} is neither a setting nor a keyword of "
            f"{kind.__name__}; use some of {', '.join(sorted(SETTINGS | options))}"
        )
    defaults |= _with_options(stated, options)
    if preset or written:
        ours = f"{(_ours(kind) or kind.__name__).lower()}/"
        if (stated := f"{ours}{preset or written}") not in presets():
            own_ones = [key for key in presets() if key.startswith(ours)] or list(presets())
            raise SettingError(f"recipe: {stated!r} is not known; use one of {', '.join(own_ones)}")
        defaults |= presets()[stated].settings
    defaults = _plain(defaults)  # to be changed by who gets them
    given = {key: _plain(value) for key, value in settings.items()}
    given = {key: value for key, value in given.items() if value not in (None, {})}
    if foreign := sorted(set(given) - set(defaults) - options):
        own_too = ", or name it in recipe_defaults" * (foreign_class and foreign[0] in SETTINGS)
        raise SettingError(
            f"{foreign[0]}: {kind.__name__} has no such setting; leave it out{own_too} (it has "
            f"{', '.join(name for name in defaults if name not in EVERY) or 'none of its own'})"
        )
    for key, value in {**given, "lr": {}}.items():  # one rate stands for all
        if isinstance(defaults.get(key), Mapping) and not isinstance(value, Mapping):
            raise SettingError(f"{key}: expected a mapping of options, got {value!r:.60}")
    given = _with_options(given, options)
    for key, value in given.items():
        replaced = key == "lr" or (key == "optimizer" and "name" in value)
        given[key] = value if replaced else _added(defaults.get(key), value)
    made = Recipe(kind, {**defaults, **given})
    _check(made.settings)
    if missing := [name for name in ("epochs", "lr") if made.settings.get(name, 1) is None]:
        raise SettingError(
            f"{missing[0]}: {kind.__name__} has no default; give one, or name it in the class: "
            "recipe_defaults = {'epochs': 50, 'lr': 1e-3}"
        )
    others = {*made.settings["model_options"]} - options
    check_options(kind, others, "model_options", taken)
    return made


def _with_options(settings: Settings, options: set[str]) -> dict[str, Any]:
    """``settings`` with those that are ``options`` of the model among its options."""
    own = {key: value for key, value in settings.items() if key in options}
    # a graph may have use for one that is also a setting, such as k
    return {**settings, "model_options": {**own, **settings.get("model_options", {})}}


def _plain(value: Any) -> Any:
    """A copy, with numbers of Python's in place of NumPy's and of tensors with one."""
    if isinstance(value, Mapping):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value := as_list(value), list | tuple):
        return type(value)(map(_plain, value))
    single = isinstance(value, np.generic) or isinstance(value, Tensor) and value.numel() == 1
    return value.item() if single else value


def _added(default: Any, value: Any) -> Any:
    """``value``; if both are mappings, what it says in place of what ``default`` says."""
    if not (isinstance(default, Mapping) and isinstance(value, Mapping)):
        return value
    return {**default, **{key: _added(default.get(key), own) for key, own in value.items()}}


def _check(settings: Settings) -> None:
    """Find what is out of range before any work is done."""
    from pyg_hash import transforms

    given = {name: value for name, value in settings.items() if value is not None}
    try:
        for name in ("num_bits", "k", "epochs", "batch_size", "patience"):
            check_positive_int(given.get(name, 1), name)
        for name in ("label_rate", "val_rate"):
            check_fraction(given.get(name, 0), name)
        check_positive(given.get("decay", 1), "decay")
        check_seed(given["seed"])
        for name, choices in _CHOICES.items():
            if name in given:
                check_choice(given[name], choices, name)
        check_options(transforms.ScaleFeatures, settings["scaling"], "scaling")
        transforms.ScaleFeatures(**settings["scaling"])
        if given["val_rate"] == 1:
            raise ValueError("val_rate: 1 holds out every item; use e.g. 0.1")
        rates = [given.get("lr", 1)]
        for rate in rates:
            if isinstance(rate, Mapping):
                rates += rate.values()
            else:
                check_positive(rate, "lr")
    except (TypeError, ValueError) as error:
        raise SettingError(str(error)) from error
    _optimizer(settings.get("optimizer", {}))


def _optimizer(options: Settings) -> tuple[Any, dict[str, Any]]:
    """The class of ``torch.optim`` that ``options`` name, and its other keywords."""
    keywords = dict(options)
    name = keywords.pop("name", "Adam")
    kind = getattr(torch.optim, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise SettingError(f"optimizer: torch.optim has no optimiser {name!r}")
    check_options(kind, keywords, "optimizer", {"params", "lr"})
    for key, value in keywords.items():
        if isinstance(value, Mapping):
            raise SettingError(f"optimizer: {key} is a mapping; give a value, or a list of them")
    if keywords:  # what it takes, only it knows
        try:
            kind([torch.zeros(1, 1, requires_grad=True)], **{"lr": 1e-3, **keywords})
        except Exception as error:
            raise SettingError(f"optimizer: {name} cannot have {keywords} ({error})") from error
    return kind, keywords


def method(name: str, argument: str = "model", more: str = "or MODULE:CLASS") -> type[HashModel]:
    """The class of a method: ours, one of an installed package by its entry point, or imported.

    The message of an unknown one names ``argument`` and ends with ``more``.

    Raises:
        SettingError: there is none of this name.
    """
    if ":" in name:
        kind = imported(name, "model")
    else:
        known: dict[str, Callable[[], Any]]
        known = {ours.lower(): partial(getattr, models, ours) for ours in METHODS}
        if name.lower() not in known:
            installed = entry_points(group="pyg_hash.models")
            known |= {e.name.lower(): partial(imported, e.value, argument) for e in installed}
        kind = find(name, known, argument, more)()
    if not (isinstance(kind, type) and issubclass(kind, HashModel)):
        raise SettingError(f"{argument}: {name} is no class of models, which a HashModel is")
    return kind


def _ours(kind: type[HashModel]) -> str:
    """The method that ``kind`` is or derives from; empty if it is none of ours."""
    ours = {getattr(models, name): name for name in METHODS}
    return next((ours[base] for base in kind.__mro__ if base in ours), "")


def _mcgcn(settings: Settings) -> list[BaseTransform]:
    from pyg_hash import transforms

    options = dict(settings["graph_options"])
    joint = {name: options.pop(name) for name in ("pair_edges",) if name in options}
    hubs = {name: options.pop(name) for name in ("self_loops",) if name in options}
    taken = {"k", "metric", "anchors", "weight"}
    check_options(transforms.IntraKNN, options, "graph_options", taken)
    intra, inter = PROTOCOLS[settings["protocol"]]
    own = {"anchors": intra, "weight": settings["weight"], **options}
    return [
        transforms.IntraKNN(settings["k"], settings["metric"], **own),
        transforms.InterKNN(anchors=inter, **joint),
        transforms.LabelHub(match=settings["match"], **hubs),
    ]


def _sgch(settings: Settings) -> list[BaseTransform]:
    from pyg_hash import transforms

    options, asked = settings["graph_options"], settings["protocol"]
    check_options(transforms.SGCHGraph, options, "graph_options", {"k", "metric", "anchors"})
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
    from pyg_hash import transforms

    options = settings["graph_options"]
    check_options(transforms.UnifiedAffinity, options, "graph_options", {"k"})
    return [transforms.UnifiedAffinity(k=settings["k"], **options)]


def _device(data: HeteroData) -> torch.device:
    """Where the features are; those that are none are told of elsewhere."""
    x = data[IMAGE].get("x")
    return x.device if isinstance(x, Tensor) else torch.device("cpu")


_OF_STEPS = {"model", "data", "optimizer", "epochs", "loader", "schedulers"}  # arguments of fit
_GRAPHS = {"MCGCN": _mcgcn, "SGCH": _sgch, "SGEH": _sgeh}
EVERY: Settings = {"num_bits": 32, "seed": 0, "val_rate": 0.0, "model_options": {}, "scaling": {}}
"""The settings of every method, with their defaults."""
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "protocol": tuple(PROTOCOLS),
    "metric": ("cosine", "ip", "l2"),
    "weight": ("binary", "similarity"),
    "match": ("shared", "equal"),
}
_LABELS: Settings = {"label_rate": 0.3}
_TRAINED: Settings = {"optimizer": {}, "decay": 1.0, "patience": None}
_GRAPH: Settings = {
    **_LABELS,
    **{"protocol": "inductive", "k": 20, "metric": "cosine", "graph_options": {}},
    **{"batch_size": None, "loader_options": {}},
}
_OTHER: Settings = {"epochs": None, "lr": None, **_TRAINED, **_LABELS}
METHODS: dict[str, Settings] = {
    "TaughtHash": {"epochs": 60, "lr": 4e-3, **_TRAINED, **_LABELS, "decay": 0.97},
    "MCGCN": {"epochs": 80, "lr": 2e-3, **_TRAINED, **_GRAPH, "weight": None, "match": "shared"},
    "GCH": {"epochs": 25, "lr": 1e-3, **_TRAINED, **_LABELS},
    "SGCH": {"epochs": 80, "lr": 5e-3, **_TRAINED, **_GRAPH},
    "SGEH": {"epochs": 80, "lr": 1e-3, **_TRAINED, "k": 50, "graph_options": {}},
    "DCMH": {"epochs": 60, "lr": 1e-3, **_TRAINED, **_LABELS},
    "DJSRH": {"epochs": 40, "lr": 2.5e-3, **_TRAINED},
    "JDSH": {"epochs": 60, "lr": 1.8e-3, **_TRAINED},
    "DGCPN": {"epochs": 80, "lr": 1.5e-3, **_TRAINED},
    **dict.fromkeys(("ClassCodes", "SCM"), _LABELS),
    **dict.fromkeys(("LSH", "CCA", "ITQ", "CMFH", "IMH"), {}),
}
"""The settings that each method has besides those of every method, with their defaults."""
SETTINGS = frozenset(EVERY).union(*METHODS.values())
