"""What was changed since a file was written: one small file a change, in a folder beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyg_hash.index.arrays import StoredArrays, read_arrays, write_arrays
from pyg_hash.utils.files import CorruptFileError, sync_folder

State = tuple[tuple[int, int, int] | None, int]
"""Tells one content of a file and its changes from another."""
_OWNER = "HammingIndex.log"


def _folder(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(path) + ".log")


def _changes(path: str | os.PathLike[str]) -> list[Path]:
    return sorted(_folder(path).glob("[0-9]*.store"))


def state(path: str | os.PathLike[str]) -> State:
    """That of now."""
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return None, 0
    return (now.st_ino, now.st_size, now.st_mtime_ns), len(_changes(path))


def clear(path: str | os.PathLike[str]) -> None:
    """Remove all changes of a file, those of other marks too."""
    shutil.rmtree(_folder(path), ignore_errors=True)


class Journal:
    """Changes of the file ``path`` with the mark ``mark``, numbered from 1: ``NAME.log/*.store``.

    A change is there as a whole or not at all. A file that is written anew gets another mark, so
    that changes of the one before, which a killed process left, are none of it.
    """

    def __init__(self, path: Path, mark: str) -> None:
        self._path, self.mark, self.count = path, mark, 0

    def read(self) -> Iterator[tuple[StoredArrays, dict[str, Any]]]:
        """All changes in turn.

        ``CorruptFileError``: one is damaged or missing.
        """
        for path in _changes(self._path):
            try:
                arrays, about = read_arrays(path, _OWNER, mapped=False)
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
        write_arrays(folder / f"{number:06d}.store", _OWNER, arrays, more)
        self.count = number
