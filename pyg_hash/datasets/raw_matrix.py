"""Matrices of published raw files (text, MATLAB, HDF5, NumPy), read in blocks of rows."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
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
from pyg_hash.utils.files import CorruptFileError

Array = np.ndarray[Any, Any]
SUFFIXES = (".npy", ".mat", ".h5", ".hdf5", ".h5py", ".dat", ".txt")
# what the readers of MATLAB and HDF5 files raise for damaged ones
_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    NotImplementedError,
    zlib.error,
)
_BYTES = 1 << 22  # of a text file in one block


class RawMatrix:
    """A matrix of numbers in a file, whole only where the format allows no less (MATLAB 5).

    ``.npy`` is mapped; HDF5 (MATLAB 7.3 files, which hold the transpose, included) is read in
    blocks; ``.dat`` and ``.txt`` hold a row a line, numbers apart by white space. Nothing is ever
    unpickled.

    Args:
        path: the file.
        name: the variable of a MATLAB or HDF5 file.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: it is damaged, or has no matrix of that name.
        ValueError: a kind of file that is not known, or a name is missing.
    """

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        self.path, self.name = Path(path), name
        self._array: Any = None  # dense or CSR, in memory or mapped
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file")
        try:
            self.shape = self._open()
        except CorruptFileError:
            raise
        except _READ_ERRORS as error:
            raise CorruptFileError(
                f"{self.path}: cannot be read ({error}); get it again"
            ) from error

    def _open(self) -> tuple[int, int]:
        suffix = self.path.suffix
        if suffix in (".dat", ".txt"):
            self._kind = "text"
            with open(self.path, "rb") as file:
                width = len(file.readline().split())
            shape: tuple[int, ...] = (_count_lines(self.path), width)
        elif suffix == ".npy":
            self._kind = "array"
            self._array = np.load(self.path, mmap_mode="r", allow_pickle=False)
            shape = self._array.shape
        elif h5py.is_hdf5(self.path):
            self._kind = "hdf5"
            with h5py.File(self.path, "r") as file:
                shape = self._open_hdf5(self._find(file, list(file)))
        else:
            self._kind = "array"
            if suffix != ".mat":
                raise ValueError("neither HDF5 nor a file of another known kind")
            names = None if self.name is None else [self.name]
            content = loadmat(self.path, variable_names=names)
            found: Any = self._find(content, [key for key in content if not key.startswith("__")])
            sparse = sp.issparse(found)
            self._array = found.tocsr() if sparse else found
            shape = self._array.shape
        if len(shape) == 1:
            shape = (shape[0], 1)
        if len(shape) != 2 or min(shape) < 1:
            raise CorruptFileError(f"{self.path}: expected a matrix [N, d], got {list(shape)}")
        return int(shape[0]), int(shape[1])

    def _find(self, content: Any, names: list[str]) -> Any:
        if self.name not in content:
            raise CorruptFileError(
                f"{self.path}: has no matrix {self.name!r} (but {', '.join(names) or 'none'}); "
                "get it again, or name another one as FILE:NAME"
            )
        return content[self.name]

    def _open_hdf5(self, node: Any) -> tuple[int, ...]:
        self._transposed = "MATLAB_class" in node.attrs
        if isinstance(node, h5py.Group):  # MATLAB 7.3 sparse: columns of the matrix itself
            num_rows = int(node.attrs["MATLAB_sparse"])
            columns = node["jc"][:].astype(np.int64)
            parts = (node["data"][:], node["ir"][:].astype(np.int64), columns)
            self._kind = "array"
            self._array = sp.csc_matrix(parts, shape=(num_rows, len(columns) - 1)).tocsr()
            return num_rows, len(columns) - 1
        shape = tuple(int(size) for size in node.shape)
        return shape[::-1] if self._transposed else shape

    def _blocks(self) -> Iterator[tuple[int, Array]]:
        """``(first row, float32 block)`` over all rows of another file than text."""
        chunks = row_chunks(*self.shape)
        if self._kind == "hdf5":
            with h5py.File(self.path, "r") as file:
                node = file[self.name]
                for start, stop in chunks:
                    block = node[:, start:stop].T if self._transposed else node[start:stop]
                    yield start, np.asarray(block, np.float32).reshape(stop - start, -1)
            return
        for start, stop in chunks:
            part: Any = self._array[start:stop]
            dense = part.toarray() if isinstance(part, sp.csr_matrix) else part
            yield start, np.asarray(dense, np.float32).reshape(stop - start, -1)

    def read(self, rows: Array) -> Tensor:
        """The given rows as float32 ``[len(rows), d]``.

        Args:
            rows: row numbers, ascending.

        Raises:
            CorruptFileError: the file turns out to be damaged.
        """
        out = torch.empty(len(rows), self.shape[1])
        try:
            if self._kind == "text":
                self._read_text(rows, out)
                return out
            for start, block in self._blocks():
                low, high = np.searchsorted(rows, (start, start + len(block)))
                out[low:high] = torch.from_numpy(block[rows[low:high] - start])
        except _READ_ERRORS as error:
            raise CorruptFileError(
                f"{self.path}: cannot be read ({error}); get it again"
            ) from error
        return out

    def occupied(self) -> Array:
        """The numbers of the rows that are not all zeros, ascending; not for text files.

        Raises:
            CorruptFileError: the file turns out to be damaged.
        """
        try:
            found = [start + np.flatnonzero(block.any(axis=1)) for start, block in self._blocks()]
        except _READ_ERRORS as error:
            raise CorruptFileError(
                f"{self.path}: cannot be read ({error}); get it again"
            ) from error
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
