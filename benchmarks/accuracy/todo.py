"""Which cells are still to be run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .chosen import Worths, same_choice
from .data import Content
from .methods import METHODS
from .store import Line, Store, place
from .table import Cell


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
        if not METHODS[cell.method].choices:
            return None
        any_extras = replace(self, extras=())
        for line in (*store.read().values(), *store.others()):
            if same_choice(place(line)) == same_choice(cell) and any_extras.met_by(line):
                found: Worths = line["choice"]["worths"]
                return found
        return None

    def left(self, cells: Collection[Cell], store: Store) -> list[Cell]:
        """The cells that a store lacks; those that another table or row has are copied first."""
        own, others = store.read().values(), list(store.others())
        found = self.among(own, cells)
        copied = self.among(others, set(cells) - set(found))
        copied |= self.twins([*own, *others], set(cells) - set(found) - set(copied))
        for line in copied.values():
            store.append(line)
        return [cell for cell in cells if cell not in found and cell not in copied]

    def twins(self, lines: Iterable[Line], cells: Collection[Cell]) -> dict[Cell, Line]:
        """Lines of rows whose choice fell on just the settings of other rows, as lines of these."""
        found: dict[Cell, Line] = {}
        for line in lines:
            if "choice" not in line or not self.met_by(line):
                continue
            row = METHODS[line["method"]].candidates()[line["choice"]["chosen"]]
            settings = row.settings(line["protocol"], **self.changes)
            for cell in cells:
                if cell._replace(method=line["method"]) != place(line):
                    continue
                if METHODS[cell.method].settings(cell.protocol, **self.changes) == settings:
                    found[cell] = _without_choice(line) | cell._asdict() | {"settings": settings}
        return found


def _without_choice(line: Line) -> Line:
    seconds = {part: value for part, value in line["seconds"].items() if part != "choose"}
    return {k: v for k, v in line.items() if k != "choice"} | {"seconds": seconds}
