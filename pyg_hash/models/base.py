"""The contract of every hashing model."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from pyg_hash.models.common import Widths, image_text_pair, like_of
from pyg_hash.nn.heads import redraw
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Modality, PathLike, binarize
from pyg_hash.utils.checks import (
    as_list,
    check_choice,
    check_features,
    check_item_shape,
    check_mapping,
    check_size,
    keywords_of,
)
from pyg_hash.utils.digests import digest_of
from pyg_hash.utils.modes import eval_mode
from pyg_hash.utils.scaling import apply_scaling

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

BATCH = 4096  # items that are encoded at a time
Model = TypeVar("Model", bound="HashModel")
_NOT_GIVEN: Any = object()


@dataclass(eq=False)
class Intake:
    """What a model keeps of its data to check, scale and encode new items.

    Attributes:
        tensors: by path: ``'scaling.image.mean'``, and so on, of the fitted scaling.
        about: as JSON values ``shapes`` of one item of a modality before scaling (``[d]`` of
            features), ``is_features``, whether items are rows of real numbers, and ``scaling``,
            what of it is no tensor.
        trained: of a model that was trained in this process, ``data_rows`` of its data; not stored.
        sent_by: the parameters that messages of a graph are of, to notice others; not stored.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any]
    trained: Mapping[str, Tensor] | None = field(default=None, init=False)
    sent_by: Mapping[str, tuple[Any, ...]] | None = field(default=None, init=False)

    @classmethod
    def of(cls, data: HeteroData) -> Self:
        """What new items must be like to follow those of ``data``."""
        scaling = data.scaling if "scaling" in data else {}
        tensors: dict[str, Tensor] = {}
        about: dict[str, Any] = {"shapes": {}, "is_features": {}, "scaling": {}}
        for m in MODALITIES:
            x, fitted = data[m].x, scaling.get(m, {})
            before = fitted.get("mean", fitted.get("components"))
            about["shapes"][m] = list(x.shape[1:] if before is None else before.shape[:1])
            about["is_features"][m] = x.dim() == 2 and x.is_floating_point()
            about["scaling"][m] = {k: v for k, v in fitted.items() if not isinstance(v, Tensor)}
            tensors |= {f"scaling.{m}.{k}": v for k, v in fitted.items() if isinstance(v, Tensor)}
        return cls(tensors, about)

    def scaling(self, modality: Modality) -> dict[str, Any]:
        """The fitted scaling of a modality, as in the data; empty: there is none."""
        start = f"scaling.{modality}."
        fitted = {k.removeprefix(start): x for k, x in self.tensors.items() if k.startswith(start)}
        return {**self.about["scaling"].get(modality, {}), **fitted}

    def prepare(self, x: Tensor, modality: Modality, like: Tensor) -> Tensor:
        """Check and scale new items ``[n, *shape]``; features get ``like``'s type and place."""
        shape = self.about["shapes"][modality]
        if not self.about["is_features"][modality]:
            check_item_shape(x, "x", shape)
            return x.to(like) if x.is_floating_point() else x.to(like.device)
        check_features(x, "x", num_features=shape[0])
        return apply_scaling(x.to(like), self.scaling(modality))

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply ``function`` to every tensor (used by ``model.to(device)``)."""
        result = type(self)({path: function(x) for path, x in self.tensors.items()}, self.about)
        same = all(result.tensors[path].dtype == x.dtype for path, x in self.tensors.items())
        result.trained, result.sent_by = self.trained, self.sent_by if same else None
        return result


class Objective(NamedTuple):
    """One step of training: what to descend, and whose parameters may change."""

    terms: dict[str, Tensor]  #: named scalar losses; ``terms['loss']`` is descended
    part: str = "model"  #: a key of :meth:`HashModel.parts`; other parameters stay as they are


def _copied(x: Any) -> Any:
    """Plain values as they are now, whatever a constructor does to its lists; modules as such."""
    if isinstance(x, dict):
        return {name: _copied(each) for name, each in x.items()}
    return type(x)(map(_copied, x)) if type(x := as_list(x)) in (list, tuple) else x


def _recorded(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that keeps its keywords in ``config``."""
    signature = inspect.signature(init)

    @wraps(init)
    def recorded(self: HashModel, *args: Any, **keywords: Any) -> None:
        if "config" not in vars(self):  # a base class's constructor is called later
            with suppress(TypeError):  # the constructor itself names what is wrong
                bound = signature.bind(self, *args, **keywords)
                bound.apply_defaults()
                given = dict(bound.arguments)
                for name, parameter in signature.parameters.items():
                    if parameter.kind == parameter.VAR_KEYWORD:
                        given |= given.pop(name)
                    elif parameter.kind == parameter.VAR_POSITIONAL:  # go on to another class
                        others = [n for n in keywords_of(type(self)) if n not in given]
                        if len(others) >= len(given[name]):
                            given |= dict(zip(others, given.pop(name), strict=False))
                vars(self)["config"] = _copied(dict([*given.items()][1:]))
        init(self, *args, **keywords)

    return recorded


class HashModel(nn.Module, ABC):
    """Base class of the hashing models.

    A model is trained by :func:`pyg_hash.training.fit` (or by any loop around :meth:`objectives`,
    after ``model.train()``, then :meth:`finish`), and encodes nodes of a data set by :meth:`encode`
    and, once attached, new images or texts by :meth:`encode_image` and :meth:`encode_text`.
    Keywords that constructors share:

    * ``num_features``: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair;
    * ``num_classes``, and ``num_bits``, the code length;
    * ``hidden_channels``: width of the encoders' hidden layer, ``dropout``: share of its entries
      that training sets to 0, ``batch_size``: items of a mini-batch;
    * ``weights``: of the loss's terms, where others than the defaults. ``contrast``, where there is
      one, is not in the papers, and 0 by default, at which it is not computed: the
      :func:`~pyg_hash.losses.contrastive_loss` of training pairs, both directions by halves.

    Attributes:
        num_bits: length of the codes.
        num_features: width of each modality's features, checked where there is one.
        config: the constructor's keywords, recorded by themselves (this constructor's ``config``
            replaces some); ``type(model)(**model.config)`` builds the same model.
        intake: what new items need to be encoded; None until :meth:`attach`.
        reads_labels: whether training reads those under ``labeled_mask``.
        makes_batches: :meth:`objectives` cuts the data by itself, and takes a ``Share`` of it.
    """

    reads_labels: ClassVar[bool] = True
    makes_batches: ClassVar[bool] = False
    intake_class: type[Intake] = Intake
    storage: ClassVar[Any]  # pyg_hash.models sets its module files: all a model knows of them
    config: dict[str, Any]
    num_features: Mapping[str, int] = MappingProxyType({})

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            cls.__init__ = _recorded(cls.__init__)  # type: ignore[method-assign]

    @_recorded
    def __init__(
        self,
        num_bits: int,
        config: Mapping[str, Any] | None = None,
        *,
        num_features: Widths = _NOT_GIVEN,
    ) -> None:
        super().__init__()
        check_size(num_bits, "num_bits")
        self.num_bits = num_bits
        check_mapping(config := {} if config is None else config, "config")
        self.config |= _copied({**config})
        if num_features is _NOT_GIVEN:  # None is, and is wrong
            self.config = {k: v for k, v in self.config.items() if v is not _NOT_GIVEN}
        else:
            self.num_features = image_text_pair(num_features, "num_features")
            self.config["num_features"] = self.num_features
        self.intake: Intake | None = None

    def reset_parameters(self) -> None:
        """Draw new parameters and forget the data; ``ValueError``: no module draws some of them."""
        redraw(self)
        self.intake = None

    @abstractmethod
    def forward(self, data: HeteroData) -> HashOutput:
        """Relaxed codes of all nodes."""

    @abstractmethod
    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """Named terms, unweighted, and their total ``'loss'``; each a tensor of one number, [].

        Labels count under ``labeled_mask`` only.
        """

    @abstractmethod
    def relaxed_new(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes ``[n, num_bits]`` of new items from their scaled features ``[n, d]``."""

    def objectives(self, data: HeteroData, epoch: int) -> Iterator[Objective]:
        """The losses on a :meth:`training_view` that are descended in epoch ``epoch``, from 0.

        The next one is computed only after the optimiser's step on the one before.
        """
        yield Objective(self.loss(self(data), data))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the part that trains them; each part may have its own optimiser."""
        return {"model": list(self.parameters())}

    def training_view(self, data: HeteroData) -> HeteroData:
        """What of ``data`` the training sees."""
        return data

    def finish(self, data: HeteroData) -> None:
        """What is done once to the parameters, after the last epoch on a :meth:`training_view`.

        Codes that callbacks and validation see in an epoch are those of before.
        """

    def encode(self, data: HeteroData, modality: Modality) -> Tensor:
        """Codes of all nodes of one modality: int8 ``[N, num_bits]`` in {-1, +1}; sign(0) = +1."""
        check_choice(modality, MODALITIES, "modality")
        with eval_mode(self):
            return binarize(self(data)[modality])

    def attach(self: Model, data: HeteroData) -> Model:
        """Keep what :meth:`encode_image` needs of ``data``, last of all, as :func:`fit` does."""
        with eval_mode(self):
            self.intake = self.make_intake(data)
        self.storage.check_intake(self)
        return self

    def make_intake(self, data: HeteroData) -> Intake:
        """What :meth:`attach` keeps; it runs in evaluation mode without gradients."""
        return Intake.of(data)

    def encode_image(self, x: Tensor) -> Tensor:
        """Codes of new images alone, int8 ``[n, num_bits]`` in {-1, +1}; no stored code changes.

        Of features as the data set delivers them, before scaling, float ``[n, d]``; others raise
        ``TypeError`` or ``ValueError``. ``RuntimeError``: not attached since a parameter changed.
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

    def _relax_new(self, x: Tensor, modality: Modality) -> Tensor:
        if self.intake is None:
            raise RuntimeError(
                f"{type(self).__name__} knows no data to scale or attach new items by; "
                "call fit(...) or model.attach(data) first"
            )
        self.storage.check_intake(self)
        with eval_mode(self):
            x = self.intake.prepare(x, modality, like_of(self))
            return torch.cat([self.relaxed_new(part, modality) for part in torch.split(x, BATCH)])

    def digest(self) -> str:
        """SHA-256 of class, parameters and intake: whose codes are whose; kept by :meth:`save`."""
        tensors = {f"model/{name}": x for name, x in self.state_dict().items()}
        if self.intake is None:
            return digest_of(tensors, [type(self).__name__, None])
        tensors |= {f"intake/{name}": x for name, x in self.intake.tensors.items()}
        return digest_of(tensors, [type(self).__name__, self.intake.about])

    def save(self, path: PathLike) -> None:
        """Write a folder: ``config.json`` and safetensors; of a user's own modules parameters.

        ``TypeError``: what no file can hold or load() build; ``RuntimeError``: as of encode_image.
        """
        self.storage.save(self, path)

    @classmethod
    def load(cls: type[Model], path: PathLike, **modules: nn.Module) -> Model:
        """Read a model from the folder that :meth:`save` wrote; ``modules`` get their parameters.

        ``FileNotFoundError``, ``CorruptFileError``: a file is missing, damaged or another model's;
        ``ValueError``: a model of another kind, or a module of the user's own that is not given.
        """
        loaded: Model = cls.storage.load(cls, path, modules)
        return loaded

    def _apply(self: Model, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Model:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.intake is not None:
            self.intake = self.intake.map(fn)
        return self
