"""What a model learned, to look at: figures, and one page that holds them all.

Needs the extra ``report`` (matplotlib, scikit-learn); without it every figure and the page raise
``ImportError`` when used.
"""

from pyg_hash.report.figures import distance_histogram, pr_curve, tsne
from pyg_hash.report.page import About, Results, compare_page, report_page, write_report

__all__ = [
    "About",
    "Results",
    "compare_page",
    "distance_histogram",
    "pr_curve",
    "report_page",
    "tsne",
    "write_report",
]
