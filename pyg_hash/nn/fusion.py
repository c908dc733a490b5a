"""MCGCN's layers around its graph convolutions: autoencoders before them, fusion behind."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pyg_hash.nn.heads import Head, Layer
from pyg_hash.utils.checks import check_choice, check_positive_ints, check_size

OutActivation = Literal["none", "relu"]


class AttentionFusion(Head):
    r"""Cross-graph attention of one modality.

    The weights (MCGCN Eq. 4) and the fused code (MCGCN Eq. 5):

    .. math::
        (a, a_S) = \mathrm{softmax}\left(\sigma(z\theta + b), \sigma(z_S\theta + b)\right),
        \qquad r = a z + a_S z_S

    with one scalar weight a node and the same :math:`\theta, b` for both representations. As the
    sigmoid comes before the softmax, each weight lies between 0.2689 and 0.7311.
    """

    def __init__(self, num_channels: int) -> None:
        check_size(num_channels, "num_channels")
        super().__init__(num_channels, 1)

    def weights(self, specific: Tensor, shared: Tensor) -> Tensor:
        """Of each node, float ``[N, 2]``: specific and shared, which sum to 1."""
        scores = torch.cat([self.lin(specific), self.lin(shared)], dim=-1)
        return scores.to(specific.dtype).sigmoid().softmax(dim=-1)  # under autocast too

    def forward(self, specific: Tensor, shared: Tensor) -> Tensor:  # type: ignore[override]
        """Fuse two representations of the same nodes, float ``[N, num_channels]`` each."""
        weights = self.weights(specific, shared)
        return weights[:, :1] * specific + weights[:, 1:] * shared


class ConcatFusion(Head):
    r"""Fusion by concatenation in place of attention: :math:`r = \tanh([z, z_S] W + b)`.

    The paper does not say how the doubled width becomes ``num_channels`` again (MCGCN's variant A);
    here one linear layer does it, with tanh like the GCN channels.
    """

    def __init__(self, num_channels: int) -> None:
        check_size(num_channels, "num_channels")
        super().__init__(2 * num_channels, num_channels)

    def forward(self, specific: Tensor, shared: Tensor) -> Tensor:  # type: ignore[override]
        """Fused float ``[N, num_channels]`` in (-1, 1); arguments of :class:`AttentionFusion`."""
        return torch.tanh(super().forward(torch.cat([specific, shared], dim=-1)).to(specific.dtype))


class Autoencoder(Layer):
    r"""One linear layer each way: :math:`h = \mathrm{ReLU}(xW_e + b_e)`, :math:`x_d = hW_d + b_d`.

    Sec. 3.3 and 4.2. It brings both modalities to one width, ``hidden``. The paper's ReLU after the
    decoder too (``out_activation='relu'``) can only rebuild features that are not negative.
    """

    def __init__(
        self, in_channels: int, hidden: int, out_activation: OutActivation = "none"
    ) -> None:
        super().__init__()
        check_positive_ints(in_channels=in_channels, hidden=hidden)
        check_choice(out_activation, ("none", "relu"), "out_activation")
        self.out_activation = out_activation
        self.encoder = nn.Linear(in_channels, hidden)
        self.decoder = nn.Linear(hidden, in_channels)

    def encode(self, x: Tensor) -> Tensor:
        """Latent representation, float ``[N, hidden]``, of ``x``, float ``[N, in_channels]``."""
        return nn.functional.relu(self.encoder(x), inplace=not torch.is_grad_enabled())

    def decode(self, h: Tensor) -> Tensor:
        """Reconstruction, float ``[N, in_channels]``, from ``h``, float ``[N, hidden]``."""
        x: Tensor = self.decoder(h)
        return x.relu() if self.out_activation == "relu" else x
