"""MATLAB 4 and 5 files: read by a second process, as damage can end SciPy's reader, or keep it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatlabFunction, MatlabObject, MatlabOpaque

from pyg_hash.utils.guarded import Guarded

LIMIT_S = 60.0  # seconds that the second process may take, and as many for each gigabyte
OBJECTS = ("opaque", "object", "function", "unknown")
_OBJECTS = MatlabFunction, MatlabObject, MatlabOpaque  # what they come to
_READER = Guarded("from pyg_hash.utils.matlab import watch; answer_all(watch)", "reading it")


def read_matlab(path: str | os.PathLike[str], name: str | None = None) -> dict[str, Any]:
    """The variables of a file, or the one of this name, if it is there.

    The field ``b`` of a structure ``a`` is ``a/b``, as in MATLAB 7.3; of an array of structures it
    is a cell. Arrays are mapped, what is sparse is CSR, and cells and characters are a list: of
    texts, of lists of texts, and of None for what is no text. An object of a class is None.

    ``ValueError``: it cannot be read; the message says why.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        question = [os.path.abspath(path), folder, name]
        try:
            kinds = _READER.ask(question, LIMIT_S * (1 + os.path.getsize(path) / 1e9))
        except ChildProcessError as error:
            raise ValueError(str(error)) from error
        found: dict[str, Any] = {}
        for name, kind in kinds.items():
            place = os.path.join(folder, f"{len(found)}{kind}")
            found[name] = None
            if kind == ".npy":
                found[name] = np.load(place, mmap_mode="r")
            elif kind == ".npz":
                found[name] = sp.load_npz(place)
            elif kind == ".json":
                with open(place, encoding="utf-8") as file:
                    found[name] = json.load(file)
        return found


# the second process --------------------------------------------------------------------------


def watch(question: Any) -> dict[str, str]:
    """Write the variables of a file into a folder, and answer with their kinds."""
    path, folder, only = question
    try:
        listed: Sequence[tuple[str, Any, str]] = whosmat(path)
    except TypeError:  # an object has no shape
        listed = [("one", (), OBJECTS[0])]
    kinds: dict[str, str] = {}
    own = only and only.split("/")[0]
    for name, _, kind in listed:
        if own not in (None, name) or name in kinds:
            continue
        if kind in OBJECTS:
            kinds[name] = ""
            continue
        for inner, values in _leaves(name, loadmat(path, variable_names=[name])[name]):
            if only in (None, inner):
                kinds[inner] = _saved(values, os.path.join(folder, str(len(kinds))))
    return kinds


def _leaves(name: str, values: Any) -> Iterator[tuple[str, Any]]:
    """A variable, or the fields of structures, to any depth."""
    if isinstance(values, _OBJECTS):
        yield name, None
    elif sp.issparse(values) or not values.dtype.names:
        yield name, values
    else:
        for field in values.dtype.names if values.size else ():
            inner = values[field]
            yield from _leaves(f"{name}/{field}", inner.item() if inner.size == 1 else inner)


def _saved(values: Any, place: str) -> str:
    """The ending of the file that keeps a variable; none for an object."""
    if values is None:
        return ""
    sparse: bool = sp.issparse(values)  # in a name, as it would narrow the type of values
    if sparse:
        sp.save_npz(f"{place}.npz", values.tocsr(), compressed=False)
        return ".npz"
    if values.dtype.kind in "OUS":
        with open(f"{place}.json", "w", encoding="utf-8") as file:
            json.dump([_text(cell) for cell in values.ravel()], file)
        return ".json"
    np.save(f"{place}.npy", values, allow_pickle=False)
    return ".npy"


def _text(cell: Any) -> Any:
    """A text or a list of texts of nested cells; None for anything else."""
    if isinstance(cell, str):
        return cell.rstrip()
    if not isinstance(cell, np.ndarray) or cell.dtype.kind not in "OU":
        return None
    inner = [_text(part) for part in cell.ravel()]
    flat = [text for part in inner for text in (part if isinstance(part, list) else [part])]
    return None if None in flat else flat[0] if len(flat) == 1 else flat
