"""Data sets: raw files -> ``HeteroData``, one set a file."""

from pyg_hash.datasets.base import CrossModalDataset, Items
from pyg_hash.datasets.build import build_hetero as build_hetero
from pyg_hash.datasets.emoji import Emoji, EmojiVendors
from pyg_hash.datasets.feature_file import FeatureFile, check_feature_file, open_feature_file
from pyg_hash.datasets.feature_file import FeatureReport as FeatureReport
from pyg_hash.datasets.feature_file import MatrixReport as MatrixReport
from pyg_hash.datasets.feature_file import StoredMatrix as StoredMatrix
from pyg_hash.datasets.feature_write import encode_feature_file, write_feature_file
from pyg_hash.datasets.imports import Imported as Imported
from pyg_hash.datasets.imports import import_files
from pyg_hash.datasets.published import (
    MSCOCO,
    NUSWIDE,
    NUSWIDE10K,
    MIRFlickr25K,
    Wikipedia,
    published_protocols,
)
from pyg_hash.datasets.published import Protocol as Protocol
from pyg_hash.datasets.synthetic import SyntheticCrossModal

__all__ = [
    "CrossModalDataset",
    "Emoji",
    "EmojiVendors",
    "FeatureFile",
    "Items",
    "MIRFlickr25K",
    "MSCOCO",
    "NUSWIDE",
    "NUSWIDE10K",
    "SyntheticCrossModal",
    "Wikipedia",
    "check_feature_file",
    "encode_feature_file",
    "import_files",
    "open_feature_file",
    "published_protocols",
    "write_feature_file",
]
