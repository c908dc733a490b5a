"""Made-up cells of the accuracy tables, and their page."""

from __future__ import annotations

from benchmarks.accuracy.measures import CUTS
from benchmarks.accuracy.methods import METHODS
from benchmarks.accuracy.page import page
from benchmarks.accuracy.tables import TABLES


def lines(method, values, *, protocol="inductive", labels=0.3, bits=32, data="wikipedia", **more):
    """Cells of a place, one a seed; ``values`` are i2t, t2i is half of them."""
    names = ["all", *(f"{cut} {d}" for cut in CUTS for d in ("hits", "min_k_R", "R", "dcmh"))]
    names += ["all, index", "all, index by class", "all, optimistic", "all, pessimistic"]
    found = []
    for seed, value in enumerate(values):
        score = {"i2t": value, "t2i": value / 2, "i2i": 0.1, "t2t": 0.2}
        scores = dict.fromkeys([*names, "all, among queries"], score)
        settings = METHODS[method].settings(protocol)
        found.append(
            {
                **{"data": data, "method": method, "bits": bits, "labels": labels, "seed": seed},
                **{"protocol": protocol, "scores": scores, "seconds": {"train": 3.0, "graph": 1.0}},
                **{"settings": settings, "data_sha256": "d", "split_sha256": "s"},
                **{"data_about": "10 train", "commit": "c" * 40, "versions": {"torch": "2"}},
                **more,
            }
        )
    return found


def text_of(name, found, **options):
    return page(TABLES[name], found, **options)


def row(text, *start):
    """The cells of the first line of a table that starts so."""
    wanted = "| " + " | ".join(start) + " |"
    line = next(line for line in text.splitlines() if line.startswith(wanted))
    return [part.strip() for part in line.strip("|").split("|")]
