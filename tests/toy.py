"""Small cross-modal data for tests: planted classes, no files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch_geometric.data import HeteroData


def toy_data(
    num_nodes: int = 60,
    num_classes: int = 4,
    *,
    num_queries: int = 12,
    multi_label: bool = False,
    features: tuple[int, int] = (12, 9),
    noise: float = 1.0,
    seed: int = 0,
) -> HeteroData:
    """Planted classes with noise; the last ``num_queries`` rows are the queries."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(num_nodes) % num_classes
    if multi_label:
        hot = torch.nn.functional.one_hot(y, num_classes).float()
        extra = torch.rand(num_nodes, num_classes, generator=generator) < 0.25
        labels = torch.maximum(hot, extra.float())
    else:
        labels = torch.nn.functional.one_hot(y, num_classes).float()
    train = torch.arange(num_nodes) < num_nodes - num_queries
    data = HeteroData()
    data.num_classes = num_classes
    for modality, width in zip(("image", "text"), features, strict=True):
        centers = torch.randn(num_classes, width, generator=generator)
        store = data[modality]
        store.x = labels @ centers + noise * torch.randn(num_nodes, width, generator=generator)
        store.y = labels if multi_label else y
        store.train_mask = train
        store.labeled_mask = train
        store.database_mask = train
        store.query_mask = ~train
    return data


class CheapEncoder:
    """Stands in for the network: eight numbers a picture, and a record of its use."""

    kind = "efficientnet_lite0"
    calls = 0

    def __init__(self, image_size, progress=True):
        self.image_size = image_size

    def __call__(self, paths):
        CheapEncoder.calls += 1
        return torch.tensor(
            [[float(b) for b in Path(path).read_bytes()[-40:-32]] for path in paths]
        )
