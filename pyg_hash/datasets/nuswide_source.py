"""The files of NUS-WIDE as its publishers give them (Chua et al., CIVR 2009)."""

from __future__ import annotations

import random
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from pyg_hash.datasets.raw_digits import read_digits
from pyg_hash.datasets.raw_matrix import RawMatrix
from pyg_hash.datasets.sources import Array, Source, Table, present
from pyg_hash.utils.files import CorruptFileError

LABELS = "Groundtruth/AllLabels/Labels_{}.txt"
PICTURES = "ImageList/Imagelist.txt"
TAGS = "NUS_WID_Tags/AllTags1k.txt"
TAG_NAMES = "NUS_WID_Tags/TagList1k.txt"
FOLDER = "Flickr"
# file -> width, all of them rows of the image list
LOW_LEVEL = {
    "Low_Level_Features/Normalized_CH.dat": 64,
    "Low_Level_Features/Normalized_CORR.dat": 144,
    "Low_Level_Features/Normalized_EDH.dat": 73,
    "Low_Level_Features/Normalized_WT.dat": 128,
    "Low_Level_Features/Normalized_CM55.dat": 225,
}
BOW = {"Low_Level_Features/BoW_int.dat": 500}


class NusWideFiles(Source):
    """The 269,648 pictures, their 81 concepts and their tags, as far as they are used.

    Args:
        raw: folder of the files.
        manifest: of the data set; its ``num_classes`` most frequent concepts are the classes.
        drop_textless: whether rows without any of the 1,000 tags are left out.
    """

    raw_items = True

    def __init__(self, raw: Path, manifest: dict[str, Any], *, drop_textless: bool = False) -> None:
        super().__init__(raw, manifest)
        self.drop_textless = drop_textless
        self.concepts: list[str] = manifest["classes"]
        self.files = [LABELS.format(concept) for concept in self.concepts] + [PICTURES, TAGS]
        self.images = {"lowlevel": list(LOW_LEVEL), "bow": list(BOW)}
        self.texts = {"tags": []}
        self.word_files = [TAG_NAMES]
        self.picture_places = {f"{FOLDER}/*/*.jpg": manifest["counts"]["pictures"]}

    @cached_property
    def _labels(self) -> Array:
        """uint8 ``[pictures, concepts of the manifest]``."""
        expected = self.manifest["counts"]["pictures"]
        labels = np.empty((expected, len(self.concepts)), np.uint8)
        for column, concept in enumerate(self.concepts):
            name = LABELS.format(concept)
            ones = read_digits(self.raw / name, 1)
            self.count(ones.shape[0], expected, f"rows in {name}")
            labels[:, column] = ones.toarray()[:, 0]
        return labels

    @cached_property
    def _tags(self) -> sp.csr_matrix:
        counts = self.manifest["counts"]
        tags = read_digits(self.raw / TAGS, counts["tags"])
        self.count(tags.shape[0], counts["pictures"], f"rows in {TAGS}")
        return tags

    @cached_property
    def _columns(self) -> Array:
        """The concepts that are classes (all of them without a number), in alphabetical order."""
        totals = self._labels.sum(axis=0, dtype=np.int64)
        frequent = np.argsort(-totals, kind="stable")[: self.manifest.get("num_classes")]
        return np.sort(frequent)

    @property
    def class_names(self) -> list[str]:
        """The concepts, as their files are named."""
        return [self.concepts[column] for column in self._columns]

    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """The pictures that have one of the concepts, in the order of the image list."""
        labels = self._labels[:, self._columns]
        used: Array = np.asarray(labels.any(axis=1))
        if self.drop_textless:
            used &= np.diff(self._tags.indptr) > 0
        rows = present(used)
        expected = self.manifest["kept"][int(self.drop_textless)]
        what = "a class and a tag" if self.drop_textless else "a class"
        self.count(len(rows), expected, f"rows with {what}")
        return Table(rows, len(labels), labels[rows])

    def image(self, kind: str, rows: Array) -> Tensor:
        """``'lowlevel'`` (634-d, colour, edges, texture) or ``'bow'`` (500-d, SIFT words)."""
        parts = []
        for name, width in (LOW_LEVEL if kind == "lowlevel" else BOW).items():
            matrix = RawMatrix(self.raw / name)
            self.count(matrix.shape[0], self.manifest["counts"]["pictures"], f"rows in {name}")
            self.count(matrix.shape[1], width, f"columns in {name}")
            parts.append(matrix.read(rows))
        return torch.cat(parts, dim=1)

    def text(self, kind: str, rows: Array) -> Tensor:
        """Which of the 1,000 tags a picture has."""
        return torch.from_numpy(self._tags[rows].toarray().astype(np.float32))

    @cached_property
    def _pictures(self) -> list[str]:
        lines = (self.raw / PICTURES).read_text(encoding="latin-1").split("\n")
        names = [line.strip().replace("\\", "/") for line in lines if line.strip()]
        self.count(len(names), self.manifest["counts"]["pictures"], f"rows in {PICTURES}")
        return names

    def ids(self, rows: Array) -> list[str]:
        """Folder and file of each picture."""
        return [self._pictures[row] for row in rows]

    def picture_paths(self, rows: Array) -> list[str]:
        """The JPEG files, in a folder ``Flickr``."""
        return [f"{FOLDER}/{name}" for name in self.ids(rows)]

    def words(self, rows: Array) -> list[str]:
        """The tags of each picture as one text, in the order of their list."""
        path = self.raw / TAG_NAMES
        names = path.read_text(encoding="utf-8", errors="replace").split()
        if len(names) != self._tags.shape[1]:
            raise CorruptFileError(
                f"{path}: {len(names)} tags, {TAGS} has {self._tags.shape[1]}; get it again"
            )
        chosen = self._tags[rows]
        chosen.sort_indices()
        bounds, columns = chosen.indptr, chosen.indices
        return [
            " ".join(names[column] for column in columns[low:high])
            for low, high in zip(bounds[:-1], bounds[1:], strict=True)
        ]


class NusWide10kFiles(NusWideFiles):
    """1,000 pictures of each of ten concepts, drawn from the official files.

    The published rows are not to be had without unpickling. A row may be drawn if it has exactly
    one of the ten concepts and at least one of the 1,000 tags; the drawing is always the same.
    """

    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """The drawn rows, in the order of the image list."""
        each = self.manifest["counts"]["per_class"]
        labels = self._labels
        free = (labels.sum(axis=1) == 1) & (np.diff(self._tags.indptr) > 0)
        drawn = []
        for column, concept in enumerate(self.concepts):
            candidates = np.flatnonzero(free & (labels[:, column] > 0)).tolist()
            if len(candidates) < each:
                self.count(len(candidates), each, f"rows of {concept} alone")
            drawn += random.Random(column).sample(candidates, each)
        rows = np.array(sorted(drawn))
        return Table(rows, len(labels), labels[rows])
