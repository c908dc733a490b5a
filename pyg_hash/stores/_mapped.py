"""Arrays in one safetensors file: written in pieces, atomically, and read by mapping it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.utils.files import CorruptFileError, atomic_path

_NAMES = {"I64": "<i8", "I32": "<i4", "U8": "|u1"}
_ALIGN = 64
_MAX_HEADER = 100_000_000  # as safetensors itself


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]
) -> None:
    """Write int64, int32 and uint8 arrays and JSON metadata, without a copy of them in memory.

    Raises:
        OSError: the file cannot be written; the old one is then still there.
    """
    names = {np.dtype(code): name for name, code in _NAMES.items()}
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)  # keeps all aligned
    header: dict[str, Any] = {"__metadata__": {"json": json.dumps(metadata, ensure_ascii=False)}}
    end = 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read_arrays(
    path: str | os.PathLike[str], *, mapped: bool
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what :func:`write_arrays` wrote: ``(arrays, metadata)``; the arrays are read-only.

    Args:
        path: the file.
        mapped: leave the arrays on disk, to be read as they are used. The file may be replaced
            meanwhile, as :func:`write_arrays` does: the old content stays until it is let go.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: the file is truncated or another kind of file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with open(path, "rb") as file:  # once: a second opening could meet another file
        size = os.fstat(file.fileno()).st_size
        try:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, _MAX_HEADER):
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
            metadata = json.loads(header.pop("__metadata__")["json"])
            arrays = {
                name: _array(file, entry, 8 + length, size, mapped)
                for name, entry in header.items()
            }
            if not isinstance(metadata, dict):
                raise ValueError("it has no metadata")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptFileError(
                f"{path}: truncated or not a file of a store ({error}); write or copy it again"
            ) from error
    return arrays, metadata


def _array(file: Any, entry: Mapping[str, Any], base: int, size: int, mapped: bool) -> NDArray[Any]:
    dtype, shape = np.dtype(_NAMES[entry["dtype"]]), tuple(map(int, entry["shape"]))
    start, end = entry["data_offsets"]
    count = int(np.prod(shape, dtype=np.int64)) if min(shape, default=1) >= 0 else -1
    if count < 0 or end - start != count * dtype.itemsize or not 0 <= start <= base + end <= size:
        raise ValueError("an array does not fit the file")
    if count == 0:
        return np.empty(shape, dtype)
    if mapped:
        # a plain array on the map: slices of np.memmap are slow
        return np.asarray(np.memmap(file, dtype, "r", base + start, shape))
    file.seek(base + start)
    array = np.fromfile(file, dtype, count).reshape(shape)
    array.flags.writeable = False
    return array
