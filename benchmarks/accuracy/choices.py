"""The page of the table ``choices``: one set of codes under many definitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.accuracy.data import SOURCES
from benchmarks.accuracy.markdown import digits, grid, signed
from benchmarks.accuracy.measures import CUTS
from benchmarks.accuracy.methods import ORDER
from benchmarks.accuracy.summary import Group, Groups, Place
from benchmarks.accuracy.table import CROSS
from pyg_hash.metrics.mean_ap import DENOMINATORS

_ORDERS = {
    "all": "expected: the mean over all orders",
    "all, index": "the file's order",
    "all, index by class": "the file's order, file sorted by class",
    "all, optimistic": "relevant items first",
    "all, pessimistic": "relevant items last",
}


_DATABASES = {
    "all": "the database",
    "all, among queries": "the queries' other side, own pair included",
}


def shifts(groups: Groups) -> str:
    """How far each choice moves MCGCN's number, i2t / t2i; all else as in the library."""
    lines = []
    bits = groups.values_of("bits")[0]
    for data in groups.values_of("data"):
        for rate in groups.values_of("labels"):
            of = {p: groups.get(Place(data, "MCGCN", bits, rate, p)) for p in ORDER}
            own, wide = of["inductive"], of["transductive"]
            if own is None or wide is None:
                continue
            pairs = [
                [own.deviation("all", task) for task in CROSS],
                [wide.mean("all", task) - own.mean("all", task) for task in CROSS],
                [_range(own, _ORDERS, task) for task in CROSS],
                [_range(own, [f"50 {name}" for name in DENOMINATORS], task) for task in CROSS],
                [own.mean("all, among queries", t) - own.mean("all", t) for t in CROSS],
            ]
            shown = [" / ".join(digits(v) for v in pairs[0])]
            shown += [" / ".join(signed(v) for v in pair) for pair in pairs[1:]]
            lines.append([SOURCES[data].title, f"{rate:.0%}", *shown])
    if not lines:
        return "Not run under today's settings."
    heads = ["data", "labels", "sd over seeds", "transductive - inductive"]
    heads += ["ties: highest - lowest", "MAP@50: highest - lowest denominator"]
    return grid([*heads, "searching the queries' other side"], lines)


def _range(group: Group, metrics: Iterable[str], task: str) -> float:
    values = [group.mean(metric, task) for metric in metrics]
    return max(values) - min(values)


def choices(groups: Groups, data: str) -> Iterator[str]:
    """The parts of one data set."""
    bits = groups.values_of("bits")[0]
    for rate in groups.values_of("labels"):
        found = {
            (method, protocol): group
            for method in dict.fromkeys(where.method for where in groups.by_place)
            for protocol in ORDER
            if (group := groups.get(Place(data, method, bits, rate, protocol))) is not None
        }
        if not found:
            continue
        yield f"### {bits} bits, {rate:.0%} of the labels"
        yield "What a code may depend on (mAP@all, expected ties):\n\n" + _protocols(found)
        yield "What is searched (mAP@all, expected ties):\n\n" + _table(found, _DATABASES)
        yield "How ties are ordered (mAP@all):\n\n" + _table(found, _ORDERS)
        for cut in CUTS:
            yield f"What the sum is divided by (mAP@{cut}, expected ties):\n\n" + _divided(
                found, cut
            )


Found = dict[tuple[str, str], Group]


def _protocols(found: Found) -> str:
    lines = []
    for (method, protocol), group in found.items():
        line = [method, protocol, *(group.shown("all", task) for task in CROSS)]
        base = found.get((method, "inductive"), group)
        moved = [group.mean("all", task) - base.mean("all", task) for task in CROSS]
        lines.append([*line, *("" if base is group else signed(m) for m in moved)])
    return grid(["method", "protocol", *CROSS, *(f"{t} - inductive" for t in CROSS)], lines)


def _divided(found: Found, cut: int) -> str:
    return _table(found, {f"{cut} {name}": f"`{name}`" for name in DENOMINATORS})


def _table(found: Found, metrics: dict[str, str]) -> str:
    """A line a method and protocol, a column a metric, i2t / t2i."""
    lines = [
        [*where, *(" / ".join(digits(group.mean(m, task)) for task in CROSS) for m in metrics)]
        for where, group in found.items()
    ]
    return grid(["method", "protocol", *metrics.values()], lines)
