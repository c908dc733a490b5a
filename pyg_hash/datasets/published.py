"""What the data sets share that come as published raw files, in several layouts and splits."""

from __future__ import annotations

import os
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform, stamp
from pyg_hash.datasets.build import build_hetero
from pyg_hash.datasets.raw import (
    SUFFIXES,
    RawMatrix,
    absent,
    checked_digests,
    holding,
    keep_digests,
    listed,
    unpack,
)
from pyg_hash.datasets.splits import Protocol, draw_split, load_manifest
from pyg_hash.features import BagOfWords, EfficientNetLite0, ImageEncoder, TextEncoder, encode_each
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import CorruptFileError, load_tensors, save_tensors, sha256

Array = np.ndarray[Any, Any]
Manifest = dict[str, Any]
Layout = Literal["official", "features"]
#: the files of some features, and how rows of them are read
Features = tuple[Sequence[str], Callable[[Array], Tensor]]
WORD_FEATURES = {
    "bow2000": {"mode": "count", "max_features": 2000},
    "lsa200": {"mode": "tfidf", "min_df": 2, "lsa": 200},
}
RECORD = "raw-sha256.json"
ROWS_FILE = "rows.safetensors"  # row numbers in the raw files
_LISTED = 40  # lines of a message: NUS-WIDE keeps its pictures in 704 folders
_SHOWN = 20  # problems in an error message


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
    """One layout of one data set, file by file, before any split is made.

    A subclass fills ``files`` (needed whatever the features), ``images`` and ``texts`` (the first
    one is the default) and, if it has raw items, ``word_files`` and ``picture_places`` (pattern of
    picture files -> how many are published). File names are relative to ``raw``.
    """

    #: whether the layout has pictures and raw texts
    raw_items = False

    def __init__(self, raw: Path, manifest: Manifest) -> None:
        self.raw, self.manifest, self.counts = raw, manifest, manifest["counts"]
        self.files: list[str] = []
        self.images: dict[str, Features] = {}
        self.texts: dict[str, Features] = {}
        self.word_files: list[str] = []
        self.picture_places: dict[str, int] = {}

    @abstractmethod
    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """Rows and labels; those without labels too, and of one picture folder only, if asked."""

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """One name a class, in column order."""

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
            raise CorruptFileError(
                f"{self.raw}: {found:,} {what}, the published files have "
                f"{' or '.join(f'{number:,}' for number in numbers)}; "
                "they are incomplete or another release, get them again"
            )


class MatrixFiles(Source):
    """Ready-made features and labels in matrices: row i of all is instance i.

    Args:
        raw: folder of the files.
        manifest: of the data set.
        files: those of picture features, text features, and labels, which are multi-hot, or with
            ``parts`` class numbers from 0 or 1.
        names: the variables in them.
        text_name: what the texts are.
        any_size: whether the number of rows is not published.
        drop_textless: whether rows whose text is all zeros are left out.
        parts: there is a matrix for each of these, one below the other, called ``PART_VARIABLE``.
    """

    def __init__(
        self,
        raw: Path,
        manifest: Manifest,
        *,
        files: Sequence[str],
        names: Sequence[str] = ("XAll", "YAll", "LAll"),
        text_name: str = "tags",
        any_size: bool = False,
        drop_textless: bool = False,
        parts: Sequence[str] = (),
    ) -> None:
        super().__init__(raw, manifest)
        image, self._text, self._labels = zip(files, names, strict=True)
        self._any_size, self._drop_textless, self._parts = any_size, drop_textless, parts
        self._num_classes: int = manifest.get("num_classes", self.counts["classes"])
        self.images = {"vgg": ([image[0]], partial(self._read, image))}
        self.texts = {text_name: ([self._text[0]], partial(self._read, self._text))}
        self.files = [self._labels[0], *([self._text[0]] if drop_textless else [])]

    def _read(self, place: tuple[str, str], rows: Array | None = None) -> Tensor:
        """Rows of the matrix, or of all of its parts."""
        if not self._parts:
            return self._matrix(place).read(rows)
        read, start = [], 0
        for part in self._parts:
            matrix, size = RawMatrix(self.raw / place[0], f"{part}_{place[1]}"), self.counts[part]
            self.count(matrix.shape[0], size, f"rows in {matrix.name}")
            own = np.arange(start, start + size) if rows is None else rows
            read.append(matrix.read(own[(own >= start) & (own < start + size)] - start))
            start += size
        return torch.cat(read)

    def _matrix(self, place: tuple[str, str]) -> RawMatrix:
        matrix = RawMatrix(self.raw / place[0], place[1])
        if place != self._labels:
            self.count(matrix.shape[0], len(self._y), f"rows in {place[0]}")
        return matrix

    @cached_property
    def _y(self) -> Array:
        y, classes = self._read(self._labels).numpy(), self._num_classes
        if self._parts:
            numbers = y[:, :1] - y[:, 0].min()
            fits = y.shape[1] == 1 and np.isin(numbers, np.arange(classes)).all()
            y, what = numbers == np.arange(classes), f"{classes} numbers in one column"
        else:
            fits, what = np.isin(y, (0, 1)).all(), "0 and 1"
        if not fits:
            raise CorruptFileError(
                f"{self.raw / self._labels[0]}: labels are not {what}; get it again"
            )
        return y.astype(np.uint8)

    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """The rows in the order of the files."""
        y, num_rows = self._y, len(self._y)
        if not self._any_size and not self._parts:
            self.count(num_rows, self.manifest["kept"], "rows")
        self.count(y.shape[1], self._num_classes, "classes")
        rows = self._matrix(self._text).occupied() if self._drop_textless else np.arange(num_rows)
        parts = None
        if self._parts:
            parts = np.repeat(self._parts, [self.counts[part] for part in self._parts])
        return Table(rows, num_rows, y[rows], parts)

    @property
    def class_names(self) -> list[str]:
        """Numbers: the files do not name their columns."""
        return [f"class {column}" for column in range(self._num_classes)]


class PublishedDataset(CrossModalDataset):
    """A data set in the layout of its publishers, split as a paper says.

    A subclass names its manifest and layouts.

    Args:
        root: folder of ``raw/`` and of what is computed.
        layout: ``'official'`` or ``'features'``: which files lie in ``raw/``.
        image: features by the name that the layout has for them; where it has pictures,
            ``'efficientnet_lite0'`` or an image encoder; or ``FILE[:NAME]``, a matrix of your own
            with a row for each row of the layout. None: the first that the layout has.
        text: the same; where the layout has words, ``'bow2000'`` (counts of the 2,000 most
            frequent words), ``'lsa200'`` (TF-IDF, then SVD to 200-d), both fitted on the training
            texts, or a text encoder.
        protocol: the name of a published split, see
            :func:`~pyg_hash.datasets.published_protocols`; None: the data set's default.
        transform: applied at every access.
        pre_transform: applied once and stored.
        seed: of the drawing of the split.
        force_reload: build the stored data again.

    Raises:
        FileNotFoundError: files are missing; the message lists them.
        CorruptFileError: a file is damaged, or the counts are not the published ones.
    """

    #: name of the manifest, and layout -> what reads it
    manifest: str
    layouts: Mapping[str, Callable[[Path, Manifest], Source]]
    #: whether labels are one class index a row
    single_label: ClassVar[bool] = False

    def __init__(
        self,
        root: str | os.PathLike[str],
        layout: Layout = "official",
        image: str | ImageEncoder | None = None,
        text: str | TextEncoder | None = None,
        protocol: str | None = None,
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        seed: int = 0,
        force_reload: bool = False,
    ) -> None:
        check_choice(layout, ("official", "features"), "layout")
        self.layout, self.seed = layout, seed
        open_layout, raw = self.layouts[layout], Path(root).expanduser() / "raw"
        source = self._source = open_layout(raw, load_manifest(self.manifest))
        protocols = source.manifest["protocols"]
        known = {name: p for name, p in protocols.items() if p.get("layout") in (None, layout)}
        self.protocol: str = source.manifest["default"] if protocol is None else protocol
        check_choice(self.protocol, tuple(known), "protocol")
        self._protocol = Protocol(**known[self.protocol])
        self.image = self._choice(image, "image", source.images, (EfficientNetLite0.kind,))
        self.text = self._choice(text, "text", source.texts, tuple(WORD_FEATURES))
        if self.image == EfficientNetLite0.kind:
            self.image = EfficientNetLite0(progress=False)
        super().__init__(root, transform, pre_transform, force_reload=force_reload)

    def _choice(
        self, choice: Any, argument: str, own: Mapping[str, Any], encoded: tuple[str, ...]
    ) -> Any:
        """A name of features, a file's name or an encoder; anything else is refused."""
        named = (*own, *encoded) if self._source.raw_items else tuple(own)
        if choice is None:
            return named[0]
        if isinstance(choice, str):
            if not _is_file_name(choice):
                check_choice(choice, named, argument)
            return choice
        if not callable(choice) or not hasattr(choice, "save"):
            raise TypeError(
                f"{argument}: expected a name, a file's name or an encoder of pyg_hash.features, "
                f"got {type(choice).__name__}"
            )
        if not self._source.raw_items:
            raise ValueError(
                f"{argument}: the layout {self.layout!r} has no raw items to encode; "
                f"use one of {', '.join(own)} or a file of your own"
            )
        return choice

    # files -----------------------------------------------------------------------------------

    @property
    def raw_file_names(self) -> list[str]:
        """The files that this choice needs, pictures apart."""
        choices = [choice for choice in (self.image, self.text) if isinstance(choice, str)]
        own = [choice.split(":")[0] for choice in choices if _is_file_name(choice)]
        return list(dict.fromkeys(self._published_names + own))

    @property
    def _published_names(self) -> list[str]:
        """Those of them that are the publishers', not one's own."""
        source, names = self._source, list(self._source.files)
        for choice, known in ((self.image, source.images), (self.text, source.texts)):
            if isinstance(choice, str) and choice in known:
                names += known[choice][0]
        return names + (source.word_files if self._needs_words else [])

    @property
    def _needs_words(self) -> bool:
        return not isinstance(self.text, str) or self.text in WORD_FEATURES

    def download(self) -> None:
        """Unpack what lies in ``raw/`` as an archive of known SHA-256; say what is missing.

        Raises:
            FileNotFoundError: lists the missing files, their places and where to get them.
            CorruptFileError: an archive is not the published one.
        """
        raw, archives = Path(self.raw_dir), self._source.manifest["archives"]
        names = self.raw_file_names
        unpack(raw, archives, absent(raw, names))
        missing = absent(raw, names)
        if not missing:
            return
        places = {} if isinstance(self.image, str) else self._missing_places(raw)
        raise FileNotFoundError(
            f"{type(self).__name__} cannot be downloaded automatically. "
            f"Put these files into {raw}:\n{self._wanted(listed(missing), missing, places)}"
        )

    def _missing_places(self, raw: Path) -> dict[str, int]:
        """Where pictures belong that are neither there nor in an archive that is there."""
        archives = self._source.manifest["archives"]
        return {
            pattern: number
            for pattern, number in self._source.picture_places.items()
            if pattern.startswith(self._protocol.pictures or "")
            and len(absent(raw, holding(archives, [pattern]))) == len(holding(archives, [pattern]))
            and sum(1 for _ in raw.glob(pattern)) < number
        }

    def _wanted(self, lines: list[str], missing: Sequence[str], places: Mapping[str, int]) -> str:
        """The missing files, their places, and where to get them."""
        if places:
            places_lines = [f"  {name}  ({number:,} files)" for name, number in places.items()]
            lines = [*lines, *places_lines, "Of the pictures only those of the split are read."]
        manifest = self._source.manifest
        archives = [
            f"  {name}  {known['bytes']} bytes  SHA-256 {known['sha256']}"
            for name, known in holding(manifest["archives"], [*missing, *places]).items()
        ]
        return "\n".join([*lines, manifest["where"], *archives])

    def settings(self) -> dict[str, Any]:
        """Layout, features, split, and one digest of names, sizes and times of the raw files."""
        return {
            "layout": self.layout,
            "image": self.image if isinstance(self.image, str) else _encoder_digest(self.image),
            "text": self.text if isinstance(self.text, str) else _encoder_digest(self.text),
            "protocol": self.protocol,
            "seed": self.seed,
            "raw": sha256(*self._stamps(self.raw_file_names)),
        }

    def _stamps(self, names: Sequence[str]) -> list[str]:
        return ["\t".join(map(str, (name, *stamp(self.raw_dir, name)))) + "\n" for name in names]

    # rows ------------------------------------------------------------------------------------

    def _split(self) -> tuple[Table, Array, dict[str, Array]]:
        """The usable rows, the positions of those of the protocol, and their parts."""
        protocol = self._protocol
        table = self._source.table(unlabeled=protocol.unlabeled, pictures=protocol.pictures)
        if protocol.own_parts and table.parts is not None:
            rows = np.flatnonzero(np.isin(table.parts, ("train", "test")))
            query = table.parts[rows] == "test"
            return table, rows, {"train": ~query, "query": query, "database": ~query}
        return table, *draw_split(protocol, table.y, self.seed)

    def build(self) -> HeteroData:
        """Read labels, split them, and read or compute the features of the rows of the split.

        Rows without a word that the training texts have are left out, with a warning.

        Raises:
            CorruptFileError: a published file is not the one of the first build, or is damaged.
        """
        record = Path(self.root) / "processed" / RECORD
        digests = checked_digests(Path(self.raw_dir), self._published_names, record)
        table, rows, masks = self._split()
        encoder, text = self._text_features(table, rows, masks["train"])
        image = self._image_features(table, rows)
        known = torch.ones(len(rows), dtype=torch.bool) if encoder is None else text.any(dim=1)
        if not bool(known.all()):
            warnings.warn(
                f"text: {int((~known).sum())} of {len(rows)} rows have no known word and are "
                "left out; use other text features to keep them",
                stacklevel=2,
            )
            image, text, rows = image[known], text[known], rows[known.numpy()]
            masks = {name: mask[known.numpy()] for name, mask in masks.items()}
        y = torch.from_numpy(table.y[rows])
        data = build_hetero(
            image,
            text,
            y=y.argmax(dim=1) if self.single_label else y.float(),
            num_classes=table.y.shape[1],
            **{name: torch.from_numpy(mask) for name, mask in masks.items()},
        )
        if encoder is not None:
            encoder.save(self.text_encoder_dir)
        save_tensors(self.base_dir / ROWS_FILE, {"rows": torch.from_numpy(table.rows[rows])})
        keep_digests(record, digests)  # only now: files that cannot be read are no reference
        return data

    def read_items(self) -> Items:
        """Ids, classes, pictures (those that exist) and texts of the rows."""
        index = load_tensors(self.base_dir / ROWS_FILE)[0]["rows"].numpy()
        raw, source = Path(self.raw_dir), self._source
        paths = source.picture_paths(index) or [""] * len(index)
        words = None if absent(raw, source.word_files) else source.words(index)
        return Items(
            ids=source.ids(index),
            class_names=source.class_names,
            image_paths=[str(raw / path) if (raw / path).is_file() else None for path in paths],
            texts=[text or None for text in words or [""] * len(index)],
        )

    # features --------------------------------------------------------------------------------

    def _ready_made(
        self, choice: str, known: Mapping[str, Features], table: Table, rows: Array
    ) -> Tensor:
        """Features of the layout, or from a file of the user's own."""
        if choice in known:
            return known[choice][1](table.rows[rows])
        name, _, variable = choice.partition(":")
        matrix = RawMatrix(Path(self.raw_dir) / name, variable or None)
        if matrix.shape[0] == table.num_rows:
            return matrix.read(table.rows[rows])
        if matrix.shape[0] == len(table.rows):
            return matrix.read(rows)
        raise ValueError(
            f"{matrix.path}: {matrix.shape[0]} rows; give one for each of the {table.num_rows} "
            f"rows of the published files, or for each of the {len(table.rows)} that are used, in "
            "their order"
        )

    def _image_features(self, table: Table, rows: Array) -> Tensor:
        """Pictures that still are in an archive of known SHA-256 are unpacked to be encoded."""
        source, raw = self._source, Path(self.raw_dir)
        if isinstance(self.image, str):
            return self._ready_made(self.image, source.images, table, rows)
        paths = source.picture_paths(table.rows[rows]) or []
        unpack(raw, source.manifest["archives"], absent(raw, paths))
        missing = absent(raw, paths)
        if missing:
            lines = listed(missing)
            if len(lines) > _LISTED:
                lines = [*lines[:_LISTED], f"  and more, {len(missing):,} files in all"]
            raise FileNotFoundError(
                f"image: these pictures are missing in {raw}:\n{self._wanted(lines, missing, {})}"
            )
        digest = sha256(_encoder_digest(self.image), *self._stamps(paths))
        encoder = self.image
        return self.computed_once(
            f"image-{digest[:12]}",
            lambda: _encoded(encoder, [str(raw / path) for path in paths], "image"),
        )

    def _text_features(
        self, table: Table, rows: Array, train: Array
    ) -> tuple[BagOfWords | None, Tensor]:
        """The encoder that was fitted here, if any, and the features."""
        if isinstance(self.text, str) and self.text not in WORD_FEATURES:
            return None, self._ready_made(self.text, self._source.texts, table, rows)
        texts = self._source.words(table.rows[rows]) or []
        if not isinstance(self.text, str):
            return None, _encoded(self.text, texts, "text")
        options: Any = WORD_FEATURES[self.text]
        known = [text for text, used in zip(texts, train, strict=True) if used]
        encoder = BagOfWords(stop_words="english", min_length=2, **options).fit(known)
        return encoder, encoder.transform(texts, allow_unknown=True)

    def image_encoder(self) -> ImageEncoder:
        """The encoder of the pictures, where they were encoded here."""
        if isinstance(self.image, str):
            return super().image_encoder()
        encoder: ImageEncoder = self.image
        return encoder

    def text_encoder(self) -> TextEncoder:
        """The encoder of the texts, where they were encoded here."""
        if isinstance(self.text, str) and self.text not in WORD_FEATURES:
            return super().text_encoder()
        encoder: TextEncoder = self.text
        return BagOfWords.load(self.text_encoder_dir) if isinstance(self.text, str) else encoder


def _is_file_name(choice: str) -> bool:
    """Whether a choice of features names a file of the user's own, ``FILE`` or ``FILE:NAME``."""
    return choice.split(":")[0].endswith(SUFFIXES)


def _encoder_digest(encoder: Any) -> str:
    """What tells an encoder from another one: its kind and the SHA-256 of its description."""
    with tempfile.TemporaryDirectory() as folder:
        return f"{encoder.kind}-{sha256(Path(encoder.save(folder)))}"


def _encoded(encoder: Any, items: Sequence[str], argument: str) -> Tensor:
    """Every item encoded, or a ``ValueError`` that names those that cannot be."""
    found = encode_each(encoder, items, batch_size=64, progress=f"{argument} features")
    if found.values is None or found.problems:
        problems = [f"  {items[row]}: {text}" for row, text in found.problems.items()]
        more = ["  ..."] if len(problems) > _SHOWN else []
        raise ValueError(
            f"{argument}: {len(problems)} of {len(items)} items cannot be encoded:\n"
            + "\n".join(problems[:_SHOWN] + more)
        )
    return found.values
