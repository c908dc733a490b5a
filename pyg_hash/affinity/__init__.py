"""The unified sparse affinity graph of several views (SGEH's first stage)."""

from pyg_hash.affinity.graph import AffinityGraph
from pyg_hash.affinity.neighbours import Neighbours, nearest_neighbours
from pyg_hash.affinity.simplex import project_rows
from pyg_hash.affinity.steps import neighbour_weights
from pyg_hash.affinity.unified import unified_affinity

__all__ = [
    "AffinityGraph",
    "Neighbours",
    "nearest_neighbours",
    "neighbour_weights",
    "project_rows",
    "unified_affinity",
]
