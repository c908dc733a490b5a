"""``make demo``: train on emoji, evaluate, search. Prints each command before it runs it.

Everything here can be typed in a shell as well; afterwards, try words of your own:
``pyg-hash search runs/demo/inductive --text "..."``.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import sys
import time
from pathlib import Path

from pyg_hash.cli import main as pyg_hash
from pyg_hash.cli.options import TrainConfig
from pyg_hash.runs import Run

TEXTS = ("happy animal", "sad face", "red fruit")
PICTURES = ("cat", "airplane", "snowflake")


def run(*words: str) -> None:
    """Print a command, run it, and stop the demo if it fails."""
    print(f"\n$ pyg-hash {shlex.join(words)}", flush=True)
    status = pyg_hash(words)
    if status:
        sys.exit(status)


def unused(folder: Path) -> Path:
    """``folder``, or ``folder-2``, ``folder-3``, ... so that no earlier run is touched."""
    number, path = 1, folder
    while path.exists():
        number += 1
        path = folder.with_name(f"{folder.name}-{number}")
    return path
