"""The user's own features in one documented HDF5 file: written, encoded, checked, read."""

from __future__ import annotations

import difflib
import inspect
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from os.path import isfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import (
    CrossModalDataset,
    Items,
    Transform,
    encode_all,
    refuse_items,
    stamp,
)
from pyg_hash.datasets.build import as_mask, build_hetero, fill_splits, row_chunks
from pyg_hash.datasets.given import as_labels, as_matrix, as_strings
from pyg_hash.features import OwnEncoder, load_encoder
from pyg_hash.features.base import ENCODER_FILE
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality
from pyg_hash.utils.checks import check_choice, check_positive_int
from pyg_hash.utils.checksums import verify
from pyg_hash.utils.files import (
    CorruptFileError,
    atomic_path,
    bad_text,
    check_path,
    check_writable,
    digest_of_folder,
    sha256,
)
from pyg_hash.utils.hdf5 import new_hdf5, open_hdf5
from pyg_hash.utils.locks import replace_folder
from pyg_hash.utils.provenance import stored_files

FORMAT = "pyg_hash.features"
VERSION = 1
SPLITS = ("train", "query", "database", "labeled", "val")
OTHER_ROWS = "image and text: {} and {} rows; row i of both must be the same instance"
_FILTERS = (None, "gzip", "lzf", *range(10))


@contextmanager
def open_feature_file(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The open HDF5 file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or another process has it open for writing.
        CorruptFileError: it is no HDF5 file, or truncated or damaged, found now or while reading;
            or something in it leads into other files.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such feature file; write it with write_feature_file")
    state, problem = os.stat(path), None
    try:
        now = (state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        sealed = path.suffix in (".h5", ".hdf5") and _verified(os.fspath(path), *now)
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


@lru_cache(maxsize=64)
def _verified(path: str, *now: int) -> bool:
    """:func:`verify`, once for each state of a file."""
    return verify(path)


def read_about(file: Any) -> str | None:
    """What the file says of its features or None; ``ValueError`` if it is not of this layout."""
    name, version = (file.attrs.get(key) for key in ("format", "version"))
    name = name.decode(errors="replace") if isinstance(name, bytes) else name
    if (
        not (isinstance(name, str) and np.ndim(version) == 0)
        or name != FORMAT
        or version != VERSION
    ):
        raise ValueError(
            f"attributes: format {name!r:.40} version {version!s:.40} is not {FORMAT!r} "
            f"version {VERSION}; write the file with write_feature_file"
        )
    about = file.attrs.get("about")
    if isinstance(about, bytes):  # a string of fixed length, as other libraries write it
        about = about.decode(errors="replace")
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
        if self.sparse and not (
            {"data", "indices", "indptr"} <= set(node) and "shape" in node.attrs
        ):
            raise ValueError(
                f"{name}: a CSR group needs data, indices, indptr and the attribute shape; "
                f"it has {sorted(node)}"
            )
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
        if (
            len(pointer) != shape[0] + 1
            or [pointer[0], pointer[-1]] != [0, self.num_stored]
            or len(node["indices"]) != self.num_stored
            or bool((np.diff(pointer) < 0).any())
        ):
            raise ValueError(
                f"{name}: indptr, indices and data do not describe {shape[0]} rows; "
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
    if labels.dtype.kind not in "iub" and labels.ndim != 2:
        raise ValueError(f"labels: class indices must be integers, got {labels.dtype}")
    if labels.dtype.kind not in "iubf":
        raise ValueError(f"labels: expected numbers, got {labels.dtype}")
    return torch.from_numpy(labels.astype(np.float32 if labels.ndim == 2 else np.int64))


def read_splits(file: Any, num_rows: int) -> dict[str, Tensor]:
    """The bool masks ``[N]`` that the file holds; train and query have to be among them."""
    masks = {}
    for name in SPLITS:
        if f"splits/{name}" in file:
            values = np.asarray(file[f"splits/{name}"][()])  # a lone text is none
            if values.shape != (num_rows,) or not np.isin(values, (0, 1)).all():
                raise ValueError(
                    f"splits/{name}: expected a mask of {num_rows} zeros and ones, "
                    f"got shape {list(values.shape)} and dtype {values.dtype}"
                )
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


@contextmanager
def _of_file(path: Path) -> Iterator[None]:
    """What the block raises names the file."""
    try:
        yield
    except CorruptFileError:
        raise
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{path}: {error}") from error


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
        check_path(path)
        for name, given in (("transform", transform), ("pre_transform", pre_transform)):
            if given is not None and not callable(given):
                raise TypeError(f"{name}: expected a transform, got {given!r:.60}")
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
        with open_feature_file(self.path) as file, _of_file(self.path):
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

    @property
    def about(self) -> str | None:
        """What the file says of its features; None: nothing."""
        with open_feature_file(self.path) as file:
            return read_about(file)

    def _encoder(self, modality: Modality) -> Any:
        """What was kept beside the file."""
        found = stored_encoder(self.path, modality)
        return super()._encoder(modality) if found is None else found

    def read_items(self) -> Items:
        """Ids, class names, picture paths and texts as stored."""
        return stored_items(self.path, self.num_classes)


def stored_encoder(path: Path, modality: Modality) -> Any:
    """The encoder that was kept beside a file; None: there is none, or another hand wrote it since.

    Raises:
        CorruptFileError: what is there is another encoder.
    """
    with open_feature_file(path) as file:
        made_by = file.attrs.get(f"{modality}_encoder")
    endings = ("", ".new", ".old")  # the others: of one who was killed while writing
    folders = [Path(f"{path}.encoders{ending}") / modality for ending in endings]
    folders = [folder for folder in folders if made_by and (folder / ENCODER_FILE).is_file()]
    for folder in folders:  # the settings alone: of a file of an earlier version
        if made_by in (digest_of_folder(folder), sha256(folder / ENCODER_FILE)):
            return load_encoder(folder)
    if folders:
        for file in stored_files(folders[0]):  # names one that is damaged
            verify(file)
        raise CorruptFileError(
            f"{folders[0]}: is not the encoder that made {path}; put that one back, or remove the "
            "folder to go without"
        )
    return None


def stored_items(path: Path, num_classes: int) -> Items:
    """Ids, class names, picture paths and texts of a file."""
    with open_feature_file(path) as file, _of_file(path):
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


def write_feature_file(
    path: str | os.PathLike[str],
    *,
    image: Any,
    text: Any,
    train: Any,
    query: Any,
    database: Any = None,
    labeled: Any = None,
    val: Any = None,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    ids: Sequence[Any] | None = None,
    image_paths: Sequence[Any] | None = None,
    texts: Sequence[str | None] | None = None,
    about: str | None = None,
    compression: str | int | None = None,
    image_encoder: Any = None,
    text_encoder: Any = None,
) -> Path:
    """Write a file that :class:`~pyg_hash.datasets.FeatureFile` reads, atomically.

    Everything is checked before anything is written.

    Args:
        path: the file; one that exists is replaced.
        image: real ``[N, d]``, a tensor, an array or nested lists; sparse ones of SciPy or torch
            are stored as CSR, bfloat16 as float32.
        text: the same, ``[N, d]``.
        train: bool mask ``[N]`` or row numbers; so are the next four.
        query: rows that ask.
        database: rows that are searched; None means all but ``query``.
        labeled: rows of ``train`` whose labels may be used; None means ``train``.
        val: rows held out for the choice of settings, neither in ``train`` nor in ``query``.
        labels: class index, integer ``[N]`` or one column, or zeros and ones ``[N, C]``; or a word
            a row, or a list of words; None for none. Without ``class_names`` the classes are the
            words or numbers that occur, sorted.
        class_names: one name a class.
        ids: one name a row; whole numbers become their digits.
        image_paths: picture files, relative to the folder of ``path``; None where there is none.
        texts: raw texts; None or NaN where there is none.
        about: what made the features, e.g. ``'vgg16-fc7 + use512'``.
        compression: HDF5 filter of the features, ``'gzip'``, ``'lzf'`` or gzip's level 0 to 9;
            smaller but slower.
        image_encoder: what made ``image``, an :class:`~pyg_hash.features.ImageEncoder` or a
            function of yours; kept in the folder ``PATH.encoders``, so that runs take raw pictures.
            The code of a function is not kept, see :class:`~pyg_hash.features.OwnEncoder`.
        text_encoder: the same, of ``text``.

    Raises:
        TypeError: arguments of the wrong type.
        ValueError: the content breaks a rule of the layout; the message lists every problem.
        OSError: the file cannot be written.
    """
    content = {name: value for name, value in locals().items() if name != "path"}
    given = {m: content.pop(f"{m}_encoder") for m in MODALITIES}
    encoders = {m: _as_encoder(e, m) for m, e in given.items() if e is not None}
    check_path(path)
    check_writable(path)
    checked = _checked(path, content)
    for m, encoder in encoders.items():
        width = checked[m].shape[1]
        if isinstance(encoder, OwnEncoder):
            encoder.of_width(width)
        elif encoder.num_features != width:
            raise ValueError(
                f"{m}_encoder: makes {encoder.num_features} features, {m} has {width}; give the "
                "one that made them"
            )
    return _write(path, checked, encoders)


def _as_encoder(encoder: Any, modality: Modality) -> Any:
    """An encoder that can be kept, of one or of a function."""
    if not isinstance(encoder, type) and callable(encoder):
        return encoder if hasattr(encoder, "save") else OwnEncoder(encoder)
    raise TypeError(f"{modality}_encoder: expected an encoder or a function, got {encoder!r:.60}")


def _checked(path: Any, given: dict[str, Any], num_rows: int | None = None) -> dict[str, Any]:
    """What the file is to hold, by entry; with ``num_rows``, its features come later.

    ``TypeError``, if that is all, or ``ValueError``; it lists every problem.
    """
    found: dict[str, Any] = {}
    problems: list[TypeError | ValueError] = []

    def note(name: str, check: Callable[..., Any], *arguments: Any) -> Any:
        try:
            found[name] = check(*arguments)
        except (TypeError, ValueError) as error:
            problems.append(error)
        return found.get(name)

    if num_rows is None:
        matrices = [note(m, as_matrix, given[m], m) for m in MODALITIES]
        sizes = [matrix.shape[0] for matrix in matrices if matrix is not None]
        if len(set(sizes)) > 1:
            problems.append(ValueError(OTHER_ROWS.format(*sizes)))
        num_rows = sizes[0] if sizes else None
    if num_rows is not None:
        names = None
        if given["class_names"] is not None:
            names = note("class_names", as_strings, given["class_names"], "class_names")
        labels = given["labels"]
        if labels is not None and (own := note("labels", as_labels, labels, names, num_rows)):
            found["labels"], names = own
        if names is not None:
            found["class_names"] = names
        for name in ("ids", "image_paths", "texts"):
            if given[name] is not None:
                note(name, as_strings, given[name], name, num_rows)
        masks: dict[str, Tensor] = {}
        for name in SPLITS:
            if given[name] is not None or name in ("train", "query"):
                mask = note(f"splits/{name}", as_mask, given[name], num_rows, name)
                masks |= {} if mask is None else {name: mask}
        if {"train", "query"} <= set(masks):
            problems += map(ValueError, fill_splits(masks, labels=labels is not None)[1])
    note("compression", _as_compression, given["compression"])
    note("about", _as_about, given["about"])
    if problems:
        kind = TypeError if all(isinstance(p, TypeError) for p in problems) else ValueError
        raise kind(f"{path} was not written:\n" + "\n".join(map(str, problems)))
    return found


def _as_compression(value: Any) -> Any:
    check_choice(value, _FILTERS, "compression")
    return value


def _as_about(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError(f"about: expected a text, got {type(value).__name__}")
    if value is not None and (not value.strip() or bad_text(value)):
        raise ValueError(f"about: must be a text that is not empty, got {value!r}")
    return value


def _write(path: Any, content: dict[str, Any], encoders: Mapping[Modality, Any]) -> Path:
    """Write what :func:`_checked` gave, and the encoders that made it into their folder."""
    about, compression = content["about"], content["compression"]
    new = Path(f"{path}.encoders.new")
    with atomic_path(path) as temporary, new_hdf5(temporary) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        if about is not None:
            file.attrs["about"] = about
        for name, values in content.items():
            if name in MODALITIES:
                _write_matrix(file, name, values, compression)
            elif isinstance(values, list):
                file.create_dataset(name, data=values, dtype=h5py.string_dtype())
            elif isinstance(values, np.ndarray | Tensor):
                file[name] = values
        if encoders:
            shutil.rmtree(new, ignore_errors=True)
            for modality, encoder in encoders.items():
                encoder.save(new / modality)
                file.attrs[f"{modality}_encoder"] = digest_of_folder(new / modality)
    if encoders:  # those of the old file go when the new one is there
        replace_folder(new, Path(f"{path}.encoders"))
    return Path(path)


def _write_matrix(file: Any, name: str, matrix: Any, compression: Any) -> None:
    sparse: bool = sp.issparse(matrix)  # in a name, as it would narrow the type of matrix
    if not sparse:
        file.create_dataset(name, data=matrix, compression=compression)
        return
    for part in ("data", "indices", "indptr"):
        file.create_dataset(f"{name}/{part}", data=getattr(matrix, part), compression=compression)
    file[name].attrs["shape"] = matrix.shape


def encode_feature_file(
    path: str | os.PathLike[str],
    *,
    images: Sequence[str | os.PathLike[str]],
    texts: Sequence[str],
    image_encoder: Any,
    text_encoder: Any,
    batch_size: int = 64,
    **more: Any,
) -> Path:
    """Encode raw pairs and write a file that :class:`~pyg_hash.datasets.FeatureFile` reads.

    Everything is checked before the first item is encoded. The encoders are kept in the folder
    ``PATH.encoders``, so that ``pyg-hash train`` puts them into the run, and ``search`` and
    ``encode`` take raw pictures and texts.

    Args:
        path: the file; one that exists is replaced.
        images: ``N`` picture files.
        texts: ``N`` texts; row i of both is instance i.
        image_encoder: of the pictures; an encoder or a function of yours.
        text_encoder: of the texts, the same; one that learns from texts is fitted already.
        batch_size: items in a call of an encoder.
        **more: ``train``, ``query``, ``labels``, ``ids`` and all other keywords of
            :func:`~pyg_hash.datasets.write_feature_file` but the features.

    Raises:
        TypeError, ValueError: as of ``write_feature_file``; lists of different lengths, empty
            texts, pictures that do not exist, or items that cannot be encoded, which are listed.
    """
    own = {"path", "image", "text", "image_paths", "texts", "image_encoder", "text_encoder"}
    taken = inspect.signature(write_feature_file).parameters
    keywords = {name: p.default for name, p in taken.items() if name not in own}
    if unknown := sorted(set(more) - set(keywords)):
        near = difflib.get_close_matches(unknown[0], keywords, 1)
        hint = f"did you mean {near[0]}?" if near else f"use some of {', '.join(keywords)}"
        raise TypeError(f"{unknown[0]}: is no argument; {hint}")
    for name in ("train", "query"):
        if name not in more:
            raise TypeError(f"{name}: is missing; give a mask or row numbers")
    given: dict[Modality, Any] = {IMAGE: image_encoder, TEXT: text_encoder}
    encoders = {modality: _as_encoder(encoder, modality) for modality, encoder in given.items()}
    check_positive_int(batch_size, "batch_size")
    paths, words = as_strings(images, "image_paths"), as_strings(texts, "texts")
    if len(paths) != len(words):
        raise ValueError(
            f"texts: {len(words)} texts and {len(paths)} pictures; row i of both is instance i"
        )
    lost = [f"  image {row} ({p!r}): no such file" for row, p in enumerate(paths) if not isfile(p)]
    refuse_items(lost + [f"  text {row}: is empty" for row, t in enumerate(words) if not t.strip()])
    check_path(path)
    check_writable(path)
    relative = [os.path.relpath(image, Path(path).parent) for image in paths]
    more = {**keywords, **more, "image_paths": relative, "texts": words}
    content = _checked(path, more, len(paths))
    found = encode_all(batch_size, image=(encoders[IMAGE], paths), text=(encoders[TEXT], words))
    content |= {name: as_matrix(x, name) for name, x in found.items()}
    return _write(path, content, encoders)
