"""Blocks of code under another mode: without autocast, or of a module in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn


def exact(like: Tensor) -> AbstractContextManager[object]:
    """A block without autocast on the device of ``like``: exact under ``precision='bf16'``."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


@contextmanager
def eval_mode(module: nn.Module, autocast: bool = False) -> Iterator[None]:
    """A block in evaluation mode, without gradients and, by default, autocast; then as before."""
    before = {part: part.training for part in module.modules()}
    if was_training := any(before.values()):  # else other threads may be at it
        module.eval()
    like = next(module.parameters(), torch.empty(0))
    try:
        with torch.no_grad(), nullcontext() if autocast else exact(like):
            yield
    finally:
        for part, mode in before.items() if was_training else ():
            if part.training != mode:
                part.train(mode)
        for part, mode in before.items() if was_training else ():
            part.training = mode  # a part of two was switched with the last of them
