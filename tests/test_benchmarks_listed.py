"""Every benchmark of speed and memory is run by ``make bench`` and explained."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
BENCHMARKS = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if re.search("^from benchmarks.record import", path.read_text(), re.M)
)


def test_make_bench_runs_all():
    listed = re.search(r"^BENCHMARKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(listed[1].split()) == BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_is_explained(name):
    assert f"``{name}.py``" in (ROOT / "docs" / "performance.rst").read_text()
    doc = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
    assert f"python -m benchmarks.{name}" in doc


@pytest.mark.parametrize("name", BENCHMARKS)
def test_results_are_whole(name):
    path = FOLDER / "results" / f"{name}.json"
    if not path.exists():
        pytest.skip("not committed")
    content = json.loads(path.read_text())
    assert not content["short"], "the short form decides nothing"
    assert {"command", "processor", "versions"} <= set(content["about"])
    assert path.with_suffix(".md").exists()
    assert path.with_suffix(".png").exists() == bool(content["plots"])
    assert f".. results:: {name}" in (ROOT / "docs" / "performance.rst").read_text()
