"""What users hand over, as what a feature file holds; every error names its argument."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from pyg_hash.datasets.build import as_array, row_chunks
from pyg_hash.utils.checks import check_labels
from pyg_hash.utils.files import bad_text

_GROUPS = (list, tuple, set, frozenset)


def as_matrix(values: Any, name: str) -> Any:
    """Features ``[N, d]``: an array, or SciPy's CSR of what is sparse; finite as float32."""
    if isinstance(values, Tensor) and values.layout != torch.strided and values.dim() == 2:
        parts: Any = values.detach().cpu()
        parts = parts.to_sparse_coo().coalesce()
        numbers, places = as_array(parts.values(), name), parts.indices().numpy()
        values = sp.csr_matrix((numbers, places), shape=(len(parts), parts.size(1)))
    sparse: bool = sp.issparse(values)  # in a name, as it would narrow the type of values
    matrix: Any = values.tocsr() if sparse else as_array(values, name)
    if matrix.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got {matrix.dtype}; convert them")
    if len(matrix.shape) != 2 or min(matrix.shape) < 1:
        raise ValueError(f"{name}: expected a matrix [N, d], got shape {list(matrix.shape)}")
    bad = np.zeros(matrix.shape[0], bool)
    with np.errstate(over="ignore"):
        if matrix.dtype.kind == "f" and sparse:
            finite = np.isfinite(matrix.data.astype(np.float32))
            bad[np.repeat(np.arange(len(bad)), np.diff(matrix.indptr))[~finite]] = True
        elif matrix.dtype.kind == "f":
            for start, stop in row_chunks(*matrix.shape):
                bad[start:stop] = ~np.isfinite(matrix[start:stop].astype(np.float32)).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{name}: {bad.sum()} of {len(bad)} rows contain NaN, inf or numbers beyond float32 "
            f"(first: row {bad.argmax()}); clean or drop them"
        )
    return matrix


def as_labels(
    labels: Any, class_names: list[str] | None, num_rows: int
) -> tuple[np.ndarray[Any, Any], list[str] | None]:
    """Class indices ``[N]`` or zeros and ones ``[N, C]``, and the names of the classes.

    Words become indices, lists of words zeros and ones, of ``class_names`` or else of the words
    that occur, sorted. Whole numbers may be of any type, and in one column. Without
    ``class_names``, those that are not 0..C-1 become it, and name the classes.
    """
    if (found := _words(labels)) is not None:
        labels, class_names = _indices(found, class_names)
    array = as_array(labels, "labels")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"labels: expected numbers or words, got {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            "labels: contain NaN or inf; give each row a class, and leave rows whose class is not "
            "known out of labeled"
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = _column(array, class_names)
    if array.ndim != 1:
        check_labels(torch.from_numpy(array.astype(np.float32)), "labels", num_rows=num_rows)
        array = array.astype(np.uint8)
    elif array.dtype.kind != "b":
        whole = array.astype(np.int64)
        if (whole != array).any():
            raise ValueError("labels: class indices must be whole numbers; round them")
        array = whole
    if array.ndim == 1 and array.size and array.min() < 0:
        raise ValueError(
            f"labels: class indices run from {array.min()}; give each row a class, and leave rows "
            "whose class is not known out of labeled"
        )
    if array.ndim == 1 and class_names is None and array.dtype.kind != "b":
        numbers, indices = np.unique(array, return_inverse=True)
        if not np.array_equal(numbers, np.arange(len(numbers))):
            array, class_names = indices.reshape(-1), [str(number) for number in numbers]
    if array.ndim == 1 and class_names and array.size and array.max() == len(class_names):
        raise ValueError(
            f"labels: class indices run to {array.max()}, but there are {len(class_names)} "
            "class_names, whose indices begin at 0; subtract 1"
        )
    count = None if class_names is None else len(class_names)
    check_labels(torch.from_numpy(array), "labels", num_rows=num_rows, num_classes=count)
    return array, class_names


def _words(labels: Any) -> list[Any] | None:
    """Rows of words or of lists of words; None for anything else."""
    if isinstance(labels, str | bytes):
        raise TypeError(f"labels: expected one label a row, got one text {labels!r:.40}")
    kind = getattr(getattr(labels, "dtype", None), "kind", "")
    if not isinstance(labels, list | tuple) and kind not in ("O", "U"):
        return None
    rows = list(labels) if isinstance(labels, list | tuple) else labels.tolist()
    if rows and all(isinstance(row, str) for row in rows):
        return rows
    groups = all(isinstance(r, _GROUPS) and all(isinstance(word, str) for word in r) for r in rows)
    if not (groups and any(rows)):
        if any(isinstance(row, str) for row in rows):
            row = next(i for i, row in enumerate(rows) if not isinstance(row, str))
            raise TypeError(f"labels: row {row} is {rows[row]!r:.40}, others are words; give all")
        return None
    alone = isinstance(labels, np.ndarray) and all(len(row) == 1 for row in rows)  # one column
    return [row[0] for row in rows] if alone else rows


def _indices(rows: list[Any], names: list[str] | None) -> tuple[Any, list[str]]:
    several = not isinstance(rows[0], str)
    used = {word for row in rows for word in row} if several else set(rows)
    names = sorted(used) if names is None else names
    if unknown := sorted(used - set(names)):
        raise ValueError(f"labels: {unknown[0]!r} is none of class_names; add it")
    place = {name: number for number, name in enumerate(names)}
    if not several:
        return np.array([place[row] for row in rows], np.int64), names
    hot = np.zeros((len(rows), len(names)), np.uint8)
    for number, row in enumerate(rows):
        hot[number, [place[word] for word in row]] = 1
    return hot, names


def _column(array: np.ndarray[Any, Any], names: list[str] | None) -> np.ndarray[Any, Any]:
    """``[N, 1]`` as class indices, unless there is one class."""
    if names is not None and len(names) == 1:
        return array
    if names is None and set(np.unique(array)) <= {0, 1}:
        raise ValueError(
            "labels: a column of zeros and ones is either one class that a row may have or two; "
            "give class indices [N], or class_names"
        )
    return array[:, 0]


def as_strings(values: Any, name: str, num_rows: int | None = None) -> list[str]:
    """Texts, one a row; ids may be whole numbers; None and NaN where a row may lack it: ``""``."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected a list of texts, got {values!r:.40}")
    found = []
    for row, value in enumerate(values):
        if name in ("texts", "image_paths") and (value is None or value != value):
            value = ""
        elif name == "image_paths" and isinstance(value, os.PathLike):
            value = os.fspath(value)
        elif name != "texts" and not isinstance(value, bool) and hasattr(value, "__index__"):
            value = str(value.__index__())
        if not isinstance(value, str):
            raise TypeError(f"{name}: entry {row} is {value!r:.40}; expected a text")
        if wrong := bad_text(value):
            raise ValueError(f"{name}: entry {row} {wrong}")
        found.append(str(value))
    if num_rows is not None and len(found) != num_rows:
        raise ValueError(f"{name}: has {len(found)} entries, expected {num_rows}")
    if name == "class_names" and len(set(found)) < len(found):
        twice = next(value for row, value in enumerate(found) if value in found[:row])
        raise ValueError(f"{name}: {twice!r:.40} occurs more than once; give each its own")
    return found
