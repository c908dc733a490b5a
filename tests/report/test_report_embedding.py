"""t-SNE: planted groups stay together, marks and legend say what is what."""

from __future__ import annotations

import pytest
import torch

from pyg_hash import report
from pyg_hash.report.figures import embed

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
threadpool_limits = pytest.importorskip("threadpoolctl").threadpool_limits


def groups(n=40, d=6, seed=0):
    y = torch.arange(n) % 2
    generator = torch.Generator().manual_seed(seed)
    return 20 * y[:, None] + torch.randn(n, d, generator=generator), y


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("width", [6, 80])
def test_groups_stay_together(width):
    x, y = groups(d=width)
    plane = embed(x)
    distance = torch.cdist(plane, plane).fill_diagonal_(float("inf"))
    assert plane.shape == (40, 2)
    assert torch.equal(y[distance.argmin(1)], y)


def test_seeded():
    x, _ = groups(12)
    with threadpool_limits(1):  # three threads or more of scikit-learn add up in any order
        assert torch.equal(embed(x, seed=3), embed(x, seed=3))


@pytest.mark.parametrize(
    "x",
    [torch.ones(9, 4), torch.ones(60, 60), torch.arange(9.0)[:, None], torch.eye(4)],
    ids=["same", "same and wide", "line", "four"],
)
def test_degenerate_points(x):
    assert bool(embed(x).isfinite().all())


def test_too_few_points():
    with pytest.raises(ValueError, match="n >= 4"):
        embed(torch.ones(3, 2))
    with pytest.raises(ValueError, match="NaN"):
        embed(torch.full((5, 2), float("nan")))


def test_modalities_have_marks_and_classes_have_numbers():
    x, y = groups(20)
    figure = report.tsne({"image": x, "text": x}, {"image": y, "text": y}, ["cats", "a" * 40])
    assert legend(figure) == ["image", "text", "1  cats", "2  " + "a" * 19 + "…"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2"]
    corners = [len(c.get_paths()[0].vertices) for c in figure.axes[0].collections]
    assert corners == [5, 4]  # closed squares and triangles


def test_without_labels_colours_are_modalities():
    x, _ = groups(20)
    figure = report.tsne({"image": x, "text": x})
    assert legend(figure) == ["image", "text"]
    colors = [tuple(c.get_facecolor()[0]) for c in figure.axes[0].collections]
    assert colors[0] != colors[1]


def test_many_labels_take_the_most_frequent():
    x, _ = groups(20)
    y = torch.zeros(20, 13)
    y[:, 2] = 1  # everybody has it
    y[0, 0] = 1
    y[1] = 0  # and one has none
    figure = report.tsne({"text": x}, {"text": y})
    assert legend(figure) == ["text", "1  class 2", "other or none"]


def test_more_classes_than_colours():
    x, _ = groups(36)
    figure = report.tsne({"image": x}, {"image": torch.arange(36) % 12})
    assert legend(figure)[-1] == "other or none"
    assert len(figure.axes[0].texts) == 10


def test_errors():
    x, y = groups(20)
    with pytest.raises(ValueError, match="nothing to draw"):
        report.tsne({})
    with pytest.raises(ValueError, match="one width"):
        report.tsne({"image": x, "text": x[:, :3]})
    with pytest.raises(ValueError, match="points are of"):
        report.tsne({"image": x}, {"text": y})
    with pytest.raises(ValueError, match="19 rows, expected 20"):
        report.tsne({"image": x}, {"image": y[1:]})
