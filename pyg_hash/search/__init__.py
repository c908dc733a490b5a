"""Nearest-neighbour search: features (kNN) and codes (Hamming index)."""

from pyg_hash.search.hamming import HammingIndex
from pyg_hash.search.knn import knn
from pyg_hash.search.recall import recall

__all__ = ["HammingIndex", "knn", "recall"]
