"""Moved to :mod:`pyg_hash.transforms.affinity`."""

from pyg_hash.utils.moved import door

_ALL = "AffinityGraph Neighbours nearest_neighbours neighbour_weights project_rows unified_affinity"
__getattr__ = door(__name__, dict.fromkeys(_ALL.split(), "pyg_hash.transforms.affinity"))
