"""The console command ``pyg-hash``."""

import os

# Threads that spin while they wait make training many times slower when another process needs a
# core. OpenMP reads this once, when torch is loaded: hence here, before the other imports.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from pyg_hash.cli.command import main

__all__ = ["main"]
