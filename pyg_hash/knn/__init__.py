"""Nearest neighbours of feature vectors."""

from pyg_hash.knn.knn import knn
from pyg_hash.knn.recall import recall
from pyg_hash.knn.rows import PreparedRows, prepare

__all__ = ["PreparedRows", "knn", "prepare", "recall"]
