"""Layers: tensors and edges in, tensors out."""

from pyg_hash.nn.beacon import BeaconNetwork, LabelGraph, reweighted_fusion
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
from pyg_hash.nn.local_affinity import LocalAffinity, SparseAffinity
from pyg_hash.nn.mlp import HashMLP, PriorDiscriminator

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
