"""Pictures as tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyg_hash.features.base import PathLike
from pyg_hash.utils.optional import require
from pyg_hash.utils.pictures import UnreadableImageError as UnreadableImageError
from pyg_hash.utils.pictures import load_square, open_picture
from pyg_hash.utils.pictures import square_jpeg as square_jpeg

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"),
)
"""Endings of the files that are taken for pictures."""


def load_image(path: PathLike, size: int) -> Tensor:
    """Read one picture as a square of ``size`` pixels: uint8 ``[3, size, size]``, RGB, 0..255.

    Transparent parts are composited on white, the central square is cut out (a square
    picture stays whole) and resized with bicubic interpolation. Any of
    :data:`pyg_hash.utils.pictures.FORMATS`; of one channel of 16 bits, 65535 becomes 255, and of
    floating-point numbers 0..1 becomes 0..255.

    Raises:
        UnreadableImageError: the file is missing or damaged, or holds numbers of another range;
            the message names it.
        ImportError: Pillow is not installed.
    """
    pixels = np.array(load_square(path, size), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1)


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
