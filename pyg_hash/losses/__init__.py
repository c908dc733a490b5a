"""Losses: tensors in, a scalar out, one file a family; the models cite the papers.

A loss without rows is an exact zero with zero gradients. Tensors of another type than asked for
raise ``TypeError``; shapes or labels that do not fit, numbers out of their range and unknown
options raise ``ValueError``. Each message names the argument. Likelihoods and contrasts take
float32 or float64, which must be the same for all codes (half precision is taken as float32), and
have first derivatives only: in a backward pass with ``create_graph=True`` they raise
``RuntimeError``.
"""

import warnings
from typing import Any

from pyg_hash.losses.affinity import affinity_loss
from pyg_hash.losses.affinity import cosine_matrix as cosine_matrix
from pyg_hash.losses.affinity import hybrid_affinity as hybrid_affinity
from pyg_hash.losses.codes import (
    adversarial_loss,
    balance_loss,
    label_prediction_loss,
    quantization_loss,
    squared_distance_loss,
)
from pyg_hash.losses.contrast import contrastive_loss
from pyg_hash.losses.expected import expected_pairwise_nll
from pyg_hash.losses.pairs import pairwise_nll
from pyg_hash.losses.ranking import ranking_loss
from pyg_hash.losses.similar import linear_similarity_loss
from pyg_hash.losses.similar import similar_distance_loss as similar_distance_loss

__all__ = [
    "adversarial_loss",
    "affinity_loss",
    "balance_loss",
    "contrastive_loss",
    "expected_pairwise_nll",
    "label_prediction_loss",
    "linear_similarity_loss",
    "pairwise_nll",
    "quantization_loss",
    "ranking_loss",
    "squared_distance_loss",
]


def __getattr__(name: str) -> Any:
    """The old name of :func:`pairwise_nll`, which takes its arguments, until 1.0."""
    if name != "similarity_likelihood":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"{__name__}.{name} is now {__name__}.pairwise_nll", DeprecationWarning, stacklevel=2
    )
    return pairwise_nll
