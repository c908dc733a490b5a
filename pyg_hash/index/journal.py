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
_OWNER = "HammingIndex.log"


class Journal:
    """Changes of the file ``path`` with the mark ``mark``, numbered from 1: ``NAME.log/*.store``.

    A change is there as a whole or not at all. A file that is written anew gets another mark, so
    that changes of the one before, which a killed process left, are none of it.
    """

    def __init__(self, path: Path, mark: str) -> None:
        self._file = Path(os.path.realpath(path))
        self.mark, self.count = mark, 0

    @property
    def _folder(self) -> Path:
        return self._file.with_name(f"{self._file.name}.log")

    def state(self) -> State:
        """Tells one content of file and changes from another."""
        try:
            now = os.stat(self._file)
        except FileNotFoundError:
            return None, 0
        return (now.st_ino, now.st_size, now.st_mtime_ns), len(list(self._changes()))

    def _changes(self) -> Iterator[Path]:
        yield from sorted(self._folder.glob("[0-9]*.store"))

    def read(self) -> Iterator[tuple[StoredArrays, dict[str, Any]]]:
        """All changes in turn.

        ``CorruptFileError``: one is damaged or missing; ``FileNotFoundError``: one was removed
        meanwhile.
        """
        for path in self._changes():
            arrays, about = read_arrays(path, _OWNER, mapped=False)
            if about.get("mark") != self.mark:
                continue
            self.count += 1
            if about.get("number") != self.count:
                raise CorruptFileError(f"{path}: change {self.count} before it is missing; copy it")
            yield arrays, about

    def write(self, arrays: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Add a change, which is on the disk when this returns."""
        if self.count == 0:
            self.clear()
            self._folder.mkdir(exist_ok=True)
            sync_folder(self._folder.parent)
        number = self.count + 1
        path = self._folder / f"{number:06d}.store"
        write_arrays(path, _OWNER, arrays, {**about, "mark": self.mark, "number": number})
        self.count = number

    def clear(self) -> None:
        """Remove all changes, those of other marks too."""
        shutil.rmtree(self._folder, ignore_errors=True)
