"""A table's cells as a page of Markdown.

What every number is and how it was made; the scores; what was chosen; what is claimed of ablations
beside what is measured; and, for the table ``choices``, one set of codes under many definitions.
"""

import json
import statistics
from functools import partial
from itertools import chain, product

import numpy as np

from benchmarks.accuracy.data import SOURCES
from benchmarks.accuracy.measures import CUTS, RECALL
from benchmarks.accuracy.methods import CHOICE_SEEDS, CODE, HELD_OUT, METHODS, ORDER, PAPER
from benchmarks.accuracy.store import short_commit
from benchmarks.accuracy.summary import Groups, Place, compare, digits, signed, versus
from benchmarks.accuracy.tables import CROSS
from benchmarks.record import grid, stated
from pyg_hash.metrics.mean_ap import DENOMINATORS
from pyg_hash.recipes import presets

SAID = stated(__file__)
METRICS = SAID["metrics"]


def said(sentence, **filled):
    return SAID[sentence].format(**filled)


def page(table, lines, *, stale=0, short=False):
    """The page of a table's cells; ``stale`` is how many more have other settings than today's."""
    groups = Groups(lines)
    parts = [f"# {table.title}", table.about]
    if lines:
        parts.append(f"![{table.title}]({table.name}.png)")
    if short:
        parts.append(said("short"))
    parts.append(_about(table, lines, stale))
    if lines and "ties" in table.extras:
        parts += ["## How far each choice moves MCGCN", _shifts(groups)]
    if lines and table.claims:
        parts += ["## What is claimed and what is measured", _claims(table, groups)]
    for data in groups.values_of("data"):
        parts.append(f"## {SOURCES[data].title}")
        parts += _choices(groups, data) if "ties" in table.extras else _section(table, groups, data)
    return "\n\n".join(parts) + "\n"


def _pairs(value, show=digits):
    """A number in both directions, i2t / t2i."""
    return " / ".join(show(value(task)) for task in CROSS)


def _section(table, groups, data):
    columns = [(bits, rate) for bits in groups.values_of("bits") for rate in groups.rates()]
    # every line that has a cell, in the order of the declaration
    there = {(w.method, w.protocol) for w in groups.by_place if w.data == data}
    names = dict.fromkeys((*table.methods, *METHODS))
    places = [place for place in product(names, ORDER) if place in there]
    of, recalled, rescored = (
        {(m, p): {c: which.get(Place(data, m, *c, p)) for c in columns} for m, p in places}
        for which in (groups, groups.having(RECALL), groups.having("all, scored"))
    )
    printed = table.printed.get(data)
    for task in table.tasks:
        more = [c for c in columns if task == "t2i" and any(f[c] for f in recalled.values())]
        lines = []
        for where, cells in of.items():
            shown = [group.shown(table.metric, task) if group else "" for group in cells.values()]
            for column in more:
                group, missing = recalled[where][column], "–" if cells[column] else ""
                shown.append(group.shown(RECALL, task) if group else missing)
            seconds = statistics.fmean(group.seconds for group in cells.values() if group)
            lines.append([*where, *shown, f"{seconds:.0f}"])
        if printed is not None:
            lines += ([*line, *("" for _ in more)] for line in _paper(printed, task, columns))
        heads = ["method", "protocol", *map(_heading, columns)]
        heads += [f"{RECALL}, {_heading(column)}" for column in more]
        yield f"{task}:\n\n" + grid([*heads, "seconds"], lines)
    if data in table.impossible:
        rows, reason = table.impossible[data]
        yield f"Cannot be run: {'; '.join(rows)} ({reason})."
    yield from _chosen(groups, of)
    if printed is not None:
        source = presets()[printed.recipe].tables[printed.table]
        remark = f" ({source.remark})" if source.remark else ""
        yield said("paper", source=source, remark=remark, ours=PAPER, code=CODE)
    for champion in table.champions:
        yield from _verdicts(table, champion, groups, data, columns)
    shown = ("rescored", rescored, SAID["ways"]), ("cut", of, _CUTS)
    for (title, cells, metrics), column in product(shown, columns):
        there = {where: found[column] for where, found in cells.items() if found[column]}
        if there:
            yield _table(said(title, column=_heading(column), recall=RECALL), there, metrics)


_CUTS = {f"{cut} {name}": f"@{cut} {name}" for cut in CUTS for name in DENOMINATORS}


def _heading(column):
    bits, rate = column
    return f"{bits} bits" if rate is None else f"{bits} bits, {rate:.0%}"


def _table(title, groups, metrics):
    """A line a method and protocol, a column a metric, i2t / t2i."""
    most = max(len(group.lines) for group in groups.values())
    lines = []
    for where, group in groups.items():
        count = len(group.lines)
        shown = [_pairs(partial(group.mean, metric)) for metric in metrics]
        shown[0] += "" if count == most else f" ({count})"
        lines.append([*where, *shown])
    return f"{title}:\n\n" + grid(["method", "protocol", *metrics.values()], lines)


def _chosen(groups, of):
    """What held-out labels have chosen for the rows that leave them a choice."""
    lines = []
    for (name, protocol), found in of.items():
        for rate in groups.rates() if METHODS[name].choices else ():
            there = (group.lines for (_, r), group in found.items() if group and r == rate)
            choices = (line["choice"] for line in chain.from_iterable(there))
            # more than one only where something else than the settings has changed meanwhile
            for choice in {json.dumps(one): one for one in choices}.values():
                worths = ", ".join(f"{digits(v)} for {of}" for of, v in choice["worths"].items())
                lines.append([name, protocol, f"{rate:.0%}", choice["chosen"], worths])
    if lines:
        about = said("chosen", held_out=HELD_OUT, draws=len(CHOICE_SEEDS))
        yield f"{about}\n\n{grid(SAID['choice'], lines)}"


def _paper(printed, task, columns):
    """The paper's lines, called as ours are."""
    source = presets()[printed.recipe].tables[printed.table]
    # a table without label rates has one column, which is that of all
    rates = [round(float(t[:-1]) / 100, 4) if t.endswith("%") else None for t in source.columns]
    ours = {theirs: row for row, theirs in printed.names.items()}
    for name in printed.only or source.values:
        values = source.values[name].get(task, {})
        deviations = source.deviations.get(name, {}).get(task, {})
        shown = dict.fromkeys(columns, "")
        for bits, rate in columns:
            own = None if rates == [None] else rate
            if bits in values and own in rates:
                found = [of[bits][rates.index(own)] for of in (values, deviations) if bits in of]
                shown[bits, rate] = " ± ".join(map(digits, found))
        yield [f"*{ours.get(name, name)}*", "*paper*", *shown.values(), ""]


def _verdicts(table, champion, groups, data, columns):
    others = [name for name in table.methods if METHODS[name].model != METHODS[champion].model]
    others = others or [name for name in table.methods if name != champion]  # ablations
    among = "the best other row"
    unlabelled = [name for name in others if not METHODS[name].labels]
    if not METHODS[champion].labels and unlabelled != others:
        others = unlabelled  # it has one result for all label rates
        columns = list(dict.fromkeys((bits, None) for bits, _ in columns))
        among += " that reads no label"
    lines = []
    for protocol in ORDER:
        for column in columns:
            where = Place(data, champion, *column, protocol)
            found = [compare(groups, where, others, table.metric, task) for task in CROSS]
            if any(found):
                lines.append([protocol, _heading(column), *(str(v) if v else "" for v in found)])
    if lines:
        about = said("verdicts", champion=champion, among=among)
        yield f"{about}\n\n{grid(['protocol', '', *CROSS], lines)}"


def _about(table, lines, stale):
    options = dict.fromkeys(SOURCES[name].option for name in table.data)
    places = " ".join(f"--{option} PLACE" for option in options if option is not None)
    facts = [f"command: `python -m benchmarks.accuracy {table.name} {places} --jobs 2`"]
    if not lines:
        return "- " + "\n- ".join([*facts, "not run yet"])
    recalled = any(RECALL in line["scores"] for line in lines)
    facts += [
        said("metric", metric=METRICS[table.metric], name=table.name),
        said("seeds", seeds=_ranges(sorted({line["seed"] for line in lines}))),
        said("protocols"),
        said("recall" if recalled else "no recall", recall=RECALL),
    ]
    for data in sorted({line["data"] for line in lines}):
        of, keys = [line for line in lines if line["data"] == data], ("about", "sha256")
        about, digest = (_several(line[f"data_{key}"] for line in of) for key in keys)
        split = _several(line["split_sha256"] for line in of)
        facts.append(f"{SOURCES[data].title}: {about} (data {digest}, split {split})")
    raw = {line["method"] for line in lines if "scaling" in line["settings"]}
    others = f"; as they come for {'; '.join(sorted(raw))}" if raw else ""
    facts += [said("features", others=others), *([said("curves")] * ("curves" in table.extras))]
    facts += _trainings(lines)
    hours = sum(sum(line["seconds"].values()) for line in lines) / 3600
    versions = (", ".join(f"{k} {v}" for k, v in line["versions"].items()) for line in lines)
    facts += [
        said("cost", cells=len(lines), hours=hours),
        f"commit: {_several(short_commit(line['commit']) for line in lines)}",
        f"versions: {_several(versions)}",
    ]
    if stale:
        facts.append(f"{stale} stored cells under other settings are left out")
    return "- " + "\n- ".join(facts)


def _trainings(lines):
    """How the rows are trained; rows that are trained alike stand together."""
    rows = {}
    for name, line in {line["method"]: line for line in lines}.items():
        if training := line["settings"].get("training"):
            text = ", ".join(f"{what} {value}" for what, value in training.items())
            text = "as held-out labels chose, see below" if METHODS[name].choices else text
            rows.setdefault(text, []).append(name)
    return [f"training of {'; '.join(sorted(names))}: {text}" for text, names in rows.items()]


def _several(texts):
    return "; ".join(sorted(set(texts)))


def _ranges(numbers):
    """``0-9`` for consecutive numbers."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(map(str, numbers))


def _claims(table, groups):
    """One line a claim, data set, code length, label rate and pair of protocols."""
    lines = []
    for data, claim in product(groups.values_of("data"), table.claims):
        for (variant, group), (own, other) in product(groups.by_place.items(), claim.protocols):
            full = groups.by_place.get(variant._replace(method=claim.full, protocol=other))
            asked = data, claim.variant, own
            if (variant.data, variant.method, variant.protocol) != asked or full is None:
                continue
            found = [versus(claim.full, group, full, table.metric, t) for t in CROSS]
            rows = f"{claim.variant} ({own})", f"{claim.full} ({other})"
            line = [SOURCES[data].title, str(variant.bits), *rows]
            line += [*(v.number for v in found), signs(found), claim.signs]
            lines.append([*line, agreement(signs(found), claim.signs), claim.source])
    return f"{said('claims')}\n\n{grid(SAID['claim'], lines)}"


def signs(found):
    """``+``, ``-``, or ``0`` for what may be chance; ``?`` if nobody can tell."""
    return " / ".join(SAID["signs"][verdict.words] for verdict in found)


def agreement(ours, claimed):
    """How the measured signs, ``'+ / -'``, stand to the claimed ones."""
    both = zip(ours.split(" / "), claimed.split(" / "), strict=True)
    pairs = [(o, c) for o, c in both if "?" not in (o, c)]
    if not pairs:
        return "no claim" if "?" in claimed else "open"
    if any(o not in (c, "0") for o, c in pairs):
        return "contradicts"
    same = sum(o == c for o, c in pairs)
    return "agrees" if same == len(pairs) else "agrees in part" if same else "no effect seen"


def _shifts(groups):
    """How far each choice moves MCGCN's number, i2t / t2i; all else as in the library."""
    lines = []
    bits = groups.values_of("bits")[0]
    for data, rate in product(groups.values_of("data"), groups.values_of("labels")):
        of = [groups.get(Place(data, "MCGCN", bits, rate, p)) for p in (ORDER[0], ORDER[-1])]
        if all(of):
            lines.append([SOURCES[data].title, f"{rate:.0%}", *_moved(*of)])
    if not lines:
        return "Not run under today's settings."
    return grid(SAID["shift"], lines)


def _moved(own, wide):
    shifts = (
        lambda t: wide.mean("all", t) - own.mean("all", t),
        lambda t: np.ptp([own.mean(metric, t) for metric in SAID["ties"]]),
        lambda t: np.ptp([own.mean(f"50 {name}", t) for name in DENOMINATORS]),
        lambda t: own.mean("all, among queries", t) - own.mean("all", t),
    )
    return _pairs(partial(own.deviation, "all")), *(_pairs(shift, signed) for shift in shifts)


def _choices(groups, data):
    bits = groups.values_of("bits")[0]
    methods = dict.fromkeys(where.method for where in groups.by_place)
    for rate in groups.values_of("labels"):
        places = (Place(data, method, bits, rate, p) for method, p in product(methods, ORDER))
        found = {(w.method, w.protocol): groups.get(w) for w in places if groups.get(w)}
        if not found:
            continue
        yield f"### {bits} bits, {rate:.0%} of the labels"
        lines = []
        for (method, protocol), group in found.items():
            base = found.get((method, "inductive"), group)
            moved = (group.mean("all", task) - base.mean("all", task) for task in CROSS)
            shown = [group.shown("all", task) for task in CROSS]
            shown += ["" if base is group else signed(value) for value in moved]
            lines.append([method, protocol, *shown])
        heads = ["method", "protocol", *CROSS, *(f"{task} - inductive" for task in CROSS)]
        yield "What a code may depend on (mAP@all, expected ties):\n\n" + grid(heads, lines)
        yield _table("What is searched (mAP@all, expected ties)", found, SAID["databases"])
        yield _table("How ties are ordered (mAP@all)", found, SAID["ties"])
        for cut in CUTS:
            names = {f"{cut} {name}": f"`{name}`" for name in DENOMINATORS}
            yield _table(f"What the sum is divided by (mAP@{cut}, expected ties)", found, names)
