"""Codes under ids, with fields beside them, and their search in Hamming space."""

from pyg_hash.index.base import CodeStore
from pyg_hash.index.hamming import HammingIndex
from pyg_hash.index.lookup import HNSW, IVF, Flat, MultiIndex

__all__ = ["HNSW", "IVF", "CodeStore", "Flat", "HammingIndex", "MultiIndex"]
