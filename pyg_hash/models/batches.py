"""The mini-batches of what an encoder is trained on, and who gets which of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from pyg_hash.models.common import known_labels, multi_hot
from pyg_hash.typing import IMAGE

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from pyg_hash.models.base import HashModel

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """One of ``count`` equal shares of an epoch's batches; batch ``i`` of all makes one step."""

    place: int = 0  # which of them
    count: int = 1
    seed: int | None = None  # of the order, on which all agree; None: torch's global generator

    def generator(self) -> torch.Generator | None:
        """Draws the order of the batches."""
        return None if self.seed is None else torch.Generator().manual_seed(self.seed)

    def of(self, batches: Sequence[T]) -> list[T]:
        """Every ``count``-th of ``batches``, which are filled up with the first ones."""
        missing = -len(batches) % self.count
        full = [batches[i % len(batches)] for i in range(len(batches) + missing)]
        return full[self.place :: self.count]


WHOLE = Share()


def unshared(kind: type[HashModel]) -> str:
    """Why batches that a class makes cannot be shared out; empty if they can, or it makes none."""
    steps, takes = kind.objectives, False
    with suppress(TypeError):  # too many arguments
        takes = bool(inspect.signature(steps).bind(None, None, 0, WHOLE))
    if takes if kind.makes_batches else steps.__module__.startswith("pyg_hash."):
        return ""
    return (
        f"{kind.__name__}.objectives: does not share out its batches among the steps or processes; "
        "set makes_batches = True, and write objectives(self, data, epoch, share), which draws "
        "their order by share.generator() and yields the losses of share.of(batches)"
    )


def training_rows(data: HeteroData) -> Tensor:
    """The training rows, int64 ``[n]``; ``ValueError`` if they make no pair."""
    rows: Tensor = data[IMAGE].train_mask.nonzero().flatten()
    if len(rows) < 2:
        raise ValueError(f"train_mask: selects {len(rows)} nodes, which make no two pairs")
    return rows


def labelled_rows(data: HeteroData, num_classes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The labelled rows, at least two, and their labels as multi-hot of the type of ``like``."""
    y = known_labels(data, num_classes, require_all=True)
    if y.size(0) < 2:
        raise ValueError("labeled_mask: selects one node, which makes no pair; label more")
    return data[IMAGE].labeled_mask.nonzero().flatten(), multi_hot(y, num_classes).to(like)


def cut(order: Tensor, batch_size: int) -> list[Tensor]:
    """``order`` in pieces of ``batch_size``; a last piece of one, without pairs, joins another."""
    batches = list(torch.split(order, batch_size))
    if batches[-1].numel() == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


class BatchDraw:
    """Draws an epoch's mini-batches: int64 positions on the rows' device, at least two a batch."""

    def __init__(self, rows: Tensor, batch_size: int, share: Share = WHOLE) -> None:
        self.rows, self.batch_size, self.share = rows, batch_size, share
        self.generator = share.generator()

    def all(self) -> list[Tensor]:
        """The batches of the next partition, whoever's they are."""
        order = torch.randperm(self.rows.numel(), generator=self.generator, device="cpu")
        return cut(order.to(self.rows.device), self.batch_size)

    def own(self, passes: int = 1) -> Iterator[Tensor]:
        """The share of the next partitions."""
        for _ in range(passes):
            yield from self.share.of(self.all())
