"""The contract of every hashing model."""

from __future__ import annotations

import inspect
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from pyg_hash.models.files import (
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    INTAKE,
    MODEL,
    Intake,
    load_model_files,
    stored_config,
)
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Modality, binarize
from pyg_hash.utils.checks import check_choice, check_positive_int
from pyg_hash.utils.digests import digest_of, sha256
from pyg_hash.utils.files import CorruptFileError, save_json, save_tensors
from pyg_hash.utils.modes import eval_mode

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

BATCH = 4096  # items that are encoded at a time
Model = TypeVar("Model", bound="HashModel")


class Objective(NamedTuple):
    """One step of training: what to descend, and whose parameters may change.

    Attributes:
        terms: named scalar losses; ``terms['loss']`` is descended.
        part: a key of :meth:`HashModel.parts`; all other parameters stay as they are.
    """

    terms: dict[str, Tensor]
    part: str = "model"


class HashModel(nn.Module, ABC):
    """Base class of the hashing models.

    A model is built from keywords, trained by :func:`pyg_hash.training.fit` (or by any loop around
    :meth:`objectives`), and encodes nodes of a data set by :meth:`encode` and, once attached, new
    images or texts alone by :meth:`encode_image` and :meth:`encode_text`.

    Attributes:
        num_bits: length of the codes.
        config: the constructor's keywords, recorded by themselves (this constructor's ``config``
            replaces some); ``type(model)(**model.config)`` builds the same model.
        old_keywords: keywords of earlier versions, and where they are now: a mapping, and its keys.
        intake: what new items need to be encoded; None until :meth:`attach`.
        reads_labels: whether training reads those under ``labeled_mask``.
        makes_batches: :meth:`objectives` cuts the data by itself, and takes a ``Share`` of it.
    """

    reads_labels: ClassVar[bool] = True
    makes_batches: ClassVar[bool] = False
    intake_class: type[Intake] = Intake
    old_keywords: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    config: dict[str, Any]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            cls.__init__ = _recorded(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, num_bits: int, config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        check_positive_int(num_bits, "num_bits")
        self.num_bits = num_bits
        self.config = {**vars(self).get("config", {}), **(config or {})}
        self.intake: Intake | None = None

    def reset_parameters(self) -> None:
        """Draw new parameters and forget the data."""
        self.intake = None
        for module in self.children():
            parts = module.values() if isinstance(module, nn.ModuleDict) else [module]
            for part in parts:
                part.reset_parameters()  # type: ignore[operator]

    @abstractmethod
    def forward(self, data: HeteroData) -> HashOutput:
        """Relaxed codes of all nodes."""

    @abstractmethod
    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """Named scalar terms, ``'loss'`` is the total; labels count under ``labeled_mask`` only."""

    @abstractmethod
    def relaxed_new(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes ``[n, num_bits]`` of new items from their scaled features ``[n, d]``."""

    def objectives(self, data: HeteroData, epoch: int) -> Iterator[Objective]:
        """The losses that :func:`fit` descends one after the other, after ``epoch`` epochs.

        The next one is computed only after the optimiser's step on the one before. ``data`` is
        what :meth:`training_view` gave.
        """
        yield Objective(self.loss(self(data), data))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the part that trains them; each part may have its own optimiser."""
        return {"model": list(self.parameters())}

    def training_view(self, data: HeteroData) -> HeteroData:
        """What of ``data`` the training sees."""
        return data

    @torch.no_grad()
    def encode(self, data: HeteroData, modality: Modality) -> Tensor:
        """Codes of all nodes of one modality: int8 ``[N, num_bits]`` in {-1, +1}; sign(0) = +1."""
        check_choice(modality, MODALITIES, "modality")
        with eval_mode(self):
            return binarize(self(data)[modality])

    @torch.no_grad()
    def attach(self: Model, data: HeteroData) -> Model:
        """Keep what :meth:`encode_image` needs of ``data``, last of all, as :func:`fit` does."""
        with eval_mode(self):
            self.intake = self.make_intake(data)
        return self

    def make_intake(self, data: HeteroData) -> Intake:
        """What :meth:`attach` keeps; it runs in evaluation mode without gradients."""
        return Intake(**Intake.facts(data))

    def encode_image(self, x: Tensor) -> Tensor:
        """Codes of new images alone, int8 ``[n, num_bits]`` in {-1, +1}; no stored code changes.

        Args:
            x: image features as the data set delivers them (before scaling), float ``[n, d]``.

        Raises:
            RuntimeError: the model was neither fitted nor attached to a graph.
            TypeError, ValueError: features of the wrong type, width or content.
        """
        return binarize(self.relax_image(x))

    def encode_text(self, x: Tensor) -> Tensor:
        """Codes of new texts alone; see :meth:`encode_image`."""
        return binarize(self.relax_text(x))

    def relax_image(self, x: Tensor) -> Tensor:
        """Relaxed codes, float ``[n, num_bits]``, whose signs :meth:`encode_image` gives."""
        return self._relax_new(x, IMAGE)

    def relax_text(self, x: Tensor) -> Tensor:
        """Relaxed codes of new texts alone; see :meth:`relax_image`."""
        return self._relax_new(x, TEXT)

    @torch.no_grad()
    def _relax_new(self, x: Tensor, modality: Modality) -> Tensor:
        if self.intake is None:
            raise RuntimeError(
                f"{type(self).__name__} knows no data to scale or attach new items by; "
                "call fit(...) or model.attach(data) first"
            )
        x = self.intake.prepare(x, modality, next(self.parameters()))
        with eval_mode(self):
            return torch.cat([self.relaxed_new(part, modality) for part in torch.split(x, BATCH)])

    def digest(self) -> str:
        """What tells the codes of this model from those of others: SHA-256, in hexadecimal.

        Of its class, parameters and intake; the same after :meth:`save` and :meth:`load`.
        """
        tensors = {f"model/{name}": x for name, x in self.state_dict().items()}
        about: Any = None
        if self.intake is not None:
            kept, about = self.intake.to_tensors()
            tensors |= {f"intake/{name}": x for name, x in kept.items()}
        return digest_of(tensors, [type(self).__name__, about])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a folder: ``config.json`` and safetensors.

        Of modules of the user's own, the class's name and the parameters are stored.
        """
        folder = Path(path)
        written: dict[str, Any] = {MODEL: (self.state_dict(),)}
        if self.intake is not None:
            written[INTAKE] = self.intake.to_tensors()
        for file, content in written.items():
            save_tensors(folder / file, *content)
        record = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "model": type(self).__name__,
            "config": stored_config(self.config),
            "sha256": {file: sha256(folder / file) for file in written},
        }
        save_json(folder / CONFIG, record)  # last: a folder cut short is noticed when it is read

    @classmethod
    def load(cls: type[Model], path: str | os.PathLike[str], **modules: nn.Module) -> Model:
        """Read a model from the folder that :meth:`save` wrote.

        Of the user's own ``modules`` that it was built with, the parameters are replaced.

        Raises:
            FileNotFoundError: the folder or one of its files is missing.
            CorruptFileError: a file is truncated, or the files do not belong together.
            ValueError: the folder holds another kind of model, or needs a module that is not given.
        """
        record, contents = load_model_files(path)
        if record["model"] != cls.__name__:
            raise ValueError(f"path: {path} holds a {record['model']}, not a {cls.__name__}")
        config = record["config"]
        needed = {
            name: value["module"]
            for name, value in config.items()
            if isinstance(value, dict) and set(value) == {"module"}
        }
        for name in sorted(set(needed) ^ set(modules)):
            raise ValueError(
                f"{name}: the model was built with a module of your own ({needed[name]}); "
                f"pass {cls.__name__}.load(path, {name}=...)"
                if name in needed
                else f"{name}: the stored model has no module here; leave it out"
            )
        try:
            model = cls(**(config | modules))
            model.load_state_dict(contents[MODEL][0], assign=True)  # keeps float64 what it was
        except (TypeError, ValueError, RuntimeError) as error:
            raise CorruptFileError(
                f"{path}: settings and parameters do not belong together ({error})"
            ) from error
        if INTAKE in contents:
            model.intake = cls.intake_class.from_tensors(*contents[INTAKE])
        return model.eval()

    def _apply(self: Model, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Model:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.intake is not None:
            self.intake = self.intake.map(fn)
        return self


def _recorded(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that keeps its keywords in ``config``, under their present names."""
    signature = inspect.signature(init)

    @wraps(init)
    def recorded(self: HashModel, *args: Any, **keywords: Any) -> None:
        if "config" not in vars(self):  # a base class's constructor is called later
            keywords = _renamed(type(self), keywords)
            try:
                bound = signature.bind(self, *args, **keywords)
            except TypeError:
                init(self, *args, **keywords)  # names the class in its error
                raise
            bound.apply_defaults()
            _, *given = bound.arguments.items()
            vars(self)["config"] = dict(given)
        init(self, *args, **keywords)

    return recorded


def _renamed(cls: type[HashModel], keywords: dict[str, Any]) -> dict[str, Any]:
    """Keywords of earlier versions, of models saved then too, as they are called now."""
    old = [name for name in keywords if name in cls.old_keywords]
    if not old:
        return keywords
    for name in old:
        group, *keys = cls.old_keywords[name]
        given, value = keywords.get(group) or {}, keywords.pop(name)
        if not isinstance(given, Mapping):
            raise TypeError(
                f"{name}: is {group}={{{keys[0]!r}: ...}} now; give {group} as one mapping"
            )
        keywords[group] = {**given, **dict.fromkeys(keys, value)}
    listed = ", ".join("{} is {}={{{!r}: ...}}".format(n, *cls.old_keywords[n]) for n in old)
    warnings.warn(f"{cls.__name__}: {listed} now", DeprecationWarning, stacklevel=3)
    return keywords
