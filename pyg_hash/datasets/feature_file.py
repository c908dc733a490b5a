"""The user's own features in one documented HDF5 file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform
from pyg_hash.datasets.build import build_hetero
from pyg_hash.datasets.feature_layout import (
    StoredMatrix,
    check_format,
    open_feature_file,
    read_about,
    read_labels,
    read_splits,
    read_strings,
)
from pyg_hash.datasets.feature_raw import stored_encoder
from pyg_hash.features import ImageEncoder, TextEncoder
from pyg_hash.typing import IMAGE, TEXT


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

    Args:
        path: the file.
        transform: applied at every access.
        pre_transform: applied once and stored.
        root: folder for what is stored; default: ``<path>.cache``.
        force_reload: apply ``pre_transform`` again.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: the file is truncated, damaged or no HDF5 file.
        ValueError: the content breaks a rule; the message names the entry. All problems at once
            are listed by :func:`~pyg_hash.datasets.check_feature_file`.
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
        stat = self.path.stat()
        return {"path": str(self.path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}

    def build(self) -> HeteroData:
        """Read and check everything that a model needs."""
        with open_feature_file(self.path) as file:
            try:
                check_format(file)
                read_about(file)  # not needed here, but a bad one is told now
                image, text = StoredMatrix(file, "image"), StoredMatrix(file, "text")
                if image.shape[0] != text.shape[0]:
                    raise ValueError(
                        f"image and text: {image.shape[0]} and {text.shape[0]} rows; "
                        "row i of both must be the same instance"
                    )
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

    def image_encoder(self) -> ImageEncoder:
        """The encoder that :func:`~pyg_hash.datasets.encode_feature_file` wrote beside the file.

        Raises:
            ValueError: the features were made elsewhere.
        """
        encoder: ImageEncoder | None = stored_encoder(self.path, IMAGE)
        return super().image_encoder() if encoder is None else encoder

    def text_encoder(self) -> TextEncoder:
        """The same for texts."""
        encoder: TextEncoder | None = stored_encoder(self.path, TEXT)
        return super().text_encoder() if encoder is None else encoder

    def read_items(self) -> Items:
        """Ids, class names, picture paths and texts as stored."""
        with open_feature_file(self.path) as file:
            n = StoredMatrix(file, "image").shape[0]
            ids = read_strings(file, "ids", n)
            names = read_strings(file, "class_names")
            paths = read_strings(file, "image_paths", n) or [""] * n
            texts = read_strings(file, "texts", n) or [""] * n
        if names is None:
            names = [f"class {c}" for c in range(self.num_classes)]
        return Items(
            ids=[str(i) for i in range(n)] if ids is None else ids,
            class_names=names,
            image_paths=[str(self.path.parent / path) if path else None for path in paths],
            texts=[text or None for text in texts],
        )
