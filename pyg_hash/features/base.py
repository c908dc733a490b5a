"""What an encoder of raw pictures or raw texts has to offer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

ENCODER_FILE = "encoder.json"


@runtime_checkable
class ImageEncoder(Protocol):
    """Turns picture files into feature rows."""

    @property
    def num_features(self) -> int:
        """Width ``d`` of a feature row."""
        ...

    def __call__(self, paths: Sequence[str | os.PathLike[str]]) -> Tensor:
        """Features float32 ``[n, d]`` of ``n`` picture files, on the CPU."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the encoder to ``folder``; :func:`pyg_hash.features.load_encoder` reads it."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into feature rows."""

    @property
    def num_features(self) -> int:
        """Width ``d`` of a feature row."""
        ...

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Features float32 ``[n, d]`` of ``n`` texts, on the CPU."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the encoder to ``folder``; :func:`pyg_hash.features.load_encoder` reads it."""
        ...
