"""The laws of the house: imports walk one way, in no circle, and leave others' privates alone."""

from __future__ import annotations

import ast
import importlib
import inspect
from functools import cache
from pathlib import Path

import pytest

import pyg_hash.models

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    {"typing"},
    {"utils"},
    {"codes", "features", "knn", "graph"},
    {"transforms", "sampling", "datasets", "nn", "losses"},
    {"models"},
    {"metrics"},
    {"training"},
    {"recipes", "index"},
    {"stores"},
    {"runs"},
    {"report", "serve"},
    {"cli"},
]
DOORS = {"search", "affinity", "distributed", "io", "models.baselines", "__main__"}
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


@cache  # not when it is collected: that is seconds in every process
def modules():
    """Dotted name below pyg_hash -> syntax tree, without the doors to old paths."""
    found = {}
    for path in sorted((ROOT / "pyg_hash").rglob("*.py")):
        parts = path.relative_to(ROOT / "pyg_hash").with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name and name not in DOORS:
            found[name] = ast.parse(path.read_text())
    return found


def imports(tree):
    """Modules of pyg_hash that a module imports, if for types alone, and the names it takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyg_hash."):
            yield node.module.removeprefix("pyg_hash."), [alias.name for alias in node.names]


def test_no_import_runs_up():
    up = [
        f"{name} -> {target}"
        for name, tree in modules().items()
        for target, _ in imports(tree)
        if FLOOR[target.split(".")[0]] > FLOOR[name.split(".")[0]]
    ]
    assert not up


def test_nothing_unpickles():
    own = {"pickle", "joblib", "dill", "shelve", "marshal"}
    found = []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                whole = [getattr(node, "module", None), *(alias.name for alias in node.names)]
                found += [f"{name}: {one}" for one in whole if one in own]
            # torch.distributed's collectives of objects unpickle what other processes send
            elif isinstance(node, ast.Attribute) and node.attr.endswith(
                ("_object", "_object_list")
            ):
                found.append(f"{name}: {node.attr}")
    assert not found


def test_no_circle():
    edges = {}
    for name, tree in modules().items():
        targets = set()
        for target, names in imports(tree):
            inner = {f"{target}.{n}" for n in names} & set(modules())
            targets |= inner or {target} & set(modules())
        edges[name] = targets - {name}
    done, path = set(), []

    def visit(name):
        if name in path:
            pytest.fail(" -> ".join([*path[path.index(name) :], name]))
        if name in done:
            return
        path.append(name)
        for target in sorted(edges[name]):
            if not name.startswith(f"{target}."):  # a package's face imports its files
                visit(target)
        path.pop()
        done.add(name)

    for name in sorted(edges):
        visit(name)


def test_no_folder_imports_a_private_module_of_another():
    bad = []
    for name, tree in modules().items():
        for target, names in imports(tree):
            room = target.split(".")[0]
            parts = [*target.split("."), *names]
            if room != name.split(".")[0] and any(part.startswith("_") for part in parts):
                bad.append(f"{name} -> {target} {names}")
    assert not bad


@pytest.mark.parametrize("name", pyg_hash.models.__all__)
def test_no_constructor_has_more_than_15_arguments(name):
    assert len(inspect.signature(getattr(pyg_hash.models, name)).parameters) <= 15


def home(target, name):
    """The module where what another one offers is written."""
    if f"{target}.{name}" in modules():
        return f"{target}.{name}"
    offered = getattr(importlib.import_module(f"pyg_hash.{target}"), name)
    owner = str(getattr(offered, "__module__", ""))
    return owner.removeprefix("pyg_hash.") if owner.startswith("pyg_hash.") else target


@pytest.mark.parametrize("name", ["gch", "mcgcn", "sgch", "sgeh"])
def test_a_method_is_read_in_few_files(name):
    """All that it imports, and what that imports, but for the faces of folders."""
    todo, seen = [f"models.{name}"], set()
    while todo:
        here = todo.pop()
        if here not in seen:
            seen.add(here)
            todo += [home(t, n) for t, names in imports(modules()[here]) for n in names]
    files = [ROOT / "pyg_hash" / f"{module.replace('.', '/')}.py" for module in seen]
    lines = sum(len(path.read_text().splitlines()) for path in files)
    assert len(files) <= 25 and lines <= 3000, sorted(seen)
