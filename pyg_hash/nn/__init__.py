"""Layers: tensors and edges in, tensors out."""

from pyg_hash.nn.beacon import BeaconNetwork
from pyg_hash.nn.beacon import LabelGraph as LabelGraph
from pyg_hash.nn.beacon import reweighted_fusion as reweighted_fusion
from pyg_hash.nn.channel import GCNChannel, ModalityDiscriminator
from pyg_hash.nn.encoder import CodeEncoder, HashMLP
from pyg_hash.nn.encoder import Encoding as Encoding
from pyg_hash.nn.encoder import PriorDiscriminator as PriorDiscriminator
from pyg_hash.nn.fusion import AttentionFusion, Autoencoder, ConcatFusion
from pyg_hash.nn.heads import HashLayer
from pyg_hash.nn.heads import Head as Head
from pyg_hash.nn.local_affinity import LocalAffinity as LocalAffinity
from pyg_hash.nn.local_affinity import SparseAffinity as SparseAffinity

__all__ = [
    "AttentionFusion",
    "Autoencoder",
    "BeaconNetwork",
    "CodeEncoder",
    "ConcatFusion",
    "GCNChannel",
    "HashLayer",
    "HashMLP",
    "ModalityDiscriminator",
]
