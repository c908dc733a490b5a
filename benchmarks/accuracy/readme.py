"""The tables of accuracy in README.md and in results/README.md, made of the committed results.

python -m benchmarks.accuracy.readme
"""

import re
from functools import cache
from itertools import product

from benchmarks.accuracy.measures import RECALL
from benchmarks.accuracy.methods import ORDER
from benchmarks.accuracy.store import RESULTS, Store, current
from benchmarks.accuracy.summary import Groups, Place
from benchmarks.accuracy.tables import CROSS, TABLES
from benchmarks.measure import ROOT
from benchmarks.record import grid, write_text

PAGES = {ROOT / "README.md": ("summary",)}
PAGES[ROOT / "benchmarks/results/README.md"] = ("overview", "protocols")
NAMES = {"wikipedia": "Wikipedia", "emoji": "Emoji", "coco": "COCO without `person`"}
SUMMARY = {  # rows of README.md, by share of labels
    0.3: ("TaughtHash", "ClassCodes", "DCMH", "GCH", "SGCH", "MCGCN, chosen"),
    None: ("TaughtHash, no labels", "ITQ", "DJSRH", "JDSH", "DGCPN", "SGEH"),
}
LEFT_OUT = {"MCGCN, paper terms", "DJSRH, paper's factor"}  # its own page shows them


@cache
def tables():
    """Name of each part of the pages that is made of results -> its Markdown."""
    cells = _cells("overview")
    every = dict.fromkeys((0.3, 1.0, None), TABLES["overview"].methods)
    parts = {"summary": _overview(cells, SUMMARY), "overview": _overview(cells, every)}
    return parts | {"protocols": _protocols(_cells("choices"))}


def filled(text, names):
    """``text`` with its marked parts, ``names``, made anew; ``ValueError`` if one is not marked."""
    known = tables()
    for name in names:
        opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
        parts = re.split(f"{opening}.*?{closing}", text, flags=re.DOTALL)
        if len(parts) != 2:
            raise ValueError(f"text: {len(parts) - 1} parts are marked {name!r}; there must be one")
        text = f"{opening}\n\n{known[name]}\n\n{closing}".join(parts)
    return text


def _cells(table):
    groups = Groups(current(Store(RESULTS, table).read().values()))
    recalled, every, found = groups.having(RECALL).by_place, len(TABLES[table].seeds), {}
    for where, cell in groups.by_place.items():
        parts = [(" / ".join(f"{cell.mean('all', task):.3f}" for task in CROSS), len(cell.lines))]
        if of := recalled.get(where):
            parts.append((f"{RECALL} {of.mean(RECALL, 't2i'):.3f}", len(of.lines)))
        if len({count for _, count in parts}) == 1:  # said once
            parts = [(", ".join(text for text, _ in parts), len(cell.lines))]
        shown = (text if count == every else f"{text} ({count})" for text, count in parts)
        found[where] = ", ".join(shown)
    return found


def _overview(cells, methods):
    rows = []
    for rate, listed in methods.items():
        for method in listed:
            places = [Place(data, method, 32, rate, "inductive") for data in NAMES]
            if method not in LEFT_OUT and any(place in cells for place in places):
                share = "none" if rate is None else f"{rate:.0%}"
                rows.append([share, method, *(cells.get(place, "–") for place in places)])
    return grid(["labels", "method", *NAMES.values()], rows)


def _protocols(cells):
    rows, table = [], TABLES["choices"]
    methods = ("ClassCodes", "MCGCN", "MCGCN, paper terms")
    for data, rate, method, protocol in product(table.data[::-1], table.rates, methods, ORDER):
        text = cells.get(Place(data, method, 32, rate, protocol))
        if text is not None:
            rows.append([f"{NAMES[data]}, {rate:.0%}", method, protocol, text])
    return grid(["data, labels", "method", "protocol", " / ".join(CROSS)], rows)


if __name__ == "__main__":
    for path, names in PAGES.items():
        write_text(path, filled(path.read_text(encoding="utf-8"), names))
