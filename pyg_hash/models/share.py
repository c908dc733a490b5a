"""How the mini-batches of an epoch are shared out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch_geometric.data import HeteroData

from pyg_hash.models.base import Objective

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """One of ``count`` shares of an epoch's mini-batches.

    All shares of an epoch have the same number of batches; batch ``i`` of each makes one step
    with batch ``i`` of the others.

    Attributes:
        place: which of them.
        count: number of shares.
        seed: of the order of the batches, which all shares must agree on; None draws it from
            torch's global generator.
    """

    place: int = 0
    count: int = 1
    seed: int | None = None

    def generator(self) -> torch.Generator | None:
        """Draws the order of the batches; None stands for torch's global generator."""
        return None if self.seed is None else torch.Generator().manual_seed(self.seed)

    def of(self, batches: Sequence[T]) -> list[T]:
        """Every ``count``-th of ``batches``, which are filled up with the first ones."""
        missing = -len(batches) % self.count
        full = [batches[i % len(batches)] for i in range(len(batches) + missing)]
        return full[self.place :: self.count]


WHOLE = Share()


class MakesBatches(Protocol):
    """A model with ``makes_batches``."""

    def objectives(self, data: HeteroData, epoch: int, share: Share = WHOLE) -> Iterator[Objective]:
        """As :meth:`HashModel.objectives`, of one share of the mini-batches alone."""
        ...
