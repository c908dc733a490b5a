"""The published data sets: what lies in their files, and in which layouts they are handed on.

The files of every layout, the names of features and all protocols are tables of
``docs/datasets.rst``; ``manifests/*.json`` hold the published counts.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from pyg_hash.datasets.base import Transform
from pyg_hash.datasets.published import (
    Array,
    Layout,
    Manifest,
    MatrixFiles,
    PublishedDataset,
    Source,
    Table,
)
from pyg_hash.datasets.raw import RawMatrix, json_list, read_digits
from pyg_hash.features import ImageEncoder, TextEncoder
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import CorruptFileError

# NUS-WIDE ------------------------------------------------------------------------------------

NUS_LABELS = "Groundtruth/AllLabels/Labels_{}.txt"
NUS_PICTURES = "ImageList/Imagelist.txt"
NUS_TAGS = "NUS_WID_Tags/AllTags1k.txt"
NUS_TAG_NAMES = "NUS_WID_Tags/TagList1k.txt"
# file -> width, all of them rows of the image list
LOW_LEVEL = {
    "Low_Level_Features/Normalized_CH.dat": 64,
    "Low_Level_Features/Normalized_CORR.dat": 144,
    "Low_Level_Features/Normalized_EDH.dat": 73,
    "Low_Level_Features/Normalized_WT.dat": 128,
    "Low_Level_Features/Normalized_CM55.dat": 225,
}
BOW = {"Low_Level_Features/BoW_int.dat": 500}
CORR_AE = "nus_wide_deep_doc2vec-corr-ae.h5py"


class NusWideFiles(Source):
    """The 269,648 pictures of NUS-WIDE, their 81 concepts and their tags, as far as they are used.

    The ``num_classes`` most frequent concepts of the manifest are the classes.
    """

    raw_items = True

    def __init__(self, raw: Path, manifest: Manifest, *, drop_textless: bool = False) -> None:
        super().__init__(raw, manifest)
        self.drop_textless = drop_textless
        self.concepts: list[str] = manifest["classes"]
        self.files = [*map(NUS_LABELS.format, self.concepts), NUS_PICTURES, NUS_TAGS]
        self.images = {
            "lowlevel": (list(LOW_LEVEL), partial(self._image, LOW_LEVEL)),
            "bow": (list(BOW), partial(self._image, BOW)),
        }
        self.texts = {"tags": ([], self._text)}
        self.word_files = [NUS_TAG_NAMES]
        self.picture_places = {"Flickr/*/*.jpg": self.counts["pictures"]}

    @cached_property
    def _labels(self) -> Array:
        """uint8 ``[pictures, concepts of the manifest]``."""
        expected = self.counts["pictures"]
        labels = np.empty((expected, len(self.concepts)), np.uint8)
        for column, concept in enumerate(self.concepts):
            name = NUS_LABELS.format(concept)
            ones = read_digits(self.raw / name, 1)
            self.count(ones.shape[0], expected, f"rows in {name}")
            labels[:, column] = ones.toarray()[:, 0]
        return labels

    @cached_property
    def _tags(self) -> sp.csr_matrix:
        tags = read_digits(self.raw / NUS_TAGS, self.counts["tags"])
        self.count(tags.shape[0], self.counts["pictures"], f"rows in {NUS_TAGS}")
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
        rows = np.flatnonzero(used)
        what = "a class and a tag" if self.drop_textless else "a class"
        self.count(len(rows), self.manifest["kept"][int(self.drop_textless)], f"rows with {what}")
        return Table(rows, len(labels), labels[rows])

    def _image(self, files: dict[str, int], rows: Array) -> Tensor:
        parts = []
        for name, width in files.items():
            matrix = RawMatrix(self.raw / name)
            self.count(matrix.shape[0], self.counts["pictures"], f"rows in {name}")
            self.count(matrix.shape[1], width, f"columns in {name}")
            parts.append(matrix.read(rows))
        return torch.cat(parts, dim=1)

    def _text(self, rows: Array) -> Tensor:
        """Which of the 1,000 tags a picture has."""
        return torch.from_numpy(self._tags[rows].toarray().astype(np.float32))

    @cached_property
    def _pictures(self) -> list[str]:
        lines = (self.raw / NUS_PICTURES).read_text(encoding="latin-1").split("\n")
        names = [line.strip().replace("\\", "/") for line in lines if line.strip()]
        self.count(len(names), self.counts["pictures"], f"rows in {NUS_PICTURES}")
        return names

    def ids(self, rows: Array) -> list[str]:
        """Folder and file of each picture."""
        return [self._pictures[row] for row in rows]

    def picture_paths(self, rows: Array) -> list[str]:
        """The JPEG files, in a folder ``Flickr``."""
        return [f"Flickr/{name}" for name in self.ids(rows)]

    def words(self, rows: Array) -> list[str]:
        """The tags of each picture as one text, in the order of their list."""
        path = self.raw / NUS_TAG_NAMES
        names = path.read_text(encoding="utf-8", errors="replace").split()
        if len(names) != self._tags.shape[1]:
            raise CorruptFileError(
                f"{path}: {len(names)} tags, {NUS_TAGS} has {self._tags.shape[1]}; get it again"
            )
        chosen = self._tags[rows]
        chosen.sort_indices()
        each = np.split(chosen.indices, chosen.indptr[1:-1])
        return [" ".join(names[column] for column in columns) for columns in each]


class NusWide10kFiles(NusWideFiles):
    """1,000 pictures of each of ten concepts, drawn from the official files, always the same.

    The published rows are not to be had without unpickling.
    """

    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """Rows with exactly one of the ten concepts and a tag, in the order of the image list."""
        each, labels = self.counts["per_class"], self._labels
        free = (labels.sum(axis=1) == 1) & (np.diff(self._tags.indptr) > 0)
        drawn = []
        for column, concept in enumerate(self.concepts):
            candidates = np.flatnonzero(free & (labels[:, column] > 0)).tolist()
            if len(candidates) < each:
                self.count(len(candidates), each, f"rows of {concept} alone")
            drawn += random.Random(column).sample(candidates, each)
        rows = np.array(sorted(drawn))
        return Table(rows, len(labels), labels[rows])


class NUSWIDE(PublishedDataset):
    """NUS-WIDE: Flickr pictures with tags, multi-label, the 21 or 10 most frequent concepts.

    195,834 of the 269,648 pictures have one of the 21 concepts (TC-21), 186,577 one of the 10
    (TC-10); 190,421 and 181,365 of them have one of the 1,000 tags too. All is dense float32: with
    VGG features TC-21 takes 3.2 GB. Source: Chua et al., "NUS-WIDE: a real-world web image
    database from National University of Singapore", CIVR 2009.

    Arguments and errors that are not named here are those of
    :class:`~pyg_hash.datasets.published.PublishedDataset`.

    Args:
        concepts: 21 or 10.
        image: official ``'lowlevel'`` (634-d: colour histogram and correlogram, edges, wavelets,
            colour moments; the default) and ``'bow'`` (500-d SIFT words); features ``'vgg'``.
        text: ``'tags'`` (which of the 1,000 tags; default).
        protocol: TC-21 ``'gch'`` (default), ``'dcmh'``, ``'per_label'``; TC-10 ``'djsrh'``
            (default), ``'sgeh'``, ``'ucch'`` (layout ``'features'``).
        drop_textless: leave out the rows without any of the 1,000 tags. Most papers count them
            (GCH does not), but a text without words is like no other: cosine graphs refuse it.

    Raises:
        ValueError: ``'ucch'`` without its textless rows.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
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
            raise ValueError(
                "drop_textless: the protocol 'ucch' takes the last rows of the file, whether they "
                "have a text or not, got True; use drop_textless=False"
            )
        self.concepts, self.drop_textless = concepts, drop_textless
        self.manifest = f"nuswide-{concepts}"
        files = [f"nus-wide-tc{concepts}-{name}.mat" for name in ("xall-vgg", "yall", "lall")]
        self.layouts = {
            "official": partial(NusWideFiles, drop_textless=drop_textless),
            "features": partial(MatrixFiles, files=files, drop_textless=drop_textless),
        }
        choices = (layout, image, text, protocol, transform, pre_transform)
        super().__init__(root, *choices, seed=seed, force_reload=force_reload)

    def settings(self) -> dict[str, Any]:
        """Those of every published set, the concepts, and whether textless rows stay."""
        own = {"concepts": self.concepts, "drop_textless": self.drop_textless}
        return super().settings() | own


class NUSWIDE10K(PublishedDataset):
    """NUS-WIDE-10K: 1,000 pictures with tags of each of ten concepts, one class a row.

    Source: Feng, Wang and Li, "Cross-modal Retrieval with Correspondence Autoencoder", ACM
    Multimedia 2014. Which 1,000 pictures of a concept the papers drew is not published in a form
    that can be read safely: layout ``'official'`` draws them, always the same, from those with
    exactly one of the ten concepts and at least one of the 1,000 tags. Layout ``'features'`` has
    the papers' own rows with VGG fc7 (4,096-d) and doc2vec (300-d).

    ``image`` and ``text`` are as in :class:`NUSWIDE`, ``'doc2vec'`` in layout ``'features'``;
    ``protocol`` is ``'mcgcn'`` (default), ``'acmr'`` or ``'dscmr'``. Arguments and errors are
    those of :class:`~pyg_hash.datasets.published.PublishedDataset`.
    """

    manifest = "nuswide10k"
    single_label = True
    layouts = {
        "official": NusWide10kFiles,
        "features": partial(
            MatrixFiles,
            files=[CORR_AE] * 3,
            names=("imgs_deep", "texts", "imgs_labels"),
            text_name="doc2vec",
            parts=("train", "valid", "test"),
        ),
    }


# MIRFLICKR -----------------------------------------------------------------------------------

MIR_COMMON_TAGS = "mirflickr/doc/common_tags.txt"
MIR_TAGS = "mirflickr/meta/tags/tags{}.txt"
MIR_LABELS = "mirflickr25k_annotations_v080/{}.txt"
MIR_PICTURE = "mirflickr/im{}.jpg"


class MirFlickrFiles(Source):
    """25,000 pictures with tags; used are those with a common tag and a label.

    The classes are the 24 potential labels (not the 14 stricter ``_r1`` ones).
    """

    raw_items = True

    def __init__(self, raw: Path, manifest: Manifest) -> None:
        super().__init__(raw, manifest)
        self._numbers = range(1, self.counts["pictures"] + 1)
        self.files = [MIR_COMMON_TAGS, *map(MIR_LABELS.format, self.class_names)]
        self.files += map(MIR_TAGS.format, self._numbers)
        self.picture_places = {MIR_PICTURE.format("*"): len(self._numbers)}
        self.texts = {"tags": ([], self._text)}

    @property
    def class_names(self) -> list[str]:
        """The labels, alphabetically."""
        return list(self.manifest["classes"])

    def _text_of(self, name: str) -> str:
        return (self.raw / name).read_text(encoding="utf-8", errors="replace")

    @cached_property
    def _vocabulary(self) -> list[str]:
        lines = self._text_of(MIR_COMMON_TAGS).splitlines()
        tags = [line.split()[0] for line in lines if line.strip()]
        self.count(len(tags), self.counts["tags"], f"tags in {MIR_COMMON_TAGS}")
        return tags

    @cached_property
    def _tags(self) -> list[list[str]]:
        """The tags of each picture, as they stand in its file."""
        return [self._text_of(MIR_TAGS.format(number)).split() for number in self._numbers]

    @cached_property
    def _tag_columns(self) -> list[list[int]]:
        """The common tags of each picture, by column."""
        columns = {tag: column for column, tag in enumerate(self._vocabulary)}
        return [sorted({columns[tag] for tag in tags if tag in columns}) for tags in self._tags]

    @cached_property
    def _labels(self) -> Array:
        labels = np.zeros((len(self._numbers), len(self.class_names)), np.uint8)
        for column, name in enumerate(map(MIR_LABELS.format, self.class_names)):
            for number in self._text_of(name).split():
                if not number.isdigit() or int(number) not in self._numbers:
                    raise CorruptFileError(
                        f"{self.raw / name}: {number[:20]!r} is not the number of a picture; "
                        "get it again"
                    )
                labels[int(number) - 1, column] = 1
        return labels

    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """The pictures with a common tag and a label, in the order of their numbers."""
        tagged = np.array([len(columns) > 0 for columns in self._tag_columns])
        rows = np.flatnonzero(tagged & self._labels.any(axis=1))
        self.count(len(rows), self.manifest["kept"], "rows with a tag and a label")
        return Table(rows, len(self._numbers), self._labels[rows])

    def _text(self, rows: Array) -> Tensor:
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
        return [MIR_PICTURE.format(row + 1) for row in rows.tolist()]

    def words(self, rows: Array) -> list[str]:
        """All tags of each picture as one text."""
        return [" ".join(self._tags[row]) for row in rows.tolist()]


class MIRFlickr25K(PublishedDataset):
    """MIRFLICKR-25000: Flickr pictures with tags, 24 labels, multi-label.

    20,015 of the 25,000 pictures have one of the 1,386 tags that occur at least 20 times and one
    of the 24 labels; these are the rows. Source: Huiskes and Lew, "The MIR Flickr Retrieval
    Evaluation", MIR 2008.

    ``image`` is an encoder in layout ``'official'`` (``'efficientnet_lite0'`` by default),
    ``'vgg'`` in layout ``'features'``; ``text`` is ``'tags'`` (which of the 1,386 tags; default).
    ``protocol`` is ``'dcmh'`` (default), ``'djsrh'``, ``'gch'``, ``'sgeh'``; in layout
    ``'features'`` also ``'dcmh_code'`` and ``'ucch'``. Arguments and errors are those of
    :class:`~pyg_hash.datasets.published.PublishedDataset`.
    """

    manifest = "mirflickr25k"
    layouts = {
        "official": MirFlickrFiles,
        "features": partial(
            MatrixFiles,
            files=[f"mirflickr25k-{name}.mat" for name in ("iall-vgg", "yall", "lall")],
        ),
    }


# MS-COCO -------------------------------------------------------------------------------------

COCO_FOLDERS = ("train2014", "val2014")
COCO_INSTANCES = "annotations/instances_{}.json"
COCO_CAPTIONS = "annotations/captions_{}.json"
COCO_FEATURES = "MSCOCO_deep_doc2vec_data_rand.h5py"


class CocoFiles(Source):
    """The pictures of train2014 and val2014, their categories and captions."""

    raw_items = True

    def __init__(self, raw: Path, manifest: Manifest) -> None:
        super().__init__(raw, manifest)
        kinds = (COCO_INSTANCES, COCO_CAPTIONS)
        self.files = [kind.format(folder) for kind in kinds for folder in COCO_FOLDERS]
        self.picture_places = {f"{folder}/*.jpg": self.counts[folder] for folder in COCO_FOLDERS}

    @cached_property
    def _pictures(self) -> tuple[list[str], dict[int, int]]:
        """Folder and file name of each row, train2014 first, by number; number -> row."""
        names: list[str] = []
        rows: dict[int, int] = {}
        for folder in COCO_FOLDERS:
            found = json_list(self.raw / COCO_INSTANCES.format(folder), "images")
            entries = sorted((entry["id"], entry["file_name"]) for entry in found)
            self.count(len(entries), self.counts[folder], f"pictures of {folder}")
            for number, name in entries:
                rows[number] = len(names)
                names.append(f"{folder}/{name}")
        return names, rows

    @cached_property
    def _categories(self) -> dict[int, str]:
        found = json_list(self.raw / COCO_INSTANCES.format(COCO_FOLDERS[0]), "categories")
        names = {entry["id"]: entry["name"] for entry in found}
        self.count(len(names), self.counts["classes"], "categories")
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
        for folder in COCO_FOLDERS:
            path = self.raw / COCO_INSTANCES.format(folder)
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
        """The pictures with a category, train2014 first, both by number."""
        labels = self._labels
        used: Array = np.asarray(labels.any(axis=1))
        self.count(int(used.sum()), self.manifest["kept"], "pictures with a category")
        if unlabeled:
            used[:] = True
        if pictures is not None:
            folders = np.repeat(COCO_FOLDERS, [self.counts[folder] for folder in COCO_FOLDERS])
            used &= folders == pictures
        rows = np.flatnonzero(used)
        return Table(rows, len(labels), labels[rows])

    @cached_property
    def _captions(self) -> list[str]:
        """All captions of each row as one text."""
        names, rows = self._pictures
        found: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for folder in COCO_FOLDERS:
            path = self.raw / COCO_CAPTIONS.format(folder)
            for entry in json_list(path, "annotations"):
                number, caption = entry["image_id"], " ".join(entry["caption"].split())
                if number not in rows:
                    raise CorruptFileError(
                        f"{path}: a caption of the unknown picture {number}; get it again"
                    )
                found[rows[number]].append((entry["id"], caption))
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


class MSCOCO(PublishedDataset):
    """MS-COCO, release 2014: pictures with five captions each, 80 categories, multi-label.

    122,218 of the 123,287 pictures of train2014 and val2014 show a category; these are the rows.
    Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.

    ``image`` is an encoder in layout ``'official'`` (``'efficientnet_lite0'`` by default),
    ``'vgg'`` in layout ``'features'``; ``text`` is ``'bow2000'`` of the five captions by default,
    ``'doc2vec'`` in layout ``'features'``. ``protocol`` is ``'gch'`` (default), ``'sgeh'``,
    official ``'acmr'``, features ``'ucch'``. Arguments and errors are those of
    :class:`~pyg_hash.datasets.published.PublishedDataset`.
    """

    manifest = "mscoco"
    layouts = {
        "official": CocoFiles,
        "features": partial(
            MatrixFiles, files=[COCO_FEATURES] * 3, text_name="doc2vec", any_size=True
        ),
    }
