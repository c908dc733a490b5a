"""The user's own features in one documented HDF5 file: read, and checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from xxhash import xxh3_64_intdigest

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform
from pyg_hash.datasets.build import build_hetero, check_few_classes, fill_splits, row_chunks
from pyg_hash.features import load_encoder
from pyg_hash.features.base import ENCODER_FILE
from pyg_hash.typing import MODALITIES, Modality, PathLike
from pyg_hash.utils import oddities
from pyg_hash.utils.checks import check_labels, check_same_rows
from pyg_hash.utils.checksums import form_of, sum_of, verify
from pyg_hash.utils.files import CorruptFileError, check_file, check_path, digest_of_folder
from pyg_hash.utils.hdf5 import open_hdf5
from pyg_hash.utils.locks import BusyError, set_aside
from pyg_hash.utils.provenance import stored_files

FORMAT = "pyg_hash.features"
VERSION = 1
SPLITS = ("train", "query", "database", "labeled", "val")
# once for each state of a file: times alone can be set
_verified = lru_cache(maxsize=64)(lambda path, *now: verify(path))
_sums = lru_cache(maxsize=64)(lambda path, *now: sum_of(path))


@contextmanager
def open_feature_file(path: PathLike) -> Iterator[Any]:
    """The open HDF5 file; a ``TypeError`` or ``ValueError`` of the block gets its name.

    ``FileNotFoundError``, or ``OSError``: another process has it open for writing.
    ``CorruptFileError``: it is no HDF5 file, or truncated or damaged, found now or while reading;
    or something in it leads into other files.
    """
    path = Path(path)
    check_file(path, kind="feature file", remedy="; write it with write_feature_file")
    state, problem = os.stat(path), None
    try:
        now = (state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        sealed = form_of(path) in (".h5", ".hdf5") and _verified(os.fspath(path), *now)
    except CorruptFileError as error:  # or it is open elsewhere, which opening it tells
        sealed, problem = False, error
    try:
        with open_hdf5(path, sealed=sealed) as file:
            if problem is not None:
                raise problem
            yield file
    except BlockingIOError as error:
        raise OSError(
            f"{path}: another process has it open for writing; try again when that is done"
        ) from error
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(f"{path}: {error}") from error


def read_about(file: Any) -> str | None:
    """What the file says of its features or None; ``ValueError`` if it is not of this layout."""
    found = [file.attrs.get(key) for key in ("format", "version", "about")]
    # bytes: strings of fixed length, as other libraries write them
    found = [x.decode(errors="replace") if isinstance(x, bytes) else x for x in found]
    name, version, about = found
    if not isinstance(name, str) or np.ndim(version) or (name, version) != (FORMAT, VERSION):
        told = f"format {name!r:.40} version {version!s:.40} is not {FORMAT!r} version {VERSION}"
        raise ValueError(f"attributes: {told}; write the file with write_feature_file")
    if about is not None and not (isinstance(about, str) and about.strip()):
        raise ValueError(f"attributes: about must be a text that is not empty, got {about!r}")
    return about


class StoredMatrix:
    """Matrix ``'image'`` or ``'text'`` of an open file, dense or CSR, read in blocks of rows.

    ``ValueError``: it is missing or not of the documented form.
    """

    def __init__(self, file: Any, name: str) -> None:
        if name not in file:
            raise ValueError(f"{name}: missing; the file needs a dataset or a CSR group {name!r}")
        self.name, node = name, file[name]
        self._node, self.sparse = node, isinstance(node, h5py.Group)
        if self.sparse and not ({"data", "indices", "indptr"} <= {*node} and "shape" in node.attrs):
            if {"codes", "ids"} <= {*node}:
                raise ValueError(f"{name}: holds codes, which encode wrote; give features")
            needs = "data, indices, indptr and the attribute shape"
            raise ValueError(f"{name}: a CSR group needs {needs}; it has {sorted(node)}")
        shape = [int(size) for size in (node.attrs["shape"] if self.sparse else node.shape)]
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"{name}: expected a matrix [N, d], got shape {shape}")
        self.shape: tuple[int, int] = (shape[0], shape[1])
        values = node["data"] if self.sparse else node
        self.dtype, self.num_stored = values.dtype, int(values.size)
        if self.dtype.kind not in "fiub":
            raise ValueError(f"{name}: expected real numbers, got {self.dtype}; convert them")
        if not self.sparse:
            return
        pointer = self._indptr = node["indptr"][:].astype(np.int64)
        known = [shape[0] + 1, 0, self.num_stored, self.num_stored]
        found = [len(pointer), *pointer[:1], *pointer[-1:], len(node["indices"])]
        if found != known or bool((np.diff(pointer) < 0).any()):
            told = f"{name}: indptr, indices and data do not describe {shape[0]} rows"
            raise ValueError(f"{told}; write the file with write_feature_file")

    def read_rows(self, start: int, stop: int, out: np.ndarray[Any, Any]) -> None:
        """Write rows ``start .. stop - 1`` into ``out``, float32 ``[stop - start, d]``."""
        if not self.sparse:
            self._node.read_direct(out, np.s_[start:stop])
            return
        low, high = int(self._indptr[start]), int(self._indptr[stop])
        indices = self._node["indices"][low:high]
        if len(indices) and (indices.min() < 0 or indices.max() >= self.shape[1]):
            span = f"{indices.min()} to {indices.max()}, outside 0..{self.shape[1] - 1}"
            raise ValueError(f"{self.name}: column numbers run from {span}")
        values = self._node["data"][low:high].astype(np.float32)
        parts = (values, indices, self._indptr[start : stop + 1] - low)
        sp.csr_matrix(parts, shape=(stop - start, self.shape[1])).toarray(out=out)

    def read(self) -> Tensor:
        """All rows as float32 ``[N, d]``, read straight into the tensor."""
        out = np.empty(self.shape, np.float32)
        for start, stop in row_chunks(*self.shape):
            self.read_rows(start, stop, out[start:stop])
        return torch.from_numpy(out)


def is_feature_file(path: Path) -> bool:
    """Whether a file is HDF5 and says that it is a feature file."""
    if not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        said = file.attrs.get("format")
        return isinstance(said, str | bytes) and said in (FORMAT, FORMAT.encode())


def read_labels(file: Any) -> Tensor | None:
    """Labels as stored, integer ``[N]`` or 0/1 ``[N, C]``; None if there are none."""
    if "labels" not in file:
        return None
    labels = np.asarray(file["labels"][()])
    if labels.ndim not in (1, 2):
        raise ValueError(f"labels: expected shape [N] or [N, C], got {list(labels.shape)}")
    if labels.dtype.kind not in ("iub" if labels.ndim == 1 else "iubf"):
        kinds = "class indices must be integers, [N, C] zeros and ones"
        raise ValueError(f"labels: {kinds}; got {labels.dtype}")
    return torch.from_numpy(labels.astype(np.float32 if labels.ndim == 2 else np.int64))


def read_splits(file: Any, num_rows: int) -> dict[str, Tensor]:
    """The bool masks ``[N]`` that the file holds; train and query have to be among them."""
    masks = {}
    for name in SPLITS:
        if f"splits/{name}" in file:
            values = np.asarray(file[f"splits/{name}"][()])  # a lone text is none
            if values.shape != (num_rows,) or not np.isin(values, (0, 1)).all():
                got = f"shape {list(values.shape)} and dtype {values.dtype}"
                mask = f"a mask of {num_rows} zeros and ones"
                raise ValueError(f"splits/{name}: expected {mask}, got {got}")
            masks[name] = torch.from_numpy(values.astype(bool))
        elif name in ("train", "query"):
            raise ValueError(f"splits/{name}: missing; give a mask of N zeros and ones")
    return masks


def read_strings(file: Any, name: str, length: int | None = None) -> list[str] | None:
    """A list of strings, of this length if one is given, or None if the file has none."""
    if name not in file:
        return None
    node = file[name]
    if h5py.check_string_dtype(node.dtype) is None or node.ndim != 1:
        raise ValueError(f"{name}: expected a list of strings, got {node.dtype} {node.shape}")
    if length is not None and len(node) != length:
        raise ValueError(f"{name}: has {len(node)} entries, expected {length}")
    try:
        return [str(value) for value in node.asstr()[:]]
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: is not in UTF-8 ({error}); write it again") from error


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
    ``splits/labeled``   optional: rows of train whose labels may be used; default: those of train
                         that have a label
    ``splits/val``       optional: rows held out for the choice of settings, neither in train nor
                         in query; default: none
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

    ``FileNotFoundError``; ``CorruptFileError``: the file is truncated, damaged or no HDF5 file;
    ``ValueError``: the content breaks a rule; the message names the entry. ``BusyError``: the file
    is replaced again and again as it is read; or was since, when more is read, such as texts.
    """

    stores_base = False

    def __init__(
        self,
        path: PathLike,
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        root: PathLike | None = None,
        force_reload: bool = False,
    ) -> None:
        check_path(path)
        self.path = Path(path).expanduser().absolute()
        folder = f"{self.path}.cache" if root is None else root
        super().__init__(folder, transform, pre_transform, force_reload=force_reload)

    def settings(self) -> dict[str, Any]:
        """The file, and its size, time and checksum when it was read."""
        _, size, time, known = self._state
        return {"path": str(self.path), "size": size, "mtime_ns": time, "xxh3": known}

    def _load_or_build(self, tries: int = 5) -> HeteroData:
        self._state = self._version()
        try:
            return super()._load_or_build()
        except BusyError:  # from _base: nothing was transformed or stored yet
            if tries == 1:
                raise
        return self._load_or_build(tries - 1)

    def _base(self, *, rebuild: bool = False) -> HeteroData:
        with self._same_file():
            return super()._base(rebuild=rebuild)

    def _version(self) -> list[Any]:
        if not self.path.is_file():
            raise FileNotFoundError(
                f"path: {self.path} is no file; write it with pyg_hash.datasets.write_feature_file"
            )
        now = self.path.stat()
        times = now.st_size, now.st_mtime_ns
        return [now.st_ino, *times, _sums(os.fspath(self.path), *times, now.st_ctime_ns)]

    @contextmanager
    def _same_file(self) -> Iterator[None]:
        """``BusyError``: what the block read may be of another version than the features."""
        try:
            yield
        finally:
            if self.path.is_file() and self._version() != self._state:
                told = "was replaced while it was read, or since; open it again when nobody writes"
                raise BusyError(f"{self.path}: {told}")

    def build(self) -> HeteroData:
        """Read and check everything that a model needs."""
        with open_feature_file(self.path) as file:
            read_about(file)  # the format; and a bad text is told now
            image, text = StoredMatrix(file, "image"), StoredMatrix(file, "text")
            more: dict[str, Any] = {**read_splits(file, image.shape[0]), "y": read_labels(file)}
            if (names := read_strings(file, "class_names")) is not None:
                more["num_classes"] = len(names)
            return build_hetero(image.read(), text.read(), **more)

    @property
    def about(self) -> str | None:
        """What the file says of its features; None: nothing."""
        with self._same_file(), open_feature_file(self.path) as file:
            return read_about(file)

    def _encoder(self, modality: Modality) -> Any:
        """What was kept beside the file."""
        with self._same_file():
            found = stored_encoder(self.path, modality)
        return super()._encoder(modality) if found is None else found

    def read_items(self) -> Items:
        """Ids, class names, picture paths and texts as stored."""
        with self._same_file():
            return stored_items(self.path, self.num_classes)


def stored_encoder(path: Path, modality: Modality) -> Any:
    """The encoder that was kept beside a file; None: there is none, or another hand wrote it since.

    ``CorruptFileError``: what is there is another encoder.
    """
    with open_feature_file(path) as file:
        made_by = file.attrs.get(f"{modality}_encoder")
    kept = Path(f"{path}.encoders")
    places = kept, Path(f"{kept}.new"), set_aside(kept)  # the others: of one who was killed
    folders = [place / modality for place in places if made_by]
    folders = [folder for folder in folders if (folder / ENCODER_FILE).is_file()]
    for folder in folders:
        if made_by == digest_of_folder(folder):
            return load_encoder(folder)
    if folders:
        for file in stored_files(folders[0]):  # names one that is damaged
            verify(file)
        raise CorruptFileError(
            f"{folders[0]}: is not the encoder that made {path}; put that one back, or remove this "
            "folder to go without"
        )
    return None


def stored_items(path: Path, num_classes: int) -> Items:
    """Ids, class names, picture paths and texts of a file."""
    with open_feature_file(path) as file:
        n = StoredMatrix(file, "image").shape[0]
        ids = read_strings(file, "ids", n)
        names = read_strings(file, "class_names")
        paths = read_strings(file, "image_paths", n) or []
        texts = read_strings(file, "texts", n) or []
    return Items(
        ids=[str(i) for i in range(n)] if ids is None else ids,
        class_names=names or [f"class {c}" for c in range(num_classes)],
        image_paths=[os.path.normpath(path.parent / name) if name else None for name in paths],
        texts=[text or None for text in texts],
    )


# checked -------------------------------------------------------------------------------------


@dataclass
class MatrixReport:
    """One feature matrix."""

    shape: tuple[int, int]  #: ``(N, d)``
    dtype: str  #: as stored
    storage: str  #: ``'dense'`` or ``'csr'``
    density: float  #: share of stored values (1 for a dense matrix)
    minimum: float = float("nan")  #: of the finite values
    maximum: float = float("nan")  #: of the finite values
    num_nan: int = 0  #: values that are NaN
    num_inf: int = 0  #: values that are infinite
    zero_rows: int = 0  #: rows without direction, so without cosine
    duplicate_rows: int = 0  #: rows that repeat an earlier one exactly
    query_in_database: int = 0  #: query rows that equal a database row exactly

    def __str__(self) -> str:
        stored = f" ({self.density:.2%} stored)" if self.storage == "csr" else ""
        return (
            f"{self.shape[0]:,} x {self.shape[1]:,} {self.dtype} {self.storage}{stored}, "
            f"range {self.minimum:.4g} .. {self.maximum:.4g}, "
            f"NaN {self.num_nan:,}, inf {self.num_inf:,}, zero rows {self.zero_rows:,}, "
            f"duplicate rows {self.duplicate_rows:,}"
        )


@dataclass
class FeatureReport:
    """What :func:`check_feature_file` found; ``print`` it."""

    path: Path
    #: reports of ``'image'`` and ``'text'``
    matrices: dict[str, MatrixReport] = field(default_factory=dict)
    label_kind: str = "none"  #: ``'class index'``, ``'multi-hot'`` or ``'none'``
    label_counts: dict[str, int] = field(default_factory=dict)  #: rows per class name
    unlabeled_rows: int = 0  #: multi-hot rows without any class
    splits: dict[str, int] = field(default_factory=dict)  #: rows per split, defaults filled in
    #: rows common to two splits, ``'query & database'`` and ``'query & train'``
    overlaps: dict[str, int] = field(default_factory=dict)
    #: what keeps :class:`~pyg_hash.datasets.FeatureFile` from loading the file
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  #: what loads but deserves a look
    about: str | None = None  #: what the file says of its features; None: nothing

    @property
    def ok(self) -> bool:
        """Whether the file loads."""
        return not self.problems

    def __str__(self) -> str:
        parts: dict[str, str] = {} if self.about is None else {"about": self.about}
        parts |= {name: str(matrix) for name, matrix in self.matrices.items()}
        parts["labels"] = self.label_kind
        if counts := self.label_counts.values():
            span = f"{min(counts):,} .. {max(counts):,}"
            parts["labels"] += f", {len(counts)} classes, {span} rows each"
        if self.unlabeled_rows:
            parts["labels"] += f", {self.unlabeled_rows:,} rows without a class"
        sizes = {**self.splits, **self.overlaps}
        for title, found in (("balance", self.label_counts), ("splits", sizes)):
            if found and (title == "splits" or len(found) <= 40):
                parts[title] = ", ".join(f"{name} {count:,}" for name, count in found.items())
        lines = [str(self.path), *(f"  {name:<9} {part}" for name, part in parts.items())]
        lines += [f"  PROBLEM   {problem}" for problem in self.problems]
        lines += [f"  warning   {warning}" for warning in self.warnings]
        lines.append("  ok" if self.ok else f"  {len(self.problems)} problem(s): will not load")
        return "\n".join(lines)


def check_feature_file(path: PathLike) -> FeatureReport:
    """Report on a file in the layout of :class:`~pyg_hash.datasets.FeatureFile`, of any size.

    All problems of the content are collected in the report, none is raised.
    ``FileNotFoundError``; ``CorruptFileError``: the file is truncated, damaged or no HDF5 file.
    """
    report = FeatureReport(Path(path))
    with open_feature_file(path) as file:

        def noted(check: Callable[..., Any], *arguments: Any) -> Any:
            """What it returns; what it raises is one of the problems."""
            try:
                return check(*arguments)
            except (TypeError, ValueError) as error:
                report.problems.append(str(error))
                return None

        report.about = noted(read_about, file)
        found = [noted(StoredMatrix, file, name) for name in MODALITIES]
        matrices = [matrix for matrix in found if matrix is not None]
        hashes = {matrix.name: noted(_check_matrix, report, matrix) for matrix in matrices}
        sizes = [matrix.shape[0] for matrix in matrices]
        if len(set(sizes)) > 1:
            noted(check_same_rows, *matrices, *MODALITIES)
        elif sizes:
            y = noted(_check_labels, report, file, sizes[0])
            kinds = ("ids", "image_paths", "texts")
            ids, paths, _ = (noted(read_strings, file, kind, sizes[0]) or [] for kind in kinds)
            if repeated := len(ids) - len(set(ids)):
                report.warnings.append(f"ids: {repeated} repeat an earlier one")
            places = [report.path.parent / path for path in paths if path]
            if lost := [place for place in places if not place.is_file()]:
                told = f"{len(lost)} files do not exist (first: {lost[0]})"
                report.warnings.append(f"image_paths: {told}")
            if (masks := noted(read_splits, file, sizes[0])) is not None:
                known = {name: digest for name, digest in hashes.items() if digest is not None}
                _check_splits(report, masks, y, known)
    return report


def _check_matrix(report: FeatureReport, matrix: StoredMatrix) -> np.ndarray[Any, Any]:
    """Fill the matrix report; returns a 64-bit hash of each row."""
    (num_rows, width), warnings = matrix.shape, report.warnings
    density, kind = matrix.num_stored / (num_rows * width), "csr" if matrix.sparse else "dense"
    found = MatrixReport(matrix.shape, str(matrix.dtype), kind, density)
    report.matrices[matrix.name] = found
    hashes = np.empty(num_rows, dtype=np.uint64)
    lengths = torch.empty(num_rows, dtype=torch.float64)
    low, high = torch.full((width,), torch.inf), torch.full((width,), -torch.inf)
    for start, stop in row_chunks(num_rows, width):
        block = np.empty((stop - start, width), np.float32)
        matrix.read_rows(start, stop, block)
        found.num_nan += int(np.isnan(block).sum())
        found.num_inf += int(np.isinf(block).sum())
        found.zero_rows += int((~block.any(axis=1)).sum())
        finite = block if np.isfinite(block).all() else block[np.isfinite(block)]
        if finite.size:
            found.minimum = float(np.fmin(found.minimum, finite.min()))  # of NaN and x it is x
            found.maximum = float(np.fmax(found.maximum, finite.max()))
        rows = torch.from_numpy(block)
        lengths[start:stop] = oddities.row_lengths(rows)
        low, high = torch.minimum(low, rows.amin(0)), torch.maximum(high, rows.amax(0))
        block += 0.0  # -0.0 and 0.0 are the same value, so let them hash the same
        hashes[start:stop] = [xxh3_64_intdigest(values.data) for values in block]
    found.duplicate_rows = num_rows - len(np.unique(hashes))
    if found.num_nan or found.num_inf:
        told = f"{found.num_nan} NaN and {found.num_inf} inf values; clean or drop their rows"
        report.problems.append(f"{matrix.name}: {told}")
    else:
        warnings += oddities.odd_rows(lengths, matrix.name)
        warnings += oddities.odd_columns(low, high, matrix.name)
    warnings += oddities.zero_rows(lengths, matrix.name)
    if found.duplicate_rows:
        told = f"{matrix.name}: {found.duplicate_rows} rows repeat an earlier one"
        warnings.append(f"{told}; drop them, or see that equal rows lie in one split")
    return hashes


def _check_labels(report: FeatureReport, file: Any, num_rows: int) -> Tensor | None:
    """The labels, if there are any and nothing is wrong with them."""
    names, y = read_strings(file, "class_names"), read_labels(file)
    if y is None:
        return None
    report.label_kind = "class index" if y.dim() == 1 else "multi-hot"
    check_labels(y, "labels", num_rows=num_rows, num_classes=None if names is None else len(names))
    if names is None:
        check_few_classes(y, "labels")
    if y.dim() == 1:
        counts = torch.bincount(y, minlength=len(names or []))
    else:
        counts = y.sum(dim=0).long()
        report.unlabeled_rows = int((y.sum(dim=1) == 0).sum())
    if report.unlabeled_rows:
        report.warnings.append(f"labels: {report.unlabeled_rows} rows have no class at all")
    names = names or [f"class {c}" for c in range(len(counts))]
    report.label_counts = dict(zip(names, counts.tolist(), strict=True))
    if empty := [name for name, count in report.label_counts.items() if count == 0]:
        report.warnings.append(f"labels: no row has the class {', '.join(empty[:10])}")
    report.warnings += oddities.odd_labels(y, names)
    return y


def _check_splits(
    report: FeatureReport, masks: dict[str, Tensor], y: Tensor | None, hashes: Mapping[str, Any]
) -> None:
    labels = report.label_kind != "none" if y is None else oddities.has_label(y)
    masks, problems = fill_splits(masks, labels=labels)
    report.splits = {name: int(mask.sum()) for name, mask in masks.items()}
    for name in ("database", "train"):
        report.overlaps[f"query & {name}"] = int((masks["query"] & masks[name]).sum())
    report.problems += problems
    if y is not None:
        asked = y[masks["query"]]
        asked = asked[oddities.judged_rows(asked)]
        if len(asked) and bool(masks["database"].any()):
            lost = oddities.unanswered(asked, y[masks["database"]])
            report.warnings += oddities.odd_queries(lost, len(asked))
    query, database = masks["query"].numpy(), masks["database"].numpy()
    for name, digest in hashes.items():
        shared = int(np.isin(digest[query & ~database], digest[database]).sum())
        report.matrices[name].query_in_database = shared
        if shared:
            told = f"{name}: {shared} query rows equal a database row exactly"
            remedy = "drop them from the query split or the database"
            report.warnings.append(f"{told}; retrieval of these is no test: {remedy}")
