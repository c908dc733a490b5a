"""Results in the documentation: Markdown of the benchmarks becomes reStructuredText."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
DOCS = Path(__file__).resolve().parents[1] / "docs"

MARKDOWN = """\
# Left out

- command: python -m benchmarks.a_b
- threads: 1

Uses `edge_index` * twice.

## Times

| nodes | a_b / c |
| --- | --- |
| 1,000 | - |
| 2,000 | 3.5 |

A note.

### Deeper
"""


@pytest.fixture
def results():
    spec = importlib.util.spec_from_file_location("docs_results", DOCS / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def restructured(results):
    return results.restructured


def test_the_page_shows_what_is_committed_and_says_what_is_not(results, tmp_path, monkeypatch):
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    results.RESULTS.mkdir()
    (results.RESULTS / "here.md").write_text(MARKDOWN)
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.rst").write_text("Page\n====\n\n.. results:: here\n\n.. results:: gone\n")
    (source / "conf.py").write_text("")
    with docutils_namespace():  # leaves nothing to the next build of this process
        app = Sphinx(source, source, tmp_path / "out", tmp_path / "trees", "text", status=None)
        results.setup(app)
        app.build()
    page = (tmp_path / "out" / "index.txt").read_text()
    assert "python -m benchmarks.a_b" in page and "3.5" in page
    assert 'Not measured yet: "python -m benchmarks.gone".' in page


def test_restructured(restructured):
    lines = "\n".join(restructured(MARKDOWN))
    assert "Left out" not in lines
    assert "- command: python -m benchmarks.a\\_b\n- threads: 1" in lines
    assert "Uses ``edge_index`` \\* twice." in lines
    assert ".. rubric:: Times\n\n.. list-table::\n   :header-rows: 1\n\n   * - nodes\n" in lines
    assert "   * - 1,000\n     - \\-\n   * - 2,000\n     - 3.5\n\nA note." in lines
    assert lines.endswith(".. rubric:: Deeper")
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
