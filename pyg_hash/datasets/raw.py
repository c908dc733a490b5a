"""Arrays in files as others give them, read in blocks; nothing is ever unpickled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from pyg_hash.datasets.build import as_array, row_chunks
from pyg_hash.typing import PathLike
from pyg_hash.utils.files import CorruptFileError, check_file
from pyg_hash.utils.hdf5 import open_hdf5
from pyg_hash.utils.matlab import read_matlab

Array = np.ndarray[Any, Any]
PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib", ".bin", ".ckpt")
TEXT_SUFFIXES = (".dat", ".txt")
SUFFIXES = (".mat", ".h5", ".hdf5", ".h5py", ".npy", ".npz", ".json")
_NO_PICKLE = (
    "reading a pickle runs whatever code is in it, so none is read; save its arrays with "
    "numpy.savez('new.npz', image=..., text=..., label=...) where you trust it"
)
_OPAQUE = (
    "is an object of a MATLAB class, which only MATLAB can read; there, save its values as "
    "matrices and cells of text"
)
_LINES = 1 << 12  # of a text file in one block


class ContentError(ValueError):
    """A file is whole, and holds what is not read."""


def damaged(path: PathLike, problem: str) -> CorruptFileError:
    """The error of a file that holds something else than it should."""
    return CorruptFileError(f"{path}: {problem}; get it again")


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Raise ``CorruptFileError`` instead of what readers say of a damaged file."""
    try:
        yield
    except (CorruptFileError, ContentError, ImportError, Warning):
        raise
    except MemoryError as error:
        why = f"asks for more memory than there is{f' ({error})' if str(error) else ''}"
        raise CorruptFileError(f"{path}: {why}; it is too large for here, or damaged") from error
    except Exception as error:  # readers raise nearly anything for a damaged file
        raise damaged(path, f"cannot be read ({str(error) or type(error).__name__})") from error


@dataclass
class Variable:
    """A named array of a file, read when it is needed; errors as of :func:`read_variables`."""

    name: str
    file: Path
    shape: tuple[int, ...]
    values: Any  # rows by slice or numbers: an array in memory, mapped or in HDF5, CSR; or a list
    problem: str = ""  # why a field of a structure is not read

    @property
    def is_text(self) -> bool:
        """Whether it is a list, of texts or of lists of texts."""
        return isinstance(self.values, list)

    def __str__(self) -> str:
        kind = " (not read)" if self.problem else " (texts)" if self.is_text else ""
        return f"{self.name} {list(self.shape)}{kind} of {self.file.name}"

    def load(self) -> Any:
        """All of it: an array, CSR, or the list."""
        with whole(self.file):
            return self.values[:]

    def read(self, rows: Array | None = None) -> Tensor:
        """Rows of a matrix, in ascending order, or all of them, as float32 ``[n, d]``."""
        rows = np.arange(self.shape[0]) if rows is None else rows
        out = np.empty((len(rows), self.shape[1]), np.float32)
        with whole(self.file):
            for start, stop in row_chunks(*self.shape):
                low, high = np.searchsorted(rows, (start, stop))
                if low < high:
                    values = as_array(self.values[rows[low:high]], self.name)
                    out[low:high] = values.reshape(high - low, -1)
        return torch.from_numpy(out)


def read_variables(path: Path, only: str | None = None) -> list[Variable]:
    """What a file holds, or one variable of it.

    ``FileNotFoundError``. ``ValueError``: a pickle, objects of MATLAB or Python, or of no known
    kind. ``CorruptFileError``: it is damaged, found now or when a variable is read.
    """
    check_file(path)
    ending = path.suffix.lower()
    if ending in PICKLES:
        raise ContentError(f"{path}: is a pickle; {_NO_PICKLE}")
    with whole(path):
        if h5py.is_hdf5(path):
            found: dict[str, Any] = _in_hdf5(path, only)
        elif ending == ".mat":
            found = read_matlab(path, only)
        elif ending in (".npy", ".npz"):
            found = _in_numpy(path, only)
        elif ending == ".json":
            try:
                coco = coco_captions(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, KeyError, TypeError) as error:
                layout = "MS-COCO's layout of images and annotations"
                raise ContentError(f"{path}: not in {layout} ({error!s:.200})") from error
            found = {"file_names": coco["file_name"], "captions": coco["caption"]}
        else:
            raise ContentError(f"{path}: not HDF5, and its ending none of {', '.join(SUFFIXES)}")
    variables = []
    for name, values in found.items():
        is_text, problem = isinstance(values, list), ""
        if values is None or (is_text and None in values):
            why = _OPAQUE if values is None else "holds cells that are no texts; save numbers"
            problem = f"{path}: {name} {why}"
            if "/" not in name or only is not None:
                raise ContentError(problem)
        shape = (len(values or ()),) if is_text or problem else tuple(values.shape)
        variables.append(Variable(name, path, shape, values, problem))
    return variables


def _in_numpy(path: Path, only: str | None) -> dict[str, Any]:
    try:
        content: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(content, np.ndarray):
            content, only = {path.stem: content}, None
        arrays = {name: content[name] for name in content if only in (None, name)}
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise ContentError(f"{path}: holds Python objects; {_NO_PICKLE}") from error
        raise
    for name, array in arrays.items():
        if array.dtype.kind == "S":
            arrays[name] = [text.decode(errors="replace") for text in array.ravel()]
        elif array.dtype.kind == "U":
            arrays[name] = [str(text).rstrip() for text in array.ravel()]
    return arrays


class _Stored:
    """The rows of a data set of an HDF5 file, which is opened to read them."""

    def __init__(self, path: Path, node: Any) -> None:
        self.path, self.name = path, node.name
        self.turned = "MATLAB_class" in node.attrs  # MATLAB writes the first axis last
        self.shape = node.shape[::-1] if self.turned else node.shape

    def __getitem__(self, rows: Any) -> Array:
        own: Any = slice(None)
        if not isinstance(rows, slice):  # libhdf5 is slow for rows one by one
            own, rows = rows - rows[0], slice(int(rows[0]), int(rows[-1]) + 1)
        with open_hdf5(self.path) as file:
            node = file[self.name]
            values: Array = node[..., rows].T if self.turned else node[rows]
        found: Array = values[own]
        return found


def _in_hdf5(path: Path, only: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(name: str, node: Any) -> None:
        if name.startswith("#"):  # what MATLAB's cells refer to
            return
        if "MATLAB_object_decode" in node.attrs:
            found[name] = None
        elif "MATLAB_sparse" in node.attrs:
            size = int(node.attrs["MATLAB_sparse"]), len(node["jc"]) - 1
            parts = [node[part][()] for part in ("data", "ir", "jc")]
            pointers = [part.astype(np.int64) for part in parts[1:]]
            found[name] = sp.csc_matrix((parts[0], *pointers), shape=size).tocsr()
        elif isinstance(node, h5py.Dataset) and "MATLAB_sparse" not in node.parent.attrs:
            if (texts := _texts(node, file)) is not None:
                found[name] = texts
            elif node.dtype.kind in "fiub" and node.shape:
                found[name] = _Stored(path, node)

    with open_hdf5(path) as file:
        if only is None:
            file.visititems(visit)
        elif only in file:
            visit(only, file[only])
    return found


def _texts(node: Any, file: Any) -> list[Any] | None:
    """Texts of a variable of MATLAB's, or of HDF5's own; None: it holds numbers."""
    if node.attrs.get("MATLAB_class", b"") == b"char":
        raw = ("".join(map(chr, row)) for row in np.atleast_2d(node[()].T))
        # UTF-16; half a character is refused later
        units = (text.encode("utf-16-le", "surrogatepass") for text in raw)
        return [text.decode("utf-16-le", "surrogatepass").rstrip() for text in units]
    if h5py.check_ref_dtype(node.dtype) is not None:
        cells = [_texts(file[cell], file) for cell in node[()].T.ravel()]
        return [cell[0] if cell is not None and len(cell) == 1 else cell for cell in cells]
    if h5py.check_string_dtype(node.dtype) is not None:
        return [str(value) for value in np.ravel(node.asstr()[()])]
    return None


def coco_captions(content: Any) -> dict[str, list[Any]]:
    """Columns of a picture a row; ``ValueError``: an entry is not as it has to be."""
    named = {"images": ("id", "file_name"), "annotations": ("image_id", "caption")}
    for part, keys in named.items():
        for number, entry in enumerate(content[part]):
            if lacking := [key for key in keys if key not in entry]:
                hint = "; these are no captions" if part == "annotations" else ""
                raise ValueError(f"{part}[{number}] has no {lacking[0]}{hint}")
    by_image: dict[Any, list[str]] = {image["id"]: [] for image in content["images"]}
    if len(by_image) < len(content["images"]):
        ids = Counter(image["id"] for image in content["images"])
        raise ValueError(f"images: two have the id {ids.most_common(1)[0][0]}; keep one of them")
    for number, annotation in enumerate(content["annotations"]):
        if (image := annotation["image_id"]) not in by_image:
            raise ValueError(f"annotations[{number}] is of an image {image}, which is not there")
        if annotation["caption"] is not None:
            by_image[image].append(str(annotation["caption"]).strip())
    found = {key: [str(image[key]) for image in content["images"]] for key in named["images"]}
    return {**found, "caption": [*by_image.values()]}


# published matrices ---------------------------------------------------------------------------


class _Lines:
    """The rows of numbers of a text file; only those that are asked for become numbers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as file:
            self.width = len(file.readline().split())
            file.seek(0)
            self.places = np.cumsum([0, *map(len, file)])

    def __getitem__(self, rows: Array) -> Array:
        start, stop = self.places[rows[0]], self.places[rows[-1] + 1]
        with open(self.path, "rb") as file:
            file.seek(start)
            lines = file.read(stop - start).decode("latin-1").split("\n")
        values: Array = np.loadtxt([lines[row] for row in rows - rows[0]], np.float32, ndmin=2)
        if values.shape != (len(rows), self.width):
            raise ValueError(f"lines {rows[0] + 1} to {rows[-1] + 1} are {list(values.shape)}")
        return values


def open_matrix(path: PathLike, name: str | None = None) -> Variable:
    """The matrix ``[N, d]`` in a ``.npy``, MATLAB, HDF5, ``.dat`` or ``.txt`` file.

    ``name``: the variable in a MATLAB or HDF5 file. ``CorruptFileError``: the file is damaged
    (found now or while reading), of no known kind, or has no matrix of that name.
    """
    path = Path(path)
    if path.suffix in TEXT_SUFFIXES and path.is_file():
        lines = _Lines(path)
        found = Variable("", path, (len(lines.places) - 1, lines.width), lines)
    else:
        try:
            variables = read_variables(path, name)
            if not variables:
                names = ", ".join(variable.name for variable in read_variables(path)) or "none"
                told = f"{path}: has no matrix {name!r} (but {names})"
                raise CorruptFileError(f"{told}; get it again, or name another one as FILE:NAME")
        except ContentError as error:
            raise CorruptFileError(str(error)) from error
        found = variables[0]
    shape = (*found.shape, 1) if len(found.shape) == 1 else found.shape
    if len(shape) != 2 or min(shape) < 1 or found.is_text:
        raise damaged(path, f"expected a matrix [N, d], got {list(shape)}")
    return replace(found, shape=shape)


def read_digits(path: PathLike, width: int) -> sp.csr_matrix:
    """uint8 ``[lines, width]`` of zeros and ones in a text file, apart by white space."""
    blocks, first = [sp.csr_matrix(np.zeros((0, width), np.uint8))], 1
    with open(path, "rb") as file:
        lines = filter(bytes.strip, file)
        while some := list(islice(lines, _LINES)):
            try:
                block = np.loadtxt(some, np.uint8, comments=None, ndmin=2)
                if block.shape[1] != width or block.max() > 1:
                    raise ValueError(f"{block.shape[1]} numbers, up to {block.max()}")
            except ValueError as error:
                lines_of = f"lines {first} to {first + len(some) - 1}"
                raise damaged(path, f"{lines_of} are not {width} times 0 or 1 ({error})") from error
            blocks.append(sp.csr_matrix(block))
            first += len(some)
    return sp.csr_matrix(sp.vstack(blocks))


def read_json(path: Path, *keys: str) -> Any:
    """A JSON file of which objects keep these keys only: MS-COCO's 450 MB are mostly outlines."""
    return json.loads(
        path.read_text(encoding="utf-8"),
        object_hook=lambda found: {key: found[key] for key in keys if key in found},
    )
