"""The data sets that come as published raw files, in several layouts and splits."""

from __future__ import annotations

import gzip
import json
import random
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform, encode_all, stamp
from pyg_hash.datasets.build import build_hetero
from pyg_hash.datasets.raw import (
    SUFFIXES,
    TEXT_SUFFIXES,
    Array,
    Variable,
    damaged,
    open_matrix,
    read_digits,
    read_json,
    whole,
)
from pyg_hash.features import BagOfWords, EfficientNetLite0, ImageEncoder, TextEncoder
from pyg_hash.typing import IMAGE, Modality, PathLike
from pyg_hash.utils.checks import check_choice, check_seed
from pyg_hash.utils.files import check_path, load_json, load_tensors, save_tensors, sha256

MANIFESTS = Path(__file__).parent / "manifests"
Layout = Literal["official", "features"]
WORDS: dict[str, Any] = {"stop_words": "english", "min_length": 2}
LSA = WORDS | {"mode": "tfidf", "min_df": 2, "lsa": 200}
ROWS_FILE = "rows.safetensors"  # row numbers in the raw files
_MANY = 12  # files that a message lists before it counts
_LISTED = 100  # lines of a message: NUS-WIDE keeps its pictures in 704 folders


@dataclass(frozen=True)
class Protocol:
    """How a paper splits a data set.

    Most papers publish counts and the word "random", not the rows. Such a split is drawn here by a
    rule of this library: always the same rows for the same seed, but not the paper's.
    """

    source: str  #: the paper, and where the numbers stand
    #: ``'first'`` (queries are the first rows, then train) and ``'last'`` (they are the last rows)
    #: take rows in the order of the files; ``'random'`` draws them; ``'per_label'`` draws equally
    #: many for each label, rarest label first, and what a label lacks from all rows
    rule: Literal["first", "last", "random", "per_label"]
    query: int  #: number of queries
    train: int | None = None  #: training rows, taken from the database; None: the whole database
    items: int | None = None  #: rows that are drawn before all else; None: all of them
    held_out: int = 0  #: rows (a paper's validation set) that are left out of everything
    own_parts: bool = False  #: whether parts that a feature file names itself are used
    pictures: str | None = None  #: which of several picture folders belong to it; None: all
    unlabeled: bool = False  #: whether rows without any label stay
    layout: str | None = None  #: the only layout whose row order the rule is meant for; None: any
    note: str = ""  #: what the paper leaves open


def load_manifest(name: str) -> dict[str, Any]:
    """What is published of a data set: counts, archives, files of each layout, protocols.

    ``-21`` is a variant; what a manifest lacks is in that of the set which it is ``like``.
    """
    name, _, variant = name.partition("-")
    manifest: dict[str, Any] = load_json(MANIFESTS / f"{name}.json", dict)
    if "like" in manifest:
        manifest = load_json(MANIFESTS / f"{manifest['like']}.json", dict) | manifest
    return manifest | manifest["variants"][variant] if variant else manifest


def published_protocols(name: str) -> dict[str, Protocol]:
    """The protocols of a published data set by name.

    The sets are ``'mirflickr25k'``, ``'mscoco'``, ``'nuswide10k'``, ``'nuswide-21'`` and
    ``'nuswide-10'``.
    """
    return {key: Protocol(**values) for key, values in load_manifest(name)["protocols"].items()}


def draw_split(protocol: Protocol, y: Array, seed: int) -> tuple[Array, dict[str, Array]]:
    """Ascending rows ``[n]``, and masks of them, by multi-hot labels; ``ValueError``: too few."""
    rows = list(range(len(y)))
    if protocol.rule in ("random", "per_label"):
        random.Random(seed).shuffle(rows)
    needed = protocol.query + protocol.held_out + (protocol.train or 1)
    available = len(y) if protocol.items is None else protocol.items
    if not needed <= available <= len(y):
        both = f"{max(needed, available)} rows, the data have {len(y)}"
        raise ValueError(f"protocol: needs {both}; are the files complete?")
    order = np.array(rows[:available])
    free = np.isin(np.arange(len(y)), order)
    balanced = y if protocol.rule == "per_label" else None
    asking = order[::-1] if protocol.rule == "last" else order
    query = _take(asking, protocol.query, free, balanced)
    _take(order, protocol.held_out, free, balanced)
    database = free.copy()
    train = database if protocol.train is None else _take(order, protocol.train, free, balanced)
    kept = np.flatnonzero(query | database)
    return kept, {"train": train[kept], "query": query[kept], "database": database[kept]}


def _take(order: Array, count: int, free: Array, y: Array | None) -> Array:
    """A mask of ``count`` free rows, the first ones in ``order``; they are free no longer."""
    before = free.copy()
    if y is not None and count:
        labels = np.argsort(y.sum(axis=0), kind="stable")
        each, more = divmod(count, len(labels))
        for rank, label in enumerate(labels):
            quota = each + (rank >= len(labels) - more)
            free[order[free[order] & (y[order, label] > 0)][:quota]] = False
    left = count - int((before & ~free).sum())
    free[order[free[order]][:left]] = False
    return before & ~free


class Content(NamedTuple):
    """All N rows of the files of a layout: names, of classes too, and numbers."""

    names: Sequence[Any]
    classes: list[str]
    labels: Array  # multi-hot uint8 [N, C]
    rows: Array  # numbers of those that are used
    tags: sp.csr_matrix | None = None  # which ones a row has, uint8 [N, T]
    words: Sequence[str] = ()  # raw texts; nothing where the layout has none
    parts: Array | None = None  # of the publisher's own split, by name, [N]


class PublishedDataset(CrossModalDataset):
    """A data set in the layout of its publishers, split as a paper says.

    A subclass names its manifest, and says what lies in its official files. Arguments that are not
    named here are those of :class:`~pyg_hash.datasets.CrossModalDataset`.

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
        seed: of the drawing of the split.

    ``FileNotFoundError``: files are missing; the message lists them. ``CorruptFileError``: a file
    is damaged, or the counts are not the published ones.
    """

    manifest: str
    # whether labels are one class index a row, and whether rows without any tag are left out
    single_label, drop_textless = False, False
    words: Mapping[str, dict[str, Any]] = {
        "bow2000": WORDS | {"mode": "count", "max_features": 2000},
        "lsa200": LSA,
    }

    def __init__(
        self,
        root: PathLike,
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
        check_path(root, "root")
        check_choice(layout, ("official", "features"), "layout")
        check_seed(seed)
        self.layout, self.seed = layout, int(seed)
        published = self._published = load_manifest(self.manifest)
        self._counts, protocols = published["counts"], published["protocols"]
        known = {name: p for name, p in protocols.items() if p.get("layout") in (None, layout)}
        self.protocol: str = published["default"] if protocol is None else protocol
        check_choice(self.protocol, tuple(known), "protocol")
        self._protocol = Protocol(**known[self.protocol])
        # the features of each modality that are ready-made, the default first -> ``FILE[:NAME]`` of
        # the matrices that hold their columns -> how many; without a matrix: the tags. And
        # ``picture``: place of one by the name of its row; ``pictures``: pattern -> name of their
        # published count; ``words``: files that only words need
        self._ready: Mapping[str, Any] = published[layout]
        self._texts = list(next(iter(self._ready["text"].values()), ()))  # their matrices
        has_pictures, has_words = "picture" in self._ready, layout == "official"
        self.image = self._choice(image, "image", (EfficientNetLite0.kind,) * has_pictures)
        self.text = self._choice(text, "text", tuple(self.words) * has_words)
        super().__init__(root, transform, pre_transform, force_reload=force_reload)

    def _official_files(self) -> list[str]:
        """Official files that are needed whatever the features."""
        raise NotImplementedError

    def _official_content(self) -> Content:
        """What they say, but ready-made features; checked against the published counts."""
        raise NotImplementedError

    def _choice(self, choice: Any, argument: str, encoded: tuple[str, ...]) -> Any:
        """A name of features, a file's name or an encoder; anything else is refused."""
        named = (*self._ready[argument], *encoded)
        choice = named[0] if choice is None else choice
        if isinstance(choice, str):
            if not _is_file_name(choice):
                check_choice(choice, named, argument)
        elif not callable(choice) or not hasattr(choice, "settings"):
            known = "a name, a file's name or an encoder of pyg_hash.features"
            raise TypeError(f"{argument}: expected {known}, got {type(choice).__name__}")
        elif not encoded:
            told = f"{argument}: the layout {self.layout!r} has no raw items to encode"
            raise ValueError(f"{told}; use one of {', '.join(named)} or a file of your own")
        return EfficientNetLite0(progress=False) if choice == EfficientNetLite0.kind else choice

    # files ---------------------------------------------------------------------------------------

    @property
    def _raw(self) -> Path:
        return Path(self.raw_dir)

    @property
    def raw_file_names(self) -> list[str]:
        """The files that this choice needs, pictures apart."""
        if self.layout == "official":
            places = self._official_files()
        else:  # the texts, where they decide which rows stay
            places = [self._ready["labels"], *(self._texts if self.drop_textless else ())]
        for modality, choice in (("image", self.image), ("text", self.text)):
            if isinstance(choice, str):
                own = [choice] if _is_file_name(choice) else []
                places += self._ready[modality].get(choice, own)
        if not isinstance(self.text, str) or self.text in self.words:
            places += self._ready.get("words", ())
        return list(dict.fromkeys(place.split(":")[0] for place in places))

    def download(self) -> None:
        """``FileNotFoundError`` lists what is missing, and where to get it."""
        raw, note = self._raw, list[str]()
        missing = [name for name in self.raw_file_names if not (raw / name).is_file()]
        if missing and not isinstance(self.image, str):
            for pattern, name in self._ready["pictures"].items():
                count = self._counts[name]
                of_split = pattern.startswith(self._protocol.pictures or "")
                if of_split and sum(1 for _ in raw.glob(pattern)) < count:
                    missing.append(f"{pattern}  ({count:,} files)")
                    note = ["Of the pictures only those of the split are read."]
        if missing:
            told = f"{type(self).__name__} cannot be downloaded automatically"
            listed = self._wanted(missing, *note)
            raise FileNotFoundError(f"{told}. Put these files into {raw}:\n{listed}")

    def _wanted(self, missing: Sequence[str], *notes: str) -> str:
        """The missing files, and where to get them; many that differ in numbers share a line."""
        lines = []
        for _, group in groupby(missing, lambda name: re.sub(r"\d+", "#", name)):
            same = list(group)
            if len(same) > _MANY:
                same = [f"{same[0]} ... {same[-1]}  ({len(same):,} files)"]
            lines += [f"  {name}" for name in same]
        if len(lines) > _LISTED:
            lines = [*lines[:_LISTED], f"  and more, {len(missing):,} files in all"]
        archives = {
            f"  {name}": f"  {name}  {known['bytes']} bytes  SHA-256 {known['sha256']}"
            for name, known in self._published["archives"].items()
            if any(file.startswith(known["holds"]) for file in missing)
        }
        lines = [archives.pop(line, line) for line in lines]  # of one that is the file itself
        return "\n".join([*lines, *notes, self._published["where"], *archives.values()])

    def _stamps(self, names: Sequence[str]) -> list[str]:
        return ["\t".join(map(str, (name, *stamp(self.raw_dir, name)))) + "\n" for name in names]

    # rows and features ---------------------------------------------------------------------------

    @cached_property
    def _content(self) -> Content:
        return self._official_content() if self.layout == "official" else self._matrix_content()

    def _matrix_content(self) -> Content:
        """Labels in matrices, multi-hot; with ``parts`` one for each, of numbers from 0 or 1."""
        known, published = self._ready, self._published
        size = None if "any_size" in known else published.get("kept")  # any: none is published
        y = self._matrix(known["labels"], size).read().numpy()
        classes = np.arange(published.get("num_classes", self._counts["classes"]))
        fits, what, parts = np.isin(y, (0, 1)).all(), "0 and 1", None
        if "parts" in known:
            parts = np.repeat(known["parts"], [self._counts[part] for part in known["parts"]])
            numbers = y[:, :1] - y[:, 0].min()
            fits = y.shape[1] == 1 and np.isin(numbers, classes).all()
            y, what = numbers == classes, f"{len(classes)} numbers in one column"
        if not fits:
            raise damaged(self._raw / known["labels"], f"labels are not {what}")
        self._count(y.shape[1], len(classes), "classes")
        rows = np.arange(len(y))
        if self.drop_textless:
            (place,) = self._texts
            rows = np.flatnonzero(self._matrix(place, len(y)).read().numpy().any(axis=1))
        names = [f"class {number}" for number in classes]
        return Content(range(len(y)), names, y.astype(np.uint8), rows, parts=parts)

    def _matrix(self, place: str, size: int | list[int] | None = None) -> Variable:
        """``FILE[:NAME]`` of ``size`` rows; where a ``{}`` stands, those of all parts, stacked."""
        matrices = []
        for part in self._ready.get("parts", []) if "{}" in place else [""]:
            name, _, variable = place.format(part).partition(":")
            matrix = open_matrix(self._raw / name, variable or None)
            self._count(matrix.shape[0], self._counts.get(part), f"rows in {place.format(part)}")
            matrices.append(matrix)
        if len(matrices) > 1:
            values = np.concatenate([matrix.read().numpy() for matrix in matrices])
            matrix = Variable(place, matrix.file, values.shape, values)
        self._count(matrix.shape[0], size, f"rows in {place}")
        return matrix

    def _kept(self, used: Any, number: int = 0) -> Array:
        """The rows of a mask ``[N]``, if they are as many as the manifest's ``kept`` says."""
        expected = self._published["kept"][number]
        self._count(int(used.sum()), expected, "rows with a class (and a tag)")
        return np.flatnonzero(used)

    def _text_of(self, name: str, encoding: str = "utf-8") -> str:
        return (self._raw / name).read_text(encoding, errors="replace")

    def _count(self, found: int, expected: int | list[int] | None, what: str) -> None:
        """Raise ``CorruptFileError`` unless the files hold the published number of ``what``."""
        numbers = expected if isinstance(expected, list) else [expected]
        if found not in numbers and expected is not None:
            known = " or ".join(f"{number:,}" for number in numbers)
            told = f"{found:,} {what}, the published files have {known}"
            raise damaged(self._raw, f"{told}; these are incomplete or another release")

    def settings(self) -> dict[str, Any]:
        """Layout, features, split, and one digest of names, sizes and times of the raw files."""
        return {
            "layout": self.layout,
            "image": _described(self.image),
            "text": _described(self.text),
            "protocol": self.protocol,
            "seed": self.seed,
            "raw": sha256(*self._stamps(self.raw_file_names)),
        }

    def build(self) -> HeteroData:
        """The rows of the split, but of those without a known word, with a warning."""
        protocol, content = self._protocol, self._content
        usable: Array = np.arange(len(content.names)) if protocol.unlabeled else content.rows
        if protocol.pictures is not None:
            usable = usable[[content.names[i].startswith(protocol.pictures) for i in usable]]
        if protocol.own_parts and content.parts is not None:
            rows = np.flatnonzero(np.isin(content.parts, ("train", "test")))
            query = content.parts[rows] == "test"
            masks: dict[str, Any] = {"train": ~query, "query": query, "database": ~query}
        else:
            drawn, masks = draw_split(protocol, content.labels[usable], self.seed)
            rows = usable[drawn]
        text = self._text_features(usable, rows, masks["train"])
        image = self._image_features(usable, rows)
        fitted = isinstance(self.text, str) and self.text in self.words
        known = text.any(dim=1).numpy() if fitted else np.ones(len(rows), bool)
        if not known.all():
            told = f"{int((~known).sum())} of {len(rows)} rows have no known word and are left out"
            warnings.warn(f"text: {told}; use other text features to keep them", stacklevel=2)
            image, text, rows = image[known], text[known], rows[known]
            masks = {name: mask[known] for name, mask in masks.items()}
        y = torch.from_numpy(content.labels[rows])
        y = y.argmax(dim=1) if self.single_label else y.float()
        data = build_hetero(image, text, y=y, num_classes=len(content.classes), **masks)
        save_tensors(self.base_dir / ROWS_FILE, {"rows": torch.from_numpy(rows)})
        return data

    def read_items(self) -> Items:
        """Ids, classes, pictures (those that exist) and texts of the rows."""
        rows = load_tensors(self.base_dir / ROWS_FILE)[0]["rows"].numpy()
        content = self._content
        names = self._picture_paths(rows) if "picture" in self._ready else []
        paths = [self._raw / name for name in names]
        return Items(
            ids=[str(content.names[row]) for row in rows],
            class_names=content.classes,
            image_paths=[str(path) if path.is_file() else None for path in paths],
            texts=[content.words[row] or None for row in rows if content.words],
        )

    def _picture_paths(self, rows: Array) -> list[str]:
        return [self._ready["picture"].format(self._content.names[row]) for row in rows]

    def _ready_made(self, modality: str, choice: str, usable: Array, rows: Array) -> Tensor:
        """Columns of the layout's matrices side by side, its tags, or a file of the user's own."""
        tags, num_rows = self._content.tags, len(self._content.names)
        if choice not in self._ready[modality]:
            matrix = self._matrix(choice)
            if matrix.shape[0] == num_rows:
                return matrix.read(rows)
            if matrix.shape[0] == len(usable):
                return matrix.read(np.searchsorted(usable, rows))
            raise ValueError(
                f"{matrix.file}: {matrix.shape[0]} rows; give one for each of the {num_rows} rows "
                f"of the published files, or of the {len(usable)} that are used, in their order"
            )
        places = self._ready[modality][choice]
        if not places and tags is not None:
            return torch.from_numpy(tags[rows].toarray().astype(np.float32))
        columns = []
        for place, width in places.items():
            matrix = self._matrix(place, num_rows)
            self._count(matrix.shape[1], width, f"columns in {place}")
            columns.append(matrix.read(rows))
        return torch.cat(columns, dim=1)

    def _image_features(self, usable: Array, rows: Array) -> Tensor:
        raw, encoder = self._raw, self.image
        if isinstance(encoder, str):
            return self._ready_made("image", encoder, usable, rows)
        names = self._picture_paths(rows)
        if missing := [name for name in names if not (raw / name).is_file()]:
            listed = self._wanted(missing)
            raise FileNotFoundError(f"image: these pictures are missing in {raw}:\n{listed}")
        name = f"image-{sha256(_described(encoder), *self._stamps(names))[:12]}"
        paths = [str(raw / name) for name in names]
        return self.computed_once(name, lambda: encode_all(image=(encoder, paths))["image"])

    def _text_features(self, usable: Array, rows: Array, train: Array) -> Tensor:
        choice: Any = self.text
        if isinstance(choice, str) and choice not in self.words:
            return self._ready_made("text", choice, usable, rows)
        texts = [self._content.words[row] for row in rows]
        if not isinstance(choice, str):
            return encode_all(text=(choice, texts))["text"]
        encoder = BagOfWords(**self.words[choice]).fit(list(compress(texts, train)))
        self.keep_words(encoder)
        return encoder.transform(texts, allow_unknown=True)

    def _encoder(self, modality: Modality) -> Any:
        choice = self.image if modality == IMAGE else self.text
        return super()._encoder(modality) if isinstance(choice, str) else choice


def _is_file_name(choice: str) -> bool:
    """Whether a choice of features names a file of the user's own, ``FILE`` or ``FILE:NAME``."""
    return choice.split(":")[0].endswith((*SUFFIXES, *TEXT_SUFFIXES))


def _described(choice: Any) -> str:
    """A name; or an encoder's kind, and the SHA-256 of its settings and of those of its parts."""
    if isinstance(choice, str):
        return choice
    parts = map(_described, getattr(choice, "parts", ()))
    return f"{choice.kind}-{sha256(json.dumps(choice.settings()), *parts)}"


# the sets; docs/datasets.rst has tables of all layouts ------------------------------------------

NUS_LABELS = "Groundtruth/AllLabels/Labels_{}.txt"
NUS_PICTURES = "ImageList/Imagelist.txt"
NUS_TAGS = "NUS_WID_Tags/AllTags1k.txt"
NUS_TAG_NAMES = "NUS_WID_Tags/TagList1k.txt"


class _NusWide(PublishedDataset):
    """269,648 pictures with 1,000 tags; classes are the most frequent of 81 concepts."""

    def _official_files(self) -> list[str]:
        return [*map(NUS_LABELS.format, self._published["classes"]), NUS_PICTURES, NUS_TAGS]

    def _official_content(self) -> Content:
        """The most frequent concepts (all without a number), alphabetically, and the tags."""
        lines = self._text_of(NUS_PICTURES, "latin-1").split("\n")
        names = [line.strip().replace("\\", "/") for line in lines if line.strip()]
        self._count(len(names), self._counts["pictures"], f"rows in {NUS_PICTURES}")

        def digits(name: str, width: int) -> sp.csr_matrix:
            found = read_digits(self._raw / name, width)
            self._count(found.shape[0], len(names), f"rows in {name}")
            return found

        concepts = self._published["classes"]
        labels = np.hstack([digits(NUS_LABELS.format(c), 1).toarray() for c in concepts])
        order = np.argsort(-labels.sum(axis=0, dtype=np.int64), kind="stable")
        columns = np.sort(order[: self._published.get("num_classes")])
        classes = [concepts[column] for column in columns]
        tags, words = digits(NUS_TAGS, self._counts["tags"]), []
        if (self._raw / NUS_TAG_NAMES).is_file():
            tag_names = np.array(self._text_of(NUS_TAG_NAMES).split())
            self._count(len(tag_names), self._counts["tags"], f"tags in {NUS_TAG_NAMES}")
            words = [" ".join(own) for own in np.split(tag_names[tags.indices], tags.indptr[1:-1])]
        labels = labels[:, columns]
        return Content(names, classes, labels, self._rows(classes, labels, tags), tags, words)

    def _rows(self, classes: list[str], labels: Array, tags: sp.csr_matrix) -> Array:
        """Those with a class and, if they have to, a tag."""
        if self.drop_textless:
            return self._kept(labels.any(axis=1) & (tags.getnnz(axis=1) > 0), 1)
        return self._kept(labels.any(axis=1))


class NUSWIDE(_NusWide):
    """NUS-WIDE: Flickr pictures with tags, multi-label, the 21 or 10 most frequent concepts.

    195,834 of the 269,648 pictures have one of the 21 concepts (TC-21), 186,577 one of the 10
    (TC-10); 190,421 and 181,365 of them have one of the 1,000 tags too. All is dense float32: with
    VGG features TC-21 takes 3.2 GB. Source: Chua et al., "NUS-WIDE: a real-world web image
    database from National University of Singapore", CIVR 2009.

    For other arguments and errors see :class:`~pyg_hash.datasets.published.PublishedDataset`.

    Args:
        concepts: 21 or 10.
        image: official ``'lowlevel'`` (634-d: colour histogram and correlogram, edges, wavelets,
            colour moments; the default) and ``'bow'`` (500-d SIFT words); features ``'vgg'``.
        text: ``'tags'`` (which of the 1,000 tags; default).
        drop_textless: leave out the rows without any of the 1,000 tags. Most papers count them
            (GCH does not), but a text without words is like no other: cosine graphs refuse it.

    ``ValueError``: ``'ucch'`` without its textless rows.
    """

    def __init__(
        self,
        root: PathLike,
        concepts: Literal[21, 10] = 21,
        layout: Layout = "official",
        image: str | ImageEncoder | None = None,
        text: str | TextEncoder | None = None,
        protocol: str | None = None,
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        drop_textless: bool = True,
        seed: int = 0,
        force_reload: bool = False,
    ) -> None:
        check_choice(concepts, (21, 10), "concepts")
        if layout == "features" and protocol == "ucch" and drop_textless:
            told = (
                "the protocol 'ucch' takes the last rows of the file, even without text, got True"
            )
            raise ValueError(f"drop_textless: {told}; use drop_textless=False")
        self.concepts, self.drop_textless = concepts, drop_textless
        self.manifest = f"nuswide-{concepts}"
        choices = (layout, image, text, protocol, transform, pre_transform)
        super().__init__(root, *choices, seed=seed, force_reload=force_reload)

    def settings(self) -> dict[str, Any]:
        """Those of every published set, the concepts, and whether textless rows stay."""
        own = {"concepts": self.concepts, "drop_textless": self.drop_textless}
        return super().settings() | own


class NUSWIDE10K(_NusWide):
    """NUS-WIDE-10K: 1,000 pictures with tags of each of ten concepts, one class a row.

    Source: Feng, Wang and Li, "Cross-modal Retrieval with Correspondence Autoencoder", ACM
    Multimedia 2014. Which 1,000 pictures of a concept the papers drew is not published in a form
    that can be read safely: layout ``'official'`` draws them, always the same, from those with
    exactly one of the ten concepts and at least one of the 1,000 tags. Layout ``'features'`` has
    the papers' own rows with VGG fc7 (4,096-d) and doc2vec (300-d).

    Names of features are those of :class:`NUSWIDE`, and ``'doc2vec'``; arguments and errors those
    of :class:`~pyg_hash.datasets.published.PublishedDataset`.
    """

    manifest = "nuswide10k"
    single_label = True

    def _rows(self, classes: list[str], labels: Array, tags: sp.csr_matrix) -> Array:
        """Those of exactly one of the ten concepts and a tag, in the order of the image list."""
        free = (labels.sum(axis=1) == 1) & (tags.getnnz(axis=1) > 0)
        each, drawn = self._counts["per_class"], []
        for column, concept in enumerate(classes):
            candidates = np.flatnonzero(free & (labels[:, column] > 0)).tolist()
            if len(candidates) < each:
                self._count(len(candidates), each, f"rows of {concept} alone")
            drawn += random.Random(column).sample(candidates, each)
        return np.array(sorted(drawn))


MIR_COMMON_TAGS = "mirflickr/doc/common_tags.txt"
MIR_TAGS = "mirflickr/meta/tags/tags{}.txt"
MIR_LABELS = "mirflickr25k_annotations_v080/{}.txt"


class MIRFlickr25K(PublishedDataset):
    """MIRFLICKR-25000: Flickr pictures with tags, 24 labels, multi-label.

    20,015 of the 25,000 pictures have one of the 1,386 tags that occur at least 20 times and one
    of the 24 labels; these are the rows. Source: Huiskes and Lew, "The MIR Flickr Retrieval
    Evaluation", MIR 2008.

    ``text`` is ``'tags'`` by default (which of the 1,386 tags), ``image`` encoded or ``'vgg'``.
    Arguments and errors are those of :class:`~pyg_hash.datasets.published.PublishedDataset`.
    """

    manifest = "mirflickr25k"

    def _official_files(self) -> list[str]:
        labels = map(MIR_LABELS.format, self._published["classes"])
        return [MIR_COMMON_TAGS, *labels, *map(MIR_TAGS.format, self._numbers)]

    @property
    def _numbers(self) -> range:
        return range(1, self._counts["pictures"] + 1)

    def _official_content(self) -> Content:
        """``im1`` to ``im25000``, their labels, alphabetically, and the common tags as listed."""
        classes = self._published["classes"]
        labels = np.zeros((len(self._numbers), len(classes)), np.uint8)
        for column, name in enumerate(map(MIR_LABELS.format, classes)):
            for number in self._text_of(name).split():
                if not number.isdigit() or int(number) not in self._numbers:
                    what = f"{number[:20]!r} is not the number of a picture"
                    raise damaged(self._raw / name, what)
                labels[int(number) - 1, column] = 1
        lines = filter(str.strip, self._text_of(MIR_COMMON_TAGS).splitlines())
        common = [line.split()[0] for line in lines]
        self._count(len(common), self._counts["tags"], f"tags in {MIR_COMMON_TAGS}")
        columns = {tag: column for column, tag in enumerate(common)}
        tags, words = np.zeros((len(labels), len(common)), np.uint8), []
        for row, name in enumerate(map(MIR_TAGS.format, self._numbers)):
            own = self._text_of(name).split()
            tags[row, [columns[tag] for tag in own if tag in columns]] = 1
            words.append(" ".join(own))
        names = [f"im{i}" for i in self._numbers]
        rows = self._kept(labels.any(axis=1) & tags.any(axis=1))
        return Content(names, classes, labels, rows, sp.csr_matrix(tags), words)


COCO_FOLDERS = ("train2014", "val2014")
COCO_INSTANCES = "annotations/instances_{}.json"
COCO_CAPTIONS = "annotations/captions_{}.json"
COCO_LISTS = ("images", "categories", "annotations")
COCO_KEYS = (*COCO_LISTS, "id", "file_name", "name", "image_id", "category_id", "caption")


class MSCOCO(PublishedDataset):
    """MS-COCO, release 2014: pictures with five captions each, 80 categories, multi-label.

    122,218 of the 123,287 pictures of train2014 and val2014 show a category; these are the rows.
    Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.

    ``text`` is ``'bow2000'`` of the five captions by default, or ``'doc2vec'``; ``image`` encoded
    or ``'vgg'``. For more see :class:`~pyg_hash.datasets.published.PublishedDataset`.
    """

    manifest = "mscoco"

    def _official_files(self) -> list[str]:
        return [n.format(f) for n in (COCO_INSTANCES, COCO_CAPTIONS) for f in COCO_FOLDERS]

    def _official_content(self) -> Content:
        """Pictures (train2014 first) and categories by number; the captions of each as one text."""
        names: dict[int, str] = {}
        marks: list[tuple[int, int]] = []
        captions: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for folder in COCO_FOLDERS:
            path = self._raw / COCO_INSTANCES.format(folder)
            with whole(path):
                found = read_json(path, *COCO_KEYS)
                pictures = sorted((entry["id"], entry["file_name"]) for entry in found["images"])
                categories = dict(sorted((e["id"], e["name"]) for e in found["categories"]))
                marks += [(e["image_id"], e["category_id"]) for e in found["annotations"]]
            self._count(len(pictures), self._counts[folder], f"pictures of {folder}")
            self._count(len(categories), self._counts["classes"], f"categories in {path.name}")
            names |= {number: f"{folder}/{name}" for number, name in pictures}
            path = self._raw / COCO_CAPTIONS.format(folder)
            with whole(path):
                for entry in read_json(path, *COCO_KEYS)["annotations"]:
                    text = " ".join(entry["caption"].split())
                    captions[entry["image_id"]].append((entry["id"], text))
        places = {number: row for row, number in enumerate(names)}
        columns = {number: column for column, number in enumerate(categories)}
        unknown = {*captions, *(picture for picture, _ in marks)} - places.keys()
        unknown |= {category for _, category in marks} - columns.keys()
        if unknown:
            what = f"annotations of an unknown picture or category ({min(unknown)})"
            raise damaged(self._raw, what)
        self._count(len(captions), len(names), "pictures with captions")
        labels = np.zeros((len(names), len(columns)), np.uint8)
        for picture, category in marks:
            labels[places[picture], columns[category]] = 1
        words = [" ".join(text for _, text in sorted(captions[number])) for number in names]
        rows = self._kept(labels.any(axis=1))
        return Content([*names.values()], [*categories.values()], labels, rows, words=words)


WIKI_LISTS = {"train": "trainset_txt_img_cat.list", "test": "testset_txt_img_cat.list"}
WIKI_CATEGORIES = "categories.list"
WIKI_ARTICLES = "articles.jsonl.gz"
WIKI_IMAGE128 = "image128.h5"


class Wikipedia(PublishedDataset):
    """2,866 Wikipedia sections with a picture, 10 classes, official split.

    The 2,173 training rows come first and are the database, the 693 test rows are the queries.
    Labels are 0..9. Source: Rasiwasia et al., "A New Approach to Cross-Modal Multimedia
    Retrieval", ACM Multimedia 2010.

    Arguments that are not named here, and errors, are those of
    :class:`~pyg_hash.datasets.published.PublishedDataset`.

    Args:
        image: ``'sift'``, the official 128-d bag of SIFT words, or ``'image128'``, a stronger
            128-d feature of the same rows; or ``FILE[:NAME]``, a matrix of your own.
        text: ``'lda'`` (official, 10 topics), ``'tfidf'`` (official, 1,000-d), ``'bow3000'``
            (counts of the 3,000 most frequent words) or ``'lsa200'`` (TF-IDF, then truncated SVD
            to 200-d, seed 0). The last two leave English stop words out and are fitted on the
            training texts. Or a file of your own, or a text encoder.

    ``ImportError``: scikit-learn is missing (``'bow3000'``, ``'lsa200'``).
    """

    manifest = "wikipedia"
    single_label = True
    words = {  # all published results here are of words of any_script=False
        "bow3000": WORDS | {"mode": "count", "max_features": 3000, "any_script": False},
        "lsa200": LSA | {"any_script": False},
    }

    def __init__(
        self,
        root: PathLike,
        image: str = "image128",
        text: str | TextEncoder = "lsa200",
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        force_reload: bool = False,
    ) -> None:
        choices = (image, text, None, transform, pre_transform)
        super().__init__(root, "official", *choices, force_reload=force_reload)

    def _official_files(self) -> list[str]:
        return [*WIKI_LISTS.values(), WIKI_CATEGORIES]

    def _official_content(self) -> Content:
        """Ids without the stray ``A`` before the first one of the train list, train first."""
        classes = self._text_of(WIKI_CATEGORIES).split()
        ids, labels, parts = list[str](), list[int](), list[str]()
        for part, name in WIKI_LISTS.items():
            for number, line in enumerate(self._text_of(name).splitlines(), 1):
                words = line.split()
                if len(words) != 3 or words[2] not in map(str, range(1, len(classes) + 1)):
                    what = f"line {number} is not 'text-id image-id class'"
                    raise damaged(self._raw / name, what)
                ids.append(_text_id(words[0]))
                labels.append(int(words[2]) - 1)
                parts.append(part)
        if self.image == "image128":
            path = self._raw / WIKI_IMAGE128
            if (open_matrix(path, "labels").read().flatten() - 1).tolist() != labels:
                raise damaged(path, "its labels are not those of the lists")
        texts: dict[str, str] = {}
        if (path := self._raw / WIKI_ARTICLES).is_file():
            with whole(path), gzip.open(path, "rt", encoding="utf-8") as file:
                articles = [json.loads(line) for line in file]
                texts = {_text_id(article["text_id"]): str(article["text"]) for article in articles}
            if [*texts] != ids:
                raise damaged(path, "its text ids are not those of the lists")
        hot, rows = np.eye(len(classes), dtype=np.uint8)[labels], np.arange(len(ids))
        return Content(ids, classes, hot, rows, words=[*texts.values()], parts=np.array(parts))


def _text_id(name: str) -> str:
    return re.sub(r"^A(?=[0-9a-f]{32}-)", "", name)
