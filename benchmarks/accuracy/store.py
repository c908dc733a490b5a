"""Finished cells: one JSON line each, in a file that several processes may append to.

A line says which program made it, and counts as its cell while settings, data and split are those
of today, and all that is measured today is in it.
"""

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from subprocess import DEVNULL, CalledProcessError, check_output
from typing import Any, NamedTuple

from benchmarks.accuracy.cell import choice, same_choice
from benchmarks.accuracy.data import Content
from benchmarks.accuracy.measures import RECALL
from benchmarks.accuracy.methods import METHODS
from benchmarks.accuracy.tables import Cell
from benchmarks.measure import ROOT
from benchmarks.record import versions, write_text
from pyg_hash.utils.locks import Lock

RESULTS = ROOT / "benchmarks/results/accuracy"
CODE = ("pyg_hash", "benchmarks", ":!benchmarks/results")


def place(line):
    return Cell(**{name: line[name] for name in Cell._fields})


class Store:
    """The cells of one table, in ``FOLDER/TABLE.jsonl``; ``key`` says which cell a line is of.

    A later line of the same cell replaces an earlier one. A line that a process did not finish
    when it was killed is passed over, and the next one starts on a line of its own.
    """

    def __init__(self, folder, table, key=place):
        self.folder, self.key = folder, key
        self.path = folder / f"{table}.jsonl"

    def read(self):
        return {self.key(line): line for line in _lines(self.path)}

    def all_lines(self):
        """Its cells' lines, then those of the other tables in the folder."""
        others = (path for path in sorted(self.folder.glob("*.jsonl")) if path != self.path)
        return [*self.read().values(), *(line for path in others for line in _lines(path))]

    def append(self, line):
        """Add a cell, so that it survives whatever happens next."""
        with self._locked(), open(self.path, "ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            if file.read(1) not in (b"", b"\n"):
                file.write(b"\n")
            file.write(_text(line).encode())
            file.flush()
            os.fsync(file.fileno())

    def tidy(self):
        """Write the file again: one line a cell, in order."""
        with self._locked():
            ordered = sorted(self.read().items(), key=lambda item: [str(part) for part in item[0]])
            write_text(self.path, "".join(_text(line) for _, line in ordered))

    def _locked(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        return Lock(self.path.with_suffix(".lock"), str(self.path), wait_s=600)


def _text(line):
    return json.dumps(line, ensure_ascii=False) + "\n"


def _lines(path):
    content = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for text in content.splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # not finished
            continue
        if isinstance(line, dict) and set(Cell._fields) <= set(line):
            yield line


@cache
def commit():
    """The git commit, with ``-dirty`` behind it if the code differs from it; results may."""

    def git(*words):
        return check_output(["git", *words], cwd=ROOT, text=True, stderr=DEVNULL, timeout=30)

    try:
        head = git("rev-parse", "HEAD").strip()
        return f"{head}-dirty" if git("status", "--porcelain", "--", *CODE) else head
    except (OSError, CalledProcessError):
        return "unknown: no git checkout"


def short_commit(commit):
    """A commit for a page; that the code differed from it is never left out."""
    return re.sub("^([0-9a-f]{12})[0-9a-f]{28}", r"\1", commit)


def stamp():
    """Commit, versions and time, for a line that is written now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"commit": commit(), "versions": versions(), "threads": 1, "finished": now}


def current(lines, changes=None):
    """Those lines that were made with the settings that their methods have today."""
    today = cache(lambda name, protocol: METHODS[name].settings(protocol, **(changes or {})))
    known = (line for line in lines if line["method"] in METHODS)
    return [line for line in known if line["settings"] == today(line["method"], line["protocol"])]


class Standard(NamedTuple):
    """What a line has to be like to count as its cell."""

    extras: tuple[str, ...]  # what has to be measured besides the scores
    contents: Mapping[str, Content]  # name of a data set -> its digests today
    changes: Mapping[str, Any] = {}  # of every method's settings

    def met_by(self, line):
        has_all = RECALL in line["scores"] and set(self.extras) <= set(line["extras"])
        return has_all and self._knows(line)

    def _knows(self, line):
        found = self.contents.get(line["data"], Content("", "", ""))
        same = (line["data_sha256"], line["split_sha256"]) == (found.data, found.split)
        return same and bool(current([line], self.changes))

    def worths(self, cell, lines):
        """What another seed or code length of a cell has found of its row's choices."""
        shared, lines = same_choice(cell), lines if METHODS[cell.method].choices else ()
        theirs = (line for line in lines if same_choice(place(line)) == shared)
        return next((line["choice"]["worths"] for line in theirs if self._knows(line)), None)

    def left(self, cells, store):
        """The cells that a store lacks; those that another table or row has are copied first."""
        own, lines = store.read(), store.all_lines()
        unmet = (cell for cell in cells if cell not in own or not self.met_by(own[cell]))
        missing = dict.fromkeys(unmet)
        theirs = (line for line in lines if place(line) in missing and self.met_by(line))
        known = {place(line): line for line in theirs}
        found = {cell: known.get(cell) or self._twin(cell, lines) for cell in missing}
        for line in filter(None, found.values()):
            store.append(line)
        return [cell for cell, line in found.items() if line is None]

    def _twin(self, cell, lines):
        """Another row's line as one of this cell: one of the two chose the other's settings."""

        def settings(row, made=None):
            return row.under(made).settings(cell.protocol, **self.changes)

        row, worths = METHODS[cell.method], self.worths(cell, lines)
        if row.choices and worths is None:  # nothing is chosen yet
            return None
        more = {"choice": choice(worths)} if row.choices else {}
        wanted = settings(row, more.get("choice"))
        for line in lines:
            if place(line) != cell._replace(method=line["method"]) or not self.met_by(line):
                continue
            if settings(METHODS[line["method"]], line.get("choice")) == wanted:
                own = {k: v for k, v in line.items() if k != "choice"}
                own["seconds"] = {k: v for k, v in line["seconds"].items() if k != "choose"}
                return own | cell._asdict() | more | {"settings": settings(row)}
        return None
