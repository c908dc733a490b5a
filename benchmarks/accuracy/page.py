"""A table's cells as a page of Markdown.

What every number is and how it was made; the scores; what was chosen; what is claimed of ablations
beside what is measured; and, for the table ``choices``, one set of codes under many definitions.
"""

import json
import statistics
from functools import partial
from itertools import product

from benchmarks.accuracy.data import SOURCES
from benchmarks.accuracy.measures import CUTS, RECALL, SCORED
from benchmarks.accuracy.methods import CHOICE_SEEDS, CODE, HELD_OUT, METHODS, ORDER, PAPER
from benchmarks.accuracy.store import short_commit
from benchmarks.accuracy.summary import Groups, Place, compare, digits, signed, versus
from benchmarks.accuracy.tables import CROSS
from benchmarks.record import grid
from pyg_hash.metrics.mean_ap import DENOMINATORS
from pyg_hash.recipes import presets


def page(table, lines, *, stale=0, short=False):
    """The page of a table's cells.

    ``stale`` is how many more there are, under other settings than today's; ``short`` whether they
    come from ``--short``.
    """
    groups = Groups(lines)
    parts = [f"# {table.title}", table.about]
    if lines:
        parts.append(f"![{table.title}]({table.name}.png)")
    if short:
        parts.append("Short form: planted clusters, hardly any training; it shows that all runs.")
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


# --- the scores -----------------------------------------------------------------------------------


def _section(table, groups, data):
    columns = [(bits, rate) for bits in groups.values_of("bits") for rate in groups.rates()]
    # every line that has a cell, in the order of the declaration
    there = {(w.method, w.protocol) for w in groups.by_place if w.data == data}
    names = dict.fromkeys((*table.methods, *METHODS))
    places = [place for place in product(names, ORDER) if place in there]

    def found(groups):
        """The cells of each line and column, or None."""
        return {
            (name, protocol): {c: groups.get(Place(data, name, *c, protocol)) for c in columns}
            for name, protocol in places
        }

    of, recall = found(groups), groups.having(RECALL)
    recalled, rescored = found(recall), found(groups.having(SCORED["scored"]))
    printed = table.printed.get(data)
    for task in table.tasks:
        more = [c for c in columns if task == "t2i" and any(f[c] for f in recalled.values())]
        lines = []
        for where, cells in of.items():
            shown = [groups.shown(g, table.metric, task) if g else "" for g in cells.values()]
            for column in more:
                group = recalled[where][column]
                missing = "" if cells[column] is None else "–"
                shown.append(recall.shown(group, RECALL, task) if group else missing)
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
        yield (
            f"*Paper*: {source.source}, {source.metric}{remark}; features as their owner declares "
            "them; sizes checked; the rows above are trained with our defaults, but for those "
            f"called *{PAPER}* or *{CODE}* (table `recipes`)."
        )
    for champion in table.champions:
        yield from _verdicts(table, champion, groups, data, columns)
    named = {"all": "Hamming", RECALL: RECALL}
    for how, metric in SCORED.items():
        named |= {metric: how, f"{RECALL}, {how}": f"{RECALL}, {how}"}
    cuts = {f"{cut} {name}": f"@{cut} {name}" for cut in CUTS for name in DENOMINATORS}
    for title, cells, metrics in ((_RESCORED, rescored, named), (_CUT, of, cuts)):
        for column in columns:
            there = {where: found[column] for where, found in cells.items() if found[column]}
            if there:
                yield _table(title.format(_heading(column)), there, metrics)


_RESCORED = (
    f"Rescored, {{}}, i2t / t2i, mAP@all and {RECALL} (*scored*: the query's relaxed code times "
    "the items' bits; *int8*: times their relaxed codes in int8; all items are ranked)"
)
_CUT = "The same codes as MAP@R under each denominator, {}, i2t / t2i"


def _heading(column):
    """A code length and a label rate."""
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
        if not METHODS[name].choices:
            continue
        for rate in groups.rates() if METHODS[name].labels else [None]:
            there = [group for (_, r), group in found.items() if group and rate in (r, None)]
            choices = [line["choice"] for group in there for line in group.lines]
            # more than one only where something else than the settings has changed meanwhile
            for choice in {json.dumps(one): one for one in choices}.values():
                worths = ", ".join(f"{digits(v)} for {of}" for of, v in choice["worths"].items())
                share = "" if rate is None else f"{rate:.0%}"
                lines.append([name, protocol, share, choice["chosen"], worths])
    if lines:
        yield (
            f"Chosen by held-out labels, one setting for all seeds and bits ({HELD_OUT:.0%} of the "
            f"labelled items are the queries, mean of i2t and t2i over {len(CHOICE_SEEDS)} draws):"
            "\n\n" + grid(["method", "protocol", "labels", "chosen", "mAP"], lines)
        )


def _paper(printed, task, columns):
    """The paper's lines, called as ours are."""
    source = presets()[printed.recipe].tables[printed.table]
    # a table without label rates has one column, which is that of all
    rates = [round(float(t[:-1]) / 100, 4) if t.endswith("%") else None for t in source.columns]
    ours = {theirs: row for row, theirs in printed.names.items()}
    for name in printed.only or source.values:
        values = source.values[name].get(task, {})
        deviations = source.deviations.get(name, {}).get(task, {})
        shown = []
        for bits, rate in columns:
            number = rates.index(rate) if rate in rates else 0 if rates == [None] else None
            known = bits in values and number is not None
            shown.append(digits(values[bits][number]) if known else "")
            if known and bits in deviations:
                shown[-1] += f" ± {digits(deviations[bits][number])}"
        yield [f"*{ours.get(name, name)}*", "*paper*", *shown, ""]


def _verdicts(table, champion, groups, data, columns):
    """The champion against the best other row, where it has cells."""
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
        yield (
            f"{champion} against {among} (mean difference ± its standard error; *ahead* "
            "and *behind* are beyond two of them, which few seeds make a hint, no proof; *(n "
            "seeds)*: that row has more or fewer of them; a row that has no such protocol stands "
            "there under its next stricter one):\n\n" + grid(["protocol", "", *CROSS], lines)
        )


# --- what the numbers are -------------------------------------------------------------------------

PROTOCOLS = (
    "*inductive*: only training items are anybody's neighbours; *strict*: all items are, but no "
    "code of a query depends on its other modality; *transductive* (the papers'): it may. Methods "
    "whose codes need no graph are inductive"
)
METRICS = {
    "all": "mAP@all, expected ties",
    "500 hits": "MAP@R=500, expected ties, divided by the relevant items among the first 500",
}


def _about(table, lines, stale):
    options = dict.fromkeys(SOURCES[name].option for name in table.data)
    places = " ".join(f"--{option} PLACE" for option in options if option is not None)
    facts = [f"command: `python -m benchmarks.accuracy {table.name} {places} --jobs 2`"]
    if not lines:
        return "- " + "\n- ".join([*facts, "not run yet"])
    facts += [
        f"metric: {METRICS[table.metric]}; mean ± standard deviation over the seeds; others are "
        f"in `{table.name}.jsonl`",
        "seeds (labelled items, parameters, training): "
        f"{_ranges(sorted({line['seed'] for line in lines}))}; *(n)*: only n of them",
        f"protocols: {PROTOCOLS}",
    ]
    if any(RECALL in line["scores"] for line in lines):
        facts.append(
            f"*{RECALL}*: pair recall, how often a text's own picture is among the ten nearest of "
            "all query pictures, expected ties; –: the cells are older than the measure"
        )
    else:
        facts.append(f"no {RECALL}: the cells are older than the measure")
    for data in sorted({line["data"] for line in lines}):
        about, *marks = (
            _several(line[key] for line in lines if line["data"] == data)
            for key in ("data_about", "data_sha256", "split_sha256")
        )
        facts.append(f"{SOURCES[data].title}: {about} (data {marks[0]}, split {marks[1]})")
    raw = {line["method"] for line in lines if "scaling" in line["settings"]}
    others = f"; as they come for {'; '.join(sorted(raw))}" if raw else ""
    facts.append(f"features: `ScaleFeatures()`, fitted on the training items{others}")
    if "curves" in table.extras:
        facts.append(
            "curves: precision is the mean of the queries that find something, recall of all"
        )
    facts += _trainings(lines)
    hours = sum(sum(line["seconds"].values()) for line in lines) / 3600
    versions = (", ".join(f"{k} {v}" for k, v in line["versions"].items()) for line in lines)
    facts += [
        f"cost: {len(lines):,} cells, {hours:.1f} CPU hours; *seconds*: CPU seconds of a cell, "
        "of machines that differ, without what was spent on a choice",
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
        training = line["settings"].get("training")
        if training:
            text = ", ".join(f"{what} {value}" for what, value in training.items())
            chosen = "as held-out labels chose, see below"
            rows.setdefault(chosen if METHODS[name].choices else text, []).append(name)
    return [f"training of {'; '.join(sorted(names))}: {text}" for text, names in rows.items()]


def _several(texts):
    """The different ones; most often it is one."""
    return "; ".join(sorted(set(texts)))


def _ranges(numbers):
    """``0-9`` for consecutive numbers."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(map(str, numbers))


# --- claims ---------------------------------------------------------------------------------------

_SIGNS = {"ahead": "+", "behind": "-", "no difference": "0", "one seed": "?"}
_ABOUT = (
    "Differences of means, variant minus full, ± their standard error. Sign, i2t / t2i: `0` within "
    "two of these, else `+` or `-`; `?`: no claim, or a single seed. Few seeds: a sign is a hint, "
    "no proof. The sources' features and splits are others."
)


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
    heads = ["data", "bits", "variant", "full", *CROSS, "sign", "claimed", "verdict"]
    return f"{_ABOUT}\n\n{grid([*heads, 'source of the claim'], lines)}"


def signs(found):
    """``+``, ``-``, or ``0`` for what may be chance; ``?`` if nobody can tell."""
    return " / ".join(_SIGNS[verdict.words] for verdict in found)


def agreement(ours, claimed):
    """How the measured signs, ``'+ / -'``, stand to the claimed ones."""
    both = zip(ours.split(" / "), claimed.split(" / "), strict=True)
    pairs = [(o, c) for o, c in both if "?" not in (o, c)]
    if not pairs:
        return "no claim" if "?" in claimed else "open"
    if any(o not in (c, "0") for o, c in pairs):
        return "contradicts"
    agreeing = sum(o == c for o, c in pairs)
    return (
        "agrees" if agreeing == len(pairs) else "agrees in part" if agreeing else "no effect seen"
    )


# --- one set of codes under many definitions ------------------------------------------------------

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
    heads = ["data", "labels", "sd over seeds", "transductive - inductive"]
    heads += ["ties: highest - lowest", "MAP@50: highest - lowest denominator"]
    return grid([*heads, "searching the queries' other side"], lines)


def _moved(own, wide):
    def apart(metrics):
        def span(task):
            values = [own.mean(metric, task) for metric in metrics]
            return max(values) - min(values)

        return _pairs(span, signed)

    def beyond(group, metric):
        return _pairs(lambda t: group.mean(metric, t) - own.mean("all", t), signed)

    deviation, cuts = _pairs(partial(own.deviation, "all")), [f"50 {d}" for d in DENOMINATORS]
    moved = deviation, beyond(wide, "all"), apart(_ORDERS), apart(cuts)
    return *moved, beyond(own, "all, among queries")


def _choices(groups, data):
    """The parts of one data set."""
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
            shown = [group.shown("all", task) for task in CROSS]
            for task in CROSS:
                moved = group.mean("all", task) - base.mean("all", task)
                shown.append("" if base is group else signed(moved))
            lines.append([method, protocol, *shown])
        heads = ["method", "protocol", *CROSS, *(f"{task} - inductive" for task in CROSS)]
        yield "What a code may depend on (mAP@all, expected ties):\n\n" + grid(heads, lines)
        yield _table("What is searched (mAP@all, expected ties)", found, _DATABASES)
        yield _table("How ties are ordered (mAP@all)", found, _ORDERS)
        for cut in CUTS:
            names = {f"{cut} {name}": f"`{name}`" for name in DENOMINATORS}
            yield _table(f"What the sum is divided by (mAP@{cut}, expected ties)", found, names)
