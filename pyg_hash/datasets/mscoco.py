"""MS-COCO 2014 (Lin et al., ECCV 2014)."""

from __future__ import annotations

import os
from pathlib import Path

from pyg_hash.datasets.base import Transform
from pyg_hash.datasets.coco_source import CocoFiles
from pyg_hash.datasets.protocols import load_manifest
from pyg_hash.datasets.published import LAYOUTS, Layout, PublishedDataset
from pyg_hash.datasets.sources import MatrixFiles, Source
from pyg_hash.features import ImageEncoder, TextEncoder
from pyg_hash.utils.checks import check_choice

FEATURES = "MSCOCO_deep_doc2vec_data_rand.h5py"


class MSCOCO(PublishedDataset):
    """MS-COCO, release 2014: pictures with five captions each, 80 categories, multi-label.

    122,218 of the 123,287 pictures of train2014 and val2014 show a category; these are the rows.
    Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.

    Layout ``'official'``, files under ``<root>/raw``: ``annotations/instances_*.json`` and
    ``annotations/captions_*.json`` of train2014 and val2014, for pictures
    ``train2014/*.jpg`` and ``val2014/*.jpg``; or the archives ``annotations_trainval2014.zip``,
    ``train2014.zip`` and ``val2014.zip``, of which what is needed is checked and unpacked.
    Layout ``'features'``: ``MSCOCO_deep_doc2vec_data_rand.h5py``.

    Args:
        root: folder of ``raw/`` and of what is computed.
        layout: ``'official'`` or ``'features'``.
        image: official ``'efficientnet_lite0'`` (default) or an image encoder for the pictures;
            ``'vgg'`` in the other layout; or ``FILE[:NAME]`` with a row for each row of the
            layout.
        text: official ``'bow2000'`` (counts of the 2,000 most frequent words of the training
            captions; default), ``'lsa200'`` or a text encoder; ``'doc2vec'`` in the other layout;
            or ``FILE[:NAME]``. A row's text is its five captions.
        protocol: ``'gch'`` (5,000 queries, 10,000 train, the other 117,218 are searched;
            default), ``'sgeh'`` (20,000 rows), official ``'acmr'`` (train2014: 16,557 queries,
            66,226 train), features ``'ucch'``; ``manifests/mscoco.json`` says what each is.
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
        raw, manifest = Path(root).expanduser() / "raw", load_manifest("mscoco")
        source: Source
        if layout == "official":
            source = CocoFiles(raw, manifest)
        else:
            source = MatrixFiles(
                raw,
                manifest,
                image=(FEATURES, "XAll"),
                text=(FEATURES, "YAll"),
                labels=(FEATURES, "LAll"),
                num_rows=[],
                num_classes=manifest["counts"]["classes"],
                text_name="doc2vec",
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
