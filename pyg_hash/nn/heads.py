"""What stands before and after the graph convolutions: one linear layer each, or a few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_hash.utils.checks import check_choice, check_positive_int, check_weight

OutActivation = Literal["none", "relu"]
Activation = Literal["relu", "leaky_relu", "none"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "none": lambda x: x,
}


class _Head(nn.Module):
    """A module around one linear layer."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.lin.reset_parameters()


class HashLayer(_Head):
    r"""Relaxed codes :math:`\tanh(xW + b)`, to be binarised by their sign.

    The common relaxation of :math:`\mathrm{sign}` that deep hashing trains with, as in Sec. 4.2 of
    Xu et al., "Graph Convolutional Network Hashing for Cross-Modal Retrieval" (GCH), IJCAI 2019.

    Args:
        in_channels: width of the input.
        num_bits: length of the codes.
    """

    def __init__(self, in_channels: int, num_bits: int) -> None:
        check_positive_int(num_bits, "num_bits")
        super().__init__(in_channels, num_bits)

    def forward(self, x: Tensor) -> Tensor:
        """Relaxed codes, float ``[N, num_bits]`` in (-1, 1), of ``x``, ``[N, in_channels]``.

        They have the layer's own type under :func:`torch.autocast` too.
        """
        return torch.tanh(self.lin(x).to(self.lin.weight))


class LabelClassifier(_Head):
    """One linear layer from codes to labels: the mapping :math:`P` of Wu et al. (MCGCN).

    The softmax after it is in :func:`~pyg_hash.losses.label_prediction_loss`.

    Args:
        num_channels: width of the input.
        num_classes: number of classes.
    """

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__(num_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float ``[N, num_classes]``, of ``x``, float ``[N, num_channels]``."""
        out: Tensor = self.lin(x)
        return out


class AttentionFusion(_Head):
    r"""Cross-graph attention of one modality.

    Wu et al., "Semi-supervised cross-modal hashing via modality-specific and cross-modal graph
    convolutional networks" (MCGCN), Pattern Recognition 136, 2023. The weights (MCGCN Eq. 4) and
    the fused code (MCGCN Eq. 5):

    .. math::
        (a, a_S) = \mathrm{softmax}\left(\sigma(z\theta + b), \sigma(z_S\theta + b)\right),
        \qquad r = a z + a_S z_S

    with one scalar weight a node and the same :math:`\theta, b` for both representations. As the
    sigmoid comes before the softmax, each weight lies between 0.2689 and 0.7311.

    Args:
        num_channels: width of both representations.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels, 1)

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
        _check_same_shape(specific, shared)
        scores = torch.cat([self.lin(specific), self.lin(shared)], dim=-1)
        weights = scores.to(specific.dtype).sigmoid().softmax(dim=-1)  # under autocast too
        fused = weights[:, :1] * specific + weights[:, 1:] * shared
        return (fused, weights) if return_weights else fused


class ConcatFusion(_Head):
    r"""Fusion by concatenation: :math:`r = \tanh([z, z_S] W + b)`.

    The ablation of MCGCN that replaces attention (variant A). The paper does not say how the
    doubled width becomes ``num_channels`` again; here one linear layer does it, with tanh like the
    GCN channels.

    Args:
        num_channels: width of both representations and of the result.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__(2 * num_channels, num_channels)

    def forward(self, specific: Tensor, shared: Tensor) -> Tensor:
        """Fused float ``[N, num_channels]`` in (-1, 1); arguments of :class:`AttentionFusion`."""
        _check_same_shape(specific, shared)
        return torch.tanh(self.lin(torch.cat([specific, shared], dim=-1)).to(specific.dtype))


def _check_same_shape(specific: Tensor, shared: Tensor) -> None:
    """Raise ``ValueError`` unless both are ``[N, d]`` with the same shape: one would broadcast."""
    if specific.dim() != 2 or specific.shape != shared.shape:
        raise ValueError(
            f"specific and shared: expected the same shape [N, num_channels], got "
            f"{list(specific.shape)} and {list(shared.shape)}"
        )


class Autoencoder(nn.Module):
    r"""One linear layer each way: :math:`h = \mathrm{ReLU}(xW_e + b_e)`, :math:`x_d = hW_d + b_d`.

    Sec. 3.3 and 4.2 of Wu et al. (MCGCN). It brings both modalities to one width. The paper puts a
    ReLU after the decoder too. That can only rebuild non-negative features (VGG fc7, word counts),
    so it is an option here: use it for such features, not for centred ones.

    Args:
        in_channels: width of the features.
        hidden: width of the latent representation, the same for both modalities.
        out_activation: after the decoder: ``'relu'`` (the paper) or ``'none'``.
    """

    def __init__(
        self, in_channels: int, hidden: int, out_activation: OutActivation = "none"
    ) -> None:
        super().__init__()
        check_choice(out_activation, ("none", "relu"), "out_activation")
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


class _Reverse(torch.autograd.Function):
    """Identity forward, gradient times ``-coefficient`` backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient = coefficient
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.coefficient * grad, None


class GradientReversal(nn.Module):
    r"""Gradient reversal layer: the identity, whose gradient is multiplied by :math:`-\lambda`.

    Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015. Wu et al.
    (MCGCN), Sec. 3.5.3, place it before the modality discriminator. One descent step then solves
    the min-max game: of the codes, MCGCN Eq. 9; of the discriminator, MCGCN Eq. 10.

    Args:
        coefficient: :math:`\lambda \ge 0`; may be changed from step to step.

    Raises:
        TypeError, ValueError: a coefficient that is no number, negative or not finite.
    """

    def __init__(self, coefficient: float = 1.0) -> None:
        super().__init__()
        check_weight(coefficient, "coefficient")
        self.coefficient = coefficient

    def reset_parameters(self) -> None:
        """Do nothing: there are no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself, any shape."""
        out: Tensor = _Reverse.apply(x, self.coefficient)  # type: ignore[no-untyped-call]
        return out


class ModalityDiscriminator(nn.Module):
    """Tells image codes from text codes: ``num_channels -> 16 -> 8 -> 2``.

    Sec. 3.5.2 and 4.2 of Wu et al. (MCGCN). ReLU follows every layer but the last, where it would
    cut off the logits. The code of SGCH (Shen et al., ICIP 2020) has ``K -> K/2 -> K/4 -> 2`` and
    no activation at all.

    Args:
        num_channels: width of the input.
        hidden: widths of the hidden layers.
        reversal: coefficient of the :class:`GradientReversal` in front of the first layer, found
            as ``discriminator.reversal``; ``None`` puts none there.
        activation: after every layer but the last: ``'relu'``, ``'leaky_relu'`` or ``'none'``.
    """

    reversal: GradientReversal | None

    def __init__(
        self,
        num_channels: int,
        hidden: Sequence[int] = (16, 8),
        reversal: float | None = 1.0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        check_choice(activation, tuple(_ACTIVATIONS), "activation")
        for width in hidden:
            check_positive_int(width, "hidden")
        self.activation = activation
        self.reversal = None if reversal is None else GradientReversal(reversal)
        self.lins = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([num_channels, *hidden, 2]))

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for lin in self.lins:
            lin.reset_parameters()  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float ``[N, 2]``: column 0 text, column 1 image.

        Args:
            x: codes of either modality, float ``[N, num_channels]``.
        """
        x = x if self.reversal is None else self.reversal(x)
        for lin in self.lins[:-1]:
            x = _ACTIVATIONS[self.activation](lin(x))
        out: Tensor = self.lins[-1](x)
        return out
