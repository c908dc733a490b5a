"""The user's own features in one documented HDF5 file: written, encoded from raw items, read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
import torch
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform, encode_all, stamp
from pyg_hash.datasets.build import as_mask, build_hetero
from pyg_hash.datasets.feature_layout import (
    FORMAT,
    VERSION,
    StoredMatrix,
    check_feature_file,
    open_feature_file,
    read_about,
    read_labels,
    read_splits,
    read_strings,
)
from pyg_hash.features import ImageEncoder, TextEncoder, load_encoder
from pyg_hash.features.base import ENCODER_FILE
from pyg_hash.typing import IMAGE, TEXT, Modality
from pyg_hash.utils.files import atomic_path, sha256


class FeatureFile(CrossModalDataset):
    """Features, labels and splits from an HDF5 file.

    Layout (N rows; row i of everything is instance i). Write it with
    :func:`~pyg_hash.datasets.write_feature_file` or with any HDF5 library; check it with
    :func:`~pyg_hash.datasets.check_feature_file`.

    ==================== ==========================================================================
    entry                content
    ==================== ==========================================================================
    attributes           ``format`` = ``"pyg_hash.features"``, ``version`` = 1; optional: ``about``,
                         a text that says what made the features
    ``image``, ``text``  real ``[N, d]``, any float or integer type; or a group with the CSR parts
                         ``data``, ``indices``, ``indptr`` and the attribute ``shape`` = (N, d)
    ``labels``           optional: class index, integer ``[N]``, or zeros and ones ``[N, C]``
    ``splits/train``     zeros and ones ``[N]``: rows to learn from
    ``splits/query``     the same: rows that ask, disjoint from train and database
    ``splits/database``  optional: rows that are searched; default: all but query
    ``splits/labeled``   optional: rows of train whose labels may be used; default: train
    ``class_names``      optional: strings ``[C]``; fixes the number of classes
    ``ids``              optional: strings ``[N]``; default: row numbers
    ``image_paths``      optional: strings ``[N]``, relative to the file's folder; ``""`` = none
    ``texts``            optional: strings ``[N]``, the raw texts; ``""`` = none
    ==================== ==========================================================================

    Without ``labels`` the data have no ``y``, ``num_classes`` is 0 and nothing is labeled: enough
    for unsupervised methods and search, not for evaluation. Evaluation needs true labels in
    every query and database row, so mark unlabeled training rows in ``splits/labeled``.

    Features are read straight into their float32 tensor, CSR ones block by block. Without a
    ``pre_transform`` nothing is written; with one, what it changes is stored under ``root``.
    Arguments that are not named here are those of :class:`~pyg_hash.datasets.CrossModalDataset`.

    Args:
        path: the file.
        root: folder for what is stored; default: ``<path>.cache``.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: the file is truncated, damaged or no HDF5 file.
        ValueError: the content breaks a rule; the message names the entry.
    """

    stores_base = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        root: str | os.PathLike[str] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        if not self.path.is_file():
            raise FileNotFoundError(
                f"path: {self.path} is no file; write it with pyg_hash.datasets.write_feature_file"
            )
        folder = f"{self.path}.cache" if root is None else root
        super().__init__(folder, transform, pre_transform, force_reload=force_reload)

    def settings(self) -> dict[str, Any]:
        """The file, its size and its time."""
        size, time = stamp(self.path.parent, self.path.name)
        return {"path": str(self.path), "size": size, "mtime_ns": time}

    def build(self) -> HeteroData:
        """Read and check everything that a model needs."""
        with open_feature_file(self.path) as file:
            try:
                read_about(file)  # the format; and a bad text is told now
                image, text = StoredMatrix(file, "image"), StoredMatrix(file, "text")
                splits = read_splits(file, image.shape[0])
                names = read_strings(file, "class_names")
                return build_hetero(
                    image.read(),
                    text.read(),
                    y=read_labels(file),
                    num_classes=None if names is None else len(names),
                    **splits,
                )
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"{self.path}: {error}") from error

    @property
    def about(self) -> str | None:
        """What the file says of its features; None: nothing."""
        with open_feature_file(self.path) as file:
            return read_about(file)

    def _encoder(self, modality: Modality) -> Any:
        """What ``encode_feature_file`` wrote beside the file, if no other hand wrote it since."""
        folder = Path(f"{self.path}.encoders") / modality
        with open_feature_file(self.path) as file:
            made_by = file.attrs.get(f"{modality}_encoder")
        described = folder / ENCODER_FILE
        same = made_by is not None and described.is_file() and sha256(described) == made_by
        return load_encoder(folder) if same else super()._encoder(modality)

    def read_items(self) -> Items:
        """Ids, class names, picture paths and texts as stored."""
        with open_feature_file(self.path) as file:
            n = StoredMatrix(file, "image").shape[0]
            ids = read_strings(file, "ids", n)
            names = read_strings(file, "class_names")
            paths = read_strings(file, "image_paths", n) or []
            texts = read_strings(file, "texts", n) or []
        return Items(
            ids=[str(i) for i in range(n)] if ids is None else ids,
            class_names=names or [f"class {c}" for c in range(self.num_classes)],
            image_paths=[str(self.path.parent / path) if path else None for path in paths],
            texts=[text or None for text in texts],
        )


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
        about: what made the features, e.g. ``'vgg16-fc7 + use512'``.
        compression: HDF5 filter of the features, e.g. ``'gzip'``; smaller but slower.

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
    for part in ("data", "indices", "indptr"):
        file.create_dataset(f"{name}/{part}", data=getattr(csr, part), compression=compression)
    file[name].attrs["shape"] = csr.shape


def encode_feature_file(
    path: str | os.PathLike[str],
    *,
    images: Sequence[str | os.PathLike[str]],
    texts: Sequence[str],
    image_encoder: ImageEncoder,
    text_encoder: TextEncoder,
    batch_size: int = 64,
    **more: Any,
) -> Path:
    """Encode raw pairs and write a file that :class:`~pyg_hash.datasets.FeatureFile` reads.

    The encoders are kept in the folder ``PATH.encoders``, so that ``pyg-hash train`` puts them into
    the run, and ``search`` and ``encode`` take raw pictures and texts.

    Args:
        path: the file; one that exists is replaced.
        images: ``N`` picture files.
        texts: ``N`` texts; row i of both is instance i.
        image_encoder: of the pictures.
        text_encoder: of the texts; one that learns from texts is fitted already.
        batch_size: items in a call of an encoder.
        **more: ``train``, ``query``, ``labels``, ``ids`` and all other keywords of
            :func:`~pyg_hash.datasets.write_feature_file` but the features.

    Raises:
        ValueError: lists of different lengths, or items that cannot be encoded: the message lists
            them, for row numbers in masks and labels would shift if they were left out here.
    """
    if len(images) != len(texts):
        raise ValueError(
            f"texts: {len(texts)} texts and {len(images)} pictures; row i of both is instance i"
        )
    path = Path(path)
    found = encode_all(batch_size, image=(image_encoder, images), text=(text_encoder, texts))
    relative = [os.path.relpath(image, path.parent) for image in images]
    folder = Path(f"{path}.encoders")
    with atomic_path(path) as temporary:
        image, text = found["image"], found["text"]
        write_feature_file(
            temporary, image=image, text=text, image_paths=relative, texts=texts, **more
        )
        shutil.rmtree(folder, ignore_errors=True)
        with h5py.File(temporary, "r+") as file:
            for modality, encoder in ((IMAGE, image_encoder), (TEXT, text_encoder)):
                file.attrs[f"{modality}_encoder"] = sha256(encoder.save(folder / modality))
    return path
