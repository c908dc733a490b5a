"""Losses: tensors in, a scalar out, one file a family."""

from pyg_hash.losses.adversarial import adversarial_loss
from pyg_hash.losses.balance import balance_loss
from pyg_hash.losses.prediction import label_prediction_loss
from pyg_hash.losses.quantization import quantization_loss
from pyg_hash.losses.reconstruction import reconstruction_loss
from pyg_hash.losses.similarity import pairwise_nll

__all__ = [
    "adversarial_loss",
    "balance_loss",
    "label_prediction_loss",
    "pairwise_nll",
    "quantization_loss",
    "reconstruction_loss",
]
