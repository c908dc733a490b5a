"""What users hand over, checked, encoded and written as a feature file."""

from __future__ import annotations

import difflib
import inspect
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from os.path import isfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from pyg_hash.datasets.base import encode_all, refuse_items
from pyg_hash.datasets.build import as_array, as_mask, fill_splits, row_chunks
from pyg_hash.datasets.feature_file import FORMAT, SPLITS, VERSION
from pyg_hash.features import OwnEncoder
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, PathLike
from pyg_hash.utils.checks import check_choice, check_labels, check_positive_int, check_same_rows
from pyg_hash.utils.files import (
    atomic_path,
    bad_text,
    check_path,
    check_writable,
    digest_of_folder,
    relative_path,
)
from pyg_hash.utils.hdf5 import new_hdf5
from pyg_hash.utils.locks import Lock, replace_folder
from pyg_hash.utils.oddities import check_unmasked

_FILTERS = (None, "gzip", "lzf", *range(10))
_GROUPS = (list, tuple, set, frozenset)


def write_feature_file(
    path: PathLike,
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
        labeled: rows of ``train`` whose labels may be used; by default those that have one.
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

    ``TypeError`` or ``ValueError``: the content breaks rules of the layout, all of which the
    message lists. ``OSError``: the file cannot be written. ``BusyError``: another process is
    writing it with encoders, and some are given.
    """
    content = {name: value for name, value in locals().items() if name != "path"}
    given = {m: content.pop(f"{m}_encoder") for m in MODALITIES}
    encoders = _encoders(path, {m: e for m, e in given.items() if e is not None})
    checked = _checked(path, content)
    for m, encoder in encoders.items():
        width = checked[m].shape[1]
        if isinstance(encoder, OwnEncoder) and encoder.width is None:
            encoder.width = width
        if encoder.num_features != width:
            told = f"makes {encoder.num_features} features, {m} has {width}"
            raise ValueError(f"{m}_encoder: {told}; give the one that made them")
    with Lock(Path(f"{path}.lock"), f"path: {path}") if encoders else nullcontext():
        return _write(path, checked, encoders)


def _encoders(path: Any, given: Mapping[Modality, Any]) -> dict[Modality, Any]:
    """Those that are given, as they can be kept beside a file that can be written."""
    encoders: dict[Modality, Any] = {}
    for m, encoder in given.items():
        if isinstance(encoder, type) or not callable(encoder):
            raise TypeError(f"{m}_encoder: expected an encoder or a function, got {encoder!r:.60}")
        encoders[m] = encoder if hasattr(encoder, "save") else OwnEncoder(encoder)
    check_path(path)
    check_writable(path)
    folder = Path(f"{path}.encoders")
    if encoders and os.path.lexists(folder):
        names = [name for name in os.listdir(folder) if name[0] != "."] if folder.is_dir() else None
        if names is None or {*names} - {*MODALITIES}:
            what = "is no folder" if names is None else f"holds {', '.join(sorted(names)):.200}"
            raise FileExistsError(
                f"path: the encoders go into {folder}, which {what}; move that, or rename the file"
            )
    return encoders


def _checked(path: Any, given: dict[str, Any], num_rows: int | None = None) -> dict[str, Any]:
    """What the file is to hold, given ``num_rows`` no features; one error lists all problems."""
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
            note("rows", check_same_rows, *matrices, *MODALITIES)
        num_rows = sizes[0] if sizes else None
    if num_rows is not None:
        if given["class_names"] is not None:
            note("class_names", as_strings, given["class_names"], "class_names")
        labels, names = given["labels"], found.get("class_names")
        if labels is not None and (own := note("labels", as_labels, labels, names, num_rows)):
            found["labels"], names = own
            found |= {} if names is None else {"class_names": names}
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
    about = given["about"]
    if not isinstance(about, str | None):
        problems.append(TypeError(f"about: expected a text, got {type(about).__name__}"))
    elif about is not None and (not about.strip() or bad_text(about)):
        problems.append(ValueError(f"about: must be a text that is not empty, got {about!r}"))
    note("compression", check_choice, given["compression"], _FILTERS, "compression")
    found |= {name: given[name] for name in ("about", "compression")}
    if problems:
        kind = TypeError if all(isinstance(p, TypeError) for p in problems) else ValueError
        raise kind(f"{path} was not written: " + "\n".join(map(str, problems)))
    return found


def _write(path: Any, content: dict[str, Any], encoders: Mapping[Modality, Any]) -> Path:
    """Write what :func:`_checked` gave, and the encoders that made it into their folder."""
    about, compression = content["about"], content["compression"]
    new = Path(f"{path}.encoders.new")
    with atomic_path(path) as temporary, new_hdf5(temporary) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        if about is not None:
            file.attrs["about"] = about
        for name, values in content.items():
            sparse: bool = sp.issparse(values)  # in a name, as it would narrow the type of values
            if sparse:
                for part in ("data", "indices", "indptr"):
                    array = getattr(values, part)
                    file.create_dataset(f"{name}/{part}", data=array, compression=compression)
                file[name].attrs["shape"] = values.shape
            elif name in MODALITIES:
                file.create_dataset(name, data=values, compression=compression)
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


def encode_feature_file(
    path: PathLike,
    *,
    images: Sequence[PathLike],
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

    ``TypeError`` or ``ValueError``: as of ``write_feature_file``; lists of different lengths, empty
    texts, pictures that do not exist, or items that cannot be encoded, which are listed.
    ``BusyError``: another process is encoding or writing to ``path``.
    """
    own = {"path", "image", "text", "image_paths", "texts", "image_encoder", "text_encoder"}
    taken = inspect.signature(write_feature_file).parameters
    keywords = dict.fromkeys(name for name in taken if name not in own)
    if unknown := sorted(set(more) - set(keywords)):
        near = difflib.get_close_matches(unknown[0], keywords, 1)
        hint = f"did you mean {near[0]}?" if near else f"use some of {', '.join(keywords)}"
        raise TypeError(f"{unknown[0]}: is no argument; {hint}")
    encoders = _encoders(path, {IMAGE: image_encoder, TEXT: text_encoder})
    check_positive_int(batch_size, "batch_size")
    paths, words = as_strings(images, "image_paths"), as_strings(texts, "texts")
    if len(paths) != len(words):
        told = f"{len(words)} texts and {len(paths)} pictures"
        raise ValueError(f"texts: {told}; row i of both is instance i")
    lost = [f"  image {row} ({p!r}): no such file" for row, p in enumerate(paths) if not isfile(p)]
    refuse_items(lost + [f"  text {row}: is empty" for row, t in enumerate(words) if not t.strip()])
    relative = [relative_path(image, Path(path).parent) for image in paths]
    more = {**keywords, **more, "image_paths": relative, "texts": words}
    content = _checked(path, more, len(paths))
    with Lock(Path(f"{path}.lock"), f"path: {path}"):  # a second one is told before it encodes
        found = encode_all(batch_size, image=(encoders[IMAGE], paths), text=(encoders[TEXT], words))
        content |= {name: as_matrix(x, name) for name, x in found.items()}
        return _write(path, content, encoders)


# what users hand over; every error names its argument -------------------------------------------


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
        told = f"{name}: {bad.sum()} of {len(bad)} rows contain NaN, inf or numbers beyond float32"
        raise ValueError(f"{told} (first: row {bad.argmax()}); clean or drop them")
    return matrix


def as_labels(
    labels: Any, class_names: list[str] | None, num_rows: int
) -> tuple[np.ndarray[Any, Any], list[str] | None]:
    """Class indices ``[N]`` or zeros and ones ``[N, C]``, and the names of the classes.

    Words become indices, lists of words zeros and ones, of ``class_names`` or else of the words
    that occur, sorted. Whole numbers may be of any type, and in one column. Without
    ``class_names``, those that are not 0..C-1 become it, and name the classes.
    """
    if (rows := _words(labels)) is not None:
        used = {word for row in rows for word in ([row] if isinstance(row, str) else row)}
        class_names = sorted(used) if class_names is None else class_names
        if unknown := sorted(used - set(class_names)):
            raise ValueError(f"labels: {unknown[0]!r} is none of class_names; add it")
        place = {name: number for number, name in enumerate(class_names)}
        if isinstance(rows[0], str):
            labels = np.array([place[row] for row in rows], np.int64)
        else:
            labels = np.zeros((len(rows), len(class_names)), np.uint8)
            for number, row in enumerate(rows):
                labels[number, [place[word] for word in row]] = 1
    array = as_array(labels, "labels")
    remedy = "give each row a class, and leave rows whose class is not known out of labeled"
    if array.dtype.kind not in "biuf":
        raise TypeError(f"labels: expected numbers or words, got {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"labels: contain NaN or inf; {remedy}")
    count = None if class_names is None else len(class_names)
    if array.ndim == 2 and array.shape[1] == 1 and count != 1:
        if class_names is None and set(np.unique(array)) <= {0, 1}:
            told = "a column of zeros and ones is either one class that a row may have or two"
            raise ValueError(f"labels: {told}; give class indices [N], or class_names")
        array = array[:, 0]
    if array.ndim == 1 and array.dtype.kind != "b":
        indices = array.astype(np.int64)
        if (indices != array).any():
            raise ValueError("labels: class indices must be whole numbers; round them")
        if array.size and array.min() < 0:
            raise ValueError(f"labels: class indices run from {array.min()}; {remedy}")
        array = indices
        if class_names is None:
            numbers, indices = np.unique(array, return_inverse=True)
            if not np.array_equal(numbers, np.arange(len(numbers))):
                array, class_names = indices.reshape(-1), [str(number) for number in numbers]
        elif array.size and array.max() == count:
            told = f"run to {count}, but there are {count} class_names, whose indices begin at 0"
            raise ValueError(f"labels: class indices {told}; subtract 1")
    hot = array.ndim != 1
    plain = torch.from_numpy(array.astype(np.float32) if hot else array)
    check_labels(plain, "labels", num_rows=num_rows, num_classes=count)
    return array.astype(np.uint8) if hot else array, class_names


def _words(labels: Any) -> list[Any] | None:
    """Rows of words or of lists of words; None for anything else."""
    if isinstance(labels, str | bytes):
        raise TypeError(f"labels: expected one label a row, got one text {labels!r:.40}")
    kind = getattr(getattr(labels, "dtype", None), "kind", "")
    if not isinstance(labels, list | tuple) and kind not in ("O", "U"):
        return None
    rows = list(labels) if isinstance(labels, list | tuple) else labels.tolist()
    texts = [isinstance(row, str) for row in rows]
    if any(texts) and not all(texts):
        row = texts.index(False)
        raise TypeError(f"labels: row {row} is {rows[row]!r:.40}, others are words; give all")
    groups = all(isinstance(r, _GROUPS) and all(isinstance(word, str) for word in r) for r in rows)
    if any(texts) or not (groups and any(rows)):
        return rows if any(texts) else None
    alone = isinstance(labels, np.ndarray) and all(len(row) == 1 for row in rows)  # one column
    return [row[0] for row in rows] if alone else rows


def as_strings(values: Any, name: str, num_rows: int | None = None) -> list[str]:
    """Texts, one a row; ids may be whole numbers; None and NaN where a row may lack it: ``""``."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected a list of texts, got {values!r:.40}")
    check_unmasked(values, name)
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
    if name in ("ids", "class_names") and len(set(found)) < len(found):
        twice = Counter(found).most_common(1)[0][0]
        raise ValueError(f"{name}: {twice!r:.40} occurs more than once; give each its own")
    return found
