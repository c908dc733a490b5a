"""Settings of published experiments, with the numbers reported for them.

A paper's number belongs beside ours only on the paper's own data, features and metric. The features
are not public, so these recipes are for those who have them, in a
:class:`pyg_hash.datasets.FeatureFile`. One file a method: ``recipes_mcgcn.py`` and so on.
"""

from __future__ import annotations

from benchmarks.recipe import Recipe as Recipe
from benchmarks.recipe import Table as Table
from benchmarks.recipes_gch import GCH_COCO, GCH_MIRFLICKR, GCH_NUSWIDE21, GCH_REPRODUCTION
from benchmarks.recipes_mcgcn import MCGCN_NUSWIDE10K, MCGCN_WIKIPEDIA
from benchmarks.recipes_sgch import (
    SGCH_CODE_NUSWIDE10K,
    SGCH_CODE_WIKIPEDIA,
    SGCH_NUSWIDE10K,
    SGCH_WIKIPEDIA,
)
from benchmarks.recipes_sgeh import SGEH_COCO, SGEH_MIRFLICKR, SGEH_NUSWIDE, SGEH_WIKIPEDIA

RECIPES: dict[str, Recipe] = {
    "MCGCN_WIKIPEDIA": MCGCN_WIKIPEDIA,
    "MCGCN_NUSWIDE10K": MCGCN_NUSWIDE10K,
    "GCH_MIRFLICKR": GCH_MIRFLICKR,
    "GCH_NUSWIDE21": GCH_NUSWIDE21,
    "GCH_COCO": GCH_COCO,
    "GCH_REPRODUCTION": GCH_REPRODUCTION,
    "SGCH_WIKIPEDIA": SGCH_WIKIPEDIA,
    "SGCH_NUSWIDE10K": SGCH_NUSWIDE10K,
    "SGCH_CODE_WIKIPEDIA": SGCH_CODE_WIKIPEDIA,
    "SGCH_CODE_NUSWIDE10K": SGCH_CODE_NUSWIDE10K,
    "SGEH_WIKIPEDIA": SGEH_WIKIPEDIA,
    "SGEH_MIRFLICKR": SGEH_MIRFLICKR,
    "SGEH_COCO": SGEH_COCO,
    "SGEH_NUSWIDE": SGEH_NUSWIDE,
}
"""All recipes by name."""
