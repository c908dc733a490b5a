"""What the whole library shares: modalities, edge types, the output of a model and its codes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Modality = Literal["image", "text"]
PathLike = str | os.PathLike[str]  # a file or folder
EdgeType = tuple[str, str, str]
Reduction = Literal["mean", "sum"]
Match = Literal["shared", "equal"]
Metric = Literal["cosine", "ip", "l2"]

IMAGE: Modality = "image"
TEXT: Modality = "text"
CLASS = "class"
PAIR = "pair"
MODALITIES: tuple[Modality, Modality] = (IMAGE, TEXT)

INTRA: dict[Modality, EdgeType] = {m: (m, "intra", m) for m in MODALITIES}
NEAREST: dict[Modality, EdgeType] = {m: (m, "nearest", m) for m in MODALITIES}
JOINT: dict[Modality, EdgeType] = {m: (m, "joint", m) for m in MODALITIES}
JOINT_NEAREST: dict[Modality, EdgeType] = {m: (m, "joint_nearest", m) for m in MODALITIES}
INTER: dict[Modality, EdgeType] = {
    IMAGE: (TEXT, "inter", IMAGE),  # keyed by the modality that receives
    TEXT: (IMAGE, "inter", TEXT),
}
IN_CLASS: dict[Modality, EdgeType] = {m: (m, "in", CLASS) for m in MODALITIES}
OVERLAP: EdgeType = (CLASS, "overlap", CLASS)
SAMPLED = "sampled"  # in ``data.graph`` of a mini-batch
AFFINITY: EdgeType = (PAIR, "affinity", PAIR)


def other(modality: Modality) -> Modality:
    """The modality that ``modality`` is not."""
    return TEXT if modality == IMAGE else IMAGE


@dataclass
class HashOutput:
    """What :meth:`HashModel.forward` returns.

    Attributes:
        image, text: relaxed codes of their nodes, float ``[N, num_bits]`` in (-1, 1).
        aux: further tensors that the model's own loss needs, by name.
    """

    image: Tensor
    text: Tensor
    aux: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, modality: str) -> Tensor:
        """The relaxed codes of one modality."""
        if modality not in MODALITIES:
            raise KeyError(f"modality: {modality!r}; use one of {', '.join(MODALITIES)}")
        return self.image if modality == IMAGE else self.text


def kind_of(x: object) -> str:
    """The dtype of a tensor, the type of what is none, and how an array of NumPy becomes one."""
    if not isinstance(x, np.ndarray):
        return str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
    known = x.dtype.kind in "biufc" and x.dtype.char not in "gG"  # torch has no longdouble
    return "ndarray" + (" (torch.from_numpy makes it a tensor)" if known else f" of {x.dtype}")


def binarize(x: Tensor) -> Tensor:
    """Codes, int8 of the same shape, of relaxed codes: the sign, with sign(0) = +1.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: NaN, which has no sign.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x: expected a floating-point tensor, got {kind_of(x)}")
    if bool(torch.isnan(x).any()):
        raise ValueError("x: contains NaN, which has no sign; did training diverge?")
    return (x >= 0).to(torch.int8).mul_(2).sub_(1)
