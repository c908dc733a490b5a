"""Figures of retrieval and of training: precision, recall and losses as lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyg_hash.metrics import LookupCurve
from pyg_hash.report.style import DASHES, SERIES, new_figure, styled, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RADIUS = 2
"""The Hamming radius that papers look up; marked in the curves."""


@styled
def pr_curve(curves: Mapping[str, LookupCurve]) -> Figure:
    """Precision against recall; each point of a line is a Hamming radius.

    Radii within which no query finds anything are left out; a dot marks radius 2.

    Args:
        curves: name of a line -> what :func:`pyg_hash.metrics.pr_curve` returned.

    Raises:
        ValueError: no curves.
    """
    figure, axes = _one_plot(curves)
    for number, (name, curve) in enumerate(curves.items()):
        found = curve.answered > 0
        line = _line(axes, curve.recall[found], curve.precision[found], name, number)
        if curve.answered.numel() > RADIUS and bool(found[RADIUS]):
            axes.plot(float(curve.recall[RADIUS]), float(curve.precision[RADIUS]), "o", c=line)
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(0, 1.02))
    axes.legend()
    return figure


@styled
def radius_precision(curves: Mapping[str, LookupCurve]) -> Figure:
    """Precision of a lookup within each Hamming radius; a query that finds nothing counts as 0.

    Args:
        curves: name of a line -> what :func:`pyg_hash.metrics.pr_curve` returned.

    Raises:
        ValueError: no curves.
    """
    figure, axes = _one_plot(curves)
    for number, (name, curve) in enumerate(curves.items()):
        _line(axes, range(curve.precision.numel()), curve.precision, name, number)
    axes.axvline(RADIUS, color=axes.xaxis.label.get_color(), linewidth=0.8, alpha=0.6)
    axes.set(xlabel="Hamming radius", ylabel="precision within the radius", ylim=(0, 1.02))
    whole_numbers(axes)
    axes.legend()
    return figure


@styled
def precision_at_n(curves: Mapping[str, Tensor | Sequence[float]], topn: Sequence[int]) -> Figure:
    """Precision of the first n items of the ranking, against n.

    Args:
        curves: name of a line -> what :func:`pyg_hash.metrics.precision_at_n` returned.
        topn: the values of n, as given there.

    Raises:
        ValueError: no curves, or one of another length than ``topn``.
    """
    figure, axes = _one_plot(curves)
    for number, (name, values) in enumerate(curves.items()):
        if len(values) != len(topn):
            raise ValueError(f"curves: {name!r} has {len(values)} values, but topn {len(topn)}")
        _line(axes, topn, values, name, number)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set(xlabel="first n items", ylabel="precision at n", ylim=(0, 1.02))
    axes.legend()
    return figure


@styled
def loss_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """The terms of the loss, and what else the history holds, against the epochs.

    Terms differ by orders of magnitude, so each has a small plot of its own.

    Args:
        history: rows of named numbers with ``'epoch'``, as :func:`pyg_hash.training.fit` returns.

    Raises:
        ValueError: no rows, or nothing but epochs in them.
    """
    names = [name for name in dict.fromkeys(k for row in history for k in row) if name != "epoch"]
    _check_some(names, "history")
    rows, columns = math.ceil(len(names) / 2), min(len(names), 2)
    figure, axes = new_figure(rows, columns, height=1.5 * max(rows, 2))
    for name, one in zip(names, axes, strict=False):
        points = [
            (row.get("epoch", number + 1), row[name])
            for number, row in enumerate(history)
            if row.get(name) is not None
        ]
        single = "o" if len(points) == 1 else ""  # a line of one point is invisible
        one.plot(*zip(*points, strict=True), color=SERIES[0], marker=single)
        one.set_title(name)
        one.tick_params(labelsize=8)
        whole_numbers(one)
    for one in axes[len(names) :]:
        one.set_visible(False)
    figure.supxlabel("epoch")
    return figure


def _one_plot(curves: Mapping[str, Any]) -> tuple[Figure, Axes]:
    _check_some(curves, "curves")
    figure, (axes,) = new_figure()
    return figure, axes


def _line(axes: Axes, x: Any, y: Any, name: str, number: int) -> str:
    """Draw a line in the number's colour and dashes; returns the colour."""
    color = SERIES[number % len(SERIES)]
    x, y = ([float(value) for value in values] for values in (x, y))
    axes.plot(x, y, color=color, linestyle=DASHES[number % len(DASHES)], label=name)
    return color


def _check_some(values: object, name: str) -> None:
    if not values:
        raise ValueError(f"{name}: there is nothing to draw; give at least one")
