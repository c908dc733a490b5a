"""The unified sparse affinity graph: SGEH's first stage, a member of the GMC family."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyg_hash.transforms.affinity.embedding import (
    Embedding,
    components,
    indicators,
    laplacian,
    pair_distances,
    smallest_eigenvectors,
)
from pyg_hash.transforms.affinity.graph import AffinityGraph
from pyg_hash.transforms.affinity.inputs import check_options, check_positive, neighbour_lists
from pyg_hash.transforms.affinity.neighbours import Candidates, Neighbours, candidates
from pyg_hash.transforms.affinity.simplex import Floats
from pyg_hash.transforms.affinity.steps import (
    neighbour_weights,
    update_unified,
    update_view,
    view_weight,
)

_INACCURATE = 1e-4  # residual of an eigenvector of L, whose eigenvalues are of order 1


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
    view's graph S (Eq. 18), the weights of the views (Eq. 21), the unified graph Z (Eq. 22-23),
    and the embedding D, the ``num_clusters`` smallest eigenvectors of Z's Laplacian (Eq. 6).
    After each turn the connected components of Z are counted: :math:`\lambda` doubles if there
    are too few, halves (and D goes back) if there are too many, and exactly ``num_clusters`` of
    them end the search. Everything is sparse: Z lives where the nearest-neighbour graphs do.

    Read here as follows, where the paper is unclear: :math:`S_{ii} = 0` (Eq. 3; 1 as in Eq. 7
    would leave nothing for others), Eq. 22's :math:`\lambda_1` is :math:`\lambda_2`, and Eq. 4
    replaces the Gaussian kernel, which is never used. Features are taken as they are; GMC
    standardises each sample, for which :class:`~pyg_hash.transforms.ScaleFeatures` stands here:
    rows of equal length put the distances of all views on one scale.

    Args:
        views: two or more; each the features, float ``[m, d]``, or its :class:`Neighbours`.
        num_clusters: c, the number of components wanted.
        k: neighbours a row in each view.
        rank: ``'effective'`` solves the S-step exactly; ``'gmc'`` is Eq. 18 as printed, whose
            rows need not sum to 1.
        weight_rule: ``'gmc'``, :math:`1 / (2 \lVert Z - S \rVert_F)`, is the one that the proof
            around Eq. 19 yields; ``'paper'`` is Eq. 21, without the 2.
        u_step: ``'exact'`` solves Eq. 22's problem; ``'gmc'`` is Eq. 23, exact for equal weights.
        lam: the first :math:`\lambda` (GMC: 1).
        max_iter: at most so many turns (GMC: 20).
        tol: residual at which an eigenvector is accepted, relative to the largest degree; only
            matters above 1,000 rows. Z then differs from the dense solver's by about 1e-7.
        seed: seed of the eigensolver's first block; only matters above 1,000 rows.
        progress: show a progress bar.

    Warns:
        UserWarning: ``max_iter`` turns did not lead to ``num_clusters`` components; the last
            graph is returned with ``converged=False``.

    Raises:
        TypeError: views or numbers of the wrong type.
        ValueError: fewer than two views, different numbers of rows, bad neighbours, unknown
            options, and a ``num_clusters`` that cannot be reached: more than half the rows (each
            component has at least two), or fewer than the components that there are already.
    """
    check_options(num_clusters, k, rank, weight_rule, u_step, lam, max_iter)
    check_positive(tol, "tol")
    lists = neighbour_lists(views, num_clusters, k)
    problem = _Problem(candidates(lists), num_clusters, k)
    problem.options = {"rank": rank, "weight_rule": weight_rule, "u_step": u_step}
    problem.solver = {"tol": tol, "seed": seed}
    return problem.solve(lam, max_iter, progress)


def next_lambda(lam: float, count: int, c: int) -> float:
    """GMC's rule: twice as much for too few components, half for too many."""
    if count == c:
        return lam
    return lam * 2.0 if count < c else lam / 2.0


class _Problem:
    """State of the alternating optimisation; entries are those of :class:`Candidates`."""

    options: dict[str, str]
    solver: dict[str, Any]

    def __init__(self, entries: Candidates, num_clusters: int, k: int) -> None:
        self.entries = entries
        self.c = num_clusters
        self.s = [neighbour_weights(near, k) for near in entries.distance]
        self.z: Floats = np.mean(self.s, axis=0)
        self.weights = [1.0 / len(self.s)] * len(self.s)
        self.block: Floats | None = None
        least, _ = components(self.matrix(entries.support.astype(np.float64)))
        if least > num_clusters:
            raise ValueError(
                f"num_clusters: {num_clusters} components asked for, but the neighbour graph with "
                f"k={k} already has {least}, and no edge can be added to it; use "
                f"num_clusters >= {least}, or a larger k"
            )
        self.count, self.label = components(self.graph())

    def matrix(self, values: Floats) -> sp.csr_array:
        """Positive entries as a matrix."""
        keep = values > 0.0
        indptr = np.concatenate(([0], np.cumsum(keep.sum(axis=1))))
        parts = (values[keep], self.entries.column[keep], indptr)
        return sp.csr_array(parts, shape=(len(keep), len(keep)))

    def graph(self) -> sp.csr_array:
        """Z as a matrix."""
        return self.matrix(self.z)

    def embed(self) -> Embedding | None:
        """The eigenvectors of the present Z, or None if they are the indicators alone."""
        if self.count >= self.c:
            return None
        found = smallest_eigenvectors(
            laplacian(self.graph()), self.label, self.count, self.c, start=self.block, **self.solver
        )
        self.block = found.block
        return found

    def turn(self, d: Floats, lam: float) -> None:
        """Update S, the weights and Z."""
        rank, rule, u_step = (self.options[name] for name in ("rank", "weight_rule", "u_step"))
        parts = zip(self.entries.distance, self.entries.order, self.weights, strict=True)
        self.s = [update_view(b, order, self.z, w, rank=rank) for b, order, w in parts]
        self.weights = [view_weight(self.z, s, rule=rule) for s in self.s]
        self.z = update_unified(self.s, self.weights, d, lam, self.entries.support, u_step=u_step)
        self.count, self.label = components(self.graph())

    def solve(self, lam: float, max_iter: int, progress: bool) -> AffinityGraph:
        """Take turns until there are ``c`` components."""
        history: list[dict[str, Any]] = []
        first = self.embed()
        vectors = indicators(self.label, self.count) if first is None else first.vectors
        d = pair_distances(vectors, self.entries.column)
        with tqdm(total=max_iter, desc="affinity", unit="turn", disable=not progress) as bar:
            for iteration in range(1, max_iter + 1):
                self.turn(d, lam)
                found = self.embed()
                history.append(self._row(iteration, lam, found))
                bar.update()
                bar.set_postfix(components=f"{self.count}/{self.c}", lam=f"{lam:g}")
                if self.count == self.c or iteration == max_iter:
                    break
                lam = next_lambda(lam, self.count, self.c)
                if found is not None:  # of too many components d stays what it was
                    d = pair_distances(found.vectors, self.entries.column)
        self._warn(history)
        return self._result(lam, history)

    def _warn(self, history: list[dict[str, Any]]) -> None:
        worst = max((row["residual"] or 0.0 for row in history), default=0.0)
        if worst > _INACCURATE:
            warnings.warn(
                f"affinity: eigenvectors are only accurate to {worst:.0e}; the graph is hard to "
                "embed, use a larger k or fewer clusters",
                UserWarning,
                stacklevel=4,
            )
        if self.count != self.c:
            warnings.warn(
                f"affinity: {self.count} components after {len(history)} turns instead of "
                f"{self.c}; raise max_iter, start from another lam, or change num_clusters "
                f"(numbers so far: {[row['num_components'] for row in history]})",
                UserWarning,
                stacklevel=4,
            )

    def _row(self, iteration: int, lam: float, found: Embedding | None) -> dict[str, Any]:
        return {
            "iteration": iteration,
            "lam": lam,
            "num_components": self.count,
            "largest_component": int(np.bincount(self.label).max()),
            "num_edges": int((self.z > 0.0).sum()),
            "weights": list(self.weights),
            "eigenvalue_sum": None if found is None else float(found.values.sum()),
            "residual": None if found is None else found.residual,
        }

    def _result(self, lam: float, history: list[dict[str, Any]]) -> AffinityGraph:
        graph = self.graph()
        return AffinityGraph(
            indptr=_int64(graph.indptr),
            indices=_int64(graph.indices),
            values=torch.from_numpy(graph.data),
            cluster=_int64(self.label),
            num_components=self.count,
            converged=self.count == self.c,
            iterations=len(history),
            lam=lam,
            weights=list(self.weights),
            history=history,
        )


def _int64(array: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))
