"""One epoch of the training loop: steps, each down the mean of one or several batches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_hash.models.base import HashModel, Objective
from pyg_hash.models.batches import MakesBatches, Share
from pyg_hash.training.ranks import Ranks, shared_out

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16")
ALL = "all"  # the one optimiser of all parts
Row = dict[str, Any]
Optimizers = Mapping[str, torch.optim.Optimizer]
_CHECK_EVERY = 100
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Steps:
    """What an optimiser's step is made of: the batches of all ranks, ``accumulate`` on each.

    Args:
        loader: mini-batches; None lets the model make its own, or take all data at once.
        accumulate: batches of a step on a rank.
        precision: ``'bf16'`` computes the losses under ``torch.autocast``.
        ranks: the processes that train together.

    Raises:
        TypeError: a loader whose batches cannot be shared out, see :func:`shared_out`.
    """

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
        self.places = range(self.ranks.rank * accumulate, (self.ranks.rank + 1) * accumulate)
        self.loaders = None
        if loader is not None:
            self.loaders = [shared_out(loader, Share(p, self.count)) for p in self.places]


def train_epoch(
    model: HashModel,
    data: HeteroData | None,
    optimizers: Optimizers,
    epoch: int,
    steps: Steps,
    note: Callable[[int], object],
) -> Row:
    """Train for an epoch and return its history row.

    Args:
        model: the model.
        data: what it trains on; not needed with a loader.
        optimizers: by part, or one for :data:`ALL`.
        epoch: finished epochs.
        steps: what a step is made of.
        note: called with the number of steps, now and then.

    Raises:
        FloatingPointError: a loss or a parameter is NaN or inf.
        ValueError: a loader without batches.
    """
    model.train()
    parts = model.parts()
    means = _Means(epoch, steps.ranks)
    noise = _Noise(steps)
    running = _RunningStatistics(model, steps)
    number = 0
    for streams in _streams(model, data, epoch, steps, noise):
        while True:
            model.zero_grad(set_to_none=True)
            running.begin()
            number, part = number + 1, None
            for place, stream in zip(steps.places, streams, strict=True):
                noise.seed(number, place)
                with _precision(model, steps.precision), running.of_batch():
                    objective = next(stream, None)
                if objective is None:
                    break
                part = objective.part
                inputs = [p for p in parts[part] if p.requires_grad]
                # gradients of this part alone: an optimiser leaves those without gradient alone
                loss = objective.terms["loss"] / len(streams)
                loss.backward(inputs=inputs)  # type: ignore[no-untyped-call]
                means.add(objective)
            if part is None:
                break
            steps.ranks.average_gradients(inputs)
            running.average()
            (optimizers[part] if part in optimizers else optimizers[ALL]).step()
            if number % _CHECK_EVERY == 0:
                note(number)
                means.check()
        number -= 1  # there was no such step
    noise.restore()
    if number == 0:
        raise ValueError("loader: gave no batch; give at least one an epoch")
    means.check()
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise FloatingPointError(
            f"parameters: not finite after epoch {epoch + 1}; "
            "lower the learning rate or check the features"
        )
    return means.row()


def _streams(
    model: HashModel, data: HeteroData | None, epoch: int, steps: Steps, noise: _Noise
) -> Iterator[list[Iterator[Objective]]]:
    """Objectives of the batches that share their steps, side by side, for all such groups."""
    if steps.loaders is None:
        assert data is not None
        if steps.count == 1:
            yield [model.objectives(data, epoch)]
        else:
            shares = [Share(place, steps.count, noise.order) for place in steps.places]
            shared = cast(MakesBatches, model)
            yield [shared.objectives(data, epoch, share) for share in shares]
        return
    device = next(model.parameters()).device
    iterators = []
    for loader in steps.loaders:
        noise.seed_order(loader)
        iterators.append(iter(loader))
    for group in count(1):
        streams = []
        for place, batches in zip(steps.places, iterators, strict=True):
            noise.seed(-group, place)
            batch = next(batches, None)
            if batch is None:
                return  # all of them are as long
            streams.append(model.objectives(batch.to(device, non_blocking=True), epoch))
        yield streams


def _precision(model: nn.Module, precision: Precision) -> torch.autocast:
    kind = next(model.parameters()).device.type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")


class _Noise:
    """The random numbers of an epoch whose steps have several batches.

    Each batch draws its own (dropout, neighbours), whoever computes it, so that the result does
    not depend on how batches are shared out. A step of one batch draws from torch's global
    generator as it stands.
    """

    def __init__(self, steps: Steps) -> None:
        self.is_fixed = steps.count > 1
        self.count = steps.count
        if self.is_fixed:
            self.order = int(steps.ranks.agree(int(torch.randint(2**48, ()))))
            self._later = torch.get_rng_state()

    def seed_order(self, loader: Iterable[HeteroData]) -> None:
        """Before a loader draws the order of its batches, which all shares must agree on."""
        self.seed(0, 0)
        generator = getattr(loader, "generator", None)
        if self.is_fixed and generator is not None:
            generator.manual_seed(self.order)

    def seed(self, step: int, place: int) -> None:
        """Start the random numbers of one batch of a step."""
        if self.is_fixed:
            torch.manual_seed(self.order + step * self.count + place)

    def restore(self) -> None:
        """Leave the global generator as after the one draw above."""
        if self.is_fixed:
            torch.set_rng_state(self._later)


class _RunningStatistics:
    """Batch normalisation's running statistics under steps of several batches.

    Every batch of a step starts from the same statistics, and the step leaves their mean: one
    update a step, in whatever order and wherever its batches are computed.

    Args:
        model: the model.
        steps: a step of one batch leaves the statistics to the layers.
    """

    def __init__(self, model: nn.Module, steps: Steps) -> None:
        self._ranks = steps.ranks
        self._now = [
            buffer.data  # their change is none that a backward pass has to know of
            for layer in model.modules()
            if isinstance(layer, _BATCH_NORMS) and steps.count > 1
            for buffer in layer.buffers()
        ]
        self._start: list[Tensor] = []
        self._reached: list[list[Tensor]] = []

    def begin(self) -> None:
        """Before the batches of a step."""
        self._start = [now.clone() for now in self._now]
        self._reached = []

    @contextmanager
    def of_batch(self) -> Iterator[None]:
        """Around the forward pass of one batch."""
        for now, start in zip(self._now, self._start, strict=True):
            now.copy_(start)
        yield
        self._reached.append([now.clone() for now in self._now])

    def average(self) -> None:
        """At the end of a step."""
        means = [torch.stack(r).double().mean(dim=0) for r in zip(*self._reached, strict=True)]
        self._ranks.average(means)
        for now, mean in zip(self._now, means, strict=True):
            now.copy_(mean)


class _Means:
    """The mean of each loss term over the batches that have it, those of all ranks."""

    def __init__(self, epoch: int, ranks: Ranks) -> None:
        self._epoch = epoch
        self._ranks = ranks
        self._sums: dict[tuple[str, str], Tensor] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, objective: Objective) -> None:
        """Count the terms of one batch; nothing waits for the device."""
        for name, term in objective.terms.items():
            key = (objective.part, name)
            value = term.detach().float() if term.dtype == torch.bfloat16 else term.detach()
            self._sums[key] = self._sums[key] + value if key in self._sums else value
            self._counts[key] += 1

    def check(self) -> None:
        """Raise ``FloatingPointError`` if a loss was not finite, on all ranks."""
        means = self._by_part()
        if not all(math.isfinite(value) for (_, name), value in means.items() if name == "loss"):
            raise FloatingPointError(
                f"loss: not finite in epoch {self._epoch + 1} ({_named(means)}); "
                "lower the learning rate or check the features"
            )

    def row(self) -> Row:
        """The history row: ``loss`` is the sum over the parts."""
        means = self._by_part()
        loss = sum((value for (_, name), value in means.items() if name == "loss"), 0.0)
        return {"epoch": self._epoch + 1, "loss": loss} | _named(means)

    def _by_part(self) -> dict[tuple[str, str], float]:
        keys = list(self._sums)
        sums = self._ranks.sum([*self._sums.values()])
        counts = self._ranks.sum([self._counts[key] for key in keys])
        return {key: s / n for key, s, n in zip(keys, sums, counts, strict=True)}


def _named(means: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Terms with the part's name in front if there are several."""
    several = len({part for part, _ in means}) > 1
    return {f"{part}_{name}" if several else name: value for (part, name), value in means.items()}
