"""Checksums of stored files.

Every file that is replaced through :func:`pyg_hash.utils.files.atomic_path` is **sealed** by the
XXH3 (64 bits) of all its bytes, in a place where other programs do not mind it:

===================== ==========================================================================
``.safetensors``,     metadata ``xxh3``: of the header (these digits as zeros), then of each MiB
``.store``            of the data, so that a mapped file can be checked as it is used
``.json``             a last line of 64 blanks and tabs, the bits (white space is no content)
``.h5``, ``.npz``,    a last line ``# xxh3 xxxxxxxxxxxxxxxx xxh3`` (HDF5 cuts it off when it writes,
``.yaml``             so a file that another program changed has none)
===================== ==========================================================================
"""

from __future__ import annotations

import json
import os
import re
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_hexdigest

Bytes = NDArray[np.uint8]
BLOCK = 1 << 20
ENDINGS = (".h5", ".hdf5", ".npz", ".yaml")
_LINE = len("\n# xxh3 0123456789abcdef xxh3\n")


class CorruptFileError(ValueError):
    """A file exists but is truncated, damaged or of another format."""


class UncheckedWarning(UserWarning):
    """No checksum, codes that do not say whose they are, a folder that keeps nothing; said once."""


_said: set[str] = set()


def say_once(kind: str, message: str) -> None:
    """Warn of the first thing of a kind."""
    if kind not in _said:
        _said.add(kind)
        warnings.warn(message, UncheckedWarning, stacklevel=3)


def form_of(path: Path, name: str | None = None, file: BinaryIO | None = None) -> str:
    """The ending of a file's form, by the ``name`` it is to have or its first bytes; or ""."""
    ending = Path(name or path).suffix.lower()
    if ending not in (".safetensors", ".store", ".json", *ENDINGS):
        head, size = b"", 0
        with suppress(OSError), nullcontext(file) if file else open(path, "rb") as given:
            size, _, head = given.seek(0, os.SEEK_END), given.seek(0), given.read(9)
        found = ".h5" if head.startswith(b"\x89HDF\r\n\x1a\n") else ""
        fits = int.from_bytes(head[:8], "little") < size  # the header's length
        ending = ".safetensors" if head[8:] == b"{" and fits else found
    return ending


def seal(path: Path, name: str) -> None:
    """Append the checksum to a finished file that is to have this name, if that is its form's."""
    ending = form_of(path, name)
    if ending in (".json", *ENDINGS):
        with open(path, "rb+") as file:
            file.write(_line(file, file.seek(0, os.SEEK_END), ending))


def _line(file: BinaryIO, size: int, ending: str) -> bytes:
    """The checksum of the first ``size`` bytes of a file, as it is appended to them."""
    total = xxh3_64()
    file.seek(0)
    for start in range(0, size, BLOCK):
        total.update(file.read(min(BLOCK, size - start)))
    if ending == ".json":
        bits = f"{total.intdigest():064b}\n"
        return bits.translate({ord("0"): " ", ord("1"): "\t"}).encode()
    return f"\n# xxh3 {total.hexdigest()} xxh3\n".encode()


def sum_of(path: str) -> str:
    """The checksum that an HDF5 file of ours ends with, else one of all its bytes."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LINE))
        end = file.read()
        sealed = end.startswith(b"\n# xxh3 ")
        return (end if sealed else _line(file, size, ".h5")).decode(errors="replace").strip()


def verify(path: str | os.PathLike[str], file: Any = None) -> bool:
    """Compare the checksum of a file (``file``: open), else ``CorruptFileError``; False: none."""
    if file is None:
        with open(path, "rb") as file:
            return verify(path, file)
    path = Path(path)
    ending = form_of(path, file=file)
    if ending not in (".json", *ENDINGS):
        return verify_tensors(path, file)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 96))
    tail, length = file.read(), _LINE
    if ending == ".json":  # others write that too
        length, is_sealed = 65, len(tail) - len(tail.rstrip()) > 16
        for at in range(len(tail) - 63 if not is_sealed else 0):  # damaged, or with more behind it
            line = tail[at : at + 64]
            is_sealed |= b"\n" not in line and sum(letter in b" \t" for letter in line) > 59
    elif not (is_sealed := b"xxh3" in tail):
        _unchecked(path)
    if is_sealed and not tail.endswith(_line(file, size - length, ending)):
        raise _damaged(path, "its checksum is that of other bytes")
    return is_sealed


def verify_tensors(path: Path, file: BinaryIO | None = None) -> bool:
    """:func:`verify` for a safetensors file, whatever its name."""
    with nullcontext(file) if file else open(path, "rb") as given:
        empty = given.seek(0, os.SEEK_END) == 0
        whole = np.empty(0, np.uint8) if empty else np.memmap(given, mode="r")
    sums = Sums.of(whole, path)
    if sums is not None:
        sums.check()
    return sums is not None


def blank_sums(num_bytes: int) -> str:
    """As many zeros as the checksums of a header and so much data take."""
    return "0" * 16 * (1 - (-num_bytes // BLOCK))


def parsed(whole: Bytes, path: Any) -> tuple[dict[str, Any], dict[str, Any], Bytes]:
    """Of the bytes of a safetensors file what its header says of tensors, metadata, and data."""
    try:
        size = int(whole[:8].view("<u8")[0])
        text, data = whole[8 : 8 + size].tobytes(), whole[8 + size :]
        if len(text) < size:
            raise ValueError("the header is longer than the file")
        header = json.loads(text)
        about = dict(header.pop("__metadata__", {}))
        if len(data) < max((x["data_offsets"][1] for x in header.values()), default=0):
            raise ValueError("its data end too early")
    except (LookupError, AttributeError, TypeError, ValueError, RecursionError) as error:
        what = f"truncated or not a safetensors file ({error}); write or copy it again"
        raise CorruptFileError(f"{path}: {what}") from error
    return header, about, data


class Sums:
    """Checksums of a safetensors file whose bytes are in memory or mapped."""

    def __init__(self, data: Bytes, sums: str, path: Any) -> None:
        self._data, self._path = data, path
        self._left = dict(enumerate(sums[i : i + 16] for i in range(16, len(sums), 16)))

    @classmethod
    def of(cls, whole: Bytes, path: Any) -> Sums | None:
        """The checksums of a file, that of its header compared; None: it has none."""
        _, about, data = parsed(whole, path)
        if (sums := about.get("xxh3")) is None:
            _unchecked(path)
            return None
        zeros = blank_sums(len(data))
        if not isinstance(sums, str) or not re.fullmatch(f"[0-9a-f]{{{len(zeros)}}}", sums):
            raise _damaged(path, "its checksums do not fit its size")
        before = whole[: len(whole) - len(data)].tobytes()
        if xxh3_64_hexdigest(before.replace(sums.encode(), zeros.encode(), 1)) != sums[:16]:
            raise _damaged(path, "the checksum of its header is that of other bytes")
        return cls(data, sums, path)

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Compare the blocks that these bytes of the data lie in, each once."""
        stop = len(self._data) if stop is None else stop
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            expected = self._left.get(block)
            if expected is None:
                continue
            at = block * BLOCK
            if xxh3_64_hexdigest(self._data[at : at + BLOCK].data) != expected:
                raise _damaged(self._path, f"block {block} of a MiB has the checksum of others")
            self._left.pop(block, None)  # another thread may have compared it, too


def _damaged(path: object, why: str) -> CorruptFileError:
    remedy = "copy or write it again"
    if str(path).endswith((".json", ".yaml")):
        remedy += "; if edited on purpose, remove its line of blanks and tabs (YAML: '# xxh3 ...')"
    return CorruptFileError(f"{path}: truncated, damaged or changed since ({why}); {remedy}")


def _unchecked(path: object) -> None:
    why = "damage to it goes unnoticed; files that this version writes have one"
    say_once("checksum", f"{path}: has no checksum, so {why}")
