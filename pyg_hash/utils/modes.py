"""Blocks of code under another mode: without autocast, or of a module in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def exact(like: Tensor) -> torch.autocast:
    """A block without autocast on the device of ``like``: exact under ``precision='bf16'``."""
    return torch.autocast(like.device.type, enabled=False)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """A block without gradients, a module in evaluation mode; it then is what it was."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)
