"""Fusion without attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyg_hash.nn.attention import check_same_shape
from pyg_hash.utils.checks import check_positive_int


class ConcatFusion(nn.Module):
    r"""Fusion by concatenation: :math:`r = \tanh([z, z_S] W + b)`.

    The ablation of Wu et al. (MCGCN), Pattern Recognition 136, 2023, that replaces the attention of
    Eq. (4) and (5) (variant A). The paper does not say how the doubled width becomes
    ``num_channels`` again; here one linear layer does it, with tanh like the GCN channels.

    Args:
        num_channels: width of both representations and of the result.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        check_positive_int(num_channels, "num_channels")
        self.num_channels = num_channels
        self.lin = nn.Linear(2 * num_channels, num_channels)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.lin.reset_parameters()

    def forward(self, specific: Tensor, shared: Tensor) -> Tensor:
        """Fuse two representations of the same nodes.

        Args:
            specific: modality-specific representation, float ``[N, num_channels]``.
            shared: modality-shared representation, float ``[N, num_channels]``.

        Returns:
            Float ``[N, num_channels]`` in (-1, 1).

        Raises:
            ValueError: different shapes.
        """
        check_same_shape(specific, shared)
        return torch.tanh(self.lin(torch.cat([specific, shared], dim=-1)).to(specific.dtype))

    def extra_repr(self) -> str:
        """The arguments, for ``repr``."""
        return f"num_channels={self.num_channels}"
