"""Transforms of ``HeteroData``: masks, feature scaling and the graph builders."""

from pyg_hash.transforms.affinity import UnifiedAffinity
from pyg_hash.transforms.inter import InterKNN
from pyg_hash.transforms.intra import IntraKNN
from pyg_hash.transforms.labels import LabelHub
from pyg_hash.transforms.masks import LabelRate, ValidationSplit
from pyg_hash.transforms.scale import ScaleFeatures
from pyg_hash.transforms.sgch import SGCHGraph

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
