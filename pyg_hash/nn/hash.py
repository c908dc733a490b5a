"""From features to relaxed codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyg_hash.utils.checks import check_positive_int


class HashLayer(nn.Module):
    r"""Relaxed codes :math:`\tanh(xW + b)`, to be binarised by their sign.

    The common relaxation of :math:`\mathrm{sign}` that deep hashing trains with, as in Sec. 4.2 of
    Xu et al., "Graph Convolutional Network Hashing for Cross-Modal Retrieval" (GCH), IJCAI 2019.

    Args:
        in_channels: width of the input.
        num_bits: length of the codes.
    """

    def __init__(self, in_channels: int, num_bits: int) -> None:
        super().__init__()
        check_positive_int(in_channels, "in_channels")
        check_positive_int(num_bits, "num_bits")
        self.in_channels = in_channels
        self.num_bits = num_bits
        self.lin = nn.Linear(in_channels, num_bits)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.lin.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Relaxed codes, float ``[N, num_bits]`` in (-1, 1), of ``x``, ``[N, in_channels]``.

        They have the layer's own type under :func:`torch.autocast` too.
        """
        return torch.tanh(self.lin(x).to(self.lin.weight))

    def extra_repr(self) -> str:
        """The arguments, for ``repr``."""
        return f"in_channels={self.in_channels}, num_bits={self.num_bits}"
