"""Nearest neighbours of feature vectors."""

from pyg_hash.knn.exact import PreparedRows as PreparedRows
from pyg_hash.knn.exact import neighbours as neighbours
from pyg_hash.knn.exact import ready as ready
from pyg_hash.knn.knn import knn, prepare, recall

__all__ = ["knn", "prepare", "recall"]
