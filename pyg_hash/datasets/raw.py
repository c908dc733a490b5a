"""Raw files as their publishers give them: matrices, digits, JSON lists, archives, and digests.

Everything is read in blocks, and nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
import torch
from scipy.io import loadmat
from torch import Tensor

from pyg_hash.datasets.build import row_chunks
from pyg_hash.utils.files import CorruptFileError, atomic_path, load_json, save_json, sha256

Array = np.ndarray[Any, Any]
Archives = Mapping[str, Mapping[str, Any]]  # as the manifests describe them
SUFFIXES = (".npy", ".mat", ".h5", ".hdf5", ".h5py", ".dat", ".txt")
# what the readers of MATLAB, HDF5, gzip and text files raise for damaged ones
_READ_ERRORS = (OSError, EOFError, ValueError, TypeError, LookupError, NotImplementedError)
_BYTES = 1 << 18  # of a text file in one block: what a cache holds
_NEWLINE, _ZERO, _ONE = b"\n01"
_ONE_MASK = 0xFE  # 0 and 1 differ in the last bit
_IS_SPACE = np.isin(np.arange(256), list(b"\t\n\r "))
_MANY = 12  # names that a message lists before it counts


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Raise ``CorruptFileError`` instead of what readers say of a damaged file."""
    try:
        yield
    except CorruptFileError:
        raise
    except (*_READ_ERRORS, zlib.error) as error:
        raise CorruptFileError(f"{path}: cannot be read ({error}); get it again") from error


# matrices ------------------------------------------------------------------------------------


class RawMatrix:
    """A matrix of numbers in a file, whole only where the format allows no less (MATLAB 5).

    ``.npy`` is mapped; HDF5 (MATLAB 7.3 files, which hold the transpose, included) is read in
    blocks; ``.dat`` and ``.txt`` hold a row a line, numbers apart by white space.

    Args:
        path: the file.
        name: the variable of a MATLAB or HDF5 file.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: it is damaged, of no known kind, or has no matrix of that name.
    """

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        self.path, self.name = Path(path), name
        self._array: Any = None  # dense or CSR, in memory or mapped; None: text or HDF5
        self._transposed = False
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file")
        with whole(self.path):
            shape = self._open()
            shape = (*shape, 1) if len(shape) == 1 else shape
            if len(shape) != 2 or min(shape) < 1:
                raise ValueError(f"expected a matrix [N, d], got {list(shape)}")
            self.shape: tuple[int, int] = (int(shape[0]), int(shape[1]))

    def _open(self) -> tuple[int, ...]:
        suffix = self.path.suffix
        self._is_text = suffix in (".dat", ".txt")
        if self._is_text:
            with open(self.path, "rb") as file:
                width = len(file.readline().split())
            return _count_lines(self.path), width
        if suffix == ".npy":
            self._array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        elif h5py.is_hdf5(self.path):
            with h5py.File(self.path, "r") as file:
                return self._open_hdf5(self._find(file))
        elif suffix == ".mat":
            names = None if self.name is None else [self.name]
            found = self._find(loadmat(self.path, variable_names=names))
            sparse: bool = sp.issparse(found)  # in a name, as it would narrow the type of found
            self._array = found.tocsr() if sparse else found
        else:
            raise ValueError("neither HDF5 nor a file of another known kind")
        shape: tuple[int, ...] = self._array.shape
        return shape

    def _find(self, content: Any) -> Any:
        if self.name not in content:
            names = ", ".join(name for name in content if not name.startswith("__")) or "none"
            raise CorruptFileError(
                f"{self.path}: has no matrix {self.name!r} (but {names}); "
                "get it again, or name another one as FILE:NAME"
            )
        return content[self.name]

    def _open_hdf5(self, node: Any) -> tuple[int, ...]:
        if isinstance(node, h5py.Group):  # MATLAB 7.3 sparse: columns of the matrix itself
            columns = node["jc"][:].astype(np.int64)
            shape = (int(node.attrs["MATLAB_sparse"]), len(columns) - 1)
            parts = (node["data"][:], node["ir"][:].astype(np.int64), columns)
            self._array = sp.csc_matrix(parts, shape=shape).tocsr()
            return shape
        self._transposed = "MATLAB_class" in node.attrs
        return tuple(node.shape[::-1] if self._transposed else node.shape)

    def _blocks(self) -> Iterator[tuple[int, Array]]:
        """``(first row, float32 block)`` over all rows of another file than text."""

        def blocks(node: Any) -> Iterator[tuple[int, Array]]:
            for start, stop in row_chunks(*self.shape):
                part = node[:, start:stop].T if self._transposed else node[start:stop]
                dense = part.toarray() if isinstance(part, sp.csr_matrix) else part
                yield start, np.asarray(dense, np.float32).reshape(stop - start, -1)

        if self._array is not None:
            yield from blocks(self._array)
            return
        with h5py.File(self.path, "r") as file:
            yield from blocks(file[self.name])

    def read(self, rows: Array | None = None) -> Tensor:
        """The given rows, in ascending order, or all of them, as float32 ``[n, d]``.

        Raises:
            CorruptFileError: the file turns out to be damaged.
        """
        rows = np.arange(self.shape[0]) if rows is None else rows
        out = torch.empty(len(rows), self.shape[1])
        with whole(self.path):
            if self._is_text:
                self._read_text(rows, out)
                return out
            for start, block in self._blocks():
                low, high = np.searchsorted(rows, (start, start + len(block)))
                out[low:high] = torch.from_numpy(block[rows[low:high] - start])
        return out

    def occupied(self) -> Array:
        """The numbers of the rows that are not all zeros, ascending; not for text files.

        Raises:
            CorruptFileError: the file turns out to be damaged.
        """
        with whole(self.path):
            found = [start + np.flatnonzero(block.any(axis=1)) for start, block in self._blocks()]
        return np.concatenate(found)

    def _read_text(self, rows: Array, out: Tensor) -> None:
        """Only the lines that are asked for become numbers."""
        with open(self.path, encoding="latin-1") as file:
            for start, stop in row_chunks(*self.shape):
                lines = list(islice(file, stop - start))
                low, high = np.searchsorted(rows, (start, stop))
                wanted = [lines[row] for row in (rows[low:high] - start).tolist()]
                if wanted:
                    block = np.loadtxt(wanted, dtype=np.float32, ndmin=2)
                    if block.shape[1] != out.shape[1]:
                        raise ValueError(f"{block.shape[1]} numbers a line, not {out.shape[1]}")
                    out[low:high] = torch.from_numpy(block)


def _count_lines(path: Path) -> int:
    """Lines that are not blank at the end."""
    lines, last = 0, b"\n"
    with open(path, "rb") as file:
        while block := file.read(_BYTES):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")


# zeros and ones as text ----------------------------------------------------------------------


def read_digits(path: str | os.PathLike[str], width: int) -> sp.csr_matrix:
    """A text file of zeros and ones, one row a line, apart by white space, as it is sparse.

    Args:
        path: the file; 540 MB (NUS-WIDE's tags) need little more memory than their ones.
        width: digits a line.

    Returns:
        uint8 ``[number of lines, width]``; blank lines do not count.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: anything else than that stands in it; the message names the line.
    """
    path = Path(path)
    counts, columns, num_lines = [], [np.zeros(0, np.int32)], 0
    with open(path, "rb") as file:
        carry, more = b"", True
        while more:
            block = file.read(_BYTES)
            more = bool(block)
            text = carry + block if more else carry + b"\n"
            end = text.rfind(b"\n") + 1
            text, carry = text[:end], text[end:]
            if text:
                lengths, found = _digit_rows(text, width, path, num_lines)
                counts.append(lengths)
                columns.append(found)
                num_lines += text.count(b"\n")
    index = np.concatenate(columns)
    pointer = np.concatenate([[0], np.cumsum(np.concatenate([index[:0], *counts]))])
    shape = (len(pointer) - 1, width)
    return sp.csr_matrix((np.ones(len(index), np.uint8), index, pointer), shape=shape)


def _digit_rows(text: bytes, width: int, path: Path, line: int) -> tuple[Array, Array]:
    """Number of ones in each row of whole lines, and their columns."""
    codes = np.frombuffer(text, np.uint8)
    digit = codes & _ONE_MASK == _ZERO
    ends = np.flatnonzero(codes == _NEWLINE) + 1
    digits = np.add.reduceat(digit, np.concatenate([[0], ends[:-1]]), dtype=np.int64)
    wrong = ~(digit | _IS_SPACE[codes])
    wrong[1:] |= digit[1:] & digit[:-1]  # 10 is no digit
    bad = (digits != 0) & (digits != width)
    bad[np.searchsorted(ends, np.flatnonzero(wrong), side="right")] = True
    if bad.any():
        raise CorruptFileError(
            f"{path}: line {line + int(bad.argmax()) + 1} is not {width} times 0 or 1; get it again"
        )
    ones = np.flatnonzero(codes[digit] == _ONE)
    lengths = np.bincount(ones // width, minlength=int((digits > 0).sum()))
    return lengths, (ones % width).astype(np.int32)


# lists in JSON -------------------------------------------------------------------------------


def json_list(path: Path, key: str) -> Iterator[Any]:
    """The entries of one list at the top of a JSON file, one after the other.

    The instances of train2014 are 450 MB, mostly outlines; only one entry at a time becomes
    objects, so that reading takes about twice the size of the file instead of ten times.

    Raises:
        CorruptFileError: there is no such list, or it breaks off.
    """
    text = path.read_text(encoding="utf-8")
    found = re.search(rf'"{key}"\s*:\s*\[', text)
    decoder, space = json.JSONDecoder(), re.compile(r"[\s,]*")
    position = found.end() if found else len(text)
    try:
        while True:
            position = space.match(text, position).end()  # type: ignore[union-attr]
            if text[position] == "]":
                return
            entry, position = decoder.raw_decode(text, position)
            yield entry
    except (IndexError, json.JSONDecodeError) as error:
        raise CorruptFileError(
            f"{path}: has no complete list {key!r} ({error}); get it again"
        ) from error


# what is missing, and archives ---------------------------------------------------------------


def absent(raw: Path, names: Iterable[str]) -> list[str]:
    """The files that are not there."""
    return [name for name in names if not (raw / name).is_file()]


def listed(names: Sequence[str]) -> list[str]:
    """One line a missing file; many that differ in numbers only share a line."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[re.sub(r"\d+", "#", name)].append(name)
    lines = []
    for group in groups.values():
        if len(group) > _MANY:
            lines.append(f"  {group[0]} ... {group[-1]}  ({len(group):,} files)")
        else:
            lines += [f"  {name}" for name in group]
    return lines


def holding(archives: Archives, names: Iterable[str]) -> Archives:
    """Those of the archives that some of the files, or patterns of files, belong to."""
    starts = tuple(names)
    return {
        archive: known
        for archive, known in archives.items()
        if any(name.startswith(known["holds"]) for name in starts)
    }


def unpack(raw: Path, archives: Archives, names: Sequence[str]) -> None:
    """Unpack the files from the archives that lie there and that they belong to.

    Raises:
        CorruptFileError: such an archive is not the one with the known SHA-256.
    """
    for archive, known in holding(archives, names).items():
        path = raw / archive
        if not path.is_file():
            continue
        if not zipfile.is_zipfile(path):  # cut off: known at once, without reading gigabytes
            raise CorruptFileError(f"{path}: not a zip archive; get it again")
        found, expected = sha256(path), known["sha256"]
        if found != expected:
            raise CorruptFileError(f"{path}: SHA-256 is {found}, expected {expected}; get it again")
        with zipfile.ZipFile(path) as content:
            for name in sorted(set(names) & set(content.namelist())):
                with (
                    atomic_path(raw / name) as temporary,
                    content.open(name) as member,
                    open(temporary, "wb") as file,
                ):
                    shutil.copyfileobj(member, file)


# files that change later ---------------------------------------------------------------------


def checked_digests(raw: Path, names: Sequence[str], record: Path) -> dict[str, str]:
    """SHA-256 of each file and of all in the record, which has the same one if it has any.

    Raises:
        CorruptFileError: files have other bytes, and the message lists them; or the record is
            damaged.
    """
    known = load_json(record) if record.is_file() else {}
    if not isinstance(known, dict) or not all(isinstance(item, str) for item in known.values()):
        raise CorruptFileError(f"{record}: not SHA-256 by file name; delete it")
    found = {name: sha256(raw / name) for name in names}
    other = [name for name in found if known.get(name, found[name]).lower() != found[name]]
    if other:
        lines = [
            f"  {name}\n    recorded SHA-256 {known[name]}\n    found SHA-256    {found[name]}"
            for name in other[:_MANY]
        ]
        lines += [f"  and {len(other) - _MANY:,} more"] if len(other) > _MANY else []
        raise CorruptFileError(
            f"{raw}: these files are not the recorded ones:\n" + "\n".join(lines) + "\n"
            f"Put the recorded ones back; or, if these are the right ones, delete {record}"
        )
    return known | found


def keep_digests(record: Path, digests: Mapping[str, str]) -> None:
    """Write what :func:`checked_digests` gave, unless it stands there."""
    if not record.is_file() or load_json(record) != digests:
        save_json(record, digests)
