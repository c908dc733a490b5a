"""The picture of a benchmark: one panel for each plot of a :class:`record.Record`."""

from textwrap import fill

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator

from benchmarks.measure import cell
from benchmarks.record import PREDICTED
from pyg_hash.utils.files import atomic_path

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
STYLES = list(zip(COLOURS, "osD^vPX", strict=True))


def draw(plots, path):
    """Write panels to a PNG, two or three in a row; a name has one colour in all of them."""
    columns = {1: 1, 2: 2, 4: 2}.get(len(plots), 3)
    names = [name.removesuffix(PREDICTED) for plot in plots for name in plot.get("series", ())]
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    rows = -(-len(plots) // columns)
    most = max(len(plot.get("bars", ())) for plot in plots)
    height = max(3.8, 0.9 + 0.36 * most)  # so that the names of bars do not meet
    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.2 * columns, height * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for axis, plot in zip(axes, plots, strict=False):
            if "bars" in plot:
                _bars(axis, plot)
            else:
                _lines(axis, plot, order)
        for axis in axes[len(plots) :]:
            axis.set_axis_off()
        save(figure, path)


def save(figure, path):
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _lines(axis, plot, order):
    for name, points in plot["series"].items():
        base = name.removesuffix(PREDICTED)
        colour, marker = STYLES[order[base] % len(STYLES)]
        style = {"marker": marker, "markersize": 4, "label": name}
        if base != name:
            style = {"linestyle": "--", "linewidth": 1, "label": "_predicted"}
        if points:
            axis.plot(*zip(*points, strict=True), color=colour, **style)
    axis.set(title=plot["title"], xlabel=plot["x"], ylabel=plot["y"])
    axis.grid(alpha=0.3)
    drawn = [point for points in plot["series"].values() for point in points]
    if not drawn:
        return
    axis.legend(fontsize=8, frameon=False)
    x, y = zip(*drawn, strict=True)
    if "x" in plot["log"]:
        axis.set_xscale("log")
        small = FuncFormatter(lambda x, _: f"{x:g}")
        _ticks(axis.xaxis, x, small if min(x) < 1 else EngFormatter(sep=""))  # 2k, 1M
    if "y" in plot["log"]:
        axis.set_yscale("log")
        _ticks(axis.yaxis, y, FuncFormatter(lambda y, _: f"{y:,.9g}"))


def _ticks(axis, values, formatter):
    """Readable numbers on a logarithmic axis; between the powers of ten too where it is short."""
    short = max(values) < 50 * min(values)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(formatter)


def _bars(axis, plot):
    names, values = [fill(name, 32) for name in plot["bars"]], list(plot["bars"].values())
    bars = axis.barh(names, values, color=COLOURS[0])
    axis.bar_label(bars, fmt=lambda value: cell(float(value)), padding=3, fontsize=8)
    axis.margins(x=0.15)
    axis.locator_params(axis="x", nbins=5)
    axis.invert_yaxis()
    axis.set(title=fill(plot["title"], 40), xlabel=plot["x"])
    axis.grid(axis="x", alpha=0.3)
