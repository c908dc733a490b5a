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

from pyg_hash.utils.checksums import Sums
from pyg_hash.utils.files import CorruptFileError, write_parts

VERSION = 1
_NAMES = {"I64": "<i8", "F64": "<f8", "I32": "<i4", "U8": "|u1", "I8": "|i1"}


def write_arrays(
    path: str | os.PathLike[str],
    owner: str,
    arrays: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, Any],
) -> None:
    """Write arrays of numbers and JSON metadata of class ``owner``, atomically."""
    names = {np.dtype(code): name for name, code in _NAMES.items()}
    parts = {
        name: (names[x.dtype], x.shape, np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
        for name, x in arrays.items()
    }
    about = {"format": f"pyg_hash.{owner}", "version": VERSION, **metadata}
    write_parts(path, parts, about)


class StoredArrays(dict[str, NDArray[Any]]):
    """Arrays of a file by name, whose bytes :meth:`check` compares with their checksums."""

    path: Any = None  # of the file

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], spans: Mapping[str, Any], sums: Sums | None
    ) -> None:
        super().__init__(arrays)
        self._spans, self._sums = spans, sums

    def check(self, *names: str) -> None:
        """Raise ``CorruptFileError`` if one of these arrays is damaged; each block is read once."""
        if self._sums is not None:
            for name in names:
                if name in self:
                    self._sums.check(*self._spans[name])

    def check_items(self, name: str, start: int, stop: int) -> None:
        """:meth:`check` for some items of the flat array ``name``."""
        if self._sums is not None and name in self:
            first, size = self._spans[name][0], self[name].itemsize
            self._sums.check(first + start * size, first + stop * size)


def read_arrays(
    path: str | os.PathLike[str], *owners: str, mapped: bool, newest: int = VERSION
) -> tuple[StoredArrays, dict[str, Any]]:
    """Arrays and metadata of :func:`write_arrays`; mapped arrays are read as they are used.

    Those that are not mapped are compared with their checksums; mapped ones are to be, before
    they are used.

    ``CorruptFileError``: the file is truncated, damaged or of another kind.
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
    except (IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(about, dict) or about.get("format") not in [f"pyg_hash.{o}" for o in owners]:
        raise CorruptFileError(f"{path}: is not a file that {owners[0]}.save() wrote")
    if about.get("version") not in range(VERSION, newest + 1):
        raise CorruptFileError(
            f"{path}: has version {about.get('version')!r}, this pyg_hash reads {newest}; "
            "build it again"
        )
    sums = Sums.of(whole, path)
    if sums is not None and not mapped:
        sums.check()
    try:
        arrays = {name: _array(whole[8 + size :], **header[name]) for name in header}
        spans = {name: header[name]["data_offsets"] for name in header}
        stored = StoredArrays(arrays, spans, sums)
        stored.path = path
        return stored, about
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from error


@contextmanager
def damaged(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of content that does not fit together are those of the file."""
    try:
        yield
    except CorruptFileError:
        raise
    except (LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
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
