"""Checks of what :func:`~pyg_hash.transforms.affinity.unified_affinity` is given."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pyg_hash.transforms.affinity.neighbours import Neighbours, check_neighbours, nearest_neighbours
from pyg_hash.utils.checks import check_choice, check_features, check_number, check_positive_int

RANKS = ("effective", "gmc")
U_STEPS = ("exact", "gmc")
WEIGHT_RULES = ("gmc", "paper")
_DENSE_LIMIT = 4000  # rows; the iterative solver finds at most a fifth of all eigenvectors


def check_options(
    num_clusters: int, k: int, rank: str, weight_rule: str, u_step: str, lam: float, max_iter: int
) -> None:
    """Check what does not depend on the data.

    Raises:
        TypeError: a number of the wrong type.
        ValueError: a number out of range or an unknown option.
    """
    for count, name in ((num_clusters, "num_clusters"), (k, "k"), (max_iter, "max_iter")):
        check_positive_int(count, name)
    check_choice(rank, RANKS, "rank")
    check_choice(weight_rule, WEIGHT_RULES, "weight_rule")
    check_choice(u_step, U_STEPS, "u_step")
    check_positive(lam, "lam")


def check_positive(value: float, name: str) -> None:
    """Raise unless ``value`` is a positive, finite number."""
    if not 0.0 < check_number(value, name) < float("inf"):
        raise ValueError(f"{name}: expected a positive, finite number, got {value!r}")


def neighbour_lists(
    views: Sequence[Tensor | Neighbours], num_clusters: int, k: int
) -> list[Neighbours]:
    """Check the views and search the neighbours of those that are features.

    Raises:
        TypeError: no tensors of the right type.
        ValueError: fewer than two views, different numbers of rows, bad neighbours, and more
            clusters than so many rows can form.
    """
    if isinstance(views, Tensor) or len(views) < 2:
        raise ValueError("views: expected two or more; one view has nothing to be unified with")
    rows = [len(v.index) if isinstance(v, Neighbours) else len(v) for v in views]
    if len(set(rows)) > 1:
        raise ValueError(
            f"views: {', '.join(map(str, rows))} rows; row i of all must be the same instance"
        )
    if num_clusters > rows[0] // 2:
        raise ValueError(
            f"num_clusters: {num_clusters} components of {rows[0]} rows are impossible, because "
            f"each has at least two; use num_clusters <= {max(rows[0] // 2, 1)}"
        )
    if rows[0] > _DENSE_LIMIT and num_clusters > rows[0] // 6:
        raise ValueError(
            f"num_clusters: {num_clusters} eigenvectors of {rows[0]} rows need the dense solver, "
            f"which stops at {_DENSE_LIMIT} rows; use num_clusters <= {rows[0] // 6}"
        )
    lists = []
    for number, view in enumerate(views):
        if isinstance(view, Neighbours):
            check_neighbours(view, k, f"views[{number}]")
            lists.append(view)
        else:
            check_features(view, f"views[{number}]")
            lists.append(nearest_neighbours(view, k))
    return lists
