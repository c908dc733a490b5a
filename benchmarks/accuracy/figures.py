"""The picture of a table: lines over code lengths, curves, or a t-SNE."""

from itertools import product
from statistics import fmean

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.accuracy.data import SOURCES
from benchmarks.accuracy.methods import FACTORS, METHODS, ORDER, WEIGHTS, varied
from benchmarks.accuracy.summary import Groups, Place
from benchmarks.accuracy.tables import CROSS
from benchmarks.picture import draw, save

_WIDEST = 7  # lines in one panel that can be told apart
_AXES = ("recall", "precision", "recall", ""), ("ranks", "at", "rank", "x")


def draw_table(table, lines, path):
    """Write the picture of some cells; none, if there is nothing to see."""
    if lines and "tsne" in table.extras:
        _tsne(lines, path)
    elif lines:
        of_weights = varied("alpha", FACTORS[0]) in table.methods
        panels = _curves if "curves" in table.extras else _weights if of_weights else _means
        draw(list(panels(table, Groups(lines))), path)


def _means(table, groups):
    """Bars of every method at one code length and the lowest label rate."""
    bits = min(groups.values_of("bits"), key=lambda bits: (bits != 32, bits))
    rate = groups.rates()[0]
    share = "" if rate is None else f", {rate:.0%}"
    for data, task in product(groups.values_of("data"), CROSS):
        bars = [
            (_name(where), group.mean(table.metric, task))
            for where, group in groups.by_place.items()
            if (where.data, where.bits) == (data, bits) and where.labels in (rate, None)
        ]
        bars = dict(sorted(bars, key=lambda bar: -bar[1]))
        title = f"{SOURCES[data].title}, {task}, {bits} bits{share}"
        yield {"title": title, "bars": bars, "x": f"mAP@{table.metric}"}


def _name(where):
    """The row, and its protocol where it has a choice."""
    only = METHODS[where.method].protocols == ("inductive",)
    return where.method if only else f"{where.method} ({where.protocol})"


def _weights(table, groups):
    """Fig. 5: mAP over the factor of each weight, a line a direction and protocol."""
    bits, rate = groups.values_of("bits")[0], groups.values_of("labels")[0]
    for data, (weight, default) in product(groups.values_of("data"), WEIGHTS.items()):
        series = {}
        for protocol, factor in product(groups.values_of("protocol"), sorted((1.0, *FACTORS))):
            name = "MCGCN" if factor == 1.0 else varied(weight, factor)
            group = groups.get(Place(data, name, bits, rate, protocol))
            for task in CROSS if group else ():
                point = (default * factor, group.mean(table.metric, task))
                series.setdefault(f"{task}, {protocol}", []).append(point)
        title = f"{SOURCES[data].title}: {weight} (default {default:g})"
        yield {"title": title, "series": series, "x": weight, "y": "mAP", "log": "x"}


def _curves(table, groups):
    """Precision over recall, and precision over rank: means over the seeds.

    There is one point a radius or rank, so that those of the seeds belong together. A radius within
    which some seed finds nothing has no precision: it is no point of the curve.
    """
    for data in groups.values_of("data"):
        shown = [item for item in groups.by_place.items() if item[0].data == data][:_WIDEST]
        seeds = sorted({line["seed"] for _, group in shown for line in group.lines})
        number = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
        for task, (over, precision, x, log) in product(CROSS, _AXES):
            series = {}
            for place, group in shown:
                curves = [line["curves"][task] for line in group.lines]
                at, found = (zip(*(c[of] for c in curves), strict=True) for of in (over, precision))
                points = [both for both in zip(at, found, strict=True) if None not in both[1]]
                series[_name(place)] = [tuple(map(fmean, both)) for both in points]
            title = f"{SOURCES[data].title}, {task}, {number}"
            yield {"title": title, "series": series, "x": x, "y": "precision", "log": log}


def _tsne(lines, path):
    """Circles are images, triangles texts; a colour a class; a row a protocol."""
    lines = sorted(lines, key=lambda line: (line["data"], ORDER.index(line["protocol"])))
    with matplotlib.rc_context({"axes.titlesize": 10}):
        figure = Figure(figsize=(15, 5 * len(lines)), layout="constrained")
        for line, axes in zip(lines, figure.subplots(len(lines), 3, squeeze=False), strict=True):
            for axis, name in zip(axes, ("image features", "text features", "codes"), strict=True):
                classes = line["tsne"]["classes"]
                parts = np.reshape(line["tsne"][name], (-1, len(classes), 2))  # codes: of both
                markers = "^" if name == "text features" else "o^"
                for marker, part in zip(markers, parts, strict=False):
                    axis.scatter(*part.T, s=9, c=classes, cmap="tab10", marker=marker, alpha=0.7)
                axis.set(title=name, xticks=[], yticks=[])
            about = f"{SOURCES[line['data']].title}, {line['protocol']}, seed {line['seed']}"
            axes[-1].set_title(f"codes: {line['method']}, {about}")
        save(figure, path)
