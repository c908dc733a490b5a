"""A data set of your own as a class, for files that a feature file cannot stand in for.

From this folder: `pyg-hash train --dataset own_dataset:Pairs --root FOLDER --out runs/own`.
"""

from pathlib import Path

import numpy as np
import torch

from pyg_hash.datasets import CrossModalDataset, Items, build_hetero


class Pairs(CrossModalDataset):
    """`image`, `text`, `label` of `FOLDER/pairs.npz`; every tenth row, or `every`-th, asks."""

    def __init__(self, root, every=10, **more):  # more: transform, pre_transform, force_reload
        self.every, self.file = every, Path(root) / "pairs.npz"
        super().__init__(root, **more)  # builds, or reads what is stored: set attributes before it

    def settings(self):
        """What decides the data, as JSON values; stored data of others are not read."""
        return {"every": self.every, "changed": self.file.stat().st_mtime_ns}

    def build(self):
        """Features float32 [N, d], class indices [N] and the splits; all is checked."""
        with np.load(self.file) as file:
            image, text = (torch.from_numpy(file[name]).float() for name in ("image", "text"))
            y = torch.from_numpy(file["label"])
        query = torch.arange(len(y)) % self.every == 0
        return build_hetero(image, text, y=y, train=~query, query=query)

    def read_items(self):
        """One id a row and one name a class; picture files and raw texts where there are any."""
        with np.load(self.file) as file:
            names = [f"class {number}" for number in range(file["label"].max() + 1)]
            return Items([f"row {row}" for row in range(len(file["label"]))], names)
