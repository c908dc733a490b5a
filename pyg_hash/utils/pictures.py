"""Reading picture files: RGB on white, within limits; without torch, for a process of its own."""

from __future__ import annotations

import errno
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyg_hash.utils.optional import require

MAX_PIXELS, MAX_SIDE = 25_000_000, 32_768  # a few kilobytes can stand for gigabytes of pixels
REDUCED = 7  # so many times the pixels a JPEG may have, for its decoder makes it smaller by itself
MAX_SCANS = 64  # of a JPEG: each costs a pass over all pixels; usual are 10
# errors of a disk and of a process, that are no fault of a picture's
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
OURS = (errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)
FORMATS = (  # whatever the file's name; not those that other programs decode (EPS)
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000"),
    *("PPM", "TGA", "PCX", "ICO", "SGI"),
)
PICTURE_SUFFIXES = (  # of the files that are taken for pictures
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"),
)


def not_taken(names: Sequence[str]) -> str:
    """What of a folder is left out, for people."""
    more = f" and {len(names) - 10} more" * (len(names) > 10)
    listed = ", ".join(names[:10]).encode("utf-8", "backslashreplace").decode()
    return f"no picture files: {listed}{more}"


class UnreadableImageError(ValueError):
    """A picture file is missing, damaged, too large or of a format that is not read."""


@contextmanager
def open_picture(
    file: Any,
    formats: Sequence[str] = FORMATS,
    *,
    pixels: int = MAX_PIXELS,
    side: int = MAX_SIDE,
    scans: int = MAX_SCANS,
) -> Iterator[Any]:
    """A picture file, by path or open, of which nothing but the head is decoded yet.

    A JPEG of more pixels, up to seven times, comes in a half or quarter of its size, and may have
    fewer scans, in proportion. ``DecompressionBombError``: too many pixels or scans, a long side.
    """
    module = require("PIL.Image", "pillow")
    module.init()
    known = [name for name in formats if name in module.OPEN]  # some builds lack some
    odd = module.DecompressionBombWarning  # of what is refused below
    if not any(category is odd for _, _, category, *_ in warnings.filters):
        warnings.simplefilter("ignore", odd)
    with _opened(module, file, known, f"{pixels * REDUCED:,} of a JPEG, {pixels:,}") as picture:
        width, height = picture.size
        is_jpeg = picture.format in ("JPEG", "MPO")
        most = pixels * REDUCED if is_jpeg else pixels
        if width * height > most or max(width, height) > side:
            raise module.DecompressionBombError(
                f"it has {width} x {height} pixels, and at most {most:,} and {side:,} on "
                "a side are read; make it smaller"
            )
        if width * height > pixels:
            factor = 2 if width * height <= 4 * pixels else 4
            picture.draft("RGB", (max(1, width // factor), max(1, height // factor)))
        if is_jpeg:
            place = picture.fp.tell()
            picture.fp.seek(0)
            found = picture.fp.read().count(b"\xff\xda")  # pixels never look like this marker
            picture.fp.seek(place)
            most = min(scans, scans * pixels // (width * height))  # each is a pass over all pixels
            if found > most:
                raise module.DecompressionBombError(
                    f"it has {found} scans, and at most {most} are read; save it again"
                )
        yield picture


def _opened(module: Any, file: Any, formats: list[str], most: str) -> Any:
    """What Pillow opens; what it counts itself is said in our words."""
    try:
        return module.open(file, formats=formats)
    except module.DecompressionBombError as error:
        count = int(re.findall(r"\d+", f"{error} 0")[0])
        raise module.DecompressionBombError(
            f"it has {count:,} pixels, and at most {most} of others are read; make it smaller"
        ) from error


def on_white(file: Any) -> Any:
    """An open picture as RGB on white, turned by its EXIF; ``ValueError``: its range is unknown."""
    new = require("PIL.Image", "pillow").new
    require("PIL.ImageOps", "pillow").exif_transpose(file, in_place=True)
    picture = file  # no copy: a large picture would be in memory several times
    if picture.mode[:1] in ("I", "F"):  # convert() would cut numbers above 255 off
        picture = _eight_bits(picture, file.format)
    if picture.mode == "RGB" and "transparency" not in picture.info:
        picture.load()
        return picture
    if picture.mode in ("L", "1", "CMYK", "YCbCr") and "transparency" not in picture.info:
        return picture.convert("RGB")  # the same, for a third of the memory
    layers = picture.convert("RGBA")
    white = new("RGBA", layers.size, "white")
    white.alpha_composite(layers)
    return white.convert("RGB")


def _eight_bits(picture: Any, kind: str | None) -> Any:
    import numpy as np

    values = np.asarray(picture).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if picture.mode == "F":
        most, factor = (1.0, 255.0) if high <= 1 else (255.0, 1.0)
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


def load_square(path: str | os.PathLike[str], size: int) -> Any:
    """The central square of a picture, resized; see :func:`pyg_hash.features.load_image`."""
    module = require("PIL.Image", "pillow")
    if not os.path.isfile(path):
        raise UnreadableImageError(f"{path}: no such picture file; check the path")
    try:
        with open_picture(path) as file:
            whole = on_white(file)
    except (OSError, SyntaxError, ValueError, module.DecompressionBombError) as error:
        what = f"cannot be read as a picture ({error}); replace or drop this file"
        raise UnreadableImageError(f"{path}: {what}") from error
    width, height = whole.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    if width != height:
        whole = whole.crop((left, top, left + side, top + side))
    return whole.resize((size, size), module.Resampling.BICUBIC)


def picture_problem(path: str | os.PathLike[str]) -> str:
    """Why a picture cannot be read; empty if it can: small, in a fraction of the time."""
    bomb = require("PIL.Image", "pillow").DecompressionBombError
    if not os.path.isfile(path):  # a pipe would be waited for
        return "no regular file" if os.path.exists(path) else "no such file"
    try:
        with open_picture(path) as picture:
            picture.draft("RGB", (32, 32))
            picture.load()
    except (OSError, SyntaxError, ValueError, bomb) as error:
        return f"cannot be read as a picture ({error})"
    return ""


def square_jpeg(path: str | os.PathLike[str], size: int, quality: int) -> bytes:
    """What :func:`load_square` reads, as a JPEG file."""
    buffer = io.BytesIO()
    load_square(path, size).save(buffer, format="JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def jpeg(path: str | os.PathLike[str]) -> bytes:
    """A picture of our own as a JPEG file."""
    buffer = io.BytesIO()
    require("PIL.Image", "pillow").open(path).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def decode(source: Any, formats: Sequence[str] = FORMATS, **limits: int) -> Any:
    """A stranger's picture file as :func:`on_white` has it; errors are in words for strangers."""
    module = require("PIL.Image", "pillow")
    try:
        with open_picture(source, formats, **limits) as picture:
            return on_white(picture)
    except Exception as error:  # a decoder in front of arbitrary bytes raises nearly anything
        what = f"cannot be read as a picture; send one of {', '.join(formats)}"
        if isinstance(error, module.DecompressionBombError):
            what = f"not read, for {error}"
        elif isinstance(error, MemoryError):
            what = "needs too much memory; make it smaller, or save it as a PNG without interlacing"
        raise UnreadableImageError(f"image: {what}") from error


def watch(memory: int) -> Callable[[Any], int | None]:
    """What answers ``[source, target, formats, limits]``, and ``[source, target, size]``: a square.

    The answer is None, or the ``errno`` of what is no fault of the picture's.
    The process gets ``memory`` bytes where systems have limits.
    """
    require("PIL.Image", "pillow").init()
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    def answer(question: Any) -> int | None:
        source, target, *how = question
        try:
            if len(how) == 2:
                decode(source, how[0], **how[1]).save(target)
            else:
                Path(target).write_bytes(square_jpeg(source, how[0], 82))
        except (MemoryError, OSError, UnreadableImageError) as error:
            number: int | None = getattr(error.__cause__ or error, "errno", None)
            if number in (*FULL, *OURS):
                return number
            if isinstance(error, UnreadableImageError):
                raise
            raise UnreadableImageError(f"image: {error or 'needs too much memory'}") from error
        return None

    return answer
