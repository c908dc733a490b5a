"""Adversarial learning: gradient reversal and the modality discriminator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_hash.utils.checks import check_choice, check_fraction, check_positive_int

Activation = Literal["relu", "leaky_relu", "none"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "none": lambda x: x,
}


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
    (MCGCN), Pattern Recognition 136, 2023, Sec. 3.5.3, place it before the modality discriminator:
    one descent step then solves the min-max game of Eq. (9) and (10). It has no parameters.

    Args:
        coefficient: :math:`\lambda \ge 0`. The attribute of the same name may be changed during
            training, as with :func:`reversal_schedule`.

    Raises:
        ValueError: a coefficient that is negative or not finite.
    """

    def __init__(self, coefficient: float = 1.0) -> None:
        super().__init__()
        self.coefficient = coefficient

    @property
    def coefficient(self) -> float:
        """The factor of the reversed gradient."""
        return self._coefficient

    @coefficient.setter
    def coefficient(self, value: float) -> None:
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"coefficient: expected a finite number of at least 0, got {value!r}")
        self._coefficient = float(value)

    def reset_parameters(self) -> None:
        """Do nothing: there are no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself, any shape."""
        out: Tensor = _Reverse.apply(x, self.coefficient)  # type: ignore[no-untyped-call]
        return out

    def extra_repr(self) -> str:
        """The arguments, for ``repr``."""
        return f"coefficient={self.coefficient}"


def reversal_schedule(progress: float) -> float:
    r"""Coefficient :math:`2 / (1 + e^{-10p}) - 1` that grows from 0 to almost 1 during training.

    Ganin and Lempitsky, ICML 2015, Sec. 4; also Wang et al., "Adversarial Cross-Modal Retrieval",
    ACM MM 2017.

    Args:
        progress: the part :math:`p` of the training that is done, in [0, 1].

    Raises:
        ValueError: ``progress`` outside [0, 1].
    """
    check_fraction(progress, "progress")
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


class ModalityDiscriminator(nn.Module):
    """Tells image codes from text codes: ``num_channels -> 16 -> 8 -> 2``.

    Sec. 3.5.2 and 4.2 of Wu et al. (MCGCN), Pattern Recognition 136, 2023, the network
    :math:`A` of Eq. (8). ReLU follows every layer but the last, where it would cut off the logits.
    The code of SGCH (Shen et al., ICIP 2020) has ``K -> K/2 -> K/4 -> 2`` and no activation at all.

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
        check_positive_int(num_channels, "num_channels")
        check_choice(activation, tuple(_ACTIVATIONS), "activation")
        self.activation = activation
        for width in hidden:
            check_positive_int(width, "hidden")
        self.num_channels = num_channels
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
        if self.reversal is not None:
            x = self.reversal(x)
        for lin in self.lins[:-1]:
            x = _ACTIVATIONS[self.activation](lin(x))
        out: Tensor = self.lins[-1](x)
        return out
