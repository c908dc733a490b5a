"""Feature files made from raw pictures and texts, and the encoders that made them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from pyg_hash.datasets.feature_layout import open_feature_file
from pyg_hash.datasets.feature_write import write_feature_file
from pyg_hash.features import ImageEncoder, TextEncoder, encode_each, load_encoder
from pyg_hash.features.base import ENCODER_FILE
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality
from pyg_hash.utils.files import atomic_path

_SHOWN = 20  # problems in an error message


def encode_feature_file(
    path: str | os.PathLike[str],
    *,
    images: Sequence[str | os.PathLike[str]],
    texts: Sequence[str],
    image_encoder: ImageEncoder,
    text_encoder: TextEncoder,
    batch_size: int = 64,
    **more: Any,
) -> Path:
    """Encode raw pairs and write a file that :class:`~pyg_hash.datasets.FeatureFile` reads.

    The encoders are kept in the folder ``PATH.encoders``, so that ``pyg-hash train`` puts them into
    the run, and ``search`` and ``encode`` take raw pictures and texts.

    Args:
        path: the file; one that exists is replaced.
        images: ``N`` picture files.
        texts: ``N`` texts; row i of both is instance i.
        image_encoder: of the pictures.
        text_encoder: of the texts; one that learns from texts is fitted already.
        batch_size: items in a call of an encoder.
        **more: ``train``, ``query``, ``labels``, ``ids`` and all other keywords of
            :func:`~pyg_hash.datasets.write_feature_file` but the features.

    Returns:
        ``path``.

    Raises:
        ValueError: lists of different lengths, or items that cannot be encoded: the message lists
            them, for row numbers in masks and labels would shift if they were left out here.
    """
    if len(images) != len(texts):
        raise ValueError(
            f"texts: {len(texts)} texts and {len(images)} pictures; row i of both is instance i"
        )
    path = Path(path)
    encoders: dict[Modality, Any] = {IMAGE: image_encoder, TEXT: text_encoder}
    features: dict[str, Any] = {}
    problems = []
    for modality, items in ((IMAGE, images), (TEXT, texts)):
        found = encode_each(
            encoders[modality], items, batch_size=batch_size, progress=f"{modality} features"
        )
        features[str(modality)] = found.values
        problems += [f"{modality} {row}: {text}" for row, text in found.problems.items()]
    if problems:
        shown = problems[:_SHOWN] + (["..."] if len(problems) > _SHOWN else [])
        raise ValueError(
            f"{path} was not written; {len(problems)} items cannot be encoded, drop these rows:\n"
            + "\n".join(shown)
        )
    relative = [os.path.relpath(image, path.parent) for image in images]
    folder = encoder_folder(path)
    with atomic_path(path) as temporary:
        write_feature_file(temporary, **features, image_paths=relative, texts=texts, **more)
        shutil.rmtree(folder, ignore_errors=True)
        with h5py.File(temporary, "r+") as file:
            for modality in MODALITIES:
                saved = encoders[modality].save(folder / modality)
                file.attrs[f"{modality}_encoder"] = _digest(saved)
    return path


def encoder_folder(path: str | os.PathLike[str]) -> Path:
    """Where the encoders of a feature file are."""
    return Path(f"{path}.encoders")


def stored_encoder(path: Path, modality: Modality) -> Any:
    """The encoder that made the features of a file; None if another hand wrote them.

    Raises:
        CorruptFileError: its files are damaged.
        FileNotFoundError: its weights are gone.
    """
    folder = encoder_folder(path) / modality
    with open_feature_file(path) as file:
        made_by = file.attrs.get(f"{modality}_encoder")
    if made_by is None or not (folder / ENCODER_FILE).is_file():
        return None
    return load_encoder(folder) if _digest(folder / ENCODER_FILE) == made_by else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
