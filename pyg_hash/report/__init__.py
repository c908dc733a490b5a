"""What a model learned, to look at: figures, and one page that holds them all.

Needs the extra ``report`` (matplotlib, scikit-learn); without it every figure and the page raise
``ImportError`` when used.
"""

from pyg_hash.report.bits import bit_balance, bit_correlation, distance_histogram
from pyg_hash.report.curves import loss_curves, pr_curve, precision_at_n, radius_precision
from pyg_hash.report.embedding import tsne
from pyg_hash.report.page import About, report_page, write_report
from pyg_hash.report.results import Results

__all__ = [
    "About",
    "Results",
    "bit_balance",
    "bit_correlation",
    "distance_histogram",
    "loss_curves",
    "pr_curve",
    "precision_at_n",
    "radius_precision",
    "report_page",
    "tsne",
    "write_report",
]
