"""Small SGCH graphs and models."""

from __future__ import annotations

import torch
import torch_geometric.transforms as T
from torch_geometric.data import HeteroData
from toy import toy_data

from pyg_hash.models import SGCH
from pyg_hash.transforms import LabelRate, ScaleFeatures, SGCHGraph, ValidationSplit

READINGS = [("paper", "train"), ("paper", "all"), ("code", "train"), ("code", "all")]


def sgch_graph(
    reading: str = "paper",
    anchors: str = "train",
    rate: float | None = 0.5,
    *,
    data: HeteroData | None = None,
    scale: bool = True,
    validation: bool = False,
    k: int = 5,
    metric: str = "cosine",
    **kwargs: object,
) -> HeteroData:
    """Masks, scaling and graph of toy data; ``rate=None`` keeps the masks."""
    steps = [] if rate is None else [LabelRate(rate, seed=1)]
    steps += [ValidationSplit(0.3)] if validation else []
    steps += [ScaleFeatures()] if scale else []
    steps += [SGCHGraph(k, reading, metric, anchors)]
    return T.Compose(steps)(toy_data(**kwargs) if data is None else data)


def sgch(data: HeteroData, *, seed: int = 0, **kwargs: object) -> SGCH:
    """A small model, drawn from ``seed``."""
    torch.manual_seed(seed)
    settings = {"hidden_channels": 12, "out_channels": 10, "num_bits": 8, **kwargs}
    return SGCH(data.num_features, 4, **settings)
