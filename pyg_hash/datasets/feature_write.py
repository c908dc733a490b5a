"""Writing feature files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
import torch

from pyg_hash.datasets.build import as_mask
from pyg_hash.datasets.feature_check import check_feature_file
from pyg_hash.datasets.feature_layout import FORMAT, VERSION
from pyg_hash.utils.files import atomic_path


def write_feature_file(
    path: str | os.PathLike[str],
    *,
    image: Any,
    text: Any,
    train: Any,
    query: Any,
    database: Any = None,
    labeled: Any = None,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    image_paths: Sequence[str | None] | None = None,
    texts: Sequence[str | None] | None = None,
    about: str | None = None,
    compression: str | None = None,
) -> Path:
    """Write a file that :class:`~pyg_hash.datasets.FeatureFile` reads, atomically.

    The finished file is checked before it appears under its name.

    Args:
        path: the file; one that exists is replaced.
        image: real ``[N, d]``, a tensor, an array or a SciPy sparse matrix (stored as CSR).
        text: the same, ``[N, d]``.
        train: bool mask ``[N]`` or row numbers; so are ``query``, ``database``, ``labeled``.
        query: rows that ask.
        database: rows that are searched; None means all but ``query``.
        labeled: rows of ``train`` whose labels may be used; None means ``train``.
        labels: class index, integer ``[N]``, or zeros and ones ``[N, C]``; None for none.
        class_names: one name a class.
        ids: one name a row.
        image_paths: picture files, relative to the folder of ``path``; None where there is none.
        texts: raw texts; None where there is none.
        about: what made the features, e.g. ``'vgg16-fc7 + use512'``; None: unsaid.
        compression: HDF5 filter of the features, e.g. ``'gzip'``; smaller but slower.

    Returns:
        ``path``.

    Raises:
        TypeError: masks of the wrong dtype; ``about`` is no text.
        ValueError: the content breaks a rule of the layout; the message lists every problem.
        OSError: the file cannot be written.
    """
    if not isinstance(about, str | None):
        raise TypeError(f"about: expected a text, got {type(about).__name__}")
    splits = {"train": train, "query": query, "database": database, "labeled": labeled}
    strings = {"class_names": class_names, "ids": ids, "image_paths": image_paths, "texts": texts}
    num_rows = int(image.shape[0])
    with atomic_path(path) as temporary:
        with h5py.File(temporary, "w") as file:
            file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
            if about is not None:
                file.attrs["about"] = about
            for name, matrix in (("image", image), ("text", text)):
                _write_matrix(file, name, matrix, compression)
            if labels is not None:
                file["labels"] = _array(labels)
            for name, rows in splits.items():
                if rows is not None:
                    mask = as_mask(torch.as_tensor(_array(rows)), num_rows, name)
                    file[f"splits/{name}"] = mask.numpy()
            for name, values in strings.items():
                if values is not None:
                    content = [value or "" for value in values]
                    file.create_dataset(name, data=content, dtype=h5py.string_dtype())
        problems = check_feature_file(temporary).problems
        if problems:
            raise ValueError(f"{path} was not written:\n" + "\n".join(problems))
    return Path(path)


def _array(values: Any) -> np.ndarray[Any, Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _write_matrix(file: Any, name: str, matrix: Any, compression: str | None) -> None:
    sparse: bool = sp.issparse(matrix)  # in a name, as it would narrow the type of matrix
    if not sparse:
        file.create_dataset(name, data=_array(matrix), compression=compression)
        return
    csr = matrix.tocsr()
    group = file.create_group(name)
    group.attrs["shape"] = csr.shape
    for part in ("data", "indices", "indptr"):
        group.create_dataset(part, data=getattr(csr, part), compression=compression)
