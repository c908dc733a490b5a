"""The directive ``.. results:: NAME``: what a benchmark wrote, as part of a page.

It reads ``benchmarks/results/NAME.md`` and shows ``NAME.png``, so that the documentation cannot
differ from what was measured.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


class Results(Directive):
    """Everything one benchmark found, below the heading that is there already."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Read the Markdown and let docutils parse it as reStructuredText."""
        name = self.arguments[0]
        path = RESULTS / f"{name}.md"
        self.state.document.settings.env.note_dependency(str(path))
        lines = [f"Not measured yet: ``python -m benchmarks.{name}``."]
        if path.exists():
            lines = restructured(path.read_text(encoding="utf-8"))
        if path.with_suffix(".png").exists():
            lines += ["", f".. image:: ../benchmarks/results/{name}.png", f"   :alt: {name}"]
        box = nodes.container()
        self.state.nested_parse(StringList(lines, str(path)), self.content_offset, box)
        return box.children


def restructured(markdown: str) -> list[str]:
    """The Markdown of a benchmark as lines of reStructuredText; its first heading is left out.

    It consists of headings, paragraphs, lists of one level and tables; its picture comes last.
    """
    lines, in_table = [], False
    for line in markdown.splitlines()[1:]:
        text = re.sub(r"`.*?`|[*_\\]", _escaped, line)
        if line.startswith("!["):
            continue
        if line.startswith("#"):
            lines.append(f".. rubric:: {text.lstrip('# ')}")
        elif not line.startswith("|"):
            lines.append(text)
        elif not line.startswith("| ---"):
            if not in_table:
                lines += [".. list-table::", "   :header-rows: 1", ""]
            entries = [entry.strip() for entry in text.strip("|").split("|")]
            first, *rest = ["\\-" if entry == "-" else entry for entry in entries]  # no list
            lines += [f"   * - {first}", *(f"     - {entry}" for entry in rest)]
        in_table = line.startswith("|")
    return lines


def _escaped(found: re.Match[str]) -> str:
    text = found[0]
    return f"`{text}`" if text.startswith("`") else f"\\{text}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
