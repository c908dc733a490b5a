"""Retrieval metrics of codes, exact under ties, and the evaluation of a model."""

from pyg_hash.metrics.counts import Lookup as Lookup
from pyg_hash.metrics.counts import LookupCurve as LookupCurve
from pyg_hash.metrics.counts import hash_lookup, ndcg, pr_curve, precision_at_n
from pyg_hash.metrics.evaluation import Evaluation, evaluate
from pyg_hash.metrics.mean_ap import mean_average_precision
from pyg_hash.metrics.scored import pair_recall, scored_average_precision, scored_pair_recall
from pyg_hash.utils.oddities import CollapseWarning, OddDataWarning

__all__ = [
    "CollapseWarning",
    "Evaluation",
    "OddDataWarning",
    "evaluate",
    "hash_lookup",
    "mean_average_precision",
    "ndcg",
    "pair_recall",
    "pr_curve",
    "precision_at_n",
    "scored_average_precision",
    "scored_pair_recall",
]
