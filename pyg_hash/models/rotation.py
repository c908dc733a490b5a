"""The rotation of ITQ, which :class:`ITQ` and :class:`TaughtHash` end with."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.typing import binarize


def itq_rotation(v: Tensor, *, iterations: int = 50, seed: int = 0) -> Tensor:
    r"""The rotation that brings rows close to their signs (Gong et al., TPAMI 2013, Sec. 3.2).

    Minimises :math:`\lVert B - V R \rVert_F^2` in turns: :math:`B = \mathrm{sign}(V R)`, then the
    orthogonal Procrustes solution for :math:`R`; the start is a random rotation.
    """
    drawn = torch.Generator().manual_seed(seed)
    size = v.size(1), v.size(1)
    start = torch.randn(size, generator=drawn, dtype=torch.float32, device="cpu")
    rotation: Tensor = torch.linalg.qr(start.to(v)).Q
    for _ in range(iterations):
        codes = binarize(v @ rotation).to(v)
        left, _, right = torch.linalg.svd(v.T @ codes)
        rotation = left @ right
    return rotation
