"""Transforms of ``HeteroData``: masks, feature scaling and the graph builders."""

from pyg_hash.transforms.affinity import UnifiedAffinity
from pyg_hash.transforms.graphs import InterKNN, IntraKNN, LabelHub, SGCHGraph
from pyg_hash.transforms.masks import LabelRate, ValidationSplit
from pyg_hash.transforms.scale import ScaleFeatures

__all__ = [
    "InterKNN",
    "IntraKNN",
    "LabelHub",
    "LabelRate",
    "SGCHGraph",
    "ScaleFeatures",
    "UnifiedAffinity",
    "ValidationSplit",
]
