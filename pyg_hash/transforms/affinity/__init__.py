"""The unified sparse affinity graph of several views (SGEH's first stage)."""

from pyg_hash.transforms.affinity.steps import neighbour_weights, project_rows
from pyg_hash.transforms.affinity.unified import (
    AffinityGraph,
    Neighbours,
    nearest_neighbours,
    unified_affinity,
)

__all__ = [
    "AffinityGraph",
    "Neighbours",
    "nearest_neighbours",
    "neighbour_weights",
    "project_rows",
    "unified_affinity",
]
