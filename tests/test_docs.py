"""The documentation builds without a warning and covers every public name."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import pkgutil
import re
import textwrap
import warnings
from pathlib import Path

import pytest
import torch

import pyg_hash
from pyg_hash.cli.command import COMMANDS
from pyg_hash.cli.options import TrainConfig
from pyg_hash.datasets import SyntheticCrossModal

ROOT = Path(__file__).resolve().parents[1]
INTERNAL = {"cli", "__main__"}  # documented as a command, not as an API


def load_equations():
    """docs/equations.py, which makes a page when the documentation is built."""
    spec = importlib.util.spec_from_file_location("equations", ROOT / "docs" / "equations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_modules():
    """The modules directly below pyg_hash that name their public content."""
    names = [m.name for m in pkgutil.iter_modules(pyg_hash.__path__) if m.name not in INTERNAL]
    modules = [importlib.import_module(f"pyg_hash.{name}") for name in names]
    return [module for module in modules if hasattr(module, "__all__")]


@pytest.fixture(scope="module")
def inventory(tmp_path_factory):
    """Build the documentation, warnings being errors; the names that it defines."""
    sphinx = pytest.importorskip("sphinx.application")
    from sphinx.util.docutils import docutils_namespace
    from sphinx.util.inventory import InventoryFile

    out = tmp_path_factory.mktemp("docs")
    warnings.simplefilter("ignore")  # of Sphinx's own extensions; pytest restores the filters
    with docutils_namespace():  # another build of this process left its own
        app = sphinx.Sphinx(
            srcdir=ROOT / "docs",
            confdir=ROOT / "docs",
            outdir=out,
            doctreedir=out / "trees",
            buildername="html",
            status=None,
            warningiserror=True,
        )
        app.build()
    assert app.statuscode == 0
    with open(out / "objects.inv", "rb") as file:
        content = InventoryFile.load(file, "", lambda base, uri: uri)
    content = getattr(content, "data", content)
    return {name for kind in content if kind.startswith("py:") for name in content[kind]}


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_every_public_name_is_documented(module, inventory):
    missing = [name for name in module.__all__ if f"{module.__name__}.{name}" not in inventory]
    assert missing == []


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_all_is_true(module):
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        assert not callable(value) or value.__doc__, f"{module.__name__}.{name} has no docstring"


def test_every_equation_has_a_home():
    homes = load_equations().homes()
    numbers = {paper: {h.number for h in homes if h.paper == paper} for paper in ("MCGCN", "SGEH")}
    assert numbers["MCGCN"] == set(range(1, 11))
    assert numbers["SGEH"] >= set(range(3, 25)) - {20}  # a proof's
    others = {(h.paper, h.number) for h in homes}
    assert others >= {("DCMH", 1), ("GCH report", 11), ("GCH report", 12)}


def test_one_number_a_citation():
    for path in (ROOT / "pyg_hash").rglob("*.py"):
        bad = re.findall(r"Eq\. ?\([^)]*\)|Eq\. \d+(?:-\d|, ?\d| to \d)", path.read_text())
        assert not bad, f"{path.name}: {bad}; write 'Eq. 4 and Eq. 5'"


def test_every_command_is_documented():
    page = (ROOT / "docs" / "command_line.rst").read_text()
    for command in COMMANDS:
        assert f"pyg-hash {command}" in page


def test_settings_in_the_documents_exist():
    known = {*TrainConfig.__dataclass_fields__, "out", "config", "resume", "debug", "json", "help"}
    known |= {"device"}
    known |= {"text", "image", "modality", "images", "texts", "features"}
    known |= {"source", "strict", "image_encoder", "text_encoder"}
    known |= {"to", "store", "index", "split", "topk", "ties", "denominator"}
    known |= {"where", "limit", "ids", "metadata", "images_root", "labels"}
    for path in (*ROOT.glob("docs/*.rst"), ROOT / "README.md"):
        for line in path.read_text().splitlines():
            if "pyg-hash" in line:
                used = set(re.findall(r"--([a-z_]+)", line))
                assert used <= known, f"{path.name}: {line}"


def python_of(page):
    """The Python of a page, what it includes too, each with the page before it."""
    text = page.read_text()
    kinds = r"^\.\. (?:code-block:: python|literalinclude:: (\S+py))\n((?:   .*\n|\n)*)"
    for found in re.finditer(kinds, text, re.M):
        code = textwrap.dedent(found[2])
        if found[1]:
            code = (page.parent / found[1]).read_text()
        yield text[: found.start()], code


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.rst")), ids=lambda page: page.stem)
def test_names_in_python_are_made_or_told(page):
    """By the Python of the page so far, or in ``...`` above it."""
    known = set(dir(builtins))
    for before, code in python_of(page):
        known |= {name for told in re.findall("``([^`]+)``", before) for name in told.split()}
        tree = ast.parse(code)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                known |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                known.add(node.name)
            elif isinstance(node, ast.arg):
                known.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                known.add(node.id)
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not used - known, code


@pytest.mark.parametrize("name", ["get_started", "concepts", "methods", "baselines"])
def test_python_of_pages_runs(name, two_epochs, monkeypatch, tmp_path):
    class Emoji(SyntheticCrossModal):
        def __init__(self, root, pre_transform=None):
            super().__init__(100, pre_transform=pre_transform)

        def text_encoder(self):
            return lambda texts: torch.ones(len(texts), 64)

    monkeypatch.setattr("pyg_hash.datasets.Emoji", Emoji)
    monkeypatch.chdir(tmp_path)
    space = {}
    for _, code in python_of(ROOT / "docs" / f"{name}.rst"):
        if "MyCNN" not in code:
            exec(compile(code, name, "exec"), space)


def test_no_machine_paths():
    for path in (*ROOT.glob("docs/*.rst"), *ROOT.glob("*.md"), *ROOT.glob("examples/*.py")):
        assert not re.search(r"/(work|tmp|root)/", path.read_text()), path


def test_readme_shows_the_quickstart():
    code = (ROOT / "examples" / "quickstart.py").read_text().split('"""', 2)[2].strip()
    assert code in (ROOT / "README.md").read_text()
