"""One hidden layer: SGEH's encoders and its discriminator."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pyg_hash.nn.heads import Layer
from pyg_hash.utils.checks import check_dropout, check_positive_int, check_positive_ints


class HashMLP(Layer):
    r"""Features to the real-valued :math:`Y` whose sign is the code.

    The networks of SGEH (Zhao et al., ACCV 2022) as in the authors' code: one hidden layer (there
    of 4096), ReLU, dropout (0.5), one output a bit. The activation :math:`\tanh(\beta Y)` is the
    model's.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, num_bits: int, dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_positive_ints(
            in_channels=in_channels, hidden_channels=hidden_channels, num_bits=num_bits
        )
        check_dropout(dropout)
        self.lin1 = nn.Linear(in_channels, hidden_channels)
        self.lin2 = nn.Linear(hidden_channels, num_bits)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """``Y``, float ``[n, num_bits]``, of features, float ``[n, in_channels]``."""
        hidden = F.dropout(F.relu(self.lin1(x)), self.dropout, self.training)
        y: Tensor = self.lin2(hidden)
        return y


class PriorDiscriminator(HashMLP):
    r"""Tells codes from uniformly random ones: :math:`d(\cdot, \zeta)` of SGEH Eq. 14, as logits.

    The printed interval (-1, 1) cannot be that of a sigmoid, nor stand under a logarithm.
    """

    def __init__(self, num_bits: int, hidden_channels: int) -> None:
        check_positive_int(num_bits, "num_bits")
        super().__init__(num_bits, hidden_channels, 1, dropout=0.0)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits of "random", float ``[n]``, in the layer's own type under autocast too."""
        return super().forward(codes).squeeze(1).to(self.lin2.weight)
