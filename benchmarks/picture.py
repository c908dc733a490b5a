"""The picture of a benchmark: one panel for each plot of a :class:`record.Record`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from pyg_hash.io import atomic_path

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
MARKERS = "osD^vPX"


def draw(plots: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write panels side by side to a PNG, three in a row."""
    columns = min(3, len(plots))
    rows = -(-len(plots) // columns)
    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.2 * columns, 3.8 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for axis, plot in zip(axes, plots, strict=False):
            (_bars if "bars" in plot else _lines)(axis, plot)
        for axis in axes[len(plots) :]:
            axis.set_axis_off()
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=110)


def _lines(axis: Any, plot: Mapping[str, Any]) -> None:
    for i, (name, points) in enumerate(plot["series"].items()):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        if points:
            axis.plot(*zip(*points, strict=True), label=name, markersize=4, **style)
    if "x" in plot["log"]:
        axis.set_xscale("log")
    if "y" in plot["log"]:
        axis.set_yscale("log")
    axis.set(title=plot["title"], xlabel=plot["x"], ylabel=plot["y"])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)


def _bars(axis: Any, plot: Mapping[str, Any]) -> None:
    names, values = list(plot["bars"]), list(plot["bars"].values())
    bars = axis.barh(names, values, color=COLOURS[0])
    axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    axis.margins(x=0.15)
    axis.invert_yaxis()
    axis.set(title=plot["title"], xlabel=plot["x"])
    axis.grid(axis="x", alpha=0.3)
