"""The files of MIRFLICKR-25000 as its publishers give them (Huiskes and Lew, MIR 2008)."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_hash.datasets.sources import Array, Source, Table, present
from pyg_hash.utils.files import CorruptFileError

COMMON_TAGS = "mirflickr/doc/common_tags.txt"
TAGS = "mirflickr/meta/tags/tags{}.txt"
LABELS = "mirflickr25k_annotations_v080/{}.txt"
PICTURE = "mirflickr/im{}.jpg"


class MirFlickrFiles(Source):
    """25,000 pictures with tags; used are those with a common tag and a label.

    Args:
        raw: folder of the files.
        manifest: of the data set.
    """

    raw_items = True

    def __init__(self, raw: Path, manifest: dict[str, Any]) -> None:
        super().__init__(raw, manifest)
        self._size: int = manifest["counts"]["pictures"]
        tags = [TAGS.format(number) for number in range(1, self._size + 1)]
        self.files = [COMMON_TAGS, *(LABELS.format(name) for name in self.class_names), *tags]
        self.picture_places = {PICTURE.format("*"): self._size}
        self.images = {}
        self.texts = {"tags": []}

    @property
    def class_names(self) -> list[str]:
        """The 24 potential labels, alphabetically (not the 14 stricter ``_r1`` ones)."""
        return list(self.manifest["classes"])

    @cached_property
    def _vocabulary(self) -> list[str]:
        path = self.raw / COMMON_TAGS
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        tags = [line.split()[0] for line in lines if line.strip()]
        self.count(len(tags), self.manifest["counts"]["tags"], f"tags in {COMMON_TAGS}")
        return tags

    @cached_property
    def _picture_tags(self) -> list[list[str]]:
        """The tags of each picture, as they stand in its file."""
        found = []
        for number in range(1, self._size + 1):
            text = (self.raw / TAGS.format(number)).read_text(encoding="utf-8", errors="replace")
            found.append(text.split())
        return found

    @cached_property
    def _tag_columns(self) -> list[list[int]]:
        """The common tags of each picture, by column."""
        columns = {tag: column for column, tag in enumerate(self._vocabulary)}
        return [
            sorted({columns[tag] for tag in tags if tag in columns}) for tags in self._picture_tags
        ]

    @cached_property
    def _labels(self) -> Array:
        labels = np.zeros((self._size, len(self.class_names)), np.uint8)
        for column, name in enumerate(self.class_names):
            path = self.raw / LABELS.format(name)
            numbers = path.read_text(encoding="utf-8", errors="replace").split()
            for number in numbers:
                if not number.isdigit() or not 1 <= int(number) <= self._size:
                    raise CorruptFileError(
                        f"{path}: {number[:20]!r} is not the number of a picture; get it again"
                    )
                labels[int(number) - 1, column] = 1
        return labels

    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """The pictures with a common tag and a label, in the order of their numbers."""
        tagged = np.array([len(columns) for columns in self._tag_columns])
        rows = present((tagged > 0) & self._labels.any(axis=1))
        self.count(len(rows), self.manifest["kept"], "rows with a tag and a label")
        return Table(rows, self._size, self._labels[rows])

    def text(self, kind: str, rows: Array) -> Tensor:
        """Which of the common tags a picture has, in the order of their list."""
        x = torch.zeros(len(rows), len(self._vocabulary))
        for position, row in enumerate(rows.tolist()):
            x[position, self._tag_columns[row]] = 1
        return x

    def ids(self, rows: Array) -> list[str]:
        """The names of the pictures, ``im1`` to ``im25000``."""
        return [f"im{row + 1}" for row in rows.tolist()]

    def picture_paths(self, rows: Array) -> list[str]:
        """The JPEG files."""
        return [PICTURE.format(row + 1) for row in rows.tolist()]

    def words(self, rows: Array) -> list[str]:
        """All tags of each picture as one text."""
        return [" ".join(self._picture_tags[row]) for row in rows.tolist()]
