"""NUS-WIDE (Chua et al., CIVR 2009) and its subset of ten single-label classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pyg_hash.datasets.base import Transform
from pyg_hash.datasets.nuswide_source import NusWide10kFiles, NusWideFiles
from pyg_hash.datasets.protocols import load_manifest
from pyg_hash.datasets.published import LAYOUTS, Layout, PublishedDataset
from pyg_hash.datasets.raw_matrix import RawMatrix
from pyg_hash.datasets.sources import Array, MatrixFiles, Source, Table
from pyg_hash.features import ImageEncoder, TextEncoder
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import CorruptFileError

CORR_AE = "nus_wide_deep_doc2vec-corr-ae.h5py"
PARTS = ("train", "valid", "test")


class NUSWIDE(PublishedDataset):
    """NUS-WIDE: Flickr pictures with tags, multi-label, the 21 or 10 most frequent concepts.

    195,834 of the 269,648 pictures have one of the 21 concepts (TC-21), 186,577 one of the 10
    (TC-10); 190,421 and 181,365 of them have one of the 1,000 tags too. Source: Chua et al.,
    "NUS-WIDE: a real-world web image database from National University of Singapore", CIVR 2009.

    Layout ``'official'``, files under ``<root>/raw``: ``Groundtruth/AllLabels/Labels_*.txt`` (81
    concepts), ``ImageList/Imagelist.txt``, ``NUS_WID_Tags/AllTags1k.txt``; for the features
    ``Low_Level_Features/*.dat``; for words ``NUS_WID_Tags/TagList1k.txt``; for pictures
    ``Flickr/<folder>/<name>.jpg``. Layout ``'features'``: ``nus-wide-tc21-lall.mat``,
    ``-yall.mat`` and ``-xall-vgg.mat`` (or ``tc10``): labels, tags and VGG fc7 of the rows.

    The rows are multi-hot float32; everything is dense: TC-21 takes 0.8 GB of tags and, with VGG
    features, 3.2 GB.

    Args:
        root: folder of ``raw/`` and of what is computed.
        concepts: 21 or 10.
        layout: ``'official'`` or ``'features'``.
        image: official ``'lowlevel'`` (634-d: colour histogram and correlogram, edges, wavelets,
            colour moments; the default), ``'bow'`` (500-d SIFT words), ``'efficientnet_lite0'``
            or an image encoder for the pictures; ``'vgg'`` in the other layout; or ``FILE[:NAME]``
            with a row for each row of the layout.
        text: ``'tags'`` (which of the 1,000 tags); official also ``'bow2000'`` and ``'lsa200'`` of
            the tags as words, or a text encoder; or ``FILE[:NAME]``.
        protocol: TC-21 ``'gch'`` (2,100 queries, 10,500 train; default), ``'dcmh'`` (the same),
            ``'per_label'`` (balanced); TC-10 ``'djsrh'`` (2,000, 5,000, balanced; default),
            ``'sgeh'``, ``'ucch'`` (layout ``'features'``); ``manifests/nuswide.json`` says what
            each is.
        transform: applied at every access.
        pre_transform: applied once and stored.
        drop_textless: leave out the rows without any of the 1,000 tags. Most papers count them
            (GCH does not), but a text without words is like no other: cosine graphs refuse it.
        seed: of the drawing of the split.
        force_reload: build the stored data again.

    Raises:
        ValueError: ``'ucch'`` without its textless rows.
        FileNotFoundError: files are missing; the message lists them.
        CorruptFileError: a file is damaged, or the counts are not the published ones.
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
        check_choice(layout, LAYOUTS, "layout")
        if layout == "features" and protocol == "ucch" and drop_textless:
            raise ValueError(
                "drop_textless: the protocol 'ucch' takes the last rows of the file, whether they "
                "have a text or not, got True; use drop_textless=False"
            )
        self.concepts, self.drop_textless = concepts, drop_textless
        raw, manifest = Path(root).expanduser() / "raw", load_manifest(f"nuswide-{concepts}")
        source: Source
        if layout == "official":
            source = NusWideFiles(raw, manifest, drop_textless=drop_textless)
        else:
            stem = f"nus-wide-tc{concepts}"
            source = MatrixFiles(
                raw,
                manifest,
                image=(f"{stem}-xall-vgg.mat", "XAll"),
                text=(f"{stem}-yall.mat", "YAll"),
                labels=(f"{stem}-lall.mat", "LAll"),
                num_rows=manifest["kept"],
                num_classes=manifest["num_classes"],
                drop_textless=drop_textless,
            )
        super().__init__(
            root,
            source,
            layout=layout,
            image=image,
            text=text,
            protocol=protocol,
            transform=transform,
            pre_transform=pre_transform,
            seed=seed,
            force_reload=force_reload,
        )

    def settings(self) -> dict[str, Any]:
        """Those of every published set, the concepts, and whether textless rows stay."""
        own = {"concepts": self.concepts, "drop_textless": self.drop_textless}
        return super().settings() | own


class NUSWIDE10K(PublishedDataset):
    """NUS-WIDE-10K: 1,000 pictures with tags of each of ten concepts, one class a row.

    The classes are animal, clouds, flowers, food, grass, person, sky, toy, water and window.
    Source: Feng, Wang and Li, "Cross-modal Retrieval with Correspondence Autoencoder", ACM
    Multimedia 2014.

    Layout ``'official'``: the files of :class:`NUSWIDE`, of the labels only the ten. Which 1,000
    pictures of a concept the papers drew is not published in a form that can be read safely: here
    they are drawn, always the same, from those with exactly one of the ten concepts and at least
    one of the 1,000 tags. Layout ``'features'``: ``nus_wide_deep_doc2vec-corr-ae.h5py``, the
    papers' own rows with VGG fc7 (4,096-d) and doc2vec (300-d).

    Args:
        root: folder of ``raw/`` and of what is computed.
        layout: ``'official'`` or ``'features'``.
        image: as in :class:`NUSWIDE`.
        text: as in :class:`NUSWIDE`; ``'doc2vec'`` in layout ``'features'``.
        protocol: ``'mcgcn'`` (2,000 queries, the others train and are searched; default),
            ``'acmr'`` (the same counts) or ``'dscmr'`` (1,000 queries, 8,000 train, the file's own
            parts where it has any); ``manifests/nuswide10k.json`` says what each is.
        transform: applied at every access.
        pre_transform: applied once and stored.
        seed: of the drawing of the split.
        force_reload: build the stored data again.

    Raises:
        FileNotFoundError: files are missing; the message lists them.
        CorruptFileError: a file is damaged, or the counts are not the published ones.
    """

    single_label: ClassVar[bool] = True

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
        check_choice(layout, LAYOUTS, "layout")
        raw, manifest = Path(root).expanduser() / "raw", load_manifest("nuswide10k")
        make = NusWide10kFiles if layout == "official" else CorrAeFile
        super().__init__(
            root,
            make(raw, manifest),
            layout=layout,
            image=image,
            text=text,
            protocol=protocol,
            transform=transform,
            pre_transform=pre_transform,
            seed=seed,
            force_reload=force_reload,
        )


class CorrAeFile(Source):
    """The parts of NUS-WIDE-10K with VGG fc7 and doc2vec features, as DSCMR's authors hand on.

    Matrices ``{train,valid,test}_imgs_deep``, ``_texts`` and ``_imgs_labels`` (one column or
    none); labels count from 0 or from 1.
    """

    def __init__(self, raw: Path, manifest: dict[str, Any]) -> None:
        super().__init__(raw, manifest)
        self.files = [CORR_AE]
        self.images, self.texts = {"vgg": []}, {"doc2vec": []}

    @property
    def class_names(self) -> list[str]:
        """Numbers: the file does not name its classes."""
        return [f"class {column}" for column in range(self.manifest["counts"]["classes"])]

    def _read(self, name: str, rows: Array | None = None) -> Tensor:
        """A matrix of all three parts, one below the other."""
        parts, start = [], 0
        for part in PARTS:
            matrix = RawMatrix(self.raw / CORR_AE, f"{part}_{name}")
            size = self.manifest["counts"][part]
            self.count(matrix.shape[0], size, f"rows in {part}_{name}")
            wanted = np.arange(start, start + size) if rows is None else rows
            wanted = wanted[(wanted >= start) & (wanted < start + size)]
            parts.append(matrix.read(wanted - start))
            start += size
        return torch.cat(parts)

    def table(self, *, unlabeled: bool = False, pictures: str | None = None) -> Table:
        """All rows: train, valid, test."""
        labels = self._read("imgs_labels").numpy()
        classes = self.manifest["counts"]["classes"]
        numbers = labels[:, 0] - labels[:, 0].min()
        if labels.shape[1] != 1 or not np.isin(numbers, np.arange(classes)).all():
            raise CorruptFileError(
                f"{self.raw / CORR_AE}: labels are not {classes} numbers in one column; "
                "get it again"
            )
        y = np.zeros((len(numbers), classes), np.uint8)
        y[np.arange(len(y)), numbers.astype(int)] = 1
        parts = np.repeat(PARTS, [self.manifest["counts"][part] for part in PARTS])
        return Table(np.arange(len(y)), len(y), y, parts)

    def image(self, kind: str, rows: Array) -> Tensor:
        """VGG fc7."""
        return self._read("imgs_deep", rows)

    def text(self, kind: str, rows: Array) -> Tensor:
        """doc2vec."""
        return self._read("texts", rows)
