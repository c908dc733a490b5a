"""Figures of curves: the drawn points are the numbers that went in."""

from __future__ import annotations

import pytest
import torch

from pyg_hash import metrics, report
from pyg_hash.report.figures import loss_curves, precision_at_n, radius_precision

pytest.importorskip("matplotlib")


def codes(n, bits=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, bits, generator=generator) > 0.5).to(torch.int8) * 2 - 1


@pytest.fixture
def curves():
    y = torch.arange(30) % 3
    pair = (codes(10), codes(30, seed=1), y[:10], y)
    return {"one": metrics.pr_curve(*pair), "two": metrics.pr_curve(codes(10, seed=2), *pair[1:])}


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_pr_curve_draws_answered_radii(curves):
    drawn = lines(report.pr_curve(curves))["one"]
    found = curves["one"].answered > 0
    assert drawn.get_xdata() == pytest.approx(curves["one"].recall[found].tolist())
    assert drawn.get_ydata() == pytest.approx(curves["one"].precision[found].tolist())


def test_pr_curve_marks_radius_two(curves):
    figure = report.pr_curve({"one": curves["one"]})
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [float(dot.get_ydata()[0]) for dot in dots] == [float(curves["one"].precision[2])]


def test_pr_curve_of_one_bit_has_no_radius_two():
    y = torch.tensor([0, 1])
    short = metrics.pr_curve(codes(2, bits=1), codes(2, bits=1, seed=3), y, y)
    assert report.pr_curve({"short": short}).axes


def test_lines_differ_in_more_than_colour(curves):
    drawn = lines(radius_precision(curves))
    assert drawn["one"].get_linestyle() != drawn["two"].get_linestyle()
    assert drawn["one"].get_ydata() == pytest.approx(curves["one"].precision.tolist())


def test_precision_at_n():
    figure = precision_at_n({"a": torch.tensor([0.5, 0.25]), "b": torch.tensor([1, 0])}, [1, 10])
    assert list(lines(figure)["a"].get_ydata()) == [0.5, 0.25]
    assert list(lines(figure)["b"].get_xdata()) == [1, 10]
    assert figure.axes[0].get_xscale() == "log"


def test_no_curves():
    with pytest.raises(ValueError, match="curves: there is nothing to draw"):
        report.pr_curve({})


def test_loss_curves_draw_every_term():
    rows = [{"epoch": e, "loss": 1 / e, "balance": e} for e in (1, 2, 3)]
    rows[2]["val_map"] = 0.5  # not every epoch is evaluated
    figure = loss_curves(rows, ["loss", "balance", "val_map"])
    shown = {axes.get_title("left"): axes for axes in figure.axes if axes.get_visible()}
    assert set(shown) == {"loss", "balance", "val_map"}
    assert list(shown["loss"].lines[0].get_ydata()) == [1, 0.5, 1 / 3]
    assert list(shown["val_map"].lines[0].get_xdata()) == [3]
    assert shown["val_map"].lines[0].get_marker() == "o"  # one point is no line


def test_loss_curves_survive_divergence():
    rows = [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": float("nan")}]
    assert loss_curves(rows, ["loss"]).axes


def test_settings_of_the_user_stay(curves):
    import matplotlib

    before = dict(matplotlib.rcParams)
    report.pr_curve(curves)
    assert dict(matplotlib.rcParams) == before


def test_missing_matplotlib_names_the_extra(monkeypatch, curves):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pyg_hash\[report\]"):
        report.pr_curve(curves)
