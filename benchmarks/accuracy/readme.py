"""The README's tables of accuracy, made of the committed results.

python -m benchmarks.accuracy.readme
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.accuracy.command import RESULTS, ROOT
from benchmarks.accuracy.store import Store, is_current
from benchmarks.accuracy.summary import Group, Groups, Place, grid
from benchmarks.accuracy.table import CROSS
from benchmarks.accuracy.tables import OURS, TABLES
from pyg_hash.utils.files import atomic_path

README = ROOT / "README.md"
RATES = (0.3, 1.0, None)
PROTOCOLS = ("inductive", "strict", "transductive")
NAMES = {"wikipedia": "Wikipedia", "emoji": "Emoji", "coco": "COCO without `person`"}
LEFT_OUT = {"MCGCN, paper terms", "DJSRH, paper's factor"}
"""Rows of the overview that its own page shows."""


def tables() -> dict[str, str]:
    """Name of each part of the README that is made of results -> its Markdown."""
    return {"overview": overview(_groups("overview")), "protocols": protocols(_groups("choices"))}


def filled(text: str) -> str:
    """``text`` with its marked parts made anew.

    Raises:
        ValueError: a part is not marked in the text.
    """
    for name, table in tables().items():
        opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
        parts = re.split(f"{opening}.*?{closing}", text, flags=re.DOTALL)
        if len(parts) != 2:
            raise ValueError(f"text: {len(parts) - 1} parts are marked {name!r}; there must be one")
        text = f"{opening}\n\n{table}\n\n{closing}".join(parts)
    return text


def overview(groups: Groups) -> str:
    """Methods by data sets, inductive, a line for each share of labels."""
    seeds = len(TABLES["overview"].seeds)
    rows = []
    for rate in RATES:
        for method in TABLES["overview"].methods:
            places = [Place(data, method, 32, rate, "inductive") for data in OURS]
            cells = [groups.by_place.get(place) for place in places]
            if method not in LEFT_OUT and any(cells):
                rows.append([_labels(rate), method, *(_shown(cell, seeds) for cell in cells)])
    return grid(["labels", "method", *(NAMES[data] for data in OURS)], rows)


def protocols(groups: Groups) -> str:
    """What MCGCN reaches under each protocol."""
    table = TABLES["choices"]
    rows = []
    for data in reversed(table.data):
        for rate in table.rates:
            for method in ("ClassCodes", "MCGCN", "MCGCN, paper terms"):
                for protocol in PROTOCOLS:
                    cell = groups.by_place.get(Place(data, method, 32, rate, protocol))
                    if cell is not None:
                        where = f"{NAMES[data]}, {_labels(rate)}"
                        rows.append([where, method, protocol, _shown(cell, len(table.seeds))])
    return grid(["data, labels", "method", "protocol", " / ".join(CROSS)], rows)


def _groups(name: str) -> Groups:
    lines = Store(RESULTS[False], name).read().values()
    return Groups(line for line in lines if is_current(line))


def _labels(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:.0%}"


def _shown(cell: Group | None, seeds: int) -> str:
    if cell is None:
        return "–"
    text = " / ".join(f"{cell.mean('all', task):.3f}" for task in CROSS)
    return text if len(cell.lines) == seeds else f"{text} ({len(cell.lines)})"


def write(path: Path = README) -> None:
    """Fill the README."""
    text = filled(path.read_text(encoding="utf-8"))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
