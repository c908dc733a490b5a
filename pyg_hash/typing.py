"""Names shared by the whole library: modalities, edge types and the output of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Modality = Literal["image", "text"]
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
AFFINITY: EdgeType = (PAIR, "affinity", PAIR)


def other(modality: Modality) -> Modality:
    """The modality that ``modality`` is not."""
    return TEXT if modality == IMAGE else IMAGE


@dataclass
class HashOutput:
    """What :meth:`HashModel.forward` returns.

    Attributes:
        image: relaxed codes of the image nodes, float ``[N, num_bits]`` in (-1, 1).
        text: relaxed codes of the text nodes, float ``[N, num_bits]`` in (-1, 1).
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
