"""HTML from values. What is not :class:`Html` is escaped, so texts of the data stay texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple, TypeAlias

_VOID = ("img", "link", "meta")


class Html(str):
    """A string that is HTML already."""


Child: TypeAlias = "str | Iterable[str]"


def joined(*children: Child) -> Html:
    """Children one after the other; plain strings are escaped."""
    parts = []
    for child in children:
        for part in [child] if isinstance(child, str) else child:
            parts.append(part if isinstance(part, Html) else escape(part))
    return Html("".join(parts))


def element(name: str, /, *children: Child, **attributes: str) -> Html:
    """One element of HTML, or strings to escape; ``http_equiv`` is http-equiv, ``class_`` class."""
    words = [name]
    for key, value in attributes.items():
        words.append(f'{key.rstrip("_").replace("_", "-")}="{escape(value)}"')
    start = Html(f"<{' '.join(words)}>")
    return start if name in _VOID else joined(start, *children, Html(f"</{name}>"))


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table that scrolls by itself where the screen is narrow; column 1 names the rows."""
    head = element("tr", [element("th", cell, scope="col") for cell in header])
    body = [
        element("tr", element("th", first, scope="row"), [element("td", cell) for cell in rest])
        for first, *rest in rows
    ]
    inner = element(
        "table", element("caption", caption), element("thead", head), element("tbody", body)
    )
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


class Section(NamedTuple):
    """A part of the page: its id, which a link can name, its heading, and what stands below."""

    name: str
    title: str
    content: Html

    @property
    def html(self) -> Html:
        """The whole part."""
        return element("section", element("h2", self.title), self.content, id=self.name)

    @property
    def link(self) -> Html:
        """A link to it."""
        return element("a", self.title, href=f"#{self.name}")
