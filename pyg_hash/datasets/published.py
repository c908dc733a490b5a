"""What the data sets share that come as published raw files, in several layouts and splits."""

from __future__ import annotations

import os
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform, encode_all, stamp
from pyg_hash.datasets.build import build_hetero
from pyg_hash.datasets.raw import (
    SUFFIXES,
    Array,
    RawMatrix,
    absent,
    checked_digests,
    holding,
    listed,
    unpack,
)
from pyg_hash.datasets.splits import Protocol, draw_split, load_manifest
from pyg_hash.features import BagOfWords, EfficientNetLite0, ImageEncoder, TextEncoder
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import (
    CorruptFileError,
    load_json,
    load_tensors,
    save_json,
    save_tensors,
    sha256,
)

Manifest = dict[str, Any]
Layout = Literal["official", "features"]
#: features by name -> ``FILE[:NAME]`` of the matrices that hold their columns -> how many
Features = Mapping[str, Mapping[str, int | None]]
WORD_FEATURES = {
    "bow2000": {"mode": "count", "max_features": 2000},
    "lsa200": {"mode": "tfidf", "min_df": 2, "lsa": 200},
}
RECORD = "raw-sha256.json"
ROWS_FILE = "rows.safetensors"  # row numbers in the raw files
_LISTED = 40  # lines of a message: NUS-WIDE keeps its pictures in 704 folders


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
    """One layout of one data set before any split is made: pictures with labels, tags, words.

    File names are relative to the folder ``raw``. A file is read when its content is asked for.
    """

    #: features that the layout has ready-made, the default first; without a matrix: the tags
    images: Features = {}
    texts: Features = {}
    #: place of a picture by the id of its row; None: the layout has neither pictures nor words
    picture: str | None = None
    #: pattern of picture files -> name of their published count
    picture_places: Mapping[str, str] = {}
    #: files that only words need
    word_files: Sequence[str] = ()
    #: whether rows without any tag are left out
    drop_textless = False

    def __init__(self, raw: Path, manifest: Manifest, *, drop_textless: bool = False) -> None:
        self.raw, self.manifest, self.counts = raw, manifest, manifest["counts"]
        self.drop_textless = self.drop_textless or drop_textless

    @property
    @abstractmethod
    def files(self) -> list[str]:
        """Those that are needed whatever the features."""

    @property
    @abstractmethod
    def classes(self) -> tuple[list[str], Array]:
        """One name a class, and the labels of all rows, uint8 ``[num_rows, C]``."""

    @property
    def names(self) -> Sequence[str]:
        """One name a row."""
        return range(len(self.classes[1]))

    @property
    def tags(self) -> sp.csr_matrix:
        """Which tags each row has, uint8 ``[num_rows, T]``."""
        raise NotImplementedError

    def words(self, rows: Array) -> list[str] | None:
        """The raw texts; None if the layout has none."""
        return None

    def table(self, protocol: Protocol) -> Table:
        """The rows with a class and a tag, as far as the protocol and the layout ask for both."""
        labels = self.classes[1]
        used: Array = labels.any(axis=1)
        if self.drop_textless:
            used &= np.diff(self.tags.indptr) > 0
        what = "a class and a tag" if self.drop_textless else "a class"
        kept = self.manifest["kept"][-1 if self.drop_textless else 0]
        self.count(int(used.sum()), kept, f"rows with {what}")
        rows = np.flatnonzero(used | protocol.unlabeled)
        if protocol.pictures is not None:
            rows = np.array([i for i in rows if self.names[i].startswith(protocol.pictures)])
        return Table(rows, len(labels), labels[rows])

    def features(self, places: Mapping[str, int | None], rows: Array) -> Tensor:
        """Rows of the matrices side by side, or of the tags if there are none."""
        if not places:
            return torch.from_numpy(self.tags[rows].toarray().astype(np.float32))
        parts = []
        for name, width in places.items():
            matrix = RawMatrix(self.raw / name)
            self.count(matrix.shape[0], self.counts["pictures"], f"rows in {name}")
            self.count(matrix.shape[1], width, f"columns in {name}")
            parts.append(matrix.read(rows))
        return torch.cat(parts, dim=1)

    def ids(self, rows: Array) -> list[str]:
        """The names of some rows."""
        return [str(self.names[row]) for row in rows.tolist()]

    def picture_paths(self, rows: Array) -> list[str]:
        """Where the pictures of some rows belong; nothing where the layout has none."""
        return [] if self.picture is None else [self.picture.format(i) for i in self.ids(rows)]

    def text_of(self, name: str, encoding: str = "utf-8") -> str:
        """The content of a text file."""
        return (self.raw / name).read_text(encoding, errors="replace")

    def count(self, found: int, expected: int | list[int] | None, what: str) -> None:
        """Raise ``CorruptFileError`` unless the files hold the published number of ``what``."""
        numbers = expected if isinstance(expected, list) else [expected]
        if found not in numbers and expected is not None:
            raise CorruptFileError(
                f"{self.raw}: {found:,} {what}, the published files have "
                f"{' or '.join(f'{number:,}' for number in numbers)}; "
                "they are incomplete or another release, get them again"
            )


class MatrixFiles(Source):
    """Ready-made features and labels in matrices ``FILE:NAME``: row i of all is instance i.

    ``features`` of the manifest says which: ``images`` and ``texts`` by what they are, and
    ``labels``, multi-hot. With ``parts`` each of them is one matrix a part, ``PART_NAME``, one
    below the other, and labels are class numbers from 0 or 1. ``any_size``: how many rows there
    are is not published.
    """

    def __init__(self, raw: Path, manifest: Manifest, *, drop_textless: bool = False) -> None:
        super().__init__(raw, manifest, drop_textless=drop_textless)
        self._known = manifest["features"]
        self.images, self.texts, self._labels = (
            self._known[k] for k in ("images", "texts", "labels")
        )
        self._text = next(iter(next(iter(self.texts.values()))))
        self._num_classes: int = manifest.get("num_classes", self.counts["classes"])
        self._parts: list[str] = self._known.get("parts", [])

    @property
    def files(self) -> list[str]:
        """That of the labels, and that of the texts where they decide which rows stay."""
        places = [self._labels, *([self._text] if self.drop_textless else [])]
        return [place.split(":")[0] for place in places]

    def _matrices(self, place: str) -> list[RawMatrix]:
        """The matrix, or those of all parts, each of the right number of rows."""
        name, _, variable = place.partition(":")
        matrices = []
        for part in self._parts or [None]:
            matrix = RawMatrix(self.raw / name, variable if part is None else f"{part}_{variable}")
            if part is not None:
                expected = self.counts[part]
            elif place != self._labels:
                expected = len(self.classes[1])
            else:
                expected = None if "any_size" in self._known else self.manifest["kept"]
            self.count(matrix.shape[0], expected, f"rows in {name}:{matrix.name}")
            matrices.append(matrix)
        return matrices

    def features(self, places: Mapping[str, int | None], rows: Array) -> Tensor:
        """Rows of the one matrix that the features are."""
        read, start = [], 0
        for matrix in self._matrices(next(iter(places))):
            stop = start + matrix.shape[0]
            read.append(matrix.read(rows[(rows >= start) & (rows < stop)] - start))
            start = stop
        return read[0] if len(read) == 1 else torch.cat(read)

    @cached_property
    def classes(self) -> tuple[list[str], Array]:
        """Numbers, as the files do not name their columns, and the labels."""
        y = np.concatenate([m.read().numpy() for m in self._matrices(self._labels)])
        classes = self._num_classes
        if self._parts:
            numbers = y[:, :1] - y[:, 0].min()
            fits = y.shape[1] == 1 and np.isin(numbers, np.arange(classes)).all()
            y, what = numbers == np.arange(classes), f"{classes} numbers in one column"
        else:
            fits, what = np.isin(y, (0, 1)).all(), "0 and 1"
        if not fits:
            raise CorruptFileError(
                f"{self.raw}/{self._labels}: labels are not {what}; get it again"
            )
        self.count(y.shape[1], classes, "classes")
        return [f"class {column}" for column in range(classes)], y.astype(np.uint8)

    def table(self, protocol: Protocol) -> Table:
        """The rows in the order of the files."""
        y = self.classes[1]
        if self.drop_textless:
            (text,) = self._matrices(self._text)
            rows = text.occupied()
            return Table(rows, len(y), y[rows])
        parts = np.repeat(self._parts, [self.counts[part] for part in self._parts])
        return Table(np.arange(len(y)), len(y), y, parts if self._parts else None)


class PublishedDataset(CrossModalDataset):
    """A data set in the layout of its publishers, split as a paper says.

    A subclass names its manifest and its official files.

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

    manifest: str
    official: type[Source]
    #: whether labels are one class index a row
    single_label: ClassVar[bool] = False
    #: whether rows without any tag are left out
    drop_textless = False

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
        kind = self.official if layout == "official" else MatrixFiles
        source = self._source = kind(
            Path(root).expanduser() / "raw",
            load_manifest(self.manifest),
            drop_textless=self.drop_textless,
        )
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

    def _choice(self, choice: Any, argument: str, own: Features, encoded: tuple[str, ...]) -> Any:
        """A name of features, a file's name or an encoder; anything else is refused."""
        raw_items = self._source.picture is not None
        named = (*own, *encoded) if raw_items else tuple(own)
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
        if not raw_items:
            raise ValueError(
                f"{argument}: the layout {self.layout!r} has no raw items to encode; "
                f"use one of {', '.join(own)} or a file of your own"
            )
        return choice

    # files -----------------------------------------------------------------------------------

    @property
    def raw_file_names(self) -> list[str]:
        """The files that this choice needs, pictures apart."""
        own = [c.split(":")[0] for c in (self.image, self.text) if _is_file_name(c)]
        return list(dict.fromkeys(self._published_names + own))

    @property
    def _published_names(self) -> list[str]:
        """Those of them that are the publishers', not one's own."""
        source = self._source
        names = list(source.files)
        for choice, known in ((self.image, source.images), (self.text, source.texts)):
            if isinstance(choice, str):
                names += [place.split(":")[0] for place in known.get(choice, {})]
        needs_words = not isinstance(self.text, str) or self.text in WORD_FEATURES
        return [*names, *(source.word_files if needs_words else ())]

    def download(self) -> None:
        """Unpack what lies in ``raw/`` as an archive of known SHA-256; say what is missing.

        Raises:
            FileNotFoundError: lists the missing files, their places and where to get them.
            CorruptFileError: an archive is not the published one.
        """
        source, raw = self._source, Path(self.raw_dir)
        archives = source.manifest["archives"]
        unpack(raw, archives, absent(raw, self.raw_file_names))
        missing = absent(raw, self.raw_file_names)
        if not missing:
            return
        places = {}  # of pictures that are neither there nor in an archive that is there
        for pattern, name in source.picture_places.items():
            waiting = any((raw / archive).is_file() for archive in holding(archives, [pattern]))
            wanted = pattern.startswith(self._protocol.pictures or "") and not waiting
            if wanted and sum(1 for _ in raw.glob(pattern)) < source.counts[name]:
                places[pattern] = f"  {pattern}  ({source.counts[name]:,} files)"
        lines = listed(missing)
        if places and not isinstance(self.image, str):
            lines += [*places.values(), "Of the pictures only those of the split are read."]
            missing += places
        raise FileNotFoundError(
            f"{type(self).__name__} cannot be downloaded automatically. "
            f"Put these files into {raw}:\n{self._wanted(lines, missing)}"
        )

    def _wanted(self, lines: list[str], missing: Sequence[str]) -> str:
        """The missing files, and where to get them."""
        manifest = self._source.manifest
        archives = [
            f"  {name}  {known['bytes']} bytes  SHA-256 {known['sha256']}"
            for name, known in holding(manifest["archives"], missing).items()
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

    # rows and their features -----------------------------------------------------------------

    def build(self) -> HeteroData:
        """Read labels, split them, and read or compute the features of the rows of the split.

        Rows without a word that the training texts have are left out, with a warning.

        Raises:
            CorruptFileError: a published file is not the one of the first build, or is damaged.
        """
        record = Path(self.root) / "processed" / RECORD
        digests = checked_digests(Path(self.raw_dir), self._published_names, record)
        protocol, table = self._protocol, self._source.table(self._protocol)
        if protocol.own_parts and table.parts is not None:
            rows = np.flatnonzero(np.isin(table.parts, ("train", "test")))
            query = table.parts[rows] == "test"
            masks = {"train": ~query, "query": query, "database": ~query}
        else:
            rows, masks = draw_split(protocol, table.y, self.seed)
        encoder, text = self._text_features(table, rows, masks["train"])
        image = self._image_features(table, rows)
        known = np.ones(len(rows), bool) if encoder is None else text.any(dim=1).numpy()
        if not known.all():
            warnings.warn(
                f"text: {int((~known).sum())} of {len(rows)} rows have no known word and are "
                "left out; use other text features to keep them",
                stacklevel=2,
            )
            image, text, rows = image[known], text[known], rows[known]
            masks = {name: mask[known] for name, mask in masks.items()}
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
        if not record.is_file() or load_json(record) != digests:
            save_json(record, digests)  # only now: files that cannot be read are no reference
        return data

    def read_items(self) -> Items:
        """Ids, classes, pictures (those that exist) and texts of the rows."""
        rows = load_tensors(self.base_dir / ROWS_FILE)[0]["rows"].numpy()
        raw, source = Path(self.raw_dir), self._source
        paths = source.picture_paths(rows) or [""] * len(rows)
        words = None if absent(raw, source.word_files) else source.words(rows)
        return Items(
            ids=source.ids(rows),
            class_names=source.classes[0],
            image_paths=[str(raw / path) if (raw / path).is_file() else None for path in paths],
            texts=[text or None for text in words or [""] * len(rows)],
        )

    def _ready_made(self, choice: str, known: Features, table: Table, rows: Array) -> Tensor:
        """Features of the layout, or from a file of the user's own."""
        if choice in known:
            return self._source.features(known[choice], table.rows[rows])
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
        source, raw, encoder = self._source, Path(self.raw_dir), self.image
        if isinstance(encoder, str):
            return self._ready_made(encoder, source.images, table, rows)
        names = source.picture_paths(table.rows[rows])
        unpack(raw, source.manifest["archives"], absent(raw, names))
        missing = absent(raw, names)
        if missing:
            lines = listed(missing)
            if len(lines) > _LISTED:
                lines = [*lines[:_LISTED], f"  and more, {len(missing):,} files in all"]
            raise FileNotFoundError(
                f"image: these pictures are missing in {raw}:\n{self._wanted(lines, missing)}"
            )
        digest = sha256(_encoder_digest(encoder), *self._stamps(names))
        paths = [str(raw / name) for name in names]
        return self.computed_once(
            f"image-{digest[:12]}", lambda: encode_all(image=(encoder, paths))["image"]
        )

    def _text_features(
        self, table: Table, rows: Array, train: Array
    ) -> tuple[BagOfWords | None, Tensor]:
        """The encoder that was fitted here, if any, and the features."""
        choice: Any = self.text
        if isinstance(choice, str) and choice not in WORD_FEATURES:
            return None, self._ready_made(choice, self._source.texts, table, rows)
        texts = self._source.words(table.rows[rows]) or []
        if not isinstance(choice, str):
            return None, encode_all(text=(choice, texts))["text"]
        options: Any = WORD_FEATURES[choice]
        known = [text for text, used in zip(texts, train, strict=True) if used]
        encoder = BagOfWords(stop_words="english", min_length=2, **options).fit(known)
        return encoder, encoder.transform(texts, allow_unknown=True)

    def image_encoder(self) -> ImageEncoder:
        """The encoder of the pictures, where they were encoded here."""
        encoder: ImageEncoder = self.image
        return super().image_encoder() if isinstance(self.image, str) else encoder

    def text_encoder(self) -> TextEncoder:
        """The encoder of the texts, where they were encoded here."""
        encoder: TextEncoder = self.text
        return super().text_encoder() if isinstance(self.text, str) else encoder


def _is_file_name(choice: Any) -> bool:
    """Whether a choice of features names a file of the user's own, ``FILE`` or ``FILE:NAME``."""
    return isinstance(choice, str) and choice.split(":")[0].endswith(SUFFIXES)


def _encoder_digest(encoder: Any) -> str:
    """What tells an encoder from another one: its kind and the SHA-256 of its description."""
    with tempfile.TemporaryDirectory() as folder:
        return f"{encoder.kind}-{sha256(Path(encoder.save(folder)))}"
