"""The unified sparse affinity graph: SGEH's first stage, a member of the GMC family."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyg_hash.transforms.affinity.embedding import (
    Embedding,
    components,
    indicators,
    laplacian,
    smallest_eigenvectors,
)
from pyg_hash.transforms.affinity.neighbours import (
    Neighbours,
    candidates,
    check_neighbours,
    nearest_neighbours,
    row_distances,
)
from pyg_hash.transforms.affinity.steps import (
    Floats,
    neighbour_weights,
    update_unified,
    update_view,
    view_weight,
)
from pyg_hash.utils.checks import (
    check_choice,
    check_features,
    check_positive,
    check_positive_int,
)

_MANY_ROWS = 4000  # above them the eigenvectors of so many clusters take hours


@dataclass(frozen=True)
class AffinityGraph:
    r"""A unified affinity graph Z in CSR form, with its clusters. All tensors are on the CPU.

    Attributes:
        indptr: int64 ``[m + 1]``.
        indices: column of each entry, ascending in each row, int64 ``[E]``.
        values: float64 ``[E]``, positive; each row sums to 1, there is no diagonal.
        cluster: connected component of each row, int64 ``[m]``, numbered by first row.
        num_components: number of clusters.
        converged: whether there are exactly as many as asked for.
        iterations: number of iterations.
        lam: :math:`\lambda` of the last iteration.
        weights: weight of each view.
        history: one dict an iteration: ``iteration``, ``lam``, ``num_components``,
            ``largest_component``, ``num_edges``, ``weights``; and ``eigenvalue_sum`` (of the c
            smallest) and ``residual`` of the eigenvectors, None where none were needed.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor
    cluster: Tensor
    num_components: int
    converged: bool
    iterations: int
    lam: float
    weights: list[float]
    history: list[dict[str, Any]]

    @property
    def edge_index(self) -> Tensor:
        """Rows i and columns j of the entries, sorted by i, then j: int64 ``[2, E]``."""
        row = torch.arange(len(self.cluster)).repeat_interleave(self.indptr.diff())
        return torch.stack((row, self.indices))

    def to_dense(self) -> Tensor:
        """Z, float64 ``[m, m]``; for small graphs."""
        dense = torch.zeros(len(self.cluster), len(self.cluster), dtype=torch.float64)
        dense[tuple(self.edge_index)] = self.values
        return dense


def unified_affinity(
    views: Sequence[Tensor | Neighbours],
    num_clusters: int,
    k: int = 5,
    *,
    rank: str = "effective",
    weight_rule: str = "gmc",
    u_step: str = "exact",
    lam: float = 1.0,
    max_iter: int = 20,
    tol: float = 1e-10,
    seed: int = 0,
    progress: bool = True,
) -> AffinityGraph:
    r"""Fuse the neighbour graphs of several views into one with ``num_clusters`` components.

    Minimises SGEH Eq. 7 (Zhao et al., ACCV 2022; GMC, Wang et al., TKDE 2020) by turns: each
    view's graph S (:func:`~pyg_hash.transforms.affinity.steps.update_view`), the weights of the
    views (``view_weight``), the unified graph Z (``update_unified``), and the embedding D, the
    ``num_clusters`` smallest eigenvectors of Z's Laplacian.
    After each turn the connected components of Z are counted: :math:`\lambda` doubles if there
    are too few, halves (and D goes back) if there are too many, and exactly ``num_clusters`` of
    them end the search. Everything is sparse: Z lives where the nearest-neighbour graphs do.

    Read here as follows, where the paper is unclear: :math:`S_{ii} = 0` (1, as is printed too,
    would leave nothing for others), and :func:`neighbour_weights` replaces the Gaussian kernel,
    which is never used. Features are taken as they are; GMC
    standardises each sample, for which :class:`~pyg_hash.transforms.ScaleFeatures` stands here:
    rows of equal length put the distances of all views on one scale.

    Args:
        views: two or more; each the features, float ``[m, d]``, or its :class:`Neighbours`.
        num_clusters: c, the number of components wanted.
        k: neighbours a row in each view.
        rank: ``'effective'`` solves the S-step exactly; ``'gmc'`` is it as printed, whose rows
            need not sum to 1.
        weight_rule: ``'gmc'``, :math:`1 / (2 \lVert Z - S \rVert_F)`, is the one that the paper's
            proof yields; ``'paper'``, as printed, is without the 2.
        u_step: ``'exact'`` solves the Z-step; ``'gmc'`` is it as printed, exact for equal weights.
        lam: the first :math:`\lambda` (GMC: 1).
        max_iter: at most so many turns (GMC: 20).
        tol: residual at which an eigenvector is accepted, relative to the spectrum; only
            matters above 1,000 rows.
        seed: seed of the eigensolver's first vector; only matters above 1,000 rows.
        progress: show a progress bar.

    Warns:
        UserWarning: ``max_iter`` turns did not lead to ``num_clusters`` components; the last
            graph is returned with ``converged=False``.

    Raises:
        TypeError: views or numbers of the wrong type.
        ValueError: fewer than two views, different numbers of rows, bad neighbours, unknown
            options, and a ``num_clusters`` that cannot be reached: more than half the rows (each
            component has at least two), or fewer than the components that there are already.
        RuntimeError: eigenvectors that could not be found.
    """
    check_options(num_clusters, k, rank, weight_rule, u_step, lam, max_iter)
    check_positive(tol, "tol")
    entries = candidates(_neighbour_lists(views, num_clusters, k))
    least, _ = components(entries.matrix(entries.support.astype(np.float64)))
    if least > num_clusters:
        raise ValueError(
            f"num_clusters: {num_clusters} components asked for, but the neighbour graph with "
            f"k={k} already has {least}, and no edge can be added to it; use "
            f"num_clusters >= {least}, or a larger k"
        )
    s = [neighbour_weights(near, k) for near in entries.distance]
    z: Floats = np.mean(s, axis=0)
    weights = [1.0 / len(s)] * len(s)

    def embed() -> Embedding | None:
        if count >= num_clusters:
            return None
        return smallest_eigenvectors(
            laplacian(graph), label, count, num_clusters, tol=tol, seed=seed
        )

    graph = entries.matrix(z)
    count, label = components(graph)
    found = embed()
    vectors = indicators(label, count) if found is None else found.vectors
    history: list[dict[str, Any]] = []
    with tqdm(total=max_iter, desc="affinity", unit="turn", disable=not progress) as bar:
        for iteration in range(1, max_iter + 1):
            d = row_distances(torch.from_numpy(vectors), entries.column)
            parts = zip(entries.distance, entries.order, weights, strict=True)
            s = [update_view(b, order, z, w, rank=rank) for b, order, w in parts]
            weights = [view_weight(z, view, rule=weight_rule) for view in s]
            z = update_unified(s, weights, d, lam, entries.support, u_step=u_step)
            graph = entries.matrix(z)
            count, label = components(graph)
            found = embed()
            history.append(
                {
                    "iteration": iteration,
                    "lam": lam,
                    "num_components": count,
                    "largest_component": int(np.bincount(label).max()),
                    "num_edges": graph.nnz,
                    "weights": list(weights),
                    "eigenvalue_sum": None if found is None else float(found.values.sum()),
                    "residual": None if found is None else found.residual,
                }
            )
            bar.update()
            bar.set_postfix(components=f"{count}/{num_clusters}", lam=f"{lam:g}")
            if count == num_clusters or iteration == max_iter:
                break
            lam = next_lambda(lam, count, num_clusters)
            if found is not None:  # of too many components the embedding stays what it was
                vectors = found.vectors
    if count != num_clusters:
        warnings.warn(
            f"affinity: {count} components after {len(history)} turns instead of "
            f"{num_clusters}; raise max_iter, start from another lam, or change num_clusters "
            f"(numbers so far: {[row['num_components'] for row in history]})",
            UserWarning,
            stacklevel=2,
        )
    return AffinityGraph(
        indptr=torch.from_numpy(graph.indptr).long(),
        indices=torch.from_numpy(graph.indices).long(),
        values=torch.from_numpy(graph.data),
        cluster=torch.from_numpy(label),
        num_components=count,
        converged=count == num_clusters,
        iterations=len(history),
        lam=lam,
        weights=list(weights),
        history=history,
    )


def next_lambda(lam: float, count: int, c: int) -> float:
    """GMC's rule: twice as much for too few components, half for too many."""
    if count == c:
        return lam
    return lam * 2.0 if count < c else lam / 2.0


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
    check_choice(rank, ("effective", "gmc"), "rank")
    check_choice(weight_rule, ("gmc", "paper"), "weight_rule")
    check_choice(u_step, ("exact", "gmc"), "u_step")
    check_positive(lam, "lam")


def _neighbour_lists(
    views: Sequence[Tensor | Neighbours], num_clusters: int, k: int
) -> list[Neighbours]:
    """Check the views and search the neighbours of those that are features."""
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
    if rows[0] > _MANY_ROWS and num_clusters > rows[0] // 6:
        raise ValueError(
            f"num_clusters: {num_clusters} eigenvectors of {rows[0]} rows take too long; use "
            f"num_clusters <= {rows[0] // 6}, or at most {_MANY_ROWS} rows"
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
