"""Writes equations.rst: where each equation of the papers is computed, read off the citations."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pyg_hash.utils.files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
PAPERS = {
    "MCGCN": "Wu, Li, Gao, Ji, Jing, Wan, Pattern Recognition 136, 2023",
    "GCH": "Xu, Li, Yan, Deng, Liu, IJCAI 2019",
    "SGCH": "Shen, Zhai, Liu, Jiang, ICIP 2020",
    "SGEH": "Zhao, Yu, Liao, Zhang, Zhang, ACCV 2022",
    "GCH report": "the variants of a reproduction report of GCH",
    "DCMH": "Jiang, Li, CVPR 2017",
}
CITATION = re.compile(rf"\b({'|'.join(PAPERS)})\s+Eq\.\s+(\d+)")


class Home(NamedTuple):
    """A place that computes an equation."""

    paper: str
    number: int
    symbol: str
    file: str


def homes() -> list[Home]:
    """All places that cite an equation with its paper, in the order of the papers."""
    found = set()
    for path in sorted((ROOT / "pyg_hash").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        file = path.relative_to(ROOT).as_posix()
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        spans = list(_symbols(ast.parse(text), ""))
        for match in CITATION.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            names = [name for name, first, last in spans if first <= line <= last]
            symbol = max(names, key=len, default=module)
            found.add(Home(match[1], int(match[2]), symbol, file))
    order = list(PAPERS)
    return sorted(found, key=lambda home: (order.index(home.paper), *home[1:]))


def _symbols(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
    """Names of classes and functions, with their first and last line."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            name = f"{prefix}{child.name}"
            yield name, child.lineno, child.end_lineno or child.lineno
            yield from _symbols(child, f"{name}.")


def page() -> str:
    """The page as reStructuredText."""
    lines = ["Equations", "=========", "", "Where each equation of the papers is computed.", ""]
    lines.append("An equation of several terms has a home for each of them.")
    known = homes()
    for paper, source in PAPERS.items():
        title = f"{paper}: {source}"
        lines += ["", title, "-" * len(title), "", ".. list-table::", "   :header-rows: 1", ""]
        rows = [("equation", "symbol", "file")]
        own = [home for home in known if home.paper == paper]
        rows += [(f"Eq. {h.number}", f"``{h.symbol}``", f"``{h.file}``") for h in own]
        for row in rows:
            lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def write() -> None:
    """Write the page, if it changed."""
    path = Path(__file__).with_name("equations.rst")
    text = page()
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic_path(path) as temporary:  # others may read it meanwhile
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
