"""Feature scaling, once it is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def apply_scaling(x: Tensor, scaling: Mapping[str, Any] | None) -> Tensor:
    """Scale ``[n, d]`` as a fitted :class:`ScaleFeatures`; a row that vanishes becomes zero."""
    if not scaling:
        return x
    raw_length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if "mean" in scaling:
        x = torch.sub(x, scaling["mean"].to(x))
    if "components" in scaling:
        x = torch.mm(x, scaling["components"].to(x))
    if "norm" in scaling:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        # what the projection leaves of such a row is rounding, not a direction
        x = torch.where(length > 1e-6 * raw_length, x / length, 0.0)
        x = torch.mul(x, scaling["norm"])
    return x
