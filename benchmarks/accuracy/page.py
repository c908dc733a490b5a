"""A table's cells as a page of Markdown.

What every number is and how it was made; the scores; what was chosen; what is claimed of ablations
beside what is measured; and, for the table ``choices``, one set of codes under many definitions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.accuracy.data import SOURCES
from benchmarks.accuracy.measures import CUTS
from benchmarks.accuracy.methods import CHOICE_SEEDS, CODE, HELD_OUT, METHODS, ORDER, PAPER
from benchmarks.accuracy.store import Line, short_commit
from benchmarks.accuracy.summary import (
    Group,
    Groups,
    Place,
    Verdict,
    compare,
    digits,
    error,
    grid,
    signed,
    versus,
)
from benchmarks.accuracy.table import CROSS, Claim, Printed, Table
from pyg_hash.metrics.mean_ap import DENOMINATORS
from pyg_hash.recipes import presets
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
        source = presets()[printed.recipe].tables[printed.table]
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
    source = presets()[printed.recipe].tables[printed.table]
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


PROTOCOLS = (
    "*inductive*: only training items are anybody's neighbours; *strict*: all items are, but no "
    "code of a query depends on its other modality; *transductive* (the papers'): it may. Methods "
    "whose codes need no graph are inductive"
)
METRICS = {
    "all": "mAP@all, expected ties",
    "500 hits": "MAP@R=500, expected ties, divided by the relevant items among the first 500",
}


def command(table: Table) -> str:
    """How to run a table."""
    options = dict.fromkeys(SOURCES[name].option for name in table.data)
    places = " ".join(f"--{option} PLACE" for option in options if option is not None)
    return f"python -m benchmarks.accuracy {table.name} {places} --jobs 2"


def about(table: Table, lines: Sequence[Line], stale: int) -> str:
    """A list of facts."""
    facts = [f"command: `{command(table)}`"]
    if not lines:
        return "- " + "\n- ".join([*facts, "not run yet"])
    seeds = sorted({line["seed"] for line in lines})
    facts += [
        f"metric: {METRICS[table.metric]}; mean ± standard deviation over the seeds; others are "
        f"in `{table.name}.jsonl`",
        f"seeds (labelled items, parameters, training): {_ranges(seeds)}; *(n)*: only n of them",
        f"protocols: {PROTOCOLS}",
    ]
    for data in sorted({line["data"] for line in lines}):
        of = [line for line in lines if line["data"] == data]
        marks = [_several(line[key] for line in of) for key in ("data_sha256", "split_sha256")]
        facts.append(f"{SOURCES[data].title}: {_several(line['data_about'] for line in of)}")
        facts[-1] += f" (data {marks[0]}, split {marks[1]})"
    facts.append("features: `ScaleFeatures()`, fitted on the training items, for all methods")
    facts += _trainings(lines)
    hours = sum(sum(line["seconds"].values()) for line in lines) / 3600
    facts.append(
        f"cost: {len(lines):,} cells, {hours:.1f} CPU hours; *seconds*: CPU seconds of a cell"
    )
    facts.append(f"commit: {_several(short_commit(line['commit']) for line in lines)}")
    facts.append(f"versions: {_several(_versions(line) for line in lines)}")
    if stale:
        facts.append(f"{stale} stored cells under other settings are left out")
    return "- " + "\n- ".join(facts)


def _trainings(lines: Sequence[Line]) -> list[str]:
    """How the rows are trained; rows that are trained alike stand together."""
    rows: dict[str, list[str]] = {}
    for name, line in {line["method"]: line for line in lines}.items():
        training = line["settings"].get("training")
        if training and METHODS[name].choices:
            rows.setdefault("as held-out labels chose, see below", []).append(name)
        elif training:
            text = ", ".join(f"{what} {value}" for what, value in training.items())
            rows.setdefault(text, []).append(name)
    return [f"training of {'; '.join(sorted(names))}: {text}" for text, names in rows.items()]


def _versions(line: Line) -> str:
    return ", ".join(f"{name} {version}" for name, version in line["versions"].items())


def _several(texts: Iterable[str]) -> str:
    """The different ones; most often it is one."""
    return "; ".join(sorted(set(texts)))


def _ranges(numbers: Sequence[int]) -> str:
    """``0-9`` for consecutive numbers."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(map(str, numbers))


_SIGNS = {"ahead": "+", "behind": "-", "no difference": "0", "one seed": "?"}
_ABOUT = (
    "Differences of means, variant minus full, ± their standard error. Sign, i2t / t2i: `0` within "
    "two of these, else `+` or `-`; `?`: no claim, or a single seed. Few seeds: a sign is a hint, "
    "no proof. The sources' features and splits are others."
)


def claims(table: Table, groups: Groups) -> str:
    """One line a claim, data set, code length, label rate and pair of protocols."""
    lines = [line for data in groups.values_of("data") for line in _lines(table, groups, data)]
    heads = ["data", "bits", "variant", "full", *CROSS, "sign", "claimed", "verdict"]
    return f"{_ABOUT}\n\n{grid([*heads, 'source of the claim'], lines)}"


def _lines(table: Table, groups: Groups, data: str) -> Iterator[list[str]]:
    for claim in table.claims:
        for variant, full in _pairs(claim, groups, data):
            found = [
                versus(claim.full, groups.by_place[variant], groups.by_place[full], table.metric, t)
                for t in CROSS
            ]
            ours = signs(found)
            yield [
                *(SOURCES[data].title, str(variant.bits)),
                *(f"{place.method} ({place.protocol})" for place in (variant, full)),
                *(signed(v.difference) + error(v.error) for v in found),
                *(" / ".join(of) for of in (ours, claim.signs)),
                *(agreement(ours, claim.signs), claim.source),
            ]


def _pairs(claim: Claim, groups: Groups, data: str) -> Iterator[tuple[Place, Place]]:
    """The places of a variant and of what it is compared with."""
    for variant in groups.by_place:
        for own, other in claim.protocols:
            if (variant.data, variant.method, variant.protocol) != (data, claim.variant, own):
                continue
            full = variant._replace(method=claim.full, protocol=other)
            if full in groups.by_place:
                yield variant, full


def signs(found: list[Verdict]) -> tuple[str, ...]:
    """``+``, ``-``, or ``0`` for what may be chance; ``?`` if nobody can tell."""
    return tuple(_SIGNS[verdict.words] for verdict in found)


def agreement(ours: tuple[str, ...], claimed: tuple[str, ...]) -> str:
    """How the measured signs stand to the claimed ones."""
    pairs = [(o, c) for o, c in zip(ours, claimed, strict=True) if "?" not in (o, c)]
    if not pairs:
        return "no claim" if "?" in claimed else "open"
    agreeing = [o == c for o, c in pairs]
    if all(agreeing):
        return "agrees"
    if any(o not in (c, "0") for o, c in pairs):
        return "contradicts"
    return "agrees in part" if any(agreeing) else "no effect seen"


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
