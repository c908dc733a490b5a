"""The console command ``pyg-hash``."""

from pyg_hash.cli.command import main

__all__ = ["main"]
