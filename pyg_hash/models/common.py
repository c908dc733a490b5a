"""What models share: arguments, labelled nodes, sums of losses, a cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from numbers import Integral
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from pyg_hash.losses import contrastive_loss
from pyg_hash.typing import IMAGE, MODALITIES, SAMPLED, Reduction
from pyg_hash.utils.checks import check_labels, check_size, check_weight

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

Built = TypeVar("Built")
Key = list[tuple[ReferenceType[Tensor], int]]
Weights = dict[str, float]
Widths = Mapping[str, int] | tuple[int, int] | list[int]


def image_text_pair(value: Widths | int, name: str) -> dict[str, int]:
    """Positive numbers of image and text, from one number, a pair or a mapping."""
    if isinstance(value, Integral):
        value = (int(value), int(value))
    if not isinstance(value, Mapping):
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
            wrong = ValueError if isinstance(value, list | tuple) else TypeError
            raise wrong(f"{name}: expected two numbers (image, text), got {value!r}")
        value = dict(zip(MODALITIES, value, strict=True))
    for m in MODALITIES:
        if m not in value:
            raise ValueError(f"{name}: has no entry {m!r}; give 'image' and 'text'")
        check_size(value[m], f"{name}[{m!r}]")
    return {m: value[m] for m in MODALITIES}


def like_of(module: nn.Module) -> Tensor:
    """A parameter, or buffer, of the type and place that a module computes in; else float32."""
    floats = (x for x in chain(module.parameters(), module.buffers()) if x.is_floating_point())
    return next(floats, torch.empty(0, dtype=torch.float32, device="cpu"))


def check_widths(
    data: HeteroData, num_features: Mapping[str, int], like: Tensor | None = None
) -> None:
    """Raise unless features have the widths of a model, and the type of ``like``, if given."""
    for modality, expected in num_features.items():
        width, dtype = data[modality].x.size(1), data[modality].x.dtype
        if like is not None and dtype != like.dtype:
            raise TypeError(
                f"data[{modality!r}].x: is {dtype}, but the model computes in {like.dtype}; use "
                f"x.to({like.dtype}), or float32 for both: ScaleFeatures() and model.float()"
            )
        if width != expected:
            raise ValueError(
                f"data[{modality!r}].x: has {width} features a row, but num_features is {expected};"
                " build the model from the transformed data's num_features"
            )


def known_labels(data: HeteroData, num_classes: int, *, require_all: bool = False) -> Tensor:
    """Labels, ``[n]`` or ``[n, C]``; raises if missing, unfit or (``require_all``) partial."""
    store = data[IMAGE]
    for key in ("y", "labeled_mask"):
        if key not in store:
            raise ValueError(
                f"data['image']: has no {key}, which this method learns from; use data with labels"
            )
    y: Tensor = store.y[store.labeled_mask]
    check_labels(y, "y", num_classes=num_classes)
    y = y.long() if y.dim() == 1 else y
    if not require_all:
        return y
    if y.size(0) == 0:
        raise ValueError("labeled_mask: selects no node to learn from; raise label_rate")
    classes = int(torch.as_tensor(data.get("num_classes", num_classes), device="cpu").max())
    counts = y.sum(dim=0) if y.dim() == 2 else torch.bincount(y, minlength=classes)
    if empty := (counts == 0).nonzero().flatten().tolist():
        listed = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
        raise ValueError(
            f"y: no labelled node of class {listed}; label one of each class, raise label_rate, or "
            "drop these classes"
        )
    return y


def check_labelled(model: nn.Module, data: HeteroData) -> None:
    """Raise ``ValueError`` if a model that reads labels would learn those of other rows too."""
    train, labeled = (data[IMAGE].get(name) for name in ("train_mask", "labeled_mask"))
    are_masks = {getattr(m, "dtype", 0) for m in (train, labeled)} == {torch.bool}  # not numbers
    if are_masks and model.reads_labels and (outside := int((labeled & ~train).sum())):
        raise ValueError(
            f"labeled_mask: {outside:,} of its rows are not in train_mask, and their labels would "
            "be learnt; set masks before the transforms, or labeled_mask &= train_mask"
        )


def multi_hot(y: Tensor, num_classes: int) -> Tensor:
    """Labels as a matrix ``[n, num_classes]`` of zeros and ones: class indices, or already so."""
    return torch.nn.functional.one_hot(y.long(), num_classes) if y.dim() == 1 else y


def pair_contrast(image: Tensor, text: Tensor, reduction: Reduction = "mean") -> Tensor:
    """The contrast between pairs: half that of images for their texts, half the other way."""
    there = contrastive_loss(image, text, reduction=reduction)
    return 0.5 * there + 0.5 * contrastive_loss(text, image, reduction=reduction)


def loss_weights(given: Mapping[str, float] | None, defaults: Mapping[str, float]) -> Weights:
    """The weights of a loss's terms: the defaults, but for those that are given."""
    if not isinstance(given, Mapping | None):
        raise TypeError(f"weights: expected term -> weight, got {given!r}; terms: {list(defaults)}")
    for name, weight in (given or {}).items():
        if name not in defaults:
            raise ValueError(f"weights: there is no term {name!r}; terms: {', '.join(defaults)}")
        check_weight(weight, f"weights[{name!r}]")
    return {**defaults, **(given or {})}


def weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """The terms, and their weighted sum as ``'loss'``; a term without a weight has weight 1."""
    parts = [weights.get(name, 1.0) * term for name, term in terms.items()]
    return {**terms, "loss": torch.stack(parts).sum()}


class GraphCache(Generic[Built]):
    """Remember what ``build`` made of the last two graphs, but not of mini-batches.

    A graph is the same if its tensors, which are not kept, are, and unchanged in place.
    """

    def __init__(self, build: Callable[[HeteroData], Built]) -> None:
        self._build = build
        self._slots: list[tuple[Key, Built]] = []

    def __call__(self, data: HeteroData) -> Built:
        """What is built of ``data``."""
        values = [store[name] for store in data.stores for name in sorted(store.keys())]
        tensors = [value for value in values if isinstance(value, Tensor)]
        known_once = SAMPLED in data.get("graph", {}) or torch.is_inference_mode_enabled()
        if known_once or any(t.is_inference() for t in tensors):  # these do not count their changes
            return self._build(data)
        for known, built in self._slots:
            if len(tensors) == len(known) and all(
                kept() is x and version == x._version
                for (kept, version), x in zip(known, tensors, strict=True)
            ):
                return built
        built = self._build(data)
        # two: training on the anchors and validating on all nodes take turns
        self._slots = [*self._slots[-1:], ([(ref(x), x._version) for x in tensors], built)]
        return built

    def __reduce__(self) -> tuple[Any, ...]:
        return GraphCache, (self._build,)
