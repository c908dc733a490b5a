"""Training and encoding by several processes, started by ``torchrun``; torch.distributed does it.

Every process (rank) has the model and the data; gradients are averaged before each step, so that
all models stay equal. Without a process group everything here does what one process needs.
"""

from __future__ import annotations

import copy
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler
from torch_geometric.data import HeteroData

from pyg_hash.models.base import HashModel
from pyg_hash.models.batches import Share
from pyg_hash.models.common import like_of
from pyg_hash.models.encoder import EncoderHashModel
from pyg_hash.typing import IMAGE, MODALITIES, Modality
from pyg_hash.utils.checks import check_choice

T = TypeVar("T")
__all__ = ["Ranks", "encode_sharded", "process_group", "shared_out"]


@dataclass(frozen=True)
class Ranks:
    """The processes that work together; one if no process group was made."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # where tensors must be to be sent

    @classmethod
    def of(cls, model: nn.Module) -> Ranks:
        """The processes that train ``model``; see :meth:`on`."""
        return cls.on(like_of(model).device)

    @classmethod
    def on(cls, device: torch.device | str) -> Ranks:
        """The processes of the default process group, sending from ``device``."""
        device = torch.device(device)
        if not (dist.is_available() and dist.is_initialized()):
            return cls(device=device)
        backend = dist.get_backend()
        if (device.type == "cuda") != (backend == "nccl"):
            raise ValueError(
                f"device: the process group's backend {backend} does not serve {device}; make it "
                "with gloo for CPUs, nccl for GPUs"
            )
        return cls(dist.get_rank(), dist.get_world_size(), device)

    @property
    def is_main(self) -> bool:
        """Whether this process shows, evaluates and writes what one process alone must."""
        return self.rank == 0

    def copy_state(self, model: nn.Module) -> None:
        """Give all ranks the parameters and buffers of rank 0."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks."""
        if self.size == 1:
            return
        for work in [dist.all_reduce(t.div_(self.size), async_op=True) for t in tensors]:
            work.wait()

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their means over the ranks; one that a rank lacks counts as zero."""
        if self.size == 1 or not parameters:
            return
        reached = torch.tensor([p.grad is not None for p in parameters], device=self.device).int()
        dist.all_reduce(reached)
        moved = [p for p, count in zip(parameters, reached.tolist(), strict=True) if count]
        for p in moved:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        self.average(p.grad for p in moved if p.grad is not None)

    def sum(self, values: Sequence[float | Tensor]) -> list[float]:
        """Sums of numbers over the ranks, which must all give as many; computed in float64."""
        total = torch.stack([torch.as_tensor(v, device=self.device).double() for v in values])
        if self.size > 1:
            dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def agree(self, value: float) -> float:
        """The number that rank 0 has."""
        if self.size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, src=0)
        return float(tensor)

    def in_turn(self, make: Callable[[], T]) -> T:
        """What ``make`` gives: by rank 0, then one of each machine, then others, who find it."""
        turn = 0 if self.is_main else 1 if os.environ.get("LOCAL_RANK", "0") == "0" else 2
        for now in range(3):
            if now == turn:
                made = make()
            if self.size > 1:
                dist.barrier()
        return made

    @contextmanager
    def file_of_main(self, path: str | os.PathLike[str]) -> Iterator[Path | None]:
        """A file that rank 0 can read, for all ranks, also on other machines; None if not there."""
        path = Path(path)
        # as bytes: collectives of objects unpickle
        content = path.read_bytes() if self.is_main and path.is_file() else None
        size = int(self.agree(-1 if content is None else len(content)))
        if size < 0:
            yield None
            return
        if self.size > 1:
            sent = torch.empty(size, dtype=torch.uint8, device=self.device)
            if content is not None:
                sent.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
            dist.broadcast(sent, src=0)
        if self.is_main:
            yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / path.name
            copied.write_bytes(sent.cpu().numpy().tobytes())
            yield copied


def shared_out(loader: Iterable[HeteroData], share: Share) -> Iterable[HeteroData]:
    """The batches of one share of a ``DataLoader`` or a sequence; the others are not even made."""
    if isinstance(getattr(loader, "sampler", None), DistributedSampler):
        raise ValueError(
            "loader: has a DistributedSampler, but its batches are shared out here; give every "
            "rank the same loader without one"
        )
    if share.count == 1:
        return loader
    if isinstance(loader, Sequence):
        return share.of(loader)
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
        raise TypeError(
            f"loader: batches of a {type(loader).__name__} cannot be shared out among steps or "
            "ranks; give a DataLoader (such as InstanceLoader) or a list"
        )
    own = copy.copy(loader)
    own._iterator = None  # of workers that persist: each share has its own
    # DataLoader guards its attributes, since workers that run already would not see the change
    object.__setattr__(own, "batch_sampler", _OwnBatches(loader.batch_sampler, share))
    return own


class _OwnBatches:
    """The lists of indices of one share of a loader's batches."""

    def __init__(self, batches: Any, share: Share) -> None:
        self.batches, self.share = batches, share

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.share.of(list(self.batches)))  # all now: they draw their order at once

    def __len__(self) -> int:
        return math.ceil(len(self.batches) / self.share.count)


@contextmanager
def process_group(
    device: str = "cpu", timeout: timedelta = timedelta(days=1)
) -> Iterator[torch.device]:
    """Join the process group that ``torchrun`` describes, for a block; else do nothing.

    Yields the device of this process: on ``'cpu'`` (backend gloo), or on ``'cuda'`` (nccl) the GPU
    of its local rank; ``ValueError``: there is none. Ranks wait for each other until ``timeout``,
    as when the first one builds a graph.
    """
    check_choice(device, ("cpu", "cuda"), "device")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: no CUDA GPU is at hand; use cpu")
    place = torch.device(device)
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield place
        return
    if device == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"device: process {local} of this machine has no GPU of its own "
                f"({torch.cuda.device_count()} in all); start fewer with --nproc-per-node"
            )
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timeout)
    try:
        yield place
    finally:
        dist.destroy_process_group()


@torch.no_grad()
def encode_sharded(model: HashModel, items: Tensor | HeteroData, modality: Modality) -> Tensor:
    """Codes int8 ±1 ``[n, num_bits]`` of many items, each rank encoding an equal part of them.

    The items are new ones, as :meth:`HashModel.encode_image` takes them, or a data set, for a model
    that encodes each item alone (GCH, SGEH; else ``ValueError``); all is the same on all ranks.
    """
    check_choice(modality, MODALITIES, "modality")
    ranks = Ranks.of(model)
    x = items if isinstance(items, Tensor) else items[modality].x
    size = math.ceil(len(x) / ranks.size)
    own = slice(ranks.rank * size, (ranks.rank + 1) * size)
    if isinstance(items, Tensor):
        encode: Any = model.encode_image if modality == IMAGE else model.encode_text
        part: Any = items[own]
    elif isinstance(model, EncoderHashModel):
        encode = partial(model.encode, modality=modality)
        part = HeteroData({m: {"x": items[m].x[own]} for m in MODALITIES})
    else:
        raise ValueError(
            f"items: the nodes of {type(model).__name__} exchange messages, so that none is "
            "encoded alone; give features of new items, or use model.encode(data, modality)"
        )
    codes = torch.ones(size, model.num_bits, dtype=torch.int8, device=ranks.device)
    if count := len(x[own]):
        codes[:count] = encode(part)
    if ranks.size == 1:
        return codes
    every = [torch.empty_like(codes) for _ in range(ranks.size)]
    dist.all_gather(every, codes)
    return torch.cat(every)[: len(x)]
