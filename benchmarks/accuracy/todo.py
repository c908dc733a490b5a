"""Which cells are still to be run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.accuracy.cell import Worths, best, same_choice
from benchmarks.accuracy.data import Content
from benchmarks.accuracy.methods import METHODS, Method
from benchmarks.accuracy.store import Line, Store, place
from benchmarks.accuracy.table import Cell


def is_current(line: Line, changes: Mapping[str, Any] | None = None) -> bool:
    """Whether a line was made with the settings that its method has today."""
    row = METHODS.get(line["method"])
    return row is not None and line["settings"] == row.settings(line["protocol"], **(changes or {}))


@dataclass(frozen=True)
class Standard:
    """What a line has to be like to count as its cell.

    Attributes:
        extras: what has to be measured besides the scores.
        contents: name of a data set -> its digests today.
        changes: settings in place of every trained method's own.
    """

    extras: tuple[str, ...]
    contents: Mapping[str, Content]
    changes: Mapping[str, Any] = field(default_factory=dict)

    def met_by(self, line: Line) -> bool:
        """Whether a line counts."""
        found = self.contents.get(line["data"])
        return (
            found is not None
            and (line["data_sha256"], line["split_sha256"]) == (found.data, found.split)
            and set(self.extras) <= set(line["extras"])
            and is_current(line, self.changes)
        )

    def among(self, lines: Iterable[Line], cells: Collection[Cell]) -> dict[Cell, Line]:
        """The lines that count, of some cells."""
        wanted = set(cells)
        return {place(line): line for line in lines if place(line) in wanted and self.met_by(line)}

    def worths(self, cell: Cell, store: Store) -> Worths | None:
        """What another seed or code length of a cell has found of its row's choices."""
        return self._worths(cell, _all(store))

    def _worths(self, cell: Cell, lines: Iterable[Line]) -> Worths | None:
        if not METHODS[cell.method].choices:
            return None
        any_extras = replace(self, extras=())
        for line in lines:
            if same_choice(place(line)) == same_choice(cell) and any_extras.met_by(line):
                found: Worths = line["choice"]["worths"]
                return found
        return None

    def left(self, cells: Collection[Cell], store: Store) -> list[Cell]:
        """The cells that a store lacks; those that another table or row has are copied first."""
        lines = _all(store)
        found = self.among(store.read().values(), cells)  # what others have is to be copied
        copied = self.among(lines, set(cells) - set(found))
        copied |= self.twins(lines, set(cells) - set(found) - set(copied))
        for line in copied.values():
            store.append(line)
        return [cell for cell in cells if cell not in found and cell not in copied]

    def twins(self, lines: Collection[Line], cells: Collection[Cell]) -> dict[Cell, Line]:
        """Cells whose settings another row has run: one of the two has chosen those of the other.

        Returns:
            The other row's lines, as lines of these cells.
        """
        found: dict[Cell, Line] = {}
        for cell in cells:
            row, trained, more = METHODS[cell.method], METHODS[cell.method], {}
            if row.choices:
                worths = self._worths(cell, lines)
                if worths is None:  # nothing is chosen yet
                    continue
                more["choice"] = {"chosen": best(worths), "worths": worths}
                trained = row.candidates()[best(worths)]
            settings = self._settings(trained, cell)
            for line in lines:
                beside = place(line) == cell._replace(method=line["method"]) and self.met_by(line)
                if beside and self._trained(line) == settings:
                    more["settings"] = self._settings(row, cell)
                    found[cell] = _without_choice(line) | cell._asdict() | more
        return found

    def _settings(self, row: Method, cell: Cell) -> dict[str, Any]:
        return row.settings(cell.protocol, **self.changes)

    def _trained(self, line: Line) -> dict[str, Any]:
        """The settings that a line was made with, after its choice."""
        if "choice" not in line:
            return dict(line["settings"])
        row = METHODS[line["method"]].candidates()[line["choice"]["chosen"]]
        return self._settings(row, place(line))


def _all(store: Store) -> list[Line]:
    return [*store.read().values(), *store.others()]


def _without_choice(line: Line) -> Line:
    seconds = {part: value for part, value in line["seconds"].items() if part != "choose"}
    return {k: v for k, v in line.items() if k != "choice"} | {"seconds": seconds}
