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
        """The cells that a store lacks; those that another table has are copied first."""
        there = self.among(store.read().values(), cells)
        elsewhere = self.among(store.others(), set(cells) - set(there))
        for line in elsewhere.values():
            store.append(line)
        return [cell for cell in cells if cell not in there and cell not in elsewhere]
