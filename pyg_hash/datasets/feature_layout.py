"""The HDF5 layout of :class:`~pyg_hash.datasets.FeatureFile`, read without surprises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from pyg_hash.datasets.build import row_chunks
from pyg_hash.utils.files import CorruptFileError

FORMAT = "pyg_hash.features"
VERSION = 1
SPLITS = ("train", "query", "database", "labeled")


@contextmanager
def open_feature_file(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The open HDF5 file.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: it is truncated, damaged or no HDF5 file, found now or while reading.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such feature file; write it with write_feature_file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise CorruptFileError(
            f"{path}: truncated, damaged or not an HDF5 file ({error}); copy or write it again"
        ) from error


def check_format(file: Any) -> None:
    """Raise ``ValueError`` unless the file says it has this layout."""
    name, version = file.attrs.get("format"), file.attrs.get("version")
    if name != FORMAT or version != VERSION:
        raise ValueError(
            f"attributes: format {name!r} version {version} is not {FORMAT!r} version {VERSION}; "
            "write the file with write_feature_file"
        )


def read_about(file: Any) -> str | None:
    """What the file says of its features, or None if it says nothing.

    Raises:
        ValueError: the attribute is no text.
    """
    about = file.attrs.get("about")
    if isinstance(about, bytes):  # a string of fixed length, as other libraries write it
        about = about.decode()
    if about is not None and not (isinstance(about, str) and about.strip()):
        raise ValueError(f"attributes: about must be a text that is not empty, got {about!r}")
    return about


class StoredMatrix:
    """A feature matrix in the file, dense or CSR, read in blocks of rows.

    Args:
        file: the open file.
        name: ``'image'`` or ``'text'``.

    Raises:
        ValueError: it is missing or not of the documented form.
    """

    def __init__(self, file: Any, name: str) -> None:
        if name not in file:
            raise ValueError(f"{name}: missing; the file needs a dataset or a CSR group {name!r}")
        self.name = name
        self._node = file[name]
        self.sparse = isinstance(self._node, h5py.Group)
        shape = self._csr_shape() if self.sparse else self._node.shape
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"{name}: expected a matrix [N, d], got shape {list(shape)}")
        self.shape: tuple[int, int] = (int(shape[0]), int(shape[1]))
        self.num_stored = self.shape[0] * self.shape[1]
        self.dtype: np.dtype[Any] = (self._node["data"] if self.sparse else self._node).dtype
        if self.dtype.kind not in "fiub":
            raise ValueError(f"{name}: expected real numbers, got {self.dtype}; convert them")
        if self.sparse:
            self._check_csr()

    def _csr_shape(self) -> tuple[int, ...]:
        missing = {"data", "indices", "indptr"} - set(self._node)
        if missing or "shape" not in self._node.attrs:
            raise ValueError(
                f"{self.name}: a CSR group needs data, indices, indptr and the attribute shape; "
                f"it has {sorted(self._node)}"
            )
        return tuple(int(size) for size in self._node.attrs["shape"])

    def _check_csr(self) -> None:
        self._indptr = self._node["indptr"][:].astype(np.int64)
        self.num_stored = len(self._node["data"])
        if (
            len(self._indptr) != self.shape[0] + 1
            or self._indptr[0] != 0
            or self._indptr[-1] != self.num_stored
            or len(self._node["indices"]) != self.num_stored
            or bool((np.diff(self._indptr) < 0).any())
        ):
            raise ValueError(
                f"{self.name}: indptr, indices and data do not describe {self.shape[0]} rows; "
                "write the file with write_feature_file"
            )

    def read_rows(self, start: int, stop: int, out: np.ndarray[Any, Any]) -> None:
        """Write rows ``start .. stop - 1`` into ``out``, float32 ``[stop - start, d]``."""
        if not self.sparse:
            self._node.read_direct(out, np.s_[start:stop])
            return
        low, high = int(self._indptr[start]), int(self._indptr[stop])
        indices = self._node["indices"][low:high]
        if len(indices) and (indices.min() < 0 or indices.max() >= self.shape[1]):
            raise ValueError(
                f"{self.name}: column numbers run from {indices.min()} to {indices.max()}, "
                f"outside 0..{self.shape[1] - 1}"
            )
        values = self._node["data"][low:high].astype(np.float32)
        block = sp.csr_matrix(
            (values, indices, self._indptr[start : stop + 1] - low),
            shape=(stop - start, self.shape[1]),
        )
        block.toarray(out=out)

    def read(self) -> Tensor:
        """All rows as float32 ``[N, d]``, read straight into the tensor."""
        x = torch.empty(self.shape)
        out = x.numpy()
        for start, stop in row_chunks(*self.shape):
            self.read_rows(start, stop, out[start:stop])
        return x


def read_labels(file: Any) -> Tensor | None:
    """Labels as stored, integer ``[N]`` or 0/1 ``[N, C]``; None if there are none."""
    if "labels" not in file:
        return None
    labels = file["labels"][()]
    if labels.dtype.kind not in "iub" and labels.ndim != 2:
        raise ValueError(f"labels: class indices must be integers, got {labels.dtype}")
    if labels.dtype.kind not in "iubf":
        raise ValueError(f"labels: expected numbers, got {labels.dtype}")
    return torch.from_numpy(labels.astype(np.float32 if labels.ndim == 2 else np.int64))


def read_splits(file: Any, num_rows: int) -> dict[str, Tensor]:
    """The bool masks ``[N]`` that the file holds.

    Raises:
        ValueError: train or query is missing, or a mask is not ``[N]`` of zeros and ones.
    """
    group = file.get("splits", {})
    masks = {}
    for name in SPLITS:
        if name not in group:
            if name in ("train", "query"):
                raise ValueError(f"splits/{name}: missing; give a mask of N zeros and ones")
            continue
        values = group[name][()]
        if values.shape != (num_rows,) or not np.isin(values, (0, 1)).all():
            raise ValueError(
                f"splits/{name}: expected a mask of {num_rows} zeros and ones, "
                f"got shape {list(values.shape)} and dtype {values.dtype}"
            )
        masks[name] = torch.from_numpy(values.astype(bool))
    return masks


def read_strings(file: Any, name: str, length: int | None = None) -> list[str] | None:
    """A list of strings, or None if the file has none.

    Raises:
        ValueError: it has not ``length`` entries, or is not made of strings.
    """
    if name not in file:
        return None
    node = file[name]
    if h5py.check_string_dtype(node.dtype) is None or node.ndim != 1:
        raise ValueError(f"{name}: expected a list of strings, got {node.dtype} {node.shape}")
    if length is not None and len(node) != length:
        raise ValueError(f"{name}: has {len(node)} entries, expected {length}")
    return [str(value) for value in node.asstr()[:]]
