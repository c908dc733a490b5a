"""Pictures from outside, read with care."""

from __future__ import annotations

import io
from typing import Any

from pyg_hash.features import UnreadableImageError
from pyg_hash.utils.optional import require

MAX_PIXELS = 25_000_000
"""Pixels of a picture from outside: a few kilobytes can stand for gigabytes of them."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats from outside. Pillow knows dozens; each is code that a stranger's file would run."""


def decode(content: bytes) -> Any:
    """Read a picture of unknown origin.

    Args:
        content: of the file.

    Returns:
        a Pillow picture, RGB on white, turned as its EXIF says.

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
