"""Layers: tensors and edges in, tensors out."""

from pyg_hash.nn.beacon import BeaconNetwork
from pyg_hash.nn.channel import GCNChannel, HubGCNConv
from pyg_hash.nn.encoder import CodeEncoder, Encoding
from pyg_hash.nn.heads import (
    AttentionFusion,
    Autoencoder,
    ConcatFusion,
    GradientReversal,
    HashLayer,
    LabelClassifier,
    ModalityDiscriminator,
)
from pyg_hash.nn.label_graph import LabelGraph
from pyg_hash.nn.local_affinity import LocalAffinity
from pyg_hash.nn.mlp import HashMLP
from pyg_hash.nn.prior import PriorDiscriminator
from pyg_hash.nn.reweighting import reweighted_fusion
from pyg_hash.nn.sparse_affinity import SparseAffinity

__all__ = [
    "AttentionFusion",
    "Autoencoder",
    "BeaconNetwork",
    "CodeEncoder",
    "ConcatFusion",
    "Encoding",
    "GCNChannel",
    "GradientReversal",
    "HashLayer",
    "HashMLP",
    "HubGCNConv",
    "LabelClassifier",
    "LabelGraph",
    "LocalAffinity",
    "ModalityDiscriminator",
    "PriorDiscriminator",
    "SparseAffinity",
    "reweighted_fusion",
]
