"""What stands behind the features of nodes or items: one linear layer, or a few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_hash.utils.checks import check_choice, check_collection, check_positive_ints, check_weight

Activation = Literal["relu", "leaky_relu", "none"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "none": lambda x: x,
}


class Layer(nn.Module):
    """A module whose parameters are those of its parts."""

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        redraw(self)


def redraw(module: nn.Module) -> None:
    """Have each part of a module draw its parameters anew."""
    for part in module.children():
        getattr(part, "reset_parameters", lambda part=part: redraw(part))()


class Head(Layer):
    """One linear layer, as MCGCN's mapping :math:`P` from codes to the logits of labels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_positive_ints(in_channels=in_channels, out_channels=out_channels)
        self.lin = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[N, out_channels]`` of ``x``, float ``[N, in_channels]``."""
        out: Tensor = self.lin(x)
        return out


class HashLayer(Head):
    r"""Relaxed codes :math:`\tanh(xW + b)`, as in Sec. 4.2 of Xu et al. (GCH), IJCAI 2019."""

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[N, num_bits]`` in (-1, 1), in the layer's own type under autocast too."""
        return torch.tanh(super().forward(x).to(self.lin.weight))


class ModalityDiscriminator(Layer):
    r"""Tells image codes from text codes: ``num_channels -> 16 -> 8 -> 2``.

    Sec. 3.5 and 4.2 of Wu et al. (MCGCN). The code of SGCH (Shen et al., ICIP 2020) has
    ``K -> K/2 -> K/4 -> 2`` and no activation at all.

    In front stands a gradient reversal (Ganin and Lempitsky, "Unsupervised Domain Adaptation by
    Backpropagation", ICML 2015): the identity, whose gradient is multiplied by :math:`-\lambda`.
    One descent step then plays both sides: MCGCN Eq. 9 of the codes, MCGCN Eq. 10 of the
    discriminator.

    Args:
        num_channels, hidden: widths of the input and of the hidden layers.
        reversal: :math:`\lambda \ge 0`, which may be changed from step to step; None: no reversal.
        activation: after every layer but the last.
    """

    def __init__(
        self,
        num_channels: int,
        hidden: Sequence[int] = (16, 8),
        reversal: float | None = 1.0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        check_choice(activation, tuple(_ACTIVATIONS), "activation")
        check_weight(0.0 if reversal is None else reversal, "reversal")
        check_positive_ints(num_channels=num_channels)
        check_collection(hidden, "hidden")
        for width in hidden:
            check_positive_ints(hidden=width)
        self.activation, self.reversal = activation, reversal
        self.lins = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([num_channels, *hidden, 2]))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float ``[N, 2]``: column 0 text, 1 image, of codes ``[N, num_channels]``."""
        coefficient = self.reversal
        if coefficient is not None and x.requires_grad and torch.is_grad_enabled():
            x = x.view_as(x)  # a hook on the argument itself would turn its other gradients too
            x.register_hook(lambda grad: -coefficient * grad)  # type: ignore[no-untyped-call]
        for lin in self.lins[:-1]:
            x = _ACTIVATIONS[self.activation](lin(x))
        out: Tensor = self.lins[-1](x)
        return out
