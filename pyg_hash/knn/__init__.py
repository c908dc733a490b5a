"""Nearest neighbours of feature vectors."""

from pyg_hash.knn.exact import neighbours as neighbours
from pyg_hash.knn.knn import knn, prepare, recall
from pyg_hash.knn.rows import PreparedRows as PreparedRows
from pyg_hash.knn.rows import ready as ready

__all__ = ["knn", "prepare", "recall"]
