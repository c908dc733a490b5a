"""What makes codes of relaxed codes."""

from __future__ import annotations

import torch
from torch import Tensor


def binarize(x: Tensor) -> Tensor:
    """Codes of relaxed codes: the sign, with sign(0) = +1.

    Args:
        x: float of any shape, e.g. relaxed codes ``[n, num_bits]``.

    Returns:
        int8 of the same shape, on the same device.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: NaN, which has no sign.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x: expected a floating-point tensor, got {kind}")
    if bool(torch.isnan(x).any()):
        raise ValueError("x: contains NaN, which has no sign; did training diverge?")
    return (x >= 0).to(torch.int8).mul_(2).sub_(1)
