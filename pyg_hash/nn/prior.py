"""The discriminator of SGEH's regulariser."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pyg_hash.utils.checks import check_positive_int


class PriorDiscriminator(nn.Module):
    r"""Tells codes from uniformly random ones: two fully-connected layers.

    The network :math:`d(\cdot, \zeta)` of Eq. (14) of SGEH (Zhao et al., ACCV 2022), with ReLU
    between the layers. It returns logits: the sigmoid is part of
    :func:`~pyg_hash.losses.prior_discriminator_loss`. The interval (-1, 1) of Eq. (14) cannot be
    that of a sigmoid, nor stand under the logarithms of Eq. (15).

    Args:
        num_bits: length of the codes.
        hidden_channels: width of the first layer.
    """

    def __init__(self, num_bits: int, hidden_channels: int) -> None:
        super().__init__()
        check_positive_int(num_bits, "num_bits")
        check_positive_int(hidden_channels, "hidden_channels")
        self.lin1 = nn.Linear(num_bits, hidden_channels)
        self.lin2 = nn.Linear(hidden_channels, 1)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.lin1.reset_parameters()
        self.lin2.reset_parameters()

    def forward(self, codes: Tensor) -> Tensor:
        """Logits of "random", float ``[n]``, of codes, float ``[n, num_bits]``.

        They have the layer's own type under :func:`torch.autocast` too.
        """
        logits: Tensor = self.lin2(F.relu(self.lin1(codes))).squeeze(1)
        return logits.to(self.lin2.weight)
