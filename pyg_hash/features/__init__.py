"""Raw pictures and texts -> feature vectors. Each encoder's packages are loaded when it is made."""

from __future__ import annotations

from pyg_hash.features.base import (
    Concatenated,
    ImageEncoder,
    OwnEncoder,
    TextEncoder,
    encode_each,
    load_encoder,
)
from pyg_hash.features.base import Encoded as Encoded
from pyg_hash.features.base import load_image as load_image
from pyg_hash.features.pretrained import (
    EfficientNetLite0,
    OpenClipImageEncoder,
    OpenClipTextEncoder,
    SentenceEncoder,
    TimmEncoder,
    TransformersImageEncoder,
    TransformersTextEncoder,
    named_encoder,
)
from pyg_hash.features.words import (
    BagOfWords,
    StaticWords,
    Translated,
    learn_words,
    words_and_meaning,
)
from pyg_hash.utils.pictures import UnreadableImageError as UnreadableImageError

__all__ = [
    "BagOfWords",
    "Concatenated",
    "EfficientNetLite0",
    "ImageEncoder",
    "OpenClipImageEncoder",
    "OpenClipTextEncoder",
    "OwnEncoder",
    "SentenceEncoder",
    "StaticWords",
    "TextEncoder",
    "TimmEncoder",
    "TransformersImageEncoder",
    "TransformersTextEncoder",
    "Translated",
    "encode_each",
    "learn_words",
    "load_encoder",
    "named_encoder",
    "words_and_meaning",
]
