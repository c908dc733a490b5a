"""A data set of coloured squares with names, small enough to train on in a second."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from pyg_hash.datasets import CrossModalDataset
from pyg_hash.datasets.base import Items
from pyg_hash.datasets.build import build_hetero
from pyg_hash.features import BagOfWords, EfficientNetLite0, load_encoder

COLORS = {"red": (200, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 200), "gray": (99, 99, 99)}
NOUNS = ("square", "tile", "box", "patch", "brick", "block", "card", "panel", "flag", "cube")


@cache  # it takes a tenth of a second, and nothing changes it
def network(image_size):
    return EfficientNetLite0(image_size, progress=False)


class Shapes(CrossModalDataset):
    """40 pictures of four colours; the last item of every nine is a query."""

    def __init__(
        self,
        root,
        transform=None,
        pre_transform=None,
        *,
        image_size: int = 64,
        force_reload: bool = False,
    ) -> None:
        self.image_size = image_size
        super().__init__(root, transform, pre_transform, force_reload=force_reload)

    def settings(self):
        return {"image_size": self.image_size}

    def rows(self):
        return [(noun, color) for noun in NOUNS for color in COLORS]

    def picture(self, noun, color) -> Path:
        return Path(self.root) / "raw" / f"{color}-{noun}.png"

    def build(self):
        from PIL import Image

        rows = self.rows()
        for number, (noun, color) in enumerate(rows):
            path = self.picture(noun, color)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new("RGB", (72, 72), (255, 255, 255))
            picture.paste(
                COLORS[color], (number % 9, number % 7, 40 + number % 13, 50 + number % 5)
            )
            picture.save(path)
        texts = [f"{color} {color}ish {color}y {noun}" for noun, color in rows]
        words = BagOfWords("tfidf").fit(texts)
        words.save(self.base_dir / "words")
        names = sorted(COLORS)
        query = torch.arange(len(rows)) % 9 == 8
        return build_hetero(
            self.image_encoder()([self.picture(*row) for row in rows]),
            words(texts),
            y=torch.tensor([names.index(color) for _, color in rows]),
            num_classes=len(names),
            train=~query,
            query=query,
        )

    def image_encoder(self):
        return network(self.image_size)

    def text_encoder(self):
        return load_encoder(self.base_dir / "words")

    def read_items(self):
        rows = self.rows()
        return Items(
            ids=[f"{color}-{noun}" for noun, color in rows],
            class_names=sorted(COLORS),
            image_paths=[str(self.picture(*row)) for row in rows],
            texts=[f"{color} {color}ish {color}y {noun}" for noun, color in rows],
        )
