"""What a model learned, in figures, and in a page that holds them all; needs extra ``report``."""

from pyg_hash.report.figures import distance_histogram, pr_curve, tsne
from pyg_hash.report.page import About, Results, report_page, write_report

__all__ = [
    "About",
    "Results",
    "distance_histogram",
    "pr_curve",
    "report_page",
    "tsne",
    "write_report",
]
