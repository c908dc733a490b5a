"""Figures of curves, of losses and of codes, t-SNE as in Fig. 4 of the MCGCN paper; their look.

Colours are for every eye, for light pages and for dark ones.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import torch
from torch import Tensor

from pyg_hash.metrics import LookupCurve
from pyg_hash.metrics.counts import Ranking
from pyg_hash.typing import IMAGE, TEXT, Modality
from pyg_hash.utils.checks import check_labels
from pyg_hash.utils.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RADIUS = 2  # the Hamming radius that papers look up; marked in the curves
_PERPLEXITY = 30.0  # the default of t-SNE
_PRINCIPAL = 50  # components that t-SNE starts from, as its authors advise
_MIN_POINTS = 4
_NAME_WIDTH = 20
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
WIDTH = 4.0  # inches: as wide as a phone shows without shrinking the letters

INK = "#20252b"  # texts and axes. A page replaces it by the colour of its own text
GREY = "#78818a"  # what has no class, or none of its own
# colours of lines: those of Okabe and Ito, the last one darker. Like all others they have a
# contrast of 3 to the page, light or dark
SERIES = ("#0072b2", "#d55e00", "#009e73", "#c2649a")
DASHES = ("-", "--", "-.", ":")  # line styles: colour is never the only difference
# a number at each class tells them apart without colour
CLASSES = (*SERIES, "#8c6d1f", "#7a6ee0", "#d6455d", "#5b8c2a", "#1693a5", "#8a6a55")
# squares are pictures and triangles are texts, as in Fig. 4 of the MCGCN paper
MARKERS: dict[Modality, str] = {IMAGE: "s", TEXT: "^"}
MODALITY_COLORS: dict[Modality, str] = {IMAGE: SERIES[0], TEXT: SERIES[1]}
_DOTS = 200  # per inch, of the parts that are drawn as pixels
_RC = {
    "text.parse_math": False,  # names are texts: a $ in one is a $
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.labelsize": 9.5,
    "lines.linewidth": 1.6,
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), INK),
    **dict.fromkeys(("grid.color", "text.color", "xtick.color", "ytick.color"), INK),
}


def page_css() -> str:
    """The style sheet of a page: the report's own, and what the search page builds on."""
    return files("pyg_hash.report").joinpath("page.css").read_text("utf-8")


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the common look; the user's own settings stay as they are."""
    with require("matplotlib", "matplotlib", extra="report").rc_context(_RC):
        yield


def new_figure(rows: int = 1, cols: int = 1, *, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    """An empty figure and its axes, row by row, not registered with ``pyplot``."""
    figures = require("matplotlib.figure", "matplotlib", extra="report")
    figure: Figure = figures.Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, cols, squeeze=False).flat)


def on_color(color: str) -> str:
    """Black or white, whichever is easier to read on ``#rrggbb``."""
    parts = zip((0.2126, 0.7152, 0.0722), (1, 3, 5), strict=True)
    luminance = sum(share * (int(color[i : i + 2], 16) / 255) ** 2.2 for share, i in parts)
    return "#ffffff" if luminance < 0.179 else "#000000"  # of equal contrast to both (WCAG 2.2)


def to_svg(figure: Figure, *, name: str, label: str) -> str:
    """An SVG element for an HTML page; ``name`` salts its ids, ``label`` is the figure in words."""
    matplotlib = require("matplotlib", "matplotlib", extra="report")
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, dpi=_DOTS, metadata=nothing)
    # parsed, not searched and replaced: texts of the user's data stand in there too
    root = ElementTree.fromstring(_NOT_XML.sub("\ufffd", buffer.getvalue()))
    for element in root.iter():
        element.tag = _plain(element.tag)
        element.attrib = {
            _plain(key): value.replace(INK, "currentColor")
            for key, value in element.items()
            if (element.tag, key) != ("g", "id")  # the same in every figure, and never referred to
        }
    del root.attrib["width"], root.attrib["height"]
    root.attrib.update({"role": "img", "aria-label": label})
    return ElementTree.tostring(root, encoding="unicode")


def _plain(name: str) -> str:
    """A name without its namespace: in HTML, SVG needs none."""
    return name.rpartition("}")[2]


@styled()
def pr_curve(curves: Mapping[str, LookupCurve]) -> Figure:
    """Precision against recall; each point of a line is a Hamming radius.

    Radii within which no query finds anything are left out; a dot marks radius 2.

    Args:
        curves: name of a line -> what :func:`pyg_hash.metrics.pr_curve` returned.

    Raises:
        ValueError: no curves.
    """
    found = {name: curve.answered > 0 for name, curve in curves.items()}
    lines = {n: (c.recall[found[n]], c.precision[found[n]]) for n, c in curves.items()}
    figure, axes = _lines(lines)
    for line, (name, curve) in zip(list(axes.lines), curves.items(), strict=True):
        if curve.answered.numel() > RADIUS and bool(found[name][RADIUS]):
            dot = float(curve.recall[RADIUS]), float(curve.precision[RADIUS])
            axes.plot(*dot, "o", c=line.get_color())
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(0, 1.02))
    return figure


@styled()
def radius_precision(curves: Mapping[str, LookupCurve]) -> Figure:
    """Precision of a lookup within each Hamming radius; a query that finds nothing counts as 0."""
    lines = {n: (range(c.precision.numel()), c.precision) for n, c in curves.items()}
    figure, axes = _lines(lines)
    axes.axvline(RADIUS, color=axes.xaxis.label.get_color(), linewidth=0.8, alpha=0.6)
    axes.set(xlabel="Hamming radius", ylabel="precision within the radius", ylim=(0, 1.02))
    axes.locator_params(axis="x", integer=True)
    return figure


@styled()
def precision_at_n(curves: Mapping[str, Tensor], topn: Sequence[int]) -> Figure:
    """Precision of the first n items of the ranking, against the values of n."""
    figure, axes = _lines({name: (topn, values) for name, values in curves.items()})
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_formatter("")  # the default writes mathematics, see text.parse_math
    axes.set(xlabel="first n items", ylabel="precision at n", ylim=(0, 1.02))
    return figure


@styled()
def loss_curves(history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """Named terms of a history against the epochs, each in a small plot of its own scale."""
    rows, columns = math.ceil(len(names) / 2), min(len(names), 2)
    figure, axes = new_figure(rows, columns, height=1.5 * max(rows, 2))
    for name, one in zip(names, axes, strict=False):
        known = [(i, row) for i, row in enumerate(history, 1) if row.get(name) is not None]
        points = [(row.get("epoch", i), row[name]) for i, row in known]
        single = "o" if len(points) == 1 else ""  # a line of one point is invisible
        one.plot(*zip(*points, strict=True), color=SERIES[0], marker=single)
        one.set_title(name)
        one.tick_params(labelsize=8)
        one.locator_params(axis="x", integer=True)
    for one in axes[len(names) :]:
        one.set_visible(False)
    figure.supxlabel("epoch")
    return figure


@styled()
def bit_balance(codes: Mapping[Modality, Tensor]) -> Figure:
    """How often each bit is +1; one half is best, a bit that is always the same says nothing."""
    figure, (axes,) = new_figure(height=2.6)
    axes.axhline(0.5, color=INK, linewidth=0.8, alpha=0.6)
    for modality, values in codes.items():
        share = (values > 0).double().mean(0).tolist()
        x, color = range(1, len(share) + 1), MODALITY_COLORS[modality]
        axes.plot(x, share, MARKERS[modality], markersize=4, color=color, label=modality)
    axes.set(xlabel="bit", ylabel="share of +1", ylim=(-0.03, 1.03))
    axes.locator_params(axis="x", integer=True)
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def correlation_matrix(codes: Tensor) -> Tensor:
    """Absolute Pearson correlation of all pairs of bits, float64; NaN where a bit is constant."""
    matrix = torch.corrcoef(codes.cpu().double().T)
    return matrix.abs().reshape(codes.size(1), -1)


@styled()
def bit_correlation(codes: Tensor) -> Figure:
    """Absolute correlation of all pairs of bits; off the diagonal, 0 is best."""
    figure, (axes,) = new_figure(height=3.1)
    low, high = 0.5, codes.size(1) + 0.5
    how: Any = {"vmin": 0, "vmax": 1, "extent": (low, high, high, low)}
    image = axes.imshow(correlation_matrix(codes).numpy(), cmap="cividis", **how)
    axes.grid(visible=False)
    axes.set(xlabel="bit", ylabel="bit")
    bar = figure.colorbar(image, ax=axes, label="|correlation|", shrink=0.9)
    bar.outline.set_visible(False)
    return figure


def distance_counts(
    query: Tensor, database: Tensor, query_y: Tensor | None, database_y: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Number of relevant and of irrelevant pairs at each distance, float64 ``[num_bits + 1]``."""
    ranking = Ranking(query, database, query_y, database_y)
    total = torch.zeros(2, ranking.num_bits + 1, dtype=torch.float64)
    for items, relevant in ranking.counts():
        total += torch.stack([relevant.sum(0), (items - relevant).sum(0)])
    return total[0], total[1]


@styled()
def distance_histogram(
    query: Tensor, database: Tensor, query_y: Tensor | None = None, database_y: Tensor | None = None
) -> Figure:
    """Hamming distances of relevant and of irrelevant pairs; the less they overlap, the better.

    Each histogram is a share of its own pairs, for irrelevant pairs are far more. Without labels
    there is one histogram, of all pairs.

    Args:
        query: int8 ±1 ``[q, num_bits]``.
        database: int8 ±1 ``[m, num_bits]``.
        query_y: class index ``[q]`` or multi-hot ``[q, C]``; None if nothing is known.
        database_y: class index ``[m]`` or multi-hot ``[m, C]``; None if nothing is known.

    Raises:
        TypeError: see :func:`pyg_hash.metrics.mean_average_precision`.
        ValueError: see there; labels of one side only.
    """
    if query_y is None or database_y is None:
        if query_y is not database_y:
            raise ValueError("query_y, database_y: one of them is None; give both or neither")
        parts = {"all pairs": distance_counts(query, database, None, None)[1]}
    else:
        relevant, irrelevant = distance_counts(query, database, query_y, database_y)
        parts = {"relevant pairs": relevant, "irrelevant pairs": irrelevant}
    figure, (axes,) = new_figure(height=2.6)
    edges = [distance - 0.5 for distance in range(query.size(1) + 2)]
    for (name, counts), color, hatch in zip(parts.items(), SERIES, (None, "////"), strict=False):
        share = (counts / counts.sum().clamp_min(1)).tolist()
        axes.stairs(share, edges, fill=True, alpha=0.3, color=color, hatch=hatch)
        axes.stairs(share, edges, color=color, linewidth=1.4, label=name)
    axes.set(xlabel="Hamming distance", ylabel="share of the pairs")
    axes.locator_params(axis="x", integer=True)
    axes.legend()
    return figure


def embed(x: Tensor, *, seed: int = 0) -> Tensor:
    """Place items ``[n, d]``, at least 4, in the plane by t-SNE: float32 ``[n, 2]``."""
    if x.dim() != 2 or x.size(0) < _MIN_POINTS or x.size(1) == 0:
        raise ValueError(f"points: expected [n, d] with n >= {_MIN_POINTS}, got {list(x.shape)}")
    x = x.detach().cpu().float()
    if not bool(torch.isfinite(x).all()):
        raise ValueError("points: contain NaN or inf; clean or drop these rows")
    x = x - x.mean(0)
    if min(x.shape) > _PRINCIPAL and bool(x.any()):  # something varies
        pca = require("sklearn.decomposition", "scikit-learn", extra="report").PCA
        x = torch.from_numpy(pca(_PRINCIPAL, random_state=seed).fit_transform(x.numpy()))
    varying = int(torch.linalg.matrix_rank(x))
    manifold = require("sklearn.manifold", "scikit-learn", extra="report")
    tsne = manifold.TSNE(
        perplexity=min(_PERPLEXITY, (x.size(0) - 1) / 3),
        init="pca" if varying >= 2 else "random",  # one direction does not span a plane
        random_state=seed,
    )
    return torch.from_numpy(tsne.fit_transform(x.numpy()))


@styled()
def tsne(
    points: Mapping[Modality, Tensor],
    labels: Mapping[Modality, Tensor] | None = None,
    class_names: Sequence[str] = (),
    *,
    seed: int = 0,
) -> Figure:
    """t-SNE of items of one or both modalities in one space: squares are pictures, triangles texts.

    Colours are classes. The ten most frequent classes have a colour and a number, the others are
    grey; an item with several labels is drawn as the most frequent of them. Without labels, the
    colours are the modalities.

    Args:
        points: real ``[n, d]`` by modality, with the same d, e.g. codes of pictures and of texts.
        labels: class index ``[n]`` or multi-hot ``[n, C]`` by modality.
        class_names: one name a class; by default their numbers.
        seed: of the start.

    Raises:
        TypeError: points that are not tensors, labels of the wrong type.
        ValueError: no points or too few, different widths, NaN, labels that do not fit.
    """
    if not points:
        raise ValueError("points: there is nothing to draw; give those of one modality at least")
    widths = {values.size(-1) for values in points.values()}
    if len(widths) > 1:
        raise ValueError(f"points: have {sorted(widths)} columns; one space has one width")
    sizes = [values.size(0) for values in points.values()]
    classes = _main_class(points, labels)
    plane = embed(torch.cat([values.float() for values in points.values()]), seed=seed)
    seen, counts = torch.unique(classes[classes >= 0], return_counts=True)
    first = counts.argsort(descending=True, stable=True)[: len(CLASSES)]
    top = dict(zip(sorted(seen[first].tolist()), CLASSES, strict=False))
    figure, (axes,) = new_figure(height=3.6 + 0.2 * ((len(top) + 2) // 2))
    parts = torch.split(plane, sizes), torch.split(classes, sizes)
    for modality, xy, own in zip(points, *parts, strict=True):
        plain = MODALITY_COLORS[modality] if labels is None else GREY
        colors = [top.get(c, plain) for c in own.tolist()]
        # thousands of marks would make a page heavy
        look: Any = {"s": 9, "linewidths": 0, "alpha": 0.75, "rasterized": True}
        x, y = xy.T.numpy()
        axes.scatter(x, y, c=colors, marker=MARKERS[modality], **look)
    for number, (c, back) in enumerate(top.items(), 1):  # in the middle of the items of the class
        x, y = plane[classes == c].median(0).values.tolist()
        text = axes.text(x, y, str(number), color=on_color(back), size=8, ha="center", va="center")
        text.set_bbox({"boxstyle": "round,pad=0.25", "facecolor": back, "edgecolor": "none"})
        text.set_in_layout(False)  # it lies among the points, whatever the layout
    axes.set_axis_off()  # only nearness means anything
    marks = [(MARKERS[m], GREY if top else MODALITY_COLORS[m], str(m)) for m in points]
    for number, (c, color) in enumerate(top.items(), 1):
        name = class_names[c] if c < len(class_names) else f"class {c}"
        short = name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
        marks.append(("o", color, f"{number}  {short}"))
    if top and not set(classes.tolist()) <= set(top):
        marks.append(("o", GREY, "other or none"))
    for marker, color, label in marks:  # in the legend alone
        axes.plot([], [], marker, color=color, markersize=5, label=label)
    figure.legend(loc="outside lower center", ncols=2, handletextpad=0.4)
    return figure


def _main_class(
    points: Mapping[Modality, Tensor], labels: Mapping[Modality, Tensor] | None
) -> Tensor:
    """One class an item of all modalities, -1 for none: int64."""
    if labels is None:
        return torch.full((sum(map(len, points.values())),), -1)
    if set(labels) != set(points):
        raise ValueError(f"labels: of {sorted(labels)}, but points are of {sorted(points)}")
    for modality in points:
        check_labels(labels[modality], f"labels[{modality!r}]", num_rows=len(points[modality]))
    y = torch.cat([labels[modality].cpu() for modality in points])
    if y.dim() == 1:
        return y.long()
    weighted = y.double() * (y.double().sum(0) + 1)
    return torch.where(weighted.amax(1) > 0, weighted.argmax(1), -1)


def _lines(lines: Mapping[str, tuple[Iterable[Any], Iterable[Any]]]) -> tuple[Figure, Axes]:
    """A plot of named lines, which differ in colour and in dashes."""
    if not lines:
        raise ValueError("curves: there is nothing to draw; give at least one")
    figure, (axes,) = new_figure()
    for number, (name, points) in enumerate(lines.items()):
        x, y = ([float(value) for value in values] for values in points)
        color, dashes = SERIES[number % len(SERIES)], DASHES[number % len(DASHES)]
        axes.plot(x, y, color=color, linestyle=dashes, label=name)
    axes.legend()
    return figure, axes
