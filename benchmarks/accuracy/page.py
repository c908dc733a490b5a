"""A table's cells as a page of Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.accuracy.about import about
from benchmarks.accuracy.choices import choices, shifts
from benchmarks.accuracy.claims import claims
from benchmarks.accuracy.data import SOURCES
from benchmarks.accuracy.markdown import digits, error, grid, signed
from benchmarks.accuracy.measures import CUTS
from benchmarks.accuracy.methods import CHOICE_SEEDS, CODE, HELD_OUT, METHODS, ORDER, PAPER
from benchmarks.accuracy.store import Line
from benchmarks.accuracy.summary import Groups, Place, compare
from benchmarks.accuracy.table import CROSS, Printed, Table
from benchmarks.recipes import RECIPES
from pyg_hash.metrics.mean_ap import DENOMINATORS
from pyg_hash.utils.files import atomic_path

Column = tuple[int, float | None]


def write(
    table: Table, lines: Sequence[Line], path: Path, *, stale: int = 0, short: bool = False
) -> None:
    """Write the page of some cells."""
    with atomic_path(path) as temporary:
        temporary.write_text(page(table, lines, stale=stale, short=short), encoding="utf-8")


def page(table: Table, lines: Sequence[Line], *, stale: int = 0, short: bool = False) -> str:
    """The page.

    Args:
        table: its declaration.
        lines: the cells.
        stale: how many more there are, under other settings than today's.
        short: whether they come from ``--short``.
    """
    groups = Groups(lines)
    parts = [f"# {table.title}", table.about]
    if lines:
        parts.append(f"![{table.title}]({table.name}.png)")
    if short:
        parts.append("Short form: planted clusters, hardly any training; it shows that all runs.")
    parts.append(about(table, lines, stale))
    if lines and "ties" in table.extras:
        parts += ["## How far each choice moves MCGCN", shifts(groups)]
    if lines and table.claims:
        parts += ["## What is claimed and what is measured", claims(table, groups)]
    for data in groups.values_of("data"):
        parts.append(f"## {SOURCES[data].title}")
        parts += choices(groups, data) if "ties" in table.extras else _section(table, groups, data)
    return "\n\n".join(parts) + "\n"


def _section(table: Table, groups: Groups, data: str) -> Iterator[str]:
    columns = [(bits, rate) for bits in groups.values_of("bits") for rate in rates(groups)]
    printed = (table.printed or {}).get(data)
    for task in table.tasks:
        yield f"{task}:\n\n" + _scores(table, groups, data, task, columns, printed)
    if data in table.impossible:
        names, reason = table.impossible[data]
        yield f"Cannot be run: {'; '.join(names)} ({reason})."
    yield from _chosen(table, groups, data)
    if printed is not None:
        source = RECIPES[printed.recipe].tables[printed.table]
        remark = f" ({source.remark})" if source.remark else ""
        yield (
            f"*Paper*: {source.source}, {source.metric}{remark}; features as their owner declares "
            "them; sizes checked; the rows above are trained with our defaults, but for those "
            f"called *{PAPER}* or *{CODE}* (table `recipes`)."
        )
    if table.champion is not None:
        yield from _verdicts(table, groups, data, columns)
    yield from _denominators(table, groups, data, columns)


def rates(groups: Groups) -> list[float | None]:
    """The label rates of some cells; None if there is none that reads labels."""
    return groups.values_of("labels") or [None]


def heading(column: Column) -> str:
    """A code length and label rate."""
    bits, rate = column
    return f"{bits} bits" if rate is None else f"{bits} bits, {rate:.0%}"


def places(table: Table, groups: Groups, data: str) -> Iterator[tuple[str, str]]:
    """Method and protocol of every line that has a cell, in the order of the declaration."""
    there = {(w.method, w.protocol) for w in groups.by_place if w.data == data}
    listed = [*table.methods, *(name for name in METHODS if name not in table.methods)]
    for name in listed:
        for protocol in ORDER:
            if (name, protocol) in there:
                yield name, protocol


def _scores(
    table: Table,
    groups: Groups,
    data: str,
    task: str,
    columns: Sequence[Column],
    printed: Printed | None,
) -> str:
    """One direction: a line a method and protocol, a column a code length and label rate."""
    lines = []
    for name, protocol in places(table, groups, data):
        found = [groups.get(Place(data, name, *column, protocol)) for column in columns]
        shown = ["" if g is None else groups.shown(g, table.metric, task) for g in found]
        seconds = [group.seconds for group in found if group is not None]
        lines.append([name, protocol, *shown, f"{sum(seconds) / len(seconds):.0f}"])
    if printed is not None:
        lines += _paper(printed, task, columns)
    return grid(["method", "protocol", *map(heading, columns), "seconds"], lines)


def _chosen(table: Table, groups: Groups, data: str) -> Iterator[str]:
    """What held-out labels have chosen for the rows that leave them a choice."""
    lines = []
    for name, protocol in places(table, groups, data):
        if not METHODS[name].choices:
            continue
        for rate in rates(groups) if METHODS[name].labels else [None]:
            wheres = [Place(data, name, b, rate, protocol) for b in groups.values_of("bits")]
            there = [group for where in wheres if (group := groups.get(where)) is not None]
            found = [line["choice"] for group in there for line in group.lines]
            # more than one only where something else than the settings has changed meanwhile
            for choice in {json.dumps(one): one for one in found}.values():
                worths = ", ".join(f"{digits(v)} for {of}" for of, v in choice["worths"].items())
                share = "" if rate is None else f"{rate:.0%}"
                lines.append([name, protocol, share, choice["chosen"], worths])
    if lines:
        yield (
            f"Chosen by held-out labels, one setting for all seeds and bits ({HELD_OUT:.0%} of the "
            f"labelled items are the queries, mean of i2t and t2i over {len(CHOICE_SEEDS)} draws):"
            "\n\n" + grid(["method", "protocol", "labels", "chosen", "mAP"], lines)
        )


def _paper(printed: Printed, task: str, columns: Sequence[Column]) -> Iterator[list[str]]:
    """The paper's lines, called as ours are."""
    source = RECIPES[printed.recipe].tables[printed.table]
    rate_of = [_share(text) for text in source.columns]
    ours = {theirs: row for row, theirs in printed.names.items()}
    for name in printed.only or source.values:
        tasks = source.values[name]
        deviations = source.deviations.get(name, {}).get(task, {})
        shown = []
        for bits, rate in columns:
            number = rate_of.index(rate) if rate in rate_of else 0 if rate_of == [None] else None
            values = tasks.get(task, {}).get(bits)
            text = "" if values is None or number is None else digits(values[number])
            if text and bits in deviations:
                text += f" ± {digits(deviations[bits][number])}"
            shown.append(text)
        yield [f"*{ours.get(name, name)}*", "*paper*", *shown, ""]


def _share(text: str) -> float | None:
    """``'30%'`` as a number; None for a table without label rates."""
    return round(float(text[:-1]) / 100, 4) if text.endswith("%") else None


def _verdicts(table: Table, groups: Groups, data: str, columns: Sequence[Column]) -> Iterator[str]:
    """The champion against the best other row, where it has cells."""
    champion = table.champion
    assert champion is not None
    others = [name for name in table.methods if METHODS[name].model != METHODS[champion].model]
    others = others or [name for name in table.methods if name != champion]  # ablations
    lines = []
    for protocol in ORDER:
        for column in columns:
            where = Place(data, champion, *column, protocol)
            found = [compare(groups, where, others, table.metric, task) for task in CROSS]
            if any(verdict is not None for verdict in found):
                shown = [
                    ""
                    if v is None
                    else f"{signed(v.difference)}{error(v.error)} on {v.named}: {v.words}"
                    for v in found
                ]
                lines.append([protocol, heading(column), *shown])
    if lines:
        yield (
            f"{champion} against the best other row (mean difference ± its standard error; *ahead* "
            "and *behind* are beyond two of them; *(n seeds)*: that row has more or fewer of "
            "them; a row that has no such protocol stands there under its next stricter one):\n\n"
            + grid(["protocol", "", *CROSS], lines)
        )


def _denominators(
    table: Table, groups: Groups, data: str, columns: Sequence[Column]
) -> Iterator[str]:
    """MAP@R under all four denominators, a grid a code length and label rate."""
    metrics = [f"{cut} {denominator}" for cut in CUTS for denominator in DENOMINATORS]
    for column in columns:
        lines = []
        for name, protocol in places(table, groups, data):
            group = groups.get(Place(data, name, *column, protocol))
            if group is not None:
                pairs = (" / ".join(digits(group.mean(m, task)) for task in CROSS) for m in metrics)
                lines.append([name, protocol, *pairs])
        if lines:
            heads = [f"@{metric}" for metric in metrics]
            yield (
                f"The same codes as MAP@R under each denominator, {heading(column)}, i2t / t2i:"
                "\n\n" + grid(["method", "protocol", *heads], lines)
            )
