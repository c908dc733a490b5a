"""Data sets: raw files -> ``HeteroData``, one set a file."""

from pyg_hash.datasets.emoji import Emoji

__all__ = ["Emoji"]
