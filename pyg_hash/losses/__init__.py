"""Losses: tensors in, a scalar out, one file a family.

A loss without rows is an exact zero with zero gradients. Tensors of another type than asked for
raise ``TypeError``; shapes or labels that do not fit, numbers out of their range and unknown
options raise ``ValueError``. Each message names the argument.
"""

import warnings
from typing import Any

from pyg_hash.losses.adversarial import (
    adversarial_loss,
    prior_discriminator_loss,
    prior_generator_loss,
)
from pyg_hash.losses.affinity import (
    affinity_loss,
)
from pyg_hash.losses.affinity import (
    cosine_matrix as cosine_matrix,
)
from pyg_hash.losses.affinity import (
    hybrid_affinity as hybrid_affinity,
)
from pyg_hash.losses.codes import (
    balance_loss,
    quantization_loss,
    reconstruction_loss,
    squared_distance_loss,
)
from pyg_hash.losses.labels import label_prediction_loss, label_regression_loss
from pyg_hash.losses.pairs import linear_similarity_loss, pairwise_nll, similar_distance_loss

__all__ = [
    "adversarial_loss",
    "affinity_loss",
    "balance_loss",
    "label_prediction_loss",
    "label_regression_loss",
    "linear_similarity_loss",
    "pairwise_nll",
    "prior_discriminator_loss",
    "prior_generator_loss",
    "quantization_loss",
    "reconstruction_loss",
    "similar_distance_loss",
    "squared_distance_loss",
]


def __getattr__(name: str) -> Any:
    """Old names of :func:`pairwise_nll`, which takes their arguments, until 1.0."""
    if name not in ("similarity_likelihood", "sampled_pairwise_nll"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"{__name__}.{name} is now {__name__}.pairwise_nll", DeprecationWarning, stacklevel=2
    )
    return pairwise_nll
