"""Arrays in one safetensors file, which is mapped, rows that grow, and a journal of changes.

The journal is a folder beside a file: one small file a change since that was written.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pyg_hash.typing import PathLike
from pyg_hash.utils.checksums import Sums, parsed
from pyg_hash.utils.files import TEMPORARY, CorruptFileError, sync_folder, write_parts

Array = NDArray[Any]
State = tuple[tuple[int, ...] | None, tuple[int, ...]]  # tells one content of a file from another
T = TypeVar("T")
VERSION = 3
_LOG = "HammingIndex.log"
_CHANGE = re.compile(rf"[0-9]{{6,}}\.store|{TEMPORARY.pattern}")
_NAMES = {"I64": "<i8", "F64": "<f8", "I32": "<i4", "U8": "|u1", "I8": "|i1"}


def ranges(start: NDArray[np.int64], counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """All numbers ``start[i] .. start[i] + counts[i] - 1``, one range after the other."""
    ends = np.cumsum(counts, dtype=np.int64)
    return np.arange(ends[-1:].sum()) + np.repeat(start - (ends - counts), counts)


class Rows:
    """Rows of an array, and those that were added; a mapped one is checked when it is used.

    Threads may read at the same time: they see one tuple or the next.
    """

    def __init__(self, rows: Array, check: Callable[[], None] | None = None) -> None:
        self._parts = rows, list[Array]()
        self._check = check

    def __getstate__(self) -> dict[str, Any]:
        self._checked()  # what checks knows a file
        return vars(self)

    def __len__(self) -> int:
        base, more = self._parts
        return len(base) + sum(map(len, more))

    def arrays(self, name: str) -> dict[str, Array]:
        """What goes into a file."""
        return {name: self.joined()}

    def append(self, other: Rows) -> None:
        """Add a copy of rows."""
        base, more = self._parts
        self._parts = base, [*more, np.array(other.joined(), base.dtype)]

    def joined(self) -> Array:
        """All rows in one array."""
        base, more = self._checked()
        if len(more):
            base = np.concatenate([base, more]) if len(base) else more
            self._parts = base, []
        return base

    def at(self, rows: Array) -> Array:
        """Some rows, ``[*rows.shape, ...]``."""
        base, more = self._checked()
        if len(more) == 0:
            if base.ndim == 2 and base.flags.c_contiguous:  # bytes; whole rows are faster
                whole = base.view(f"V{base.shape[1]}")[:, 0]
                return whole[rows].view(base.dtype).reshape(*rows.shape, base.shape[1])
            return base[rows]
        late = rows >= len(base)
        result = np.empty((*rows.shape, *base.shape[1:]), base.dtype)
        result[~late], result[late] = base[rows[~late]], more[rows[late] - len(base)]
        return result

    def take(self, rows: Array) -> Rows:
        """Some rows alone."""
        return Rows(self.at(rows))

    def assign(self, rows: Array, other: Rows) -> None:
        """Put others in the place of some rows."""
        whole = np.require(self.joined(), requirements="W")
        whole[rows] = other.joined()
        self._parts = whole, []

    def _checked(self) -> tuple[Array, Array]:
        if (check := self._check) is not None:
            check()
            self._check = None
        base, more = self._parts
        if len(more) > 1:
            more = [np.concatenate(more)]
            self._parts = base, more
        return base, more[0] if more else base[:0]


def write_arrays(
    path: PathLike, owner: str, arrays: Mapping[str, Array], metadata: Mapping[str, Any]
) -> None:
    """Write arrays of numbers and JSON metadata of class ``owner``, atomically."""
    names = {np.dtype(code): name for name, code in _NAMES.items()}
    parts = {
        name: (names[x.dtype], x.shape, np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
        for name, x in arrays.items()
    }
    write_parts(path, parts, {"format": f"pyg_hash.{owner}", "version": VERSION, **metadata})


class StoredArrays(dict[str, Array]):
    """Arrays of a file by name.

    ``check(name)`` compares bytes with their checksums, each block once: ``CorruptFileError``.
    """

    def __init__(
        self, arrays: Mapping[str, Array], check: Callable[[str], None] = lambda name: None
    ) -> None:
        super().__init__(arrays)
        self.check = check

    def rows(self, name: str, dtype: Any, length: int | None = None, *width: int) -> Rows:
        """An array ``[length, *width]``; ``KeyError`` or ``ValueError`` if it is another one."""
        array = self[name]
        shape = (len(array) if length is None else length, *width)
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{name} do not fit: {array.dtype} {list(array.shape)} in place of "
                f"{np.dtype(dtype)} {list(shape)}"
            )
        return Rows(array, partial(self.check, name))


def read_arrays(path: PathLike, owner: str, *, mapped: bool) -> tuple[StoredArrays, dict[str, Any]]:
    """Arrays and metadata of :func:`write_arrays`; mapped arrays are read, and checked, when used.

    ``CorruptFileError``: the file is truncated, damaged or of another kind or version.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with damaged(path):
        # opened once: a second opening could meet another file
        mapped = mapped and os.path.getsize(path) > 0
        whole = np.memmap(path, mode="r") if mapped else np.fromfile(path, np.uint8)
        header, metadata, data = parsed(whole, path)
        about = json.loads(metadata.get("json", "null"))
    if not isinstance(about, dict) or about.get("format") != f"pyg_hash.{owner}":
        raise CorruptFileError(f"{path}: is not a file that {owner}.save() wrote")
    if about.get("version") != VERSION:
        raise CorruptFileError(
            f"{path}: has version {about.get('version')!r}, this pyg_hash reads {VERSION}; "
            "remove it and build it again (of a catalogue, what was changed in it since is lost: "
            "the same pyg-hash build makes the file as of its source)"
        )
    if "xxh3" not in metadata:  # then it could say anything
        raise CorruptFileError(f"{path}: has lost its checksums; copy it again, or build it again")
    sums = cast(Sums, Sums.of(whole, path))
    if not mapped:
        sums.check()
    with damaged(path):
        arrays, spans = dict[str, Array](), {}
        for name, told in header.items():
            start, end = spans[name] = told["data_offsets"]
            if not 0 <= start <= end <= len(data) or min(told["shape"], default=0) < 0:
                raise ValueError("an array does not fit the file")
            whole = data[start:end].view(_NAMES[told["dtype"]]).reshape(told["shape"])
            arrays[name] = np.asarray(whole)  # a plain array: slices of np.memmap are slow
    return StoredArrays(arrays, lambda name: sums.check(*spans[name])), about


@contextmanager
def damaged(path: PathLike) -> Iterator[None]:
    """Errors of content that does not fit together are those of the file."""
    try:
        yield
    except CorruptFileError:
        raise
    except (LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CorruptFileError(f"{path}: is damaged ({error}); build it again") from error


def _folder(path: PathLike) -> Path:
    return Path(os.path.realpath(path) + ".log")


def _changes(path: PathLike) -> list[Path]:
    with suppress(FileNotFoundError):  # it goes when the file is written anew
        found = _folder(path).glob("[0-9]*.store")
        return sorted(each for each in found if _CHANGE.fullmatch(each.name))
    return []


def state(path: PathLike) -> State:
    """That of now."""
    with suppress(FileNotFoundError):
        now = os.stat(path)
        return (now.st_ino, now.st_size, now.st_mtime_ns), _last(_changes(path))
    return None, ()


def _last(changes: list[Path]) -> tuple[int, ...]:
    """How many changes there are, and which is the last: a killed process may have left others."""
    with suppress(FileNotFoundError, IndexError):
        now = os.stat(changes[-1])
        return len(changes), now.st_ino, now.st_mtime_ns
    return ()


def at_one_moment(path: Path, read: Callable[[], T]) -> tuple[T, State]:
    """What is read of a file and its journal, both of one moment, and the state before."""
    while True:
        before = state(path)
        try:
            found = read()
        except (FileNotFoundError, CorruptFileError):
            if state(path)[0] == before[0]:
                raise
        else:
            if state(path)[0] == before[0]:
                return found, before


def check_journal(path: Path) -> None:
    """Raise ``CorruptFileError`` if a change of a file is damaged or missing."""

    def read() -> None:
        mark = read_arrays(path, "HammingIndex", mapped=True)[1]["mark"]
        for _ in Journal(path, str(mark)).read():
            pass

    at_one_moment(path, read)


def check_log(path: PathLike) -> None:
    """Raise ``OSError`` if what is in the place of the journal is somebody else's."""
    folder = _folder(path)
    try:
        with os.scandir(folder) as entries:
            others = (each.name for each in entries if not _is_change(each))
            foreign = next((name for name in others if name[0] != "."), None)
        what = foreign and f"holds {foreign!r}, which is none"
    except FileNotFoundError:
        what = "is a link to nothing" if folder.is_symlink() else None
    except NotADirectoryError:
        what = "is a file"
    if what:
        raise OSError(  # no FileExistsError: there may be no store yet
            f"{folder}: is where the changes of {path} go, and {what}; move that elsewhere, or "
            "give the store another name"
        )


def clear(path: PathLike) -> None:
    """Remove all changes of a file, those of other marks too, and nothing else."""
    with suppress(OSError):
        with os.scandir(_folder(path)) as entries:
            ours = [each.path for each in entries if _is_change(each)]
        for name in ours:
            with suppress(OSError):
                os.unlink(name)
        _folder(path).rmdir()


def _is_change(entry: os.DirEntry[str]) -> bool:
    return bool(_CHANGE.fullmatch(entry.name)) and entry.is_file()  # a link of git-annex, too


class Journal:
    """Changes of the file ``path`` with the mark ``mark``, numbered from 1: ``path.log/*.store``.

    A change is there as a whole or not at all. A file that is written anew gets another mark, so
    that changes of the one before, which a killed process left, are none of it.
    """

    def __init__(self, path: Path, mark: str) -> None:
        self._path, self.mark, self.count = path, mark, 0
        self.listed: tuple[int, ...] = ()  # what was there when it was read

    def read(self) -> Iterator[tuple[StoredArrays, dict[str, Any]]]:
        """All changes in turn; ``CorruptFileError``: one is damaged or missing."""
        paths = _changes(self._path)
        self.listed = _last(paths)
        for path in paths:
            try:
                arrays, about = read_arrays(path, _LOG, mapped=False)
            except FileNotFoundError:  # cleared: of another mark, or the file is another by now
                continue
            if about.get("mark") != self.mark:
                continue
            self.count += 1
            if about.get("number") != self.count:
                raise CorruptFileError(f"{path}: change {self.count} before it is missing; copy it")
            yield arrays, about

    def write(self, arrays: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Add a change, which is on the disk when this returns."""
        folder, number = _folder(self._path), self.count + 1
        if number == 1:
            clear(self._path)
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)
        more = {**about, "mark": self.mark, "number": number}
        write_arrays(folder / f"{number:06d}.store", _LOG, arrays, more)
        self.count = number
