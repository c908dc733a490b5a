"""What stands behind the features of nodes or items: one linear layer, or a few."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from pyg_hash.utils.checks import check_positive_ints


class Layer(nn.Module):
    """A module whose parameters are those of its parts."""

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        redraw(self)


def redraw(module: nn.Module, known: bool = False) -> None:
    """Have each part draw its parameters anew; ``ValueError``, before any does: one cannot."""
    left = {p: name for name, p in module.named_parameters() if p.requires_grad and not known}
    for part in module.modules():
        way = getattr(part, "reset_parameters", getattr(part, "_reset_parameters", redraw))
        if not (room := way.__module__).startswith("pyg_hash."):
            for name, p in part.named_parameters(recurse=not is_parametrized(part)):
                x = vars(part).get(name.partition("_")[0])  # weight_norm's, prune's: drawn for p
                if room[:5] != "torch" or not isinstance(x, Tensor) or x.data_ptr() == p.data_ptr():
                    left.pop(p, None)
    if names := sorted(left.values()):
        remedy = "give their module one, or remove parametrizations"
        raise ValueError(f"reset_parameters: nothing draws {names}; {remedy}")
    for part in module.children():
        getattr(part, "reset_parameters", lambda part=part: redraw(part, True))()
    getattr(module, "_reset_parameters", lambda: None)()  # torch's attention, but for its parts


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
