"""Nearest neighbours of feature vectors."""

from pyg_hash.knn.knn import knn, recall
from pyg_hash.knn.rows import PreparedRows as PreparedRows
from pyg_hash.knn.rows import prepare

__all__ = ["knn", "prepare", "recall"]
