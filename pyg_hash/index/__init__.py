"""Codes under ids, and their search in Hamming space."""

from pyg_hash.index.hamming import HammingIndex

__all__ = ["HammingIndex"]
