"""Losses: tensors in, a scalar out, one file a family."""

from pyg_hash.losses.adversarial import adversarial_loss
from pyg_hash.losses.affinity import (
    affinity_loss,
    affinity_reconstruction_loss,
    cosine_matrix,
    hybrid_affinity,
)
from pyg_hash.losses.balance import balance_loss
from pyg_hash.losses.correlation import linear_similarity_loss
from pyg_hash.losses.likelihood import similarity_likelihood
from pyg_hash.losses.prediction import label_prediction_loss
from pyg_hash.losses.prior import prior_discriminator_loss, prior_generator_loss
from pyg_hash.losses.quantization import quantization_loss
from pyg_hash.losses.reconstruction import reconstruction_loss
from pyg_hash.losses.regression import label_regression_loss, squared_distance_loss
from pyg_hash.losses.similar_distance import similar_distance_loss
from pyg_hash.losses.similarity import pairwise_nll, sampled_pairwise_nll

__all__ = [
    "adversarial_loss",
    "affinity_loss",
    "affinity_reconstruction_loss",
    "balance_loss",
    "cosine_matrix",
    "hybrid_affinity",
    "label_prediction_loss",
    "label_regression_loss",
    "linear_similarity_loss",
    "pairwise_nll",
    "prior_discriminator_loss",
    "prior_generator_loss",
    "quantization_loss",
    "reconstruction_loss",
    "sampled_pairwise_nll",
    "similar_distance_loss",
    "similarity_likelihood",
    "squared_distance_loss",
]
