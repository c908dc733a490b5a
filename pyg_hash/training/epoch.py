"""One epoch of the training loop: steps, each down the mean of one or several batches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from pyg_hash.models.base import HashModel, Objective
from pyg_hash.models.batches import Share
from pyg_hash.training.ranks import Ranks, shared_out

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

Precision = Literal["fp32", "bf16"]
PRECISIONS = get_args(Precision)
ALL = "all"  # the one optimiser of all parts
Row = dict[str, Any]
Optimizers = Mapping[str, torch.optim.Optimizer]
_CHECK_EVERY = 100
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Steps:
    """What an optimiser's step is made of: the batches of all ranks, ``accumulate`` on each."""

    def __init__(
        self,
        loader: Iterable[HeteroData] | None = None,
        accumulate: int = 1,
        precision: Precision = "fp32",
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.precision = precision
        self.count = self.ranks.size * accumulate
        first = self.ranks.rank * accumulate
        self.shares = [Share(place, self.count) for place in range(first, first + accumulate)]
        self.loaders = None  # then the model makes its own batches, or takes all data at once
        if loader is not None:
            self.loaders = [shared_out(loader, share) for share in self.shares]


def train_epoch(
    model: HashModel,
    data: HeteroData | None,
    optimizers: Optimizers,
    epoch: int,
    steps: Steps,
    note: Callable[[int], object],
) -> Row:
    """Train after ``epoch`` finished ones; ``note`` gets the number of steps now and then."""
    model.train()
    model.zero_grad(set_to_none=True)
    parts, device = model.parts(), next(model.parameters()).device
    means = _Means(epoch, steps.ranks)
    running = _RunningStatistics(model, steps)
    # where a step has several batches, each draws its own numbers (dropout, neighbours) whoever
    # computes it, so that the result does not depend on how batches are shared out
    order, number, several = None, 0, steps.count > 1
    if several:
        order = int(steps.ranks.agree(int(torch.randint(2**48, ()))))

    def descended(share: Share, stream: Iterator[Objective]) -> Iterator[Objective]:
        """The objectives of one share of the steps, with their gradients."""
        while True:
            _seed(order, steps, number + 1, share.place)
            running.rewind()
            with torch.autocast(device.type, torch.bfloat16, enabled=steps.precision == "bf16"):
                objective = next(stream, None)
            if objective is None:
                return
            running.keep()
            # gradients of this part alone: an optimiser leaves those without gradient alone
            inputs = [p for p in parts[objective.part] if p.requires_grad]
            loss = objective.terms["loss"] / len(steps.shares)
            loss.backward(inputs=inputs)  # type: ignore[no-untyped-call]
            means.add(objective)
            yield objective

    with torch.random.fork_rng(devices=[], enabled=several):
        streams = _streams(model, data, epoch, steps, order)
        # a step takes one objective of each share: one at a time has its activations in memory
        for objectives in zip(*map(descended, steps.shares, streams), strict=True):
            part = objectives[0].part
            steps.ranks.average_gradients([p for p in parts[part] if p.requires_grad])
            running.average()
            (optimizers[part] if part in optimizers else optimizers[ALL]).step()
            model.zero_grad(set_to_none=True)
            number += 1
            if number % _CHECK_EVERY == 0:
                note(number)
                means.row()
    if number == 0:
        raise ValueError("loader: gave no batch; give at least one an epoch")
    row = means.row()
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise FloatingPointError(
            f"parameters: not finite after epoch {epoch + 1}; "
            "lower the learning rate or check the features"
        )
    return row


def _streams(
    model: HashModel, data: HeteroData | None, epoch: int, steps: Steps, order: int | None
) -> list[Iterator[Objective]]:
    """The objectives of an epoch, side by side for the shares of this rank."""
    if steps.loaders is None:
        assert data is not None
        if steps.count == 1:
            return [model.objectives(data, epoch)]
        make: Any = model.objectives  # of a model that makes batches
        return [make(data, epoch, replace(share, seed=order)) for share in steps.shares]
    streams = []
    for loader in steps.loaders:
        _seed(order, steps, 0, 0)  # loaders draw the order of their batches, all the same
        generator = getattr(loader, "generator", None)
        if order is not None and generator is not None:
            generator.manual_seed(order)
        streams.append(_of_batches(model, iter(loader), epoch))
    return streams


def _of_batches(model: HashModel, batches: Iterator[HeteroData], epoch: int) -> Iterator[Objective]:
    device = next(model.parameters()).device
    for batch in batches:
        yield from model.objectives(batch.to(device, non_blocking=True), epoch)


def _seed(order: int | None, steps: Steps, step: int, place: int) -> None:
    """Start the random numbers of one batch of a step, if there is an order to go by."""
    if order is not None:
        torch.manual_seed(order + step * steps.count + place)


class _RunningStatistics:
    """Running statistics of batch normalisation: one update a step, the mean of its batches."""

    def __init__(self, model: nn.Module, steps: Steps) -> None:
        self._ranks = steps.ranks
        self._now = [
            buffer.data  # their change is none that a backward pass has to know of
            for layer in model.modules()
            if isinstance(layer, _BATCH_NORMS) and steps.count > 1
            for buffer in layer.buffers()
        ]
        self._begin()

    def _begin(self) -> None:
        self._start = [now.clone() for now in self._now]
        self._reached: list[list[Tensor]] = []

    def rewind(self) -> None:
        """Before the forward pass of a batch."""
        for now, start in zip(self._now, self._start, strict=True):
            now.copy_(start)

    def keep(self) -> None:
        """After the forward pass of a batch."""
        self._reached.append([now.clone() for now in self._now])

    def average(self) -> None:
        """At the end of a step."""
        means = [torch.stack(r).double().mean(dim=0) for r in zip(*self._reached, strict=True)]
        self._ranks.average(means)
        for now, mean in zip(self._now, means, strict=True):
            now.copy_(mean)
        self._begin()


class _Means:
    """The mean of each loss term over the batches that have it, those of all ranks."""

    def __init__(self, epoch: int, ranks: Ranks) -> None:
        self._epoch, self._ranks = epoch, ranks
        self._sums: dict[tuple[str, str], Tensor] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, objective: Objective) -> None:
        """Count the terms of one batch; nothing waits for the device."""
        for name, term in objective.terms.items():
            key = (objective.part, name)
            value = term.detach().float() if term.dtype == torch.bfloat16 else term.detach()
            self._sums[key] = self._sums.get(key, 0.0) + value
            self._counts[key] += 1

    def row(self) -> Row:
        """The history row so far; ``FloatingPointError`` on all ranks if a loss was not finite."""
        sums = self._ranks.sum([*self._sums.values()])
        counts = self._ranks.sum([*self._counts.values()])
        means = {key: s / n for key, s, n in zip(self._sums, sums, counts, strict=True)}
        several = len({part for part, _ in means}) > 1
        named = {f"{p}_{name}" if several else name: mean for (p, name), mean in means.items()}
        losses = [mean for (_, name), mean in means.items() if name == "loss"]
        if not all(map(math.isfinite, losses)):
            raise FloatingPointError(
                f"loss: not finite in epoch {self._epoch + 1} ({named}); "
                "lower the learning rate or check the features"
            )
        return {"epoch": self._epoch + 1, "loss": sum(losses, 0.0)} | named
