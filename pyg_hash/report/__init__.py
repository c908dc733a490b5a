"""What a model learned, to look at: figures, and one page that holds them all.

Needs the extra ``report`` (matplotlib, scikit-learn) when used.
"""

from pyg_hash.report.answers import Answer, GalleryRow, gallery
from pyg_hash.report.bits import (
    bit_balance,
    bit_correlation,
    correlation_matrix,
    distance_counts,
    distance_histogram,
)
from pyg_hash.report.curves import loss_curves, pr_curve, precision_at_n, radius_precision
from pyg_hash.report.embedding import embed, tsne
from pyg_hash.report.page import About, report_page, write_report
from pyg_hash.report.results import Results

__all__ = [
    "About",
    "Answer",
    "GalleryRow",
    "Results",
    "bit_balance",
    "bit_correlation",
    "correlation_matrix",
    "distance_counts",
    "distance_histogram",
    "embed",
    "gallery",
    "loss_curves",
    "pr_curve",
    "precision_at_n",
    "radius_precision",
    "report_page",
    "tsne",
    "write_report",
]
