"""Reading pictures: one size, RGB on white, and errors that name the file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_hash.features.base import PathLike
from pyg_hash.utils.optional import require

MAX_PIXELS, MAX_SIDE = 25_000_000, 32_768
"""Of a picture: a few kilobytes can stand for gigabytes of pixels."""
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000"),
    *("PPM", "TGA", "PCX", "ICO", "SGI"),
)
"""Formats that are read, whatever the file's name; not those that other programs decode (EPS)."""

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"),
)
"""Endings of the files that are taken for pictures."""


class UnreadableImageError(ValueError):
    """A picture file is missing, damaged, too large or of a format that is not read."""


@contextmanager
def open_picture(file: Any, formats: Sequence[str] = FORMATS) -> Iterator[Any]:
    """A picture file, by path or open, of which nothing but the head is decoded yet.

    ``PIL.Image.DecompressionBombError``: more than ``MAX_PIXELS``, or a side over ``MAX_SIDE``.
    """
    module = require("PIL.Image", "pillow")
    module.init()
    known = [name for name in formats if name in module.OPEN]  # some builds lack some
    with module.open(file, formats=known) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
            raise module.DecompressionBombError(
                f"it has {width} x {height} pixels, and at most {MAX_PIXELS:,} and {MAX_SIDE:,} on "
                "a side are read; make it smaller"
            )
        yield picture


def load_image(path: PathLike, size: int) -> Tensor:
    """Read one picture as a square of ``size`` pixels: uint8 ``[3, size, size]``, RGB, 0..255.

    Transparent parts are composited on white, the central square is cut out (a square
    picture stays whole) and resized with bicubic interpolation. Any of
    ``FORMATS``; of one channel of 16 bits, 65535 becomes 255, and of floating-point numbers 0..1
    becomes 0..255.

    Raises:
        UnreadableImageError: the file is missing or damaged, or holds numbers of another range;
            the message names it.
        ImportError: Pillow is not installed.
    """
    image_module = require("PIL.Image", "pillow")
    if not Path(path).is_file():
        raise UnreadableImageError(f"{path}: no such picture file; check the path")
    try:
        with open_picture(path) as file:
            whole = on_white(file)
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        raise UnreadableImageError(
            f"{path}: cannot be read as a picture ({error}); replace or drop this file"
        ) from error
    width, height = whole.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = whole.crop((left, top, left + side, top + side))
    resized = square.resize((size, size), image_module.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized, dtype=np.uint8)).permute(2, 0, 1)


def picture_problem(path: PathLike) -> str:
    """Why a picture cannot be read; empty if it can: small, in a fraction of the time."""
    bomb = require("PIL.Image", "pillow").DecompressionBombError
    try:
        with open_picture(path) as picture:
            picture.draft("RGB", (32, 32))
            picture.load()
    except FileNotFoundError:
        return "no such file"
    except (OSError, SyntaxError, ValueError, bomb) as error:
        return f"cannot be read as a picture ({error})"
    return ""


def on_white(file: Any) -> Any:
    """An open picture as RGB on white, turned as its EXIF says, which is what a viewer shows.

    ``ValueError``: one channel of numbers whose range is not 0..1, 0..255 or 0..65535.
    """
    new = require("PIL.Image", "pillow").new
    picture = require("PIL.ImageOps", "pillow").exif_transpose(file)
    if picture.mode[:1] in ("I", "F"):  # convert() would cut numbers above 255 off
        picture = _eight_bits(picture, file.format)
    layers = picture.convert("RGBA")
    white = new("RGBA", layers.size, "white")
    white.alpha_composite(layers)
    return white.convert("RGB")


def _eight_bits(picture: Any, kind: str | None) -> Any:
    values = np.asarray(picture).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if picture.mode == "F":
        factor = 255.0 if high <= 1 else 1.0
        most = 255.0 / factor
    else:
        sixteen = "16" in picture.mode or kind == "PNG" or high > 255
        most, factor = (65535.0, 1 / 257) if sixteen else (255.0, 1.0)
    if not (low >= 0 and high <= most):  # NaN among them
        raise ValueError(
            f"one channel of numbers from {low:g} to {high:g}, of which black and white are not "
            "known; save it with 8 or 16 bits"
        )
    pixels = np.rint(values * factor).astype(np.uint8)
    return require("PIL.Image", "pillow").fromarray(pixels)


def square_jpeg(path: PathLike, size: int, quality: int) -> bytes:
    """What :func:`load_image` reads, as a JPEG file."""
    pixels = load_image(path, size).permute(1, 2, 0).numpy()
    picture = require("PIL.Image", "pillow").fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
