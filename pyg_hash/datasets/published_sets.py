"""The published data sets' official files; ``docs/datasets.rst`` has tables of all layouts."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from pyg_hash.datasets.base import Transform
from pyg_hash.datasets.published import Content, Layout, PublishedDataset
from pyg_hash.datasets.raw import Array, read_digits, read_json, whole
from pyg_hash.features import ImageEncoder, TextEncoder
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import CorruptFileError

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


class _NusWide(PublishedDataset):
    """269,648 pictures with 1,000 tags; classes are the most frequent of 81 concepts."""

    ready = {"image": {"lowlevel": LOW_LEVEL, "bow": BOW}, "text": {"tags": {}}}
    picture = "Flickr/{}"
    picture_places = {"Flickr/*/*.jpg": "pictures"}
    word_files = [NUS_TAG_NAMES]

    def _official_files(self) -> list[str]:
        """Labels, names and tags."""
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

    ``image`` and ``text`` are as in :class:`NUSWIDE`, ``'doc2vec'`` in layout ``'features'``;
    ``protocol`` is ``'mcgcn'`` (default), ``'acmr'`` or ``'dscmr'``. Arguments and errors are
    those of :class:`~pyg_hash.datasets.published.PublishedDataset`.
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

    ``image`` is an encoder in layout ``'official'`` (``'efficientnet_lite0'`` by default),
    ``'vgg'`` in layout ``'features'``; ``text`` is ``'tags'`` (which of the 1,386 tags; default).
    ``protocol`` is ``'dcmh'`` (default), ``'djsrh'``, ``'gch'``, ``'sgeh'``; in layout
    ``'features'`` also ``'dcmh_code'`` and ``'ucch'``. Arguments and errors are those of
    :class:`~pyg_hash.datasets.published.PublishedDataset`.
    """

    manifest = "mirflickr25k"
    ready = {"image": {}, "text": {"tags": {}}}
    picture = "mirflickr/{}.jpg"
    picture_places = {"mirflickr/im*.jpg": "pictures"}

    def _official_files(self) -> list[str]:
        """The list of common tags, labels, and the tags of each picture."""
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
                    raise CorruptFileError(
                        f"{self._raw / name}: {number[:20]!r} is not the number of a picture; "
                        "get it again"
                    )
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

    ``image`` is an encoder in layout ``'official'`` (``'efficientnet_lite0'`` by default),
    ``'vgg'`` in layout ``'features'``; ``text`` is ``'bow2000'`` of the five captions by default,
    ``'doc2vec'`` in layout ``'features'``. ``protocol`` is ``'gch'`` (default), ``'sgeh'``,
    official ``'acmr'``, features ``'ucch'``. Arguments and errors are those of
    :class:`~pyg_hash.datasets.published.PublishedDataset`.
    """

    manifest = "mscoco"
    ready = {"image": {}, "text": {}}
    picture = "{}"
    picture_places = {f"{folder}/*.jpg": folder for folder in COCO_FOLDERS}

    def _official_files(self) -> list[str]:
        """Instances and captions of both folders."""
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
            raise CorruptFileError(
                f"{self._raw}: annotations of an unknown picture or category ({min(unknown)}); "
                "get their files again"
            )
        self._count(len(captions), len(names), "pictures with captions")
        labels = np.zeros((len(names), len(columns)), np.uint8)
        for picture, category in marks:
            labels[places[picture], columns[category]] = 1
        words = [" ".join(text for _, text in sorted(captions[number])) for number in names]
        rows = self._kept(labels.any(axis=1))
        return Content([*names.values()], [*categories.values()], labels, rows, words=words)
