"""Encoders of single items: features, codes and labels from one input alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_hash.nn.heads import HashLayer, Layer
from pyg_hash.utils.checks import (
    check_choice,
    check_collection,
    check_flags,
    check_fraction,
    check_positive_ints,
)
from pyg_hash.utils.modes import eval_mode


class Encoding(NamedTuple):
    """What an encoder makes of its items."""

    features: Tensor  #: ``f``, float ``[n, width]``
    codes: Tensor  #: relaxed codes ``H``, float ``[n, num_bits]`` in (-1, 1)
    logits: Tensor  #: labels before the logistic function, float ``[n, num_classes]``


class CodeEncoder(Layer):
    r"""Fully-connected layers with two heads, :math:`f`, :math:`H = \tanh(\cdot)`, :math:`\hat L`.

    GCH Eq. 1 makes the codes of the features. Leaky ReLU after every layer but the heads (Sec. 4.2
    of Xu et al., IJCAI 2019).

    Args:
        in_channels: width of the input, or of what ``backbone`` makes of it.
        hidden_channels: widths of the layers; the last is that of the features.
        num_bits: length of the codes; None if :meth:`forward` is given a hash layer.
        num_classes, dropout: number of classes; share of each layer's entries that is dropped.
        batch_norm: standardise what comes out of each layer over the batch; in evaluation mode by
            running statistics, so that an item's code depends on no other item. True stands behind
            the activation because GCH's fusion needs centred features: a mean that all share
            would be all that is left of them. ``'before'`` stands in front of it, and learns a
            scale and a shift.
        hash_norm: the same in front of the tanh of the codes.
        labels_of_codes: predict the labels from the codes, not from the features.
        backbone: a module of the user's own in front, from raw items to ``[n, in_channels]``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: Sequence[int],
        num_bits: int | None,
        num_classes: int,
        *,
        dropout: float = 0.0,
        batch_norm: bool | Literal["before"] = False,
        hash_norm: bool = False,
        labels_of_codes: bool = False,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_collection(hidden_channels, "hidden_channels")
        if not len(hidden_channels):
            raise ValueError("hidden_channels: give the width of at least one layer")
        check_choice(batch_norm, (False, True, "before"), "batch_norm")
        check_flags(hash_norm=hash_norm, labels_of_codes=labels_of_codes)
        for width in hidden_channels:
            check_positive_ints(hidden_channels=width)
        bits = 1 if num_bits is None else num_bits
        check_positive_ints(in_channels=in_channels, num_classes=num_classes, num_bits=bits)
        check_dropout(dropout)
        widths = [in_channels, *hidden_channels]
        self.in_channels, self.dropout, self.backbone = in_channels, dropout, backbone
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norm_first = batch_norm == "before"
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width, affine=self.norm_first) if batch_norm else nn.Identity()
            for width in hidden_channels
        )
        self.hash = None if num_bits is None else HashLayer(widths[-1], num_bits)
        self.hash_norm = nn.BatchNorm1d(num_bits) if hash_norm and num_bits else None
        self.labels_of_codes = labels_of_codes
        width = num_bits if labels_of_codes and num_bits else widths[-1]
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: Tensor, hash_layer: HashLayer | None = None) -> Encoding:
        """Encode items, float ``[n, in_channels]``, or whatever the backbone takes.

        ``hash_layer`` stands for the encoder's own; ``ValueError`` unless there is exactly one, or
        if the backbone's output is not ``[n, in_channels]``.
        """
        to_codes = self.hash if hash_layer is None else hash_layer
        if to_codes is None or (self.hash is not None and hash_layer is not None):
            raise ValueError("hash_layer: give one if, and only if, num_bits is None")
        features, h = self._features(x)
        if self.hash_norm is None:
            codes = to_codes(h)
        else:
            codes = torch.tanh(self.hash_norm(to_codes.lin(h).to(to_codes.lin.weight)))
        # under autocast too what losses compare is in the type of the parameters
        logits = self.classifier(codes if self.labels_of_codes else h).to(self.classifier.weight)
        return Encoding(features.to(logits), codes, logits)

    def fixed_features(self, x: Tensor) -> Tensor:
        """Features as constants: without gradient, dropout or a change of running statistics."""
        with eval_mode(self, autocast=True):
            return self._features(x)[0]

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and what the heads get of them."""
        h = features = x if self.backbone is None else self.backbone(x)
        if self.backbone is not None and h.shape != (len(x), self.in_channels):
            raise ValueError(
                f"the encoder's own module ({type(self.backbone).__name__}) made "
                f"{list(h.shape)} of {list(x.shape)}, expected [{len(x)}, {self.in_channels}]; "
                "num_features must be the width of its output"
            )
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = layer(h)
            features = F.leaky_relu(norm(h), 0.2) if self.norm_first else norm(F.leaky_relu(h, 0.2))
            h = F.dropout(features, self.dropout, self.training)
        return features, h


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


def check_dropout(value: float) -> None:
    """Raise unless ``0 <= value < 1``: with 1 nothing is left to learn from."""
    check_fraction(value, "dropout")
    if value == 1.0:
        raise ValueError("dropout: 1 drops everything; use less, e.g. 0.5")


class PriorDiscriminator(HashMLP):
    r"""Tells codes from uniformly random ones: :math:`d(\cdot, \zeta)` of SGEH Eq. 14, as logits.

    The printed interval (-1, 1) cannot be that of a sigmoid, nor stand under a logarithm.
    """

    def __init__(self, num_bits: int, hidden_channels: int) -> None:
        check_positive_ints(num_bits=num_bits)
        super().__init__(num_bits, hidden_channels, 1, dropout=0.0)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits of "random", float ``[n]``, in the layer's own type under autocast too."""
        return super().forward(codes).squeeze(1).to(self.lin2.weight)
