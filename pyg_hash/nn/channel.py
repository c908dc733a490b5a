"""What MCGCN and SGCH share: the graph convolution channel, and who tells the modalities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_hash.graph import Place, SparseMap, WholeGraph
from pyg_hash.nn.heads import Layer
from pyg_hash.utils.checks import check_choice, check_collection, check_positive_ints, check_weight

Activation = Literal["relu", "leaky_relu", "none"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "none": lambda x: x,
}


class _Convolution(Layer):
    """The weights of PyG's ``GCNConv``, which writes a file in each process, drawn as by it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        from torch_geometric.nn.dense import Linear  # takes seconds; a search may do without

        super().__init__()
        self.lin = Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
        self.reset_parameters()


class GCNChannel(Layer):
    r"""Two graph convolutions, :math:`H_{l+1} = \tanh(\hat A H_l \Theta_l)` (MCGCN Eq. 3)."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        check_positive_ints(
            in_channels=in_channels, hidden_channels=hidden_channels, out_channels=out_channels
        )
        self.conv1 = _Convolution(in_channels, hidden_channels)
        self.conv2 = _Convolution(hidden_channels, out_channels)

    def forward(self, x: Tensor | Iterable[Tensor], place: Place | SparseMap) -> list[Tensor]:
        """States ``[N, out_channels]`` in (-1, 1); then, if the place has a view, its rows'.

        Of features ``[N, in_channels]``, or consecutive parts of their rows, and of where the nodes
        stand; an operator alone stands for :class:`WholeGraph`. ``TypeError``: it is neither.
        """
        place = WholeGraph(place) if isinstance(place, SparseMap) else place
        if not isinstance(place, Place):
            raise TypeError(f"place: expected Place or graph_operator, got {type(place).__name__}")
        states: Iterable[Tensor] = [x] if isinstance(x, Tensor) else x
        own = self.conv1.lin.weight.dtype  # sums are of the type of the edges' weights
        tanh = torch.tanh if torch.is_grad_enabled() else torch.tanh_  # hooks of gradients see h
        for layer, conv in enumerate((self.conv1, self.conv2)):
            states = (tanh(h).to(own) for h in place.receive(layer, states, conv.lin))
        return place.gather(states)


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
        reversal: :math:`\lambda \ge 0`; None: no reversal.
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
