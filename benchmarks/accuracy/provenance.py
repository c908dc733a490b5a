"""What every result says of the program that made it."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from pyg_hash import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "torch_geometric", "faiss-cpu", "numpy", "scipy", "scikit-learn")
CODE = ("pyg_hash", "benchmarks", ":!benchmarks/results")


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that numbers may depend on."""
    found = {"pyg_hash": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str:
    """The git commit, with ``-dirty`` behind it if the code differs from it; results may."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        changed = _git("status", "--porcelain", "--", *CODE)
        return f"{head}-dirty" if changed else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown: no git checkout"


def short(commit: str) -> str:
    """A commit for a page; that the code differed from it is never left out."""
    return re.sub("^([0-9a-f]{12})[0-9a-f]{28}", r"\1", commit)


def stamp() -> dict[str, Any]:
    """Commit, versions and time, for a line that is written now."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"commit": commit(), "versions": versions(), "threads": 1, "finished": now}


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout
