"""Moved: ``knn``, ``recall`` to :mod:`pyg_hash.knn`, ``HammingIndex`` to :mod:`pyg_hash.index`."""

from pyg_hash.utils.moved import door

__getattr__ = door(
    __name__,
    {"HammingIndex": "pyg_hash.index", "knn": "pyg_hash.knn", "recall": "pyg_hash.knn"},
)
