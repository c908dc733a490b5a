"""What a published data set consists of, file by file, before any split is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor

from pyg_hash.datasets.raw_matrix import SUFFIXES, RawMatrix
from pyg_hash.utils.files import CorruptFileError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Table:
    """The usable rows of a data set.

    Attributes:
        rows: their row numbers in the files, ascending ``[N]``.
        num_rows: rows of the files.
        y: labels, multi-hot uint8 ``[N, C]``.
        parts: name of the part of the publisher's own split, ``[N]``; None where there is none.
    """

    rows: Array
    num_rows: int
    y: Array
    parts: Array | None = None


class Source(ABC):
    """One layout of one data set.

    ``images`` and ``texts`` name the features that it has, and the files of each; the first one
    is the default. File names are relative to ``raw``.
    """

    #: name of the features -> the files they are read from
    images: dict[str, list[str]]
    texts: dict[str, list[str]]
    #: files that are needed whatever the features
    files: list[str]
    #: whether the layout has pictures and raw texts
    raw_items = False
    #: files that :meth:`words` needs besides
    word_files: Sequence[str] = ()
    #: pattern of picture files -> how many are published
    picture_places: Mapping[str, int] = MappingProxyType({})

    def __init__(self, raw: Path, manifest: dict[str, Any]) -> None:
        self.raw, self.manifest = raw, manifest

    @abstractmethod
    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """Rows and labels; those without labels too, and of one picture folder only, if asked."""

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """One name a class, in column order."""

    def image(self, kind: str, rows: Array) -> Tensor:
        """Features float32 ``[n, d]`` of picture rows of the files; only for ``images``."""
        raise NotImplementedError(f"{type(self).__name__} has no picture features {kind!r}")

    def text(self, kind: str, rows: Array) -> Tensor:
        """The same for texts; only for ``texts``."""
        raise NotImplementedError(f"{type(self).__name__} has no text features {kind!r}")

    def ids(self, rows: Array) -> list[str]:
        """One name a row."""
        return [str(row) for row in rows.tolist()]

    def picture_paths(self, rows: Array) -> list[str] | None:
        """Where the pictures belong in the layout; None if it has none."""
        return None

    def words(self, rows: Array) -> list[str] | None:
        """The raw texts; None if the layout has none."""
        return None

    def count(self, found: int, expected: int | list[int], what: str) -> None:
        """Raise ``CorruptFileError`` unless the files hold the published number of ``what``."""
        numbers = expected if isinstance(expected, list) else [expected]
        if found not in numbers:
            listed = " or ".join(f"{number:,}" for number in numbers)
            raise CorruptFileError(
                f"{self.raw}: {found:,} {what}, the published files have {listed}; "
                "they are incomplete or another release, get them again"
            )


class MatrixFiles(Source):
    """Ready-made features and labels of one matrix each: row i of all is instance i.

    Args:
        raw: folder of the files.
        manifest: of the data set.
        image: file and variable of the picture features.
        text: the same of the texts.
        labels: the same of the labels, multi-hot ``[N, C]``.
        num_rows: the published numbers of rows; empty if none is known.
        num_classes: C.
        text_name: what the texts are.
        drop_textless: whether rows whose text is all zeros are left out.
    """

    def __init__(
        self,
        raw: Path,
        manifest: dict[str, Any],
        *,
        image: tuple[str, str],
        text: tuple[str, str],
        labels: tuple[str, str],
        num_rows: list[int],
        num_classes: int,
        text_name: str = "tags",
        drop_textless: bool = False,
    ) -> None:
        super().__init__(raw, manifest)
        self._drop_textless = drop_textless
        self._image, self._text, self._labels = image, text, labels
        self._num_rows, self._num_classes = num_rows, num_classes
        self.images, self.texts = {"vgg": [image[0]]}, {text_name: [text[0]]}
        self.files = [labels[0], text[0]] if drop_textless else [labels[0]]

    @cached_property
    def _y(self) -> Array:
        matrix = RawMatrix(self.raw / self._labels[0], self._labels[1])
        y = matrix.read(np.arange(matrix.shape[0])).numpy()
        if not np.isin(y, (0, 1)).all():
            raise CorruptFileError(f"{matrix.path}: labels are not 0 and 1; get it again")
        return y.astype(np.uint8)

    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """The rows in the order of the files."""
        y, num_rows = self._y, len(self._y)
        self.count(len(y), self._num_rows or len(y), "rows")
        self.count(y.shape[1], self._num_classes, "classes")
        rows = np.arange(num_rows)
        if self._drop_textless:
            rows = self._open(self._text).occupied()
        return Table(rows, num_rows, y[rows])

    @property
    def class_names(self) -> list[str]:
        """Numbers: the files do not name their columns."""
        return [f"class {column}" for column in range(self._num_classes)]

    def _open(self, place: tuple[str, str]) -> RawMatrix:
        matrix = RawMatrix(self.raw / place[0], place[1])
        self.count(matrix.shape[0], len(self._y), f"rows in {place[0]}")
        return matrix

    def image(self, kind: str, rows: Array) -> Tensor:
        """The features of the image file."""
        return self._open(self._image).read(rows)

    def text(self, kind: str, rows: Array) -> Tensor:
        """The features of the text file."""
        return self._open(self._text).read(rows)


def is_file_name(choice: str) -> bool:
    """Whether a choice of features names a file of the user's own, ``FILE`` or ``FILE:NAME``."""
    return choice.split(":")[0].endswith(SUFFIXES)


def read_own(raw: Path, choice: str, table: Table, rows: Array) -> Tensor:
    """Features from a file of the user's own.

    Args:
        raw: folder that a relative file name starts from.
        choice: ``FILE``, or ``FILE:NAME`` for MATLAB and HDF5.
        table: the usable rows.
        rows: positions in ``table``, ascending.

    Returns:
        float32 ``[len(rows), d]``.

    Raises:
        ValueError: the file has neither a row for each row of the published files, nor for each
            usable one.
    """
    name, _, variable = choice.partition(":")
    matrix = RawMatrix(raw / name, variable or None)
    if matrix.shape[0] == table.num_rows:
        return matrix.read(table.rows[rows])
    if matrix.shape[0] == len(table.rows):
        return matrix.read(rows)
    raise ValueError(
        f"{matrix.path}: {matrix.shape[0]} rows; give one for each of the {table.num_rows} rows of "
        f"the published files, or for each of the {len(table.rows)} that are used, in their order"
    )


def present(counts: Array) -> Array:
    """Row numbers where a count is not zero."""
    return np.flatnonzero(np.asarray(counts).ravel() > 0)
