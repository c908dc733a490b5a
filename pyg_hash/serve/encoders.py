"""The encoders of a run, tried before anybody asks, and pictures from outside, read with care."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pyg_hash.features import UnreadableImageError
from pyg_hash.models import HashModel
from pyg_hash.runs import IncompleteRunError, Run
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality
from pyg_hash.utils.optional import require

MAX_PIXELS = 25_000_000
"""Pixels of a picture from outside: a few kilobytes can stand for gigabytes of them."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats from outside. Pillow knows dozens; each is code that a stranger's file would run."""

_NAMES: Mapping[Modality, str] = {IMAGE: "pictures", TEXT: "words"}


def find_encoders(
    run: Run, model: HashModel, own: Mapping[Modality, Any], text: str
) -> tuple[dict[Modality, Any], list[str]]:
    """Encoders that work, and a note on each that is missing or does not.

    Each encodes one item, so that nobody waits for what the first call loads.

    Args:
        run: whose encoders.
        model: takes what they give.
        own: encoders of the user's in place of the run's.
        text: to try the encoder of texts with.
    """
    encoders, notes = {}, []
    for modality in MODALITIES:
        try:
            encoder = own[modality] if modality in own else run.encoder(modality)
            if hasattr(encoder, "progress"):
                encoder.progress = False
            _try(encoder, model, modality, text)
        except IncompleteRunError:
            notes.append(
                f"This run has no {modality} encoder, for its data came as features: "
                f"it cannot be searched with {_NAMES[modality]} of your own."
            )
        except Exception as error:  # a package or weights are missing, another width, a fault in it
            notes.append(f"No search with {_NAMES[modality]} of your own: {error}")
        else:
            encoders[modality] = encoder
    return encoders, notes


def decode(content: bytes) -> Any:
    """The content of a picture file of unknown origin, as a Pillow picture.

    It is RGB on white, turned as its EXIF says.

    Raises:
        UnreadableImageError: no picture of a known format, a damaged one, or too many pixels,
            which is found out before they are decoded.
        ImportError: Pillow is not installed.
    """
    module = require("PIL.Image", "pillow", extra="serve")
    turn = require("PIL.ImageOps", "pillow", extra="serve").exif_transpose
    try:
        with module.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise module.DecompressionBombError(f"{width} x {height}")
            layers = turn(picture).convert("RGBA")
    except module.DecompressionBombError as error:
        raise UnreadableImageError(
            f"image: too many pixels; make it smaller, at most {MAX_PIXELS:,} are read"
        ) from error
    except Exception as error:  # a decoder in front of arbitrary bytes raises nearly anything
        raise UnreadableImageError(
            f"image: cannot be read as a picture; send one of {', '.join(FORMATS)}"
        ) from error
    white = module.new("RGBA", layers.size, "white")
    white.alpha_composite(layers)
    return white.convert("RGB")


def encode_picture(encoder: Any, picture: Any) -> Tensor:
    """Features ``[1, d]`` of a Pillow picture, for encoders take files.

    Raises:
        ValueError: the encoder cannot make anything of it.
    """
    with tempfile.TemporaryDirectory(prefix="pyg_hash-") as folder:
        path = Path(folder) / "query.ppm"  # pixels as they are
        picture.save(path)
        try:
            features: Tensor = encoder([path])
        except (ValueError, OSError) as error:
            raise ValueError(str(error).replace(str(path), "image")) from error
    return features


def _try(encoder: Any, model: HashModel, modality: Modality, text: str) -> None:
    try:
        if modality == IMAGE:
            picture = require("PIL.Image", "pillow", extra="serve").new("RGB", (64, 64), "gray")
            features = encode_picture(encoder, picture)
        else:
            features = encoder([text])
    except ValueError:
        return  # it works, and does not like what it was given
    _ = model.encode_image(features) if modality == IMAGE else model.encode_text(features)
