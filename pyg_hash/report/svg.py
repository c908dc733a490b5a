"""Figures inside a page: SVG that takes the page's colours and letters, and can be read aloud."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pyg_hash.report.style import INK
from pyg_hash.utils.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS = 200  # per inch, of the parts that are drawn as pixels
_NAMES = re.compile(r"\{.*?\}")


def to_svg(figure: Figure, *, name: str, label: str) -> str:
    """A figure as an SVG element for the body of an HTML page.

    The background is left out, :data:`~pyg_hash.report.style.INK` becomes ``currentColor``, and
    letters stay letters. The size is that of the element around it.

    Args:
        figure: what a function of :mod:`pyg_hash.report` drew.
        name: starts every id, so that figures of one page do not take each other's parts.
        label: the figure in words, for those who cannot see it.
    """
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
        values = {_plain(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({key: _value(key, value, name) for key, value in values.items()})
    for size in ("width", "height"):
        del root.attrib[size]
    root.attrib.update({"role": "img", "aria-label": label})
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _plain(name: str) -> str:
    """A name without its namespace: in HTML, SVG needs none."""
    return _NAMES.sub("", name)


def _value(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return value.replace("url(#", f"url(#{name}-").replace(INK, "currentColor")
