"""Nearest neighbours of feature vectors."""

from pyg_hash.knn.knn import knn
from pyg_hash.knn.recall import recall

__all__ = ["knn", "recall"]
