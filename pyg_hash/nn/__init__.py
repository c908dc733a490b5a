"""Layers: tensors and edges in, tensors out."""

from pyg_hash.nn.adversarial import GradientReversal, ModalityDiscriminator, reversal_schedule
from pyg_hash.nn.attention import AttentionFusion
from pyg_hash.nn.autoencoder import Autoencoder
from pyg_hash.nn.classifier import LabelClassifier
from pyg_hash.nn.concat import ConcatFusion
from pyg_hash.nn.hash import HashLayer

__all__ = [
    "AttentionFusion",
    "Autoencoder",
    "ConcatFusion",
    "GradientReversal",
    "HashLayer",
    "LabelClassifier",
    "ModalityDiscriminator",
    "reversal_schedule",
]
