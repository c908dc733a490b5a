"""Layers: tensors and edges in, tensors out."""

from pyg_hash.nn.adversarial import GradientReversal, ModalityDiscriminator, reversal_schedule
from pyg_hash.nn.attention import AttentionFusion
from pyg_hash.nn.autoencoder import Autoencoder
from pyg_hash.nn.cache import GraphCache
from pyg_hash.nn.channel import CrossModalChannel, GCNChannel, HubGCNConv
from pyg_hash.nn.classifier import LabelClassifier
from pyg_hash.nn.concat import ConcatFusion
from pyg_hash.nn.graph import GraphOperator, Hub, intra_operator, joint_operator
from pyg_hash.nn.hash import HashLayer

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
    "Hub",
    "HubGCNConv",
    "LabelClassifier",
    "ModalityDiscriminator",
    "intra_operator",
    "joint_operator",
    "reversal_schedule",
]
