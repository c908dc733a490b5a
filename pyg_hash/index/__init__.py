"""Codes under ids, and their search in Hamming space."""

from pyg_hash.index.hamming import HammingIndex
from pyg_hash.index.rescore import Rescored

__all__ = ["HammingIndex", "Rescored"]
