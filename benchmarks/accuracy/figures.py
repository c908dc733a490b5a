"""The picture of a table: lines over code lengths, curves, or a t-SNE."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.accuracy.data import SOURCES
from benchmarks.accuracy.methods import FACTORS, METHODS, ORDER, WEIGHTS, varied
from benchmarks.accuracy.store import Line
from benchmarks.accuracy.summary import Groups, Place
from benchmarks.accuracy.table import CROSS, Table
from benchmarks.picture import draw
from pyg_hash.utils.files import atomic_path

_WIDEST = 7  # lines in one panel that can be told apart


def draw_table(table: Table, lines: Sequence[Line], path: Path) -> None:
    """Write the picture of some cells; none, if there is nothing to see."""
    if not lines:
        return
    if "tsne" in table.extras:
        _tsne(lines, path)
        return
    groups = Groups(lines)
    panels = _curves(groups) if "curves" in table.extras else _means(table, groups)
    if panels:
        draw(panels, path)


def _means(table: Table, groups: Groups) -> list[dict[str, Any]]:
    """Bars of every method at one code length and the lowest label rate; or Fig. 5's lines."""
    if varied("alpha", FACTORS[0]) in table.methods:
        return _weights(table, groups)
    all_bits = groups.values_of("bits")
    bits = 32 if 32 in all_bits else all_bits[0]
    panels = []
    for data in groups.values_of("data"):
        for task in CROSS:
            for rate in (groups.values_of("labels") or [None])[:1]:
                bars = {}
                for where in groups.by_place:
                    if where.data != data or where.bits != bits or where.labels not in (rate, None):
                        continue
                    bars[_name(where)] = groups.by_place[where].mean(table.metric, task)
                share = "" if rate is None else f", {rate:.0%}"
                title = f"{SOURCES[data].title}, {task}, {bits} bits{share}"
                ordered = dict(sorted(bars.items(), key=lambda bar: -bar[1]))
                panels.append({"title": title, "bars": ordered, "x": "mAP"})
    return panels


def _name(where: Place) -> str:
    """The row, and its protocol where it has a choice."""
    only = METHODS[where.method].protocols == ("inductive",)
    return where.method if only else f"{where.method} ({where.protocol})"


def _weights(table: Table, groups: Groups) -> list[dict[str, Any]]:
    """mAP over the factor of each weight, a line a direction and protocol."""
    panels = []
    for data in groups.values_of("data"):
        bits, rate = groups.values_of("bits")[0], groups.values_of("labels")[0]
        for weight, default in WEIGHTS.items():
            series: dict[str, list[tuple[float, float]]] = {}
            for protocol in groups.values_of("protocol"):
                for factor in sorted((1.0, *FACTORS)):
                    name = "MCGCN" if factor == 1.0 else varied(weight, factor)
                    group = groups.get(Place(data, name, bits, rate, protocol))
                    for task in CROSS if group is not None else ():
                        assert group is not None
                        point = (default * factor, group.mean(table.metric, task))
                        series.setdefault(f"{task}, {protocol}", []).append(point)
            title = f"{SOURCES[data].title}: {weight} (default {default:g})"
            panels.append({"title": title, "series": series, "x": weight, "y": "mAP", "log": "x"})
    return panels


def _curves(groups: Groups) -> list[dict[str, Any]]:
    """Precision over recall, and precision over rank: means over the seeds."""
    panels: list[dict[str, Any]] = []
    for data in groups.values_of("data"):
        shown = [item for item in groups.by_place.items() if item[0].data == data][:_WIDEST]
        for task in CROSS:
            recall: dict[str, list[tuple[float, float]]] = {}
            ranks: dict[str, list[tuple[float, float]]] = {}
            for place, group in shown:
                curve = _mean_curve([line["curves"][task] for line in group.lines])
                name = _name(place)
                pairs = zip(curve["recall"], curve["precision"], strict=True)
                recall[name] = [(r, p) for r, p in pairs if p is not None]
                ranks[name] = list(zip(curve["ranks"], curve["at"], strict=True))
            seeds = _seeds(line["seed"] for _, group in shown for line in group.lines)
            title = f"{SOURCES[data].title}, {task}, {seeds}"
            about = {"title": title, "y": "precision", "log": ""}
            panels.append({**about, "series": recall, "x": "recall"})
            panels.append({**about, "series": ranks, "x": "rank", "log": "x"})
    return panels


def _mean_curve(curves: Sequence[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """The mean of each point; there is one a radius or rank, so that they belong together.

    A radius within which some seed finds nothing has no precision: it is no point of the curve.
    """
    return {
        part: [
            None if None in values else statistics.fmean(values)
            for values in zip(*(c[part] for c in curves), strict=True)
        ]
        for part in curves[0]
    }


def _seeds(seeds: Iterable[int]) -> str:
    found = sorted(set(seeds))
    return f"seed {found[0]}" if len(found) == 1 else f"mean of {len(found)} seeds"


def _tsne(lines: Sequence[Line], path: Path) -> None:
    """Circles are images, triangles texts; a colour a class; a row a protocol."""
    lines = sorted(lines, key=lambda line: (line["data"], ORDER.index(line["protocol"])))
    with matplotlib.rc_context({"axes.titlesize": 10}):
        figure = Figure(figsize=(15, 5 * len(lines)), layout="constrained")
        for line, axes in zip(lines, figure.subplots(len(lines), 3, squeeze=False), strict=True):
            for axis, name in zip(axes, ("image features", "text features", "codes"), strict=True):
                _scatter(axis, line["tsne"], name)
            about = f"{SOURCES[line['data']].title}, {line['protocol']}, seed {line['seed']}"
            axes[-1].set_title(f"codes: {line['method']}, {about}")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=110)


def _scatter(axis: Any, points: dict[str, Any], name: str) -> None:
    classes = points["classes"]
    half = len(classes)
    for marker, part in (("o", points[name][:half]), ("^", points[name][half:])):
        if part:
            marker = "^" if name == "text features" else marker
            x, y = zip(*part, strict=True)
            axis.scatter(x, y, s=9, c=classes, cmap="tab10", marker=marker, alpha=0.7)
    axis.set(title=name, xticks=[], yticks=[])
