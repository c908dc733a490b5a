"""Reading pictures: one size, RGB on white, and errors that name the file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyg_hash.features.base import PathLike
from pyg_hash.utils.optional import require


class UnreadableImageError(ValueError):
    """A picture file is missing, damaged or in a format that Pillow does not know."""


def load_image(path: PathLike, size: int) -> Tensor:
    """Read one picture as a square of ``size`` pixels: uint8 ``[3, size, size]``, RGB, 0..255.

    Transparent parts are composited on white, the central square is cut out (a square
    picture stays whole) and resized with bicubic interpolation. Any format that Pillow reads.

    Raises:
        UnreadableImageError: the file is missing or damaged; the message names it.
        ImportError: Pillow is not installed.
    """
    image_module = require("PIL.Image", "pillow")
    if not Path(path).is_file():
        raise UnreadableImageError(f"{path}: no such picture file; check the path")
    try:
        with image_module.open(path) as file:
            # EXIF rotation is part of what a viewer shows
            picture = require("PIL.ImageOps", "pillow").exif_transpose(file).convert("RGBA")
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        raise UnreadableImageError(
            f"{path}: cannot be read as a picture ({error}); replace or drop this file"
        ) from error
    white = image_module.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    width, height = white.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = white.convert("RGB").crop((left, top, left + side, top + side))
    resized = square.resize((size, size), image_module.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized, dtype=np.uint8)).permute(2, 0, 1)


def square_jpeg(path: PathLike, size: int, quality: int) -> bytes:
    """What :func:`load_image` reads, as a JPEG file."""
    pixels = load_image(path, size).permute(1, 2, 0).numpy()
    picture = require("PIL.Image", "pillow").fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
