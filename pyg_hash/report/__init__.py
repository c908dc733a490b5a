"""What a model learned, to look at: figures, and one page that holds them all.

Needs the extra ``report`` (matplotlib, scikit-learn) when used.
"""

from pyg_hash.report.bits import (
    bit_balance,
    bit_correlation,
    correlation_matrix,
    distance_counts,
    distance_histogram,
)
from pyg_hash.report.curves import loss_curves, pr_curve, precision_at_n, radius_precision
from pyg_hash.report.embedding import embed, tsne

__all__ = [
    "bit_balance",
    "bit_correlation",
    "correlation_matrix",
    "distance_counts",
    "distance_histogram",
    "embed",
    "loss_curves",
    "pr_curve",
    "precision_at_n",
    "radius_precision",
    "tsne",
]
