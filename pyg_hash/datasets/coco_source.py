"""The files of MS-COCO 2014 as its publishers give them (Lin et al., ECCV 2014)."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pyg_hash.datasets.sources import Array, Source, Table, present
from pyg_hash.utils.files import CorruptFileError

FOLDERS = ("train2014", "val2014")
INSTANCES = "annotations/instances_{}.json"
CAPTIONS = "annotations/captions_{}.json"


def json_list(path: Path, key: str) -> Iterator[Any]:
    """The entries of one list at the top of a JSON file, one after the other.

    The instances of train2014 are 450 MB, mostly outlines; only one entry at a time becomes
    objects, so that reading takes about twice the size of the file instead of ten times.

    Raises:
        CorruptFileError: there is no such list, or it breaks off.
    """
    text = path.read_text(encoding="utf-8")
    found = re.search(rf'"{key}"\s*:\s*\[', text)
    decoder, space = json.JSONDecoder(), re.compile(r"[\s,]*")
    position = found.end() if found else len(text)
    try:
        while True:
            position = space.match(text, position).end()  # type: ignore[union-attr]
            if text[position] == "]":
                return
            entry, position = decoder.raw_decode(text, position)
            yield entry
    except (IndexError, json.JSONDecodeError) as error:
        raise CorruptFileError(
            f"{path}: has no complete list {key!r} ({error}); get it again"
        ) from error


class CocoFiles(Source):
    """The pictures of train2014 and val2014, their categories and captions.

    Args:
        raw: folder of the files.
        manifest: of the data set.
    """

    raw_items = True

    def __init__(self, raw: Path, manifest: dict[str, Any]) -> None:
        super().__init__(raw, manifest)
        self.files = [INSTANCES.format(folder) for folder in FOLDERS]
        self.files += [CAPTIONS.format(folder) for folder in FOLDERS]
        self.picture_places = {f"{folder}/*.jpg": manifest["counts"][folder] for folder in FOLDERS}
        self.images = {}
        self.texts = {}

    @cached_property
    def _pictures(self) -> tuple[list[str], dict[int, int]]:
        """Folder and file name of each row, train2014 first, by number; number -> row."""
        names: list[str] = []
        rows: dict[int, int] = {}
        for folder in FOLDERS:
            found = json_list(self.raw / INSTANCES.format(folder), "images")
            entries = sorted((entry["id"], entry["file_name"]) for entry in found)
            self.count(len(entries), self.manifest["counts"][folder], f"pictures of {folder}")
            for number, name in entries:
                rows[number] = len(names)
                names.append(f"{folder}/{name}")
        return names, rows

    @cached_property
    def _categories(self) -> dict[int, str]:
        found = json_list(self.raw / INSTANCES.format(FOLDERS[0]), "categories")
        names = {entry["id"]: entry["name"] for entry in found}
        self.count(len(names), self.manifest["counts"]["classes"], "categories")
        return dict(sorted(names.items()))

    @property
    def class_names(self) -> list[str]:
        """The categories by number, ``person`` first."""
        return list(self._categories.values())

    @cached_property
    def _labels(self) -> Array:
        names, rows = self._pictures
        columns = {number: column for column, number in enumerate(self._categories)}
        labels = np.zeros((len(names), len(columns)), np.uint8)
        for folder in FOLDERS:
            path = self.raw / INSTANCES.format(folder)
            try:
                for entry in json_list(path, "annotations"):
                    labels[rows[entry["image_id"]], columns[entry["category_id"]]] = 1
            except KeyError as error:
                raise CorruptFileError(
                    f"{path}: an annotation of the unknown picture or category {error}; "
                    "get it again"
                ) from error
        return labels

    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """The pictures that show a category, train2014 first, each by number."""
        labels = self._labels
        used: Array = np.asarray(labels.any(axis=1))
        self.count(int(used.sum()), self.manifest["kept"], "pictures with a category")
        if unlabeled:
            used[:] = True
        if pictures is not None:
            folders = np.repeat(FOLDERS, [self.manifest["counts"][f] for f in FOLDERS])
            used &= folders == pictures
        rows = present(used)
        return Table(rows, len(labels), labels[rows])

    @cached_property
    def _captions(self) -> list[str]:
        """All captions of each row as one text."""
        names, rows = self._pictures
        found: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for folder in FOLDERS:
            path = self.raw / CAPTIONS.format(folder)
            for entry in json_list(path, "annotations"):
                number, caption = entry["image_id"], " ".join(entry["caption"].split())
                if number not in rows:
                    raise CorruptFileError(
                        f"{path}: a caption of the unknown picture {number}; get it again"
                    )
                found[rows[number]].append((entry["id"], caption))
        if len(found) < len(names):
            self.count(len(found), len(names), "pictures with captions")
        return [" ".join(text for _, text in sorted(found[row])) for row in range(len(names))]

    def ids(self, rows: Array) -> list[str]:
        """Folder and file of each picture."""
        return [self._pictures[0][row] for row in rows]

    def picture_paths(self, rows: Array) -> list[str]:
        """The JPEG files."""
        return self.ids(rows)

    def words(self, rows: Array) -> list[str]:
        """The five captions of each picture as one text."""
        return [self._captions[row] for row in rows]
