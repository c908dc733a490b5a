"""Data sets: raw files -> ``HeteroData``, one set a file."""

from pyg_hash.datasets.base import CrossModalDataset, Items
from pyg_hash.datasets.build import build_hetero
from pyg_hash.datasets.emoji import Emoji
from pyg_hash.datasets.feature_file import FeatureFile, encode_feature_file, write_feature_file
from pyg_hash.datasets.feature_layout import (
    FeatureReport,
    MatrixReport,
    StoredMatrix,
    check_feature_file,
    open_feature_file,
)
from pyg_hash.datasets.published_sets import MSCOCO, NUSWIDE, NUSWIDE10K, MIRFlickr25K
from pyg_hash.datasets.splits import Protocol, published_protocols
from pyg_hash.datasets.synthetic import SyntheticCrossModal
from pyg_hash.datasets.wikipedia import Wikipedia

__all__ = [
    "CrossModalDataset",
    "Emoji",
    "FeatureFile",
    "FeatureReport",
    "Items",
    "MIRFlickr25K",
    "MSCOCO",
    "MatrixReport",
    "NUSWIDE",
    "NUSWIDE10K",
    "Protocol",
    "StoredMatrix",
    "SyntheticCrossModal",
    "Wikipedia",
    "build_hetero",
    "check_feature_file",
    "encode_feature_file",
    "open_feature_file",
    "published_protocols",
    "write_feature_file",
]
