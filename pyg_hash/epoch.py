"""One epoch of the training loop: steps, each down the mean of one or several batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_hash.models.base import HashModel, Objective
from pyg_hash.models.share import MakesBatches, Share

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16")
ALL = "all"  # the one optimiser of all parts
Row = dict[str, Any]
Optimizers = Mapping[str, torch.optim.Optimizer]
_CHECK_EVERY = 100
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Steps:
    """What an optimiser's step is made of.

    Attributes:
        loader: mini-batches; None lets the model make its own, or take all data at once.
        accumulate: batches of a step.
        precision: ``'bf16'`` computes the losses under ``torch.autocast``.
    """

    loader: Iterable[HeteroData] | None = None
    accumulate: int = 1
    precision: Precision = "fp32"


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
    """
    model.train()
    parts = model.parts()
    means = _Means(epoch)
    noise = _Noise(steps.accumulate)
    numbers = count(1)
    for streams in _streams(model, data, epoch, steps, noise):
        running = _RunningStatistics(model if len(streams) > 1 else None)
        while True:
            model.zero_grad(set_to_none=True)
            step, part = next(numbers), None
            for place, stream in enumerate(streams):
                noise.seed(step, place)
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
            running.average()
            (optimizers[part] if part in optimizers else optimizers[ALL]).step()
            if step % _CHECK_EVERY == 0:
                note(step)
                means.check()
    noise.restore()
    if next(numbers) == 1:
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
    if steps.loader is None:
        assert data is not None
        if steps.accumulate == 1:
            yield [model.objectives(data, epoch)]
        else:
            places = range(steps.accumulate)
            shares = [Share(place, steps.accumulate, noise.order) for place in places]
            shared = cast(MakesBatches, model)
            yield [shared.objectives(data, epoch, share) for share in shares]
        return
    device = next(model.parameters()).device
    batches = iter(steps.loader)
    for group in count():
        streams = []
        for place in range(steps.accumulate):
            noise.seed(-1 - group, place)
            batch = next(batches, None)
            if batch is None:
                break
            streams.append(model.objectives(batch.to(device), epoch))
        if not streams:
            return
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

    def __init__(self, batches: int) -> None:
        self.is_fixed = batches > 1
        self.batches = batches
        if self.is_fixed:
            self.order = int(torch.randint(2**48, ()))
            self._later = torch.get_rng_state()

    def seed(self, step: int, place: int) -> None:
        """Start the random numbers of one batch of a step."""
        if self.is_fixed:
            torch.manual_seed(self.order + step * self.batches + place)

    def restore(self) -> None:
        """Leave the global generator as after the one draw above."""
        if self.is_fixed:
            torch.set_rng_state(self._later)


class _RunningStatistics:
    """Batch normalisation's running statistics under steps of several batches.

    Every batch of a step starts from the same statistics, and the step leaves their mean: one
    update a step, in whatever order and wherever its batches are computed.

    Args:
        model: the model; None leaves the statistics to its layers.
    """

    def __init__(self, model: nn.Module | None) -> None:
        layers = [] if model is None else model.modules()
        self._now = [
            buffer.data  # their change is none that a backward pass has to know of
            for layer in layers
            if isinstance(layer, _BATCH_NORMS)
            for buffer in layer.buffers()
        ]
        self._start: list[Tensor] = []
        self._reached: list[list[Tensor]] = []

    @contextmanager
    def of_batch(self) -> Iterator[None]:
        """Around the forward pass of one batch."""
        if not self._reached:
            self._start = [now.clone() for now in self._now]
        for now, start in zip(self._now, self._start, strict=True):
            now.copy_(start)
        yield
        self._reached.append([now.clone() for now in self._now])

    def average(self) -> None:
        """At the end of a step."""
        for now, *reached in zip(self._now, *self._reached, strict=True):
            mean = torch.stack(reached).double().mean(dim=0)  # counts of batches are integers
            now.copy_(mean)
        self._reached = []


class _Means:
    """The mean of each loss term over the steps that have it."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
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
        """Raise ``FloatingPointError`` if a loss was not finite."""
        losses = [value for (_, name), value in self._sums.items() if name == "loss"]
        if losses and not bool(torch.isfinite(torch.stack(losses)).all()):
            raise FloatingPointError(
                f"loss: not finite in epoch {self._epoch + 1} ({self._values()}); "
                "lower the learning rate or check the features"
            )

    def _values(self) -> dict[str, float]:
        several = len({part for part, _ in self._sums}) > 1
        return {
            f"{part}_{name}" if several else name: float(value) / self._counts[part, name]
            for (part, name), value in self._sums.items()
        }

    def row(self) -> Row:
        """The history row: ``loss`` is the sum over the parts."""
        losses = [
            float(value) / self._counts[part, name]
            for (part, name), value in self._sums.items()
            if name == "loss"
        ]
        return {"epoch": self._epoch + 1, "loss": sum(losses, 0.0)} | self._values()
