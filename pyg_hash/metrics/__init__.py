"""Retrieval metrics of codes, exact under ties, and the evaluation of a model."""

from pyg_hash.metrics.evaluation import Evaluation, evaluate
from pyg_hash.metrics.mean_ap import mean_average_precision

__all__ = ["Evaluation", "evaluate", "mean_average_precision"]
