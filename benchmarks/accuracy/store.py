"""Finished cells: one JSON line each, in a file that several processes may append to."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.accuracy.table import Cell
from pyg_hash.utils.files import atomic_path

Line = dict[str, Any]


def place(line: Mapping[str, Any]) -> Cell:
    """The cell that a line is of."""
    return Cell(**{name: line[name] for name in Cell._fields})


class Store:
    """The cells of one table, in ``FOLDER/TABLE.jsonl``.

    A later line of the same cell replaces an earlier one. A line that a process did not finish
    when it was killed is passed over, and the next one starts on a line of its own.

    Args:
        folder: of all tables; need not exist.
        table: name of the table.
    """

    def __init__(self, folder: Path, table: str) -> None:
        self.folder = folder
        self.path = folder / f"{table}.jsonl"

    def read(self) -> dict[Cell, Line]:
        """The cells; the last line of each."""
        return {place(line): line for line in _lines(self.path)}

    def others(self) -> Iterator[Line]:
        """Lines of the other tables in the folder."""
        for path in sorted(self.folder.glob("*.jsonl")):
            if path != self.path:
                yield from _lines(path)

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a cell, so that it survives whatever happens next."""
        text = json.dumps(line, ensure_ascii=False) + "\n"
        with self._locked(), open(self.path, "ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                text = text if file.read(1) == b"\n" else "\n" + text
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def tidy(self) -> None:
        """Write the file again: one line a cell, in order."""
        with self._locked():
            lines = self.read()
            ordered = sorted(lines.items(), key=lambda item: [str(part) for part in item[0]])
            with atomic_path(self.path) as temporary:
                text = [json.dumps(line, ensure_ascii=False) + "\n" for _, line in ordered]
                temporary.write_text("".join(text), encoding="utf-8")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # the folder, because tidy() replaces the file
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)  # gives the lock back


def _lines(path: Path) -> Iterator[Line]:
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # not finished
            continue
        if isinstance(line, dict) and set(Cell._fields) <= set(line):
            yield line
