"""Arrays in one safetensors file: written in pieces, atomically, and read by mapping it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.utils.files import CorruptFileError, atomic_path

VERSION = 1
_NAMES = {"I64": "<i8", "I32": "<i4", "U8": "|u1", "I8": "|i1"}
_ALIGN = 64


def write_arrays(
    path: str | os.PathLike[str],
    owner: str,
    arrays: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, Any],
) -> None:
    """Write arrays of integers and JSON metadata of class ``owner``, atomically."""
    names = {np.dtype(code): name for name, code in _NAMES.items()}
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)  # keeps all aligned
    about = {"format": f"pyg_hash.{owner}", "version": VERSION, **metadata}
    header: dict[str, Any] = {"__metadata__": {"json": json.dumps(about, ensure_ascii=False)}}
    end = 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        kind, shape = names[array.dtype], list(array.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read_arrays(
    path: str | os.PathLike[str], owner: str, *, mapped: bool
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and metadata of :func:`write_arrays`; mapped arrays are read as they are used.

    ``CorruptFileError``: the file is truncated or of another kind.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        # opened once: a second opening could meet another file
        whole = np.memmap(path, mode="r") if mapped else np.fromfile(path, np.uint8)
        size = int(whole[:8].view("<u8")[0])
        if size > len(whole) - 8:
            raise ValueError("the header is longer than the file")
        header = json.loads(whole[8 : 8 + size].tobytes())
        about = json.loads(header.pop("__metadata__", {}).get("json", "null"))
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(about, dict) or about.get("format") != f"pyg_hash.{owner}":
        raise CorruptFileError(f"{path}: is not a file that {owner}.save() wrote")
    if about.get("version") != VERSION:
        raise CorruptFileError(
            f"{path}: has version {about.get('version')!r}, this pyg_hash reads {VERSION}; "
            "build it again"
        )
    try:
        return {name: _array(whole[8 + size :], **header[name]) for name in header}, about
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from error


@contextmanager
def damaged(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of content that does not fit together are those of the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptFileError(f"{path}: is damaged ({error}); build it again") from error


def _unreadable(path: object, error: Exception) -> CorruptFileError:
    message = f"{path}: truncated or not a safetensors file ({error}); write or copy it again"
    return CorruptFileError(message)


def _array(
    data: NDArray[np.uint8], dtype: str, shape: list[int], data_offsets: tuple[int, int]
) -> NDArray[Any]:
    start, end = data_offsets
    if not 0 <= start <= end <= len(data) or min(shape, default=0) < 0:
        raise ValueError("an array does not fit the file")
    # a plain array on the map: slices of np.memmap are slow
    return np.asarray(data[start:end].view(_NAMES[dtype]).reshape(shape))
