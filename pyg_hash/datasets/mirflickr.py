"""MIRFLICKR-25000 (Huiskes and Lew, MIR 2008)."""

from __future__ import annotations

import os
from pathlib import Path

from pyg_hash.datasets.base import Transform
from pyg_hash.datasets.mirflickr_source import MirFlickrFiles
from pyg_hash.datasets.protocols import load_manifest
from pyg_hash.datasets.published import LAYOUTS, Layout, PublishedDataset
from pyg_hash.datasets.sources import MatrixFiles, Source
from pyg_hash.features import ImageEncoder, TextEncoder
from pyg_hash.utils.checks import check_choice


class MIRFlickr25K(PublishedDataset):
    """MIRFLICKR-25000: Flickr pictures with tags, 24 labels, multi-label.

    20,015 of the 25,000 pictures have one of the 1,386 tags that occur at least 20 times and one
    of the 24 labels; these are the rows. Source: Huiskes and Lew, "The MIR Flickr Retrieval
    Evaluation", MIR 2008.

    Layout ``'official'``, files under ``<root>/raw``: ``mirflickr/doc/common_tags.txt``,
    ``mirflickr/meta/tags/tags1.txt`` to ``tags25000.txt``, ``mirflickr25k_annotations_v080/*.txt``
    (24 labels), for pictures ``mirflickr/im1.jpg`` to ``im25000.jpg``. Layout ``'features'``:
    ``mirflickr25k-lall.mat``, ``mirflickr25k-yall.mat`` and ``mirflickr25k-iall-vgg.mat``.

    Args:
        root: folder of ``raw/`` and of what is computed.
        layout: ``'official'`` or ``'features'``.
        image: official ``'efficientnet_lite0'`` (default) or an image encoder for the pictures;
            ``'vgg'`` in the other layout; or ``FILE[:NAME]`` with a row for each row of the
            layout.
        text: ``'tags'`` (which of the 1,386 tags; default); official also ``'bow2000'`` and
            ``'lsa200'`` of all tags as words, or a text encoder; or ``FILE[:NAME]``.
        protocol: ``'dcmh'`` (2,000 queries, 10,000 train, the other 18,015 are searched; default),
            ``'djsrh'`` (2,000, 5,000, balanced over the labels), ``'gch'``, ``'sgeh'``; in layout
            ``'features'`` also ``'dcmh_code'`` and ``'ucch'``, which take rows in their order;
            ``manifests/mirflickr25k.json`` says what each is.
        transform: applied at every access.
        pre_transform: applied once and stored.
        seed: of the drawing of the split.
        force_reload: build the stored data again.

    Raises:
        FileNotFoundError: files are missing; the message lists them.
        CorruptFileError: a file is damaged, or the counts are not the published ones.
    """

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
        raw, manifest = Path(root).expanduser() / "raw", load_manifest("mirflickr25k")
        source: Source
        if layout == "official":
            source = MirFlickrFiles(raw, manifest)
        else:
            source = MatrixFiles(
                raw,
                manifest,
                image=("mirflickr25k-iall-vgg.mat", "XAll"),
                text=("mirflickr25k-yall.mat", "YAll"),
                labels=("mirflickr25k-lall.mat", "LAll"),
                num_rows=manifest["kept"],
                num_classes=manifest["counts"]["classes"],
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
