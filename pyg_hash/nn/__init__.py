"""Layers: tensors and edges in, tensors out."""

from pyg_hash.nn.adversarial import GradientReversal, ModalityDiscriminator, reversal_schedule
from pyg_hash.nn.attention import AttentionFusion
from pyg_hash.nn.autoencoder import Autoencoder
from pyg_hash.nn.cache import GraphCache
from pyg_hash.nn.channel import CrossModalChannel, GCNChannel, HubGCNConv
from pyg_hash.nn.classifier import LabelClassifier
from pyg_hash.nn.concat import ConcatFusion
from pyg_hash.nn.graph import GraphOperator, Hub, Receiver
from pyg_hash.nn.hash import HashLayer
from pyg_hash.nn.operators import (
    Graphs,
    build_graphs,
    intra_operator,
    joint_operator,
    query_view,
)

__all__ = [
    "AttentionFusion",
    "Autoencoder",
    "ConcatFusion",
    "CrossModalChannel",
    "GCNChannel",
    "GradientReversal",
    "GraphCache",
    "GraphOperator",
    "HashLayer",
    "Graphs",
    "Hub",
    "HubGCNConv",
    "LabelClassifier",
    "ModalityDiscriminator",
    "Receiver",
    "build_graphs",
    "intra_operator",
    "joint_operator",
    "query_view",
    "reversal_schedule",
]
