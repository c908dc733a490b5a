"""Raw files as their publishers give them, read in blocks; nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import re
import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
import torch
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from torch import Tensor

from pyg_hash.datasets.build import row_chunks
from pyg_hash.utils.digests import sha256
from pyg_hash.utils.files import CorruptFileError, atomic_path, load_json
from pyg_hash.utils.hdf5 import open_hdf5

Array = np.ndarray[Any, Any]
Archives = Mapping[str, Mapping[str, Any]]  # as the manifests describe them
TEXT_SUFFIXES = (".dat", ".txt")
SUFFIXES = (".npy", ".mat", ".h5", ".hdf5", ".h5py", *TEXT_SUFFIXES)
# what the readers of MATLAB, HDF5, NumPy, gzip, JSON and text files raise for damaged ones; memory:
# for sizes that are damaged
_READ_ERRORS = (OSError, EOFError, ValueError, TypeError, LookupError, NotImplementedError)
_DAMAGE = (MatReadError, zlib.error, zipfile.BadZipFile, tokenize.TokenError, SyntaxError)
_TOO_LARGE = (MemoryError, OverflowError, RecursionError, UnboundLocalError)  # the last: SciPy's
_BYTES = 1 << 18  # of a text file in one block: what a cache holds
_IS_SPACE = np.isin(np.arange(256), list(b"\t\n\r "))
_MANY = 12  # names that a message lists before it counts


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Raise ``CorruptFileError`` instead of what readers say of a damaged file."""
    try:
        yield
    except CorruptFileError:
        raise
    except (*_READ_ERRORS, *_DAMAGE, *_TOO_LARGE) as error:
        why = str(error) or "it asks for more memory than there is"
        raise CorruptFileError(f"{path}: cannot be read ({why}); get it again") from error


class RawMatrix:
    """A matrix in a ``.npy``, MATLAB, HDF5, ``.dat`` or ``.txt`` file, read in blocks if possible.

    ``name``: the variable in a MATLAB or HDF5 file. ``CorruptFileError``: it is damaged (found now
    or while reading), of no known kind, or has no matrix of that name.
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
        if suffix in TEXT_SUFFIXES:
            with open(self.path, "rb") as file:
                width = len(file.readline().split())
                return 1 + sum(1 for _ in file), width
        if suffix == ".npy":
            self._array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        elif h5py.is_hdf5(self.path):
            with open_hdf5(self.path) as file:
                node = self._find(file)
                if isinstance(node, h5py.Dataset):
                    self._transposed = "MATLAB_class" in node.attrs
                    return tuple(node.shape[::-1] if self._transposed else node.shape)
                pointer = node["jc"][:].astype(np.int64)  # MATLAB 7.3 sparse: columns
                shape = (int(node.attrs["MATLAB_sparse"]), len(pointer) - 1)
                parts = (node["data"][:], node["ir"][:].astype(np.int64), pointer)
                self._array = sp.csc_matrix(parts, shape=shape).tocsr()
        elif suffix == ".mat":
            names = None if self.name is None else [self.name]
            found = self._find(loadmat(self.path, variable_names=names))
            sparse: bool = sp.issparse(found)  # in a name, as it would narrow the type of found
            self._array = found.tocsr() if sparse else found
        else:
            raise ValueError("neither HDF5 nor a file of another known kind")
        return tuple(self._array.shape)

    def _find(self, content: Any) -> Any:
        if self.name not in content:
            names = ", ".join(name for name in content if not name.startswith("__")) or "none"
            raise CorruptFileError(
                f"{self.path}: has no matrix {self.name!r} (but {names}); "
                "get it again, or name another one as FILE:NAME"
            )
        return content[self.name]

    def read(self, rows: Array | None = None) -> Tensor:
        """The given rows, in ascending order, or all of them, as float32 ``[n, d]``."""
        rows = np.arange(self.shape[0]) if rows is None else rows
        out = np.empty((len(rows), self.shape[1]), np.float32)
        is_text = self.path.suffix in TEXT_SUFFIXES
        with whole(self.path), ExitStack() as files:
            content = self._array
            if is_text:
                content = files.enter_context(open(self.path, encoding="latin-1"))
            elif content is None:
                content = files.enter_context(open_hdf5(self.path))[self.name]
            for start, stop in row_chunks(*self.shape):
                low, high = np.searchsorted(rows, (start, stop))
                own = rows[low:high] - start
                if is_text:  # only the lines that are asked for become numbers
                    lines = list(islice(content, stop - start))
                    if low == high:
                        continue
                    block = np.loadtxt([lines[row] for row in own], np.float32, ndmin=2)
                    if block.shape != (len(own), self.shape[1]):
                        raise ValueError(f"lines {start + 1} to {stop} are {list(block.shape)}")
                else:
                    part = content[:, start:stop].T if self._transposed else content[start:stop]
                    dense = part.toarray() if isinstance(part, sp.csr_matrix) else part
                    block = np.asarray(dense, np.float32).reshape(stop - start, -1)[own]
                out[low:high] = block
        return torch.from_numpy(out)


def read_digits(path: str | os.PathLike[str], width: int) -> sp.csr_matrix:
    """uint8 ``[lines, width]`` of zeros and ones in a text file, apart by white space."""
    blocks, first = [sp.csr_matrix(np.zeros((0, width), np.uint8))], 1
    with open(path, "rb") as file:
        while block := file.read(_BYTES) + file.readline():
            codes = np.frombuffer(block, np.uint8)
            digit = codes & 0xFE == ord("0")  # 0 and 1 differ in the last bit
            wrong = ~(digit | _IS_SPACE[codes])
            wrong[1:] |= digit[1:] & digit[:-1]  # 10 is no digit
            starts = np.concatenate([[0], np.flatnonzero(codes[:-1] == ord("\n")) + 1])
            counts = np.add.reduceat(digit, starts, dtype=np.int64)
            bad = (counts != 0) & (counts != width) | np.logical_or.reduceat(wrong, starts)
            if bad.any():
                raise CorruptFileError(
                    f"{path}: line {first + int(bad.argmax())} is not {width} times 0 or 1; "
                    "get it again"
                )
            blocks.append(sp.csr_matrix(codes[digit].reshape(-1, width) - np.uint8(ord("0"))))
            first += len(starts)
    return sp.csr_matrix(sp.vstack(blocks))


def read_json(path: Path, *keys: str) -> Any:
    """A JSON file of which objects keep these keys only: MS-COCO's 450 MB are mostly outlines."""
    return json.loads(
        path.read_text(encoding="utf-8"),
        object_hook=lambda found: {key: found[key] for key in keys if key in found},
    )


# what is missing, and archives ---------------------------------------------------------------


def absent(raw: Path, names: Iterable[str]) -> list[str]:
    """The files that are not there."""
    return [name for name in names if not (raw / name).is_file()]


def listed(names: Sequence[str]) -> list[str]:
    """One line a missing file; many that differ in numbers only share a line."""
    lines = []
    for _, group in groupby(names, lambda name: re.sub(r"\d+", "#", name)):
        same = list(group)
        if len(same) > _MANY:
            same = [f"{same[0]} ... {same[-1]}  ({len(same):,} files)"]
        lines += [f"  {name}" for name in same]
    return lines


def holding(archives: Archives, names: Sequence[str]) -> Archives:
    """Those of the archives that some of the files, or patterns of files, belong to."""
    return {
        archive: known
        for archive, known in archives.items()
        if any(name.startswith(known["holds"]) for name in names)
    }


def unpack(raw: Path, archives: Archives, names: Sequence[str]) -> None:
    """Unpack the files from the archives that lie there, if these have the known SHA-256."""
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


def checked_digests(raw: Path, names: Sequence[str], record: Path) -> dict[str, str]:
    """SHA-256 of each file and of all in the record; ``CorruptFileError`` lists what differs."""
    known = load_json(record) if record.is_file() else {}
    if not isinstance(known, dict) or not all(isinstance(item, str) for item in known.values()):
        raise CorruptFileError(f"{record}: not SHA-256 by file name; delete it")
    found = {name: sha256(raw / name) for name in names}
    lines = [
        f"  {name}\n    recorded SHA-256 {known[name]}\n    found SHA-256    {digest}"
        for name, digest in found.items()
        if known.get(name, digest).lower() != digest
    ]
    if lines:
        if len(lines) > _MANY:
            lines = [*lines[:_MANY], f"  and {len(lines) - _MANY:,} more"]
        raise CorruptFileError(
            f"{raw}: these files are not the recorded ones:\n" + "\n".join(lines) + "\n"
            f"Put the recorded ones back; or, if these are the right ones, delete {record}"
        )
    return known | found
