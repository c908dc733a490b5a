"""Retrieval metrics of codes, exact under ties, and the evaluation of a model."""

from pyg_hash.metrics.evaluation import Evaluation, evaluate
from pyg_hash.metrics.mean_ap import mean_average_precision
from pyg_hash.metrics.retrieval import (
    Lookup as Lookup,
)
from pyg_hash.metrics.retrieval import (
    LookupCurve as LookupCurve,
)
from pyg_hash.metrics.retrieval import (
    hash_lookup,
    ndcg,
    pr_curve,
    precision_at_n,
)

__all__ = [
    "Evaluation",
    "evaluate",
    "hash_lookup",
    "mean_average_precision",
    "ndcg",
    "pr_curve",
    "precision_at_n",
]
