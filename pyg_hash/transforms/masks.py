"""Which nodes carry labels and which are held out: splits as boolean node masks."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_hash.typing import IMAGE, MODALITIES, kind_of
from pyg_hash.utils.checks import check_fraction, check_positive_int, check_same_rows, check_seed

PAIR_MASKS = ("train_mask", "labeled_mask", "val_mask")  # both sides have the same


def is_mask(x: Any) -> TypeGuard[Tensor]:
    """Whether ``x`` is a tensor, bool or uint8 ``[N]``."""
    return isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) and x.dim() == 1


def as_mask(x: Any, name: str) -> Tensor:
    """A mask as bool ``[N]``; ``TypeError`` unless :func:`is_mask`."""
    if not is_mask(x):
        shape = f" {list(x.shape)}" if isinstance(x, Tensor) else ""
        raise TypeError(f"{name}: expected a bool tensor [N], got {kind_of(x)}{shape}")
    return x.bool()  # where it is: torch.as_tensor moves it to the default device


def stratified_sample(
    y: Tensor, pool: Tensor, rate: float, seed: int, *, at_least: int = 1
) -> Tensor:
    """Sample a share of every class out of ``pool``, the rarest first: bool ``[N]``.

    Classes get ``max(at_least, round(rate * size))`` members in all; ``rate`` is above 0.
    """
    if rate == 1.0:
        return pool.clone()
    chosen = torch.zeros_like(pool)
    members_of_pool = pool.nonzero().flatten()
    # drawn on the CPU: every device has the same choice
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(members_of_pool.numel(), generator=generator, device="cpu")
    order = members_of_pool[order.to(pool.device)]
    one_hot = y[:, None] == torch.unique(y[pool & (y >= 0)]) if y.dim() == 1 else y > 0
    columns = list(one_hot.unbind(dim=1))
    for column in sorted(columns, key=lambda c: int((c & pool).sum())):
        members = order[column[order]]
        if members.numel() == 0:
            continue  # a class without a member in the pool has nothing to give
        wanted = max(at_least, round(rate * members.numel())) - int(chosen[members].sum())
        free = members[~chosen[members]]
        chosen[free[: max(wanted, 0)]] = True
    if y.dim() == 2:  # items without any label are sampled at the same rate
        bare = order[(y.sum(dim=1) == 0)[order]]
        chosen[bare[: round(rate * bare.numel())]] = True
    return chosen


@dataclass(eq=False)
class LabelRate(BaseTransform):
    r"""Keep a share of the labels that may be used, stratified by class.

    Sets ``labeled_mask`` to a part of what it was (all training nodes, if there is none): at least
    one node of every class that occurs in it. Labels stay in ``y``; models read them only under
    ``labeled_mask``. Rate 0 needs no labels.

    Args:
        rate: share of each class's labelled nodes that stays so, between 0 and 1.
        seed: seed of the choice.

    ``ValueError``: there are no labels, or no label may be used, at a rate above 0.
    """

    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction(self.rate, "rate")
        check_seed(self.seed)

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with a new ``labeled_mask`` in both modalities."""
        if "graph" in data and "self_loops" in data.graph:
            raise ValueError("LabelRate: label edges exist already; apply it before LabelHub")
        data = as_pairs(data, "train_mask", labels=self.rate > 0)
        store = data[IMAGE]
        mask = torch.zeros_like(store.train_mask)
        if self.rate > 0:
            require_labels(data, type(self).__name__)
            pool = store.train_mask & store.get("labeled_mask", True)
            if not bool(pool.any()):
                raise ValueError(
                    "labeled_mask: the data set lets no label be used (splits/labeled is empty, or "
                    "no training row has one); choose label_rate 0 or a method that reads none, or "
                    "declare labelled rows"
                )
            mask = stratified_sample(store.y, pool, self.rate, self.seed)
        for modality in MODALITIES:
            data[modality].labeled_mask = mask
        return data


@dataclass(eq=False)
class ValidationSplit(BaseTransform):
    r"""Hold out a share of the labelled training nodes for early stopping.

    Sets ``val_mask`` and takes those nodes out of ``train_mask`` and ``labeled_mask``: the label
    budget of :class:`LabelRate` stays what it is. Put it after :class:`LabelRate` and before the
    graph transforms, so that a held-out node is nobody's anchor.

    Args:
        rate: share of each class's labelled nodes that is held out, strictly between 0 and 1.
        seed: seed of the choice.
    """

    rate: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction(self.rate, "rate")
        check_seed(self.seed)
        if self.rate in (0.0, 1.0):
            raise ValueError(f"rate: {self.rate} holds out nothing or everything; use e.g. 0.1")

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with ``val_mask`` and smaller ``train_mask`` and ``labeled_mask``."""
        data = as_pairs(data, "train_mask", "labeled_mask")
        store = data[IMAGE]
        if "y" not in store or not bool(store.labeled_mask.any()):
            what = "no node is labelled, and a validation needs labels; leave it out"
            raise ValueError(f"val_rate: {what}, or give labels and a label_rate above 0")
        if "graph" in data or "affinity" in data:
            raise ValueError("ValidationSplit: the graph exists already; apply it before the graph")
        if "val_mask" in store:
            raise ValueError(
                "ValidationSplit: there is a val_mask already, declared by the data set "
                "(splits/val) or held out before; leave val_rate out, or apply this once"
            )
        pool = store.labeled_mask
        held_out = stratified_sample(store.y, pool, self.rate, self.seed, at_least=0)
        of = f"val_rate: {self.rate} of {int(pool.sum())} labelled nodes"
        if not bool(held_out.any()):
            y = store.y[pool]
            sizes = y[y >= 0].bincount(minlength=1) if y.dim() == 1 else (y > 0).sum(dim=0)
            largest = int(sizes.max())
            remedy = "use a higher label_rate, or leave val_rate out"
            if largest > 1:
                remedy = f"use at least {50 // largest / 100 + 0.01:.2f}, or a higher label_rate"
            what = f"the share is taken of each class, and the largest has {largest} of them"
            raise ValueError(f"{of} holds out nothing: {what}; {remedy}")
        if torch.equal(held_out, pool):
            raise ValueError(f"{of} leaves none; lower it, or use a higher label_rate")
        masks = {"train_mask": store.train_mask & ~held_out, "labeled_mask": pool & ~held_out}
        for modality in MODALITIES:
            data[modality].update({"val_mask": held_out, **masks})
        return data


def require_labels(data: HeteroData, name: str) -> None:
    """Raise ``ValueError`` for data without labels; ``name`` is the transform's."""
    check_hetero(data)
    if "y" not in data[IMAGE]:
        raise ValueError(
            f"{name}: the data set has no labels to learn from; add them, or choose a method that "
            "needs none: TaughtHash at label rate 0 (or your own), or SGEH without this transform"
        )


def check_hetero(data: object) -> None:
    """Raise ``TypeError`` unless ``data`` may have both modalities."""
    if not isinstance(data, HeteroData):
        kind = type(data).__name__
        raise TypeError(f"data: expected HeteroData with 'image' and 'text', got {kind}")


def as_pairs(data: HeteroData, *needed: str, labels: bool = True) -> HeteroData:
    """A copy of ``data`` with bool masks; raise unless row i of both sides is a pair.

    ``x`` and what is ``needed`` is there, with as many rows; a needed mask of images alone becomes
    that of texts. :data:`PAIR_MASKS` are bool or uint8 ``[N]`` and the same on both sides, as
    labels under ``labeled_mask`` are; if ``labels`` are to be read, they are dense tensors.
    """
    check_hetero(data)
    data = copy.copy(data)
    if "num_classes" in needed:
        if (count := getattr(data, "num_classes", None)) is None:
            raise TypeError("data.num_classes: is missing; set it to the number of classes")
        is_scalar = isinstance(count, Tensor) and count.numel() == 1
        check_positive_int(count.item() if is_scalar else count, "data.num_classes")
    for key in ("x", *PAIR_MASKS, "y"):
        sides: list[Tensor] = []
        for m in MODALITIES:
            name = f"data[{m!r}].{key}"
            value = data[m].get(key, data[IMAGE].get(key) if key in needed else None)
            form = getattr(value, "layout", type(value).__name__)
            if value is None and key in ("x", *needed):
                raise TypeError(f"{name}: is missing; add it")
            if value is None or (key == "y" and form != torch.strided and not labels):
                continue
            if key in PAIR_MASKS:
                value = data[m][key] = as_mask(value, name)
            elif isinstance(form, str) or (key == "y" and form != torch.strided):
                raise TypeError(f"{name}: expected a dense tensor, got {form}")
            check_same_rows(data[IMAGE].x, value, "data['image'].x", name)
            sides.append(value)
        read = data[IMAGE].get("labeled_mask", slice(0)) if key == "y" else slice(None)
        if key != "x" and len(sides) == 2 and not _say_the_same(read, *sides):
            both = " and ".join(f"data[{m!r}].{key}" for m in MODALITIES)
            raise ValueError(f"{both}: differ, but row i of both is a pair; make them the same")
    return data


def _say_the_same(read: Tensor | slice, one: Tensor, two: Tensor) -> bool:
    """Whether masks or labels are the same in the rows that are read."""
    if one.dim() + two.dim() == 3:  # class indices, and zeros and ones
        index, hot = sorted((one, two), key=Tensor.dim)
        one, two = index[:, None] == torch.arange(hot.size(1), device=hot.device), hot > 0
    if one is two or one.shape != two.shape:
        return one is two
    same = (one == two)[..., None].flatten(1)  # copies of the rows read would take more memory
    return bool(same.all(dim=1)[read].all())
