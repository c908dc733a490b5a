"""Nearest-neighbour search: features (exact kNN) and codes (Hamming index)."""

from pyg_hash.search.hamming import HammingIndex
from pyg_hash.search.knn import knn

__all__ = ["HammingIndex", "knn"]
