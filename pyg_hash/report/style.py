"""The look of all figures: colours for every eye, for light pages and for dark ones; as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from importlib.resources import files
from typing import TYPE_CHECKING, ParamSpec
from xml.etree import ElementTree

from pyg_hash.typing import IMAGE, TEXT, Modality
from pyg_hash.utils.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

INK = "#20252b"
"""Texts and axes. A page replaces it by the colour of its own text."""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#c2649a")
"""Colours of lines: those of Okabe and Ito, the last one darker.

Like all others they have a contrast of 3 to the page, light or dark.
"""

DASHES = ("-", "--", "-.", ":")
"""Line styles: colour is never the only difference."""

CLASSES = (
    *("#0072b2", "#d55e00", "#009e73", "#c2649a", "#8c6d1f"),
    *("#7a6ee0", "#d6455d", "#5b8c2a", "#1693a5", "#8a6a55"),
)
"""Colours of classes; a number at each class tells them apart without colour."""

GREY = "#78818a"
"""What has no class, or none of its own."""

MARKERS: dict[Modality, str] = {IMAGE: "s", TEXT: "^"}
"""Squares are pictures and triangles are texts, as in Fig. 4 of the MCGCN paper."""

MODALITY_COLORS: dict[Modality, str] = {IMAGE: SERIES[0], TEXT: SERIES[1]}

WIDTH = 4.0
"""Inches: as wide as a phone shows without shrinking the letters."""

_DOTS = 200  # per inch, of the parts that are drawn as pixels

_RC = {
    "text.parse_math": False,  # names are texts: a $ in one is a $
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.labelsize": 9.5,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def page_css() -> str:
    """The style sheet of a page: the report's own, and what the search page builds on."""
    return files("pyg_hash.report").joinpath("page.css").read_text("utf-8")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in the common look; the user's own settings stay as they are."""

    @wraps(draw)
    def drawn(*args: P.args, **keywords: P.kwargs) -> Figure:
        with require("matplotlib", "matplotlib", extra="report").rc_context(_RC):
            return draw(*args, **keywords)

    return drawn


def new_figure(
    rows: int = 1, columns: int = 1, *, height: float = 3.0
) -> tuple[Figure, list[Axes]]:
    """An empty figure and its axes, row by row, not registered with ``pyplot``."""
    figures = require("matplotlib.figure", "matplotlib", extra="report")
    figure: Figure = figures.Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


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
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if _plain(child.tag) in ("metadata", "style"):
                parent.remove(child)
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
