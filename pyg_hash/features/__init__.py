"""Raw pictures and texts -> feature vectors. Each encoder's packages are loaded when it is made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pyg_hash.features.base import (
    ENCODER_FILE,
    ImageEncoder,
    OwnEncoder,
    TextEncoder,
    encode_each,
)
from pyg_hash.features.base import Encoded as Encoded
from pyg_hash.features.efficientnet import EfficientNetLite0
from pyg_hash.features.images import UnreadableImageError as UnreadableImageError
from pyg_hash.features.images import load_image as load_image
from pyg_hash.features.pretrained import (
    OpenClipImageEncoder,
    OpenClipTextEncoder,
    SentenceEncoder,
    TimmEncoder,
    TransformersImageEncoder,
    TransformersTextEncoder,
)
from pyg_hash.features.words import BagOfWords
from pyg_hash.utils.files import CorruptFileError, load_json

__all__ = [
    "BagOfWords",
    "EfficientNetLite0",
    "ImageEncoder",
    "OpenClipImageEncoder",
    "OpenClipTextEncoder",
    "OwnEncoder",
    "SentenceEncoder",
    "TextEncoder",
    "TimmEncoder",
    "TransformersImageEncoder",
    "TransformersTextEncoder",
    "encode_each",
    "load_encoder",
]

_PUBLIC = [globals().get(name) for name in __all__]
_KINDS: dict[str, Any] = {kind: x for x in _PUBLIC if (kind := getattr(x, "kind", None))}


def load_encoder(folder: str | os.PathLike[str]) -> Any:
    """Read the :class:`ImageEncoder` or :class:`TextEncoder` that ``save(folder)`` wrote.

    Raises:
        FileNotFoundError: the folder holds no encoder, or its weights are gone.
        ImportError: its package is not installed.
        CorruptFileError: a file is damaged or the kind is not known to this version.
    """
    path = Path(folder) / ENCODER_FILE
    config = load_json(path)
    kind = config.get("kind") if isinstance(config, dict) else None
    if kind not in _KINDS:
        raise CorruptFileError(
            f"{path}: encoder kind {kind!r} is not known; known kinds: {', '.join(_KINDS)}"
        )
    return _KINDS[kind].load(folder)
