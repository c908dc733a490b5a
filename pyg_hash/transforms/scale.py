"""Feature scaling, fitted on the training nodes alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_hash.transforms.masks import as_pairs, check_hetero
from pyg_hash.typing import IMAGE, MODALITIES, TEXT
from pyg_hash.utils import oddities
from pyg_hash.utils.checks import (
    check_choice,
    check_collection,
    check_features,
    check_positive,
    check_positive_int,
)
from pyg_hash.utils.scaling import apply_scaling


def principal_directions(x: Tensor, count: int) -> Tensor:
    """Leading right singular vectors, float32 ``[d, r]``, r <= count: exact and deterministic."""
    wide = x.double()
    rows_first = wide.size(0) < wide.size(1)
    values, vectors = torch.linalg.eigh(wide @ wide.T if rows_first else wide.T @ wide)
    rank = int((values > values[-1] * values.numel() * torch.finfo(values.dtype).eps).sum())
    count = max(min(count, rank), 1)
    directions: Tensor = vectors[:, -count:].flip(1)
    if rows_first:
        directions = torch.nn.functional.normalize(wide.T @ directions, dim=0)
    top = directions.abs().argmax(dim=0, keepdim=True)
    return (directions * directions.gather(0, top).sign()).float()


def _usual(x: Tensor, modality: str) -> Tensor:
    """The training rows without outlying ones."""
    name = f"{modality}: training rows"
    lengths = oddities.row_lengths(x)
    if wrong := oddities.unusable(lengths, name):
        raise ValueError(wrong)
    if bool((far := oddities.outlying(lengths)).any()):
        x = x[~far]
    if len(x) > 1 and bool((x == x[0]).all()):
        raise ValueError(oddities.odd_columns(x[0], x[0], name)[0])
    return x


@dataclass(eq=False)
class ScaleFeatures(BaseTransform):
    r"""Centre, project and normalise the features of each modality; fitted on ``train_mask``.

    .. math:: x' = \sqrt{s}\,\frac{(x - \mu) V}{\lVert (x - \mu) V \rVert_2}

    Images are centred, texts projected on their leading singular vectors (LSA), both brought to the
    same length. The fitted statistics go to ``data.scaling[modality]``, for models to scale new
    items. Training rows over 20 times as long as the median one are left out of them, with a
    warning. Features of other floating-point types become float32.

    Args:
        center: modalities whose training mean is subtracted.
        text_components: number of LSA directions for texts; texts of at most as many features
            are not projected. None never projects.
        norm: squared length :math:`s` of each scaled row; None skips the normalisation.

    ``TypeError``: features that are not floating-point. ``ValueError``: NaN or inf; training rows
    that are none, all equal, or of lengths whose squares float32 cannot hold; data that are scaled
    already or have a graph. ``OddDataWarning``: outlying or zero rows, outlying or constant
    columns, of all rows.
    """

    center: tuple[str, ...] = (IMAGE,)
    text_components: int | None = 800
    norm: float | None = 10.0

    def __post_init__(self) -> None:
        self.center = () if self.center is None else self.center
        check_collection(self.center, "center")
        self.center = tuple(self.center)
        for modality in self.center:
            check_choice(modality, MODALITIES, "center")
        if self.text_components is not None:
            check_positive_int(self.text_components, "text_components")
        if self.norm is not None:
            check_positive(self.norm, "norm")

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with scaled ``x`` and the statistics in ``data.scaling``."""
        check_hetero(data)
        if "scaling" in data:
            raise ValueError("ScaleFeatures: the features are scaled already; apply it once")
        if "graph" in data or "affinity" in data:
            raise ValueError("ScaleFeatures: the graph exists already; apply it before the graph")
        for modality in MODALITIES:
            if "x" in data[modality]:
                check_features(data[modality].x, f"data['{modality}'].x")
        data = as_pairs(data, "train_mask", labels=False)
        fitted: dict[str, dict[str, Any]] = {}
        odd: list[str] = []
        for modality in MODALITIES:
            store = data[modality]
            if not bool(store.train_mask.any()):
                raise ValueError("train_mask: no training node to fit the scaling on")
            x = store.x.float()
            usual = _usual(x[store.train_mask].detach(), modality)
            odd += oddities.odd_features(x, modality, centred=modality in self.center)
            scaling = fitted[modality] = {}
            if modality in self.center:
                scaling["mean"] = usual.mean(dim=0)
            count = self.text_components if modality == TEXT else None
            if count is not None and x.size(1) > count:
                scaling["components"] = principal_directions(apply_scaling(usual, scaling), count)
            if self.norm is not None:
                scaling["norm"] = math.sqrt(self.norm)
            store.x = apply_scaling(x, scaling)
        data.scaling = fitted
        oddities.say_odd(odd)
        if odd:  # stored data tell it again, when they are trained on
            data.oddities = odd
        return data
