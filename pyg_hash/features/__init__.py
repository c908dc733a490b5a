"""Raw pictures and texts -> feature vectors. Needs the ``demo`` extra when used."""

from __future__ import annotations

import os
from pathlib import Path

from pyg_hash.features.bag_of_words import BagOfWords
from pyg_hash.features.base import ENCODER_FILE, ImageEncoder, TextEncoder
from pyg_hash.features.each import Encoded, encode_each
from pyg_hash.features.efficientnet import EfficientNetLite0
from pyg_hash.features.images import ImageCheck, UnreadableImageError, check_images, load_image
from pyg_hash.io import CorruptFileError, load_json

__all__ = [
    "BagOfWords",
    "EfficientNetLite0",
    "Encoded",
    "ImageCheck",
    "ImageEncoder",
    "TextEncoder",
    "UnreadableImageError",
    "check_images",
    "encode_each",
    "load_encoder",
    "load_image",
]


def load_encoder(folder: str | os.PathLike[str]) -> EfficientNetLite0 | BagOfWords:
    """Read the encoder that an encoder's ``save(folder)`` wrote.

    Raises:
        FileNotFoundError: the folder holds no encoder.
        CorruptFileError: a file is damaged or the kind is not known to this version.
    """
    path = Path(folder) / ENCODER_FILE
    config = load_json(path)
    kind = config.get("kind") if isinstance(config, dict) else None
    if kind == EfficientNetLite0.kind:
        return EfficientNetLite0.load(folder)
    if kind == BagOfWords.kind:
        return BagOfWords.load(folder)
    known = f"{EfficientNetLite0.kind}, {BagOfWords.kind}"
    raise CorruptFileError(f"{path}: encoder kind {kind!r} is not known; known kinds: {known}")
