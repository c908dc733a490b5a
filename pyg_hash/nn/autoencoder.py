"""The autoencoder that brings both modalities to one width."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from pyg_hash.utils.checks import check_choice, check_positive_int

OutActivation = Literal["none", "relu"]


class Autoencoder(nn.Module):
    r"""One linear layer each way: :math:`h = \mathrm{ReLU}(xW_e + b_e)`, :math:`x_d = hW_d + b_d`.

    Sec. 3.3 and 4.2 of Wu et al. (MCGCN), Pattern Recognition 136, 2023. The paper puts a ReLU
    after the decoder too. That can only rebuild non-negative features (VGG fc7, word counts), so it
    is an option here: use it for such features, not for centred ones.

    Args:
        in_channels: width of the features.
        hidden: width of the latent representation, the same for both modalities.
        out_activation: after the decoder: ``'relu'`` (the paper) or ``'none'``.
    """

    def __init__(
        self, in_channels: int, hidden: int, out_activation: OutActivation = "none"
    ) -> None:
        super().__init__()
        check_positive_int(in_channels, "in_channels")
        check_positive_int(hidden, "hidden")
        check_choice(out_activation, ("none", "relu"), "out_activation")
        self.in_channels = in_channels
        self.hidden = hidden
        self.out_activation = out_activation
        self.encoder = nn.Linear(in_channels, hidden)
        self.decoder = nn.Linear(hidden, in_channels)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.encoder.reset_parameters()
        self.decoder.reset_parameters()

    def encode(self, x: Tensor) -> Tensor:
        """Latent representation, float ``[N, hidden]``, of ``x``, float ``[N, in_channels]``."""
        h: Tensor = self.encoder(x)
        return h.relu_()

    def decode(self, h: Tensor) -> Tensor:
        """Reconstruction, float ``[N, in_channels]``, from ``h``, float ``[N, hidden]``."""
        x: Tensor = self.decoder(h)
        return x.relu_() if self.out_activation == "relu" else x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent representation, float ``[N, hidden]``, and reconstruction, shaped like ``x``."""
        h = self.encode(x)
        return h, self.decode(h)

    def extra_repr(self) -> str:
        """The arguments, for ``repr``."""
        return (
            f"in_channels={self.in_channels}, hidden={self.hidden}, "
            f"out_activation={self.out_activation!r}"
        )
