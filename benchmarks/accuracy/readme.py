"""The tables of accuracy in README.md and in results/README.md, made of the committed results.

python -m benchmarks.accuracy.readme
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from benchmarks.accuracy.command import RESULTS, ROOT
from benchmarks.accuracy.store import Store, is_current
from benchmarks.accuracy.summary import Group, Groups, Place, grid
from benchmarks.accuracy.table import CROSS
from benchmarks.accuracy.tables import OURS, TABLES
from pyg_hash.utils.files import atomic_path

PAGES = {
    ROOT / "README.md": ("summary",),
    ROOT / "benchmarks" / "results" / "README.md": ("overview", "protocols"),
}
RATES = (0.3, 1.0, None)
PROTOCOLS = ("inductive", "strict", "transductive")
NAMES = {"wikipedia": "Wikipedia", "emoji": "Emoji", "coco": "COCO without `person`"}
SUMMARY = {
    0.3: ("ClassCodes", "DCMH", "GCH", "SGCH", "MCGCN, chosen"),
    None: ("ITQ", "DJSRH", "JDSH", "DGCPN", "SGEH"),
}
"""The rows of README.md, by share of labels."""
LEFT_OUT = {"MCGCN, paper terms", "DJSRH, paper's factor"}
"""Rows of the overview that its own page shows."""


def tables() -> dict[str, str]:
    """Name of each part of the pages that is made of results -> its Markdown."""
    groups = _groups("overview")
    summary = overview(groups, SUMMARY)
    every = dict.fromkeys(RATES, TABLES["overview"].methods)
    return {
        "summary": summary,
        "overview": overview(groups, every),
        "protocols": protocols(_groups("choices")),
    }


def filled(text: str, names: Sequence[str]) -> str:
    """``text`` with its marked parts made anew.

    Args:
        text: a page.
        names: its parts.

    Raises:
        ValueError: a part is not marked in the text.
    """
    known = tables()
    for name in names:
        table = known[name]
        opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
        parts = re.split(f"{opening}.*?{closing}", text, flags=re.DOTALL)
        if len(parts) != 2:
            raise ValueError(f"text: {len(parts) - 1} parts are marked {name!r}; there must be one")
        text = f"{opening}\n\n{table}\n\n{closing}".join(parts)
    return text


def overview(groups: Groups, methods: Mapping[float | None, Sequence[str]]) -> str:
    """Methods by data sets, inductive, a line for each share of labels."""
    seeds = len(TABLES["overview"].seeds)
    rows = []
    for rate, listed in methods.items():
        for method in listed:
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


def write() -> None:
    """Fill the pages."""
    for path, names in PAGES.items():
        text = filled(path.read_text(encoding="utf-8"), names)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
