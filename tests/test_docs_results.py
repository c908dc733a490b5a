"""Results in the documentation: Markdown of the benchmarks becomes reStructuredText."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
DOCS = Path(__file__).resolve().parents[1] / "docs"

MARKDOWN = """\
# Left out

- command: python benchmarks/a_b.py
- threads: 1

Uses `edge_index` * twice.

## Times

| nodes | a_b / c |
| --- | --- |
| 1,000 | - |
| 2,000 | 3.5 |

A note.
"""


@pytest.fixture
def restructured():
    spec = importlib.util.spec_from_file_location("docs_results", DOCS / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.restructured


def test_restructured(restructured):
    lines = "\n".join(restructured(MARKDOWN))
    assert "Left out" not in lines
    assert "- command: python benchmarks/a\\_b.py\n- threads: 1" in lines
    assert "Uses ``edge_index`` \\* twice." in lines
    assert ".. rubric:: Times\n\n.. list-table::\n   :header-rows: 1\n\n   * - nodes\n" in lines
    assert "   * - 1,000\n     - \\-\n   * - 2,000\n     - 3.5\n\nA note." in lines
    assert lines.count("list-table") == 1 and "---" not in lines


def test_docutils_reads_it(restructured):
    from docutils.core import publish_doctree

    text = "\n".join(restructured(MARKDOWN))
    tree = publish_doctree(text, settings_overrides={"halt_level": 2, "report_level": 5})
    assert [entry.astext() for entry in tree.findall(lambda n: n.tagname == "entry")] == [
        "nodes",
        "a_b / c",
        "1,000",
        "-",
        "2,000",
        "3.5",
    ]
