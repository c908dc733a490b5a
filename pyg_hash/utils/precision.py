"""What stays exact when ``fit(..., precision='bf16')`` makes matrix products in bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor


def exact(like: Tensor) -> torch.autocast:
    """A block without autocast on the device of ``like``: losses, sums over many rows."""
    return torch.autocast(like.device.type, enabled=False)
