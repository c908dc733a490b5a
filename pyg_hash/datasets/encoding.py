"""Encoders as the published data sets use them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pyg_hash.features import BagOfWords, encode_each

WORD_FEATURES = ("bow2000", "lsa200")
_SHOWN = 20  # problems in an error message


def word_encoder(kind: str) -> BagOfWords:
    """``'bow2000'``: counts of the 2,000 most frequent words; ``'lsa200'``: TF-IDF, SVD to 200."""
    if kind == "bow2000":
        return BagOfWords("count", max_features=2000, stop_words="english", min_length=2)
    return BagOfWords("tfidf", stop_words="english", min_length=2, min_df=2, lsa=200)


def encode_all(encoder: Any, items: Sequence[str], argument: str) -> Tensor:
    """Every item encoded, or a ``ValueError`` that names those that cannot be."""
    found = encode_each(encoder, items, batch_size=64, progress=f"{argument} features")
    if found.values is None or found.problems:
        problems = [f"  {items[row]}: {text}" for row, text in found.problems.items()]
        more = ["  ..."] if len(problems) > _SHOWN else []
        raise ValueError(
            f"{argument}: {len(problems)} of {len(items)} items cannot be encoded:\n"
            + "\n".join(problems[:_SHOWN] + more)
        )
    return found.values


def encoder_digest(encoder: Any) -> str:
    """What tells an encoder from another one: its kind and the SHA-256 of its description."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(encoder.save(folder))
        return f"{encoder.kind}-{hashlib.sha256(saved.read_bytes()).hexdigest()}"
