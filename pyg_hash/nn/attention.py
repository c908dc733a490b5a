"""Attention over the modality-specific and the shared representation."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor, nn

from pyg_hash.utils.checks import check_positive_int


class AttentionFusion(nn.Module):
    r"""Cross-graph attention of one modality.

    Eq. (4) and (5) of Wu et al., "Semi-supervised cross-modal hashing via modality-specific and
    cross-modal graph convolutional networks" (MCGCN), Pattern Recognition 136, 2023:

    .. math::
        (a, a_S) = \mathrm{softmax}\left(\sigma(z\theta + b), \sigma(z_S\theta + b)\right),
        \qquad r = a z + a_S z_S

    with one scalar weight a node and the same :math:`\theta, b` for both representations. As the
    sigmoid comes before the softmax, each weight lies between 0.2689 and 0.7311.

    Args:
        num_channels: width of both representations.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        check_positive_int(num_channels, "num_channels")
        self.num_channels = num_channels
        self.lin = nn.Linear(num_channels, 1)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.lin.reset_parameters()

    @overload
    def forward(
        self, specific: Tensor, shared: Tensor, return_weights: Literal[False] = False
    ) -> Tensor: ...

    @overload
    def forward(
        self, specific: Tensor, shared: Tensor, return_weights: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self, specific: Tensor, shared: Tensor, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse two representations of the same nodes.

        Args:
            specific: modality-specific representation, float ``[N, num_channels]``.
            shared: modality-shared representation, float ``[N, num_channels]``.
            return_weights: also return the weights.

        Returns:
            Float ``[N, num_channels]``; with ``return_weights`` also the weights, float ``[N, 2]``
            with columns specific and shared, which sum to 1.

        Raises:
            ValueError: different shapes.
        """
        check_same_shape(specific, shared)
        scores = torch.cat([self.lin(specific), self.lin(shared)], dim=-1)
        weights = scores.to(specific.dtype).sigmoid().softmax(dim=-1)  # under autocast too
        fused = weights[:, :1] * specific + weights[:, 1:] * shared
        return (fused, weights) if return_weights else fused

    def extra_repr(self) -> str:
        """The arguments, for ``repr``."""
        return f"num_channels={self.num_channels}"


def check_same_shape(specific: Tensor, shared: Tensor) -> None:
    """Raise ``ValueError`` unless both are ``[N, d]`` with the same shape."""
    if specific.dim() != 2 or specific.shape != shared.shape:
        raise ValueError(
            f"specific and shared: expected the same shape [N, num_channels], got "
            f"{list(specific.shape)} and {list(shared.shape)}"
        )
