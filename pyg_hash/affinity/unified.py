"""The unified sparse affinity graph: SGEH's first stage, a member of the GMC family."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyg_hash.affinity.embedding import (
    Embedding,
    components,
    indicators,
    laplacian,
    pair_distances,
    smallest_eigenvectors,
)
from pyg_hash.affinity.neighbours import (
    Candidates,
    Neighbours,
    candidates,
    check_neighbours,
    nearest_neighbours,
)
from pyg_hash.affinity.simplex import Floats
from pyg_hash.affinity.steps import neighbour_weights, update_unified, update_view, view_weight
from pyg_hash.validation import check_choice, check_number, check_positive_int

RANKS = ("effective", "gmc")
U_STEPS = ("exact", "gmc")
WEIGHT_RULES = ("gmc", "paper")


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
        count = self.indptr.numel() - 1
        row = torch.arange(count).repeat_interleave(self.indptr[1:] - self.indptr[:-1])
        return torch.stack((row, self.indices))

    def to_dense(self) -> Tensor:
        """Z, float64 ``[m, m]``; for small graphs."""
        count = self.indptr.numel() - 1
        dense = torch.zeros(count, count, dtype=torch.float64)
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
    tol: float = 1e-8,
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
        tol: accuracy of the eigenvectors, see
            :func:`~pyg_hash.affinity.embedding.smallest_eigenvectors`.
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
    _check_positive(tol, "tol")
    lists = _neighbour_lists(views, num_clusters, k)
    problem = _Problem(candidates(lists), num_clusters, k)
    problem.options = {"rank": rank, "weight_rule": weight_rule, "u_step": u_step}
    problem.solver = {"tol": tol, "seed": seed}
    return problem.solve(lam, max_iter, progress)


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
    _check_positive(lam, "lam")


def _check_positive(value: float, name: str) -> None:
    if not 0.0 < check_number(value, name) < float("inf"):
        raise ValueError(f"{name}: expected a positive, finite number, got {value!r}")


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
    lists = []
    for number, view in enumerate(views):
        if isinstance(view, Neighbours):
            check_neighbours(view, k, f"views[{number}]")
            lists.append(view)
        else:
            lists.append(nearest_neighbours(view, k))
    return lists


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
        self.count, self.label = components(self.graph())
        if self.count > num_clusters:
            raise ValueError(
                f"num_clusters: {num_clusters} components asked for, but the neighbour graph with "
                f"k={k} already has {self.count}, and edges are only ever removed; use "
                f"num_clusters >= {self.count}, or a larger k"
            )

    def graph(self) -> sp.csr_array:
        """Z as a matrix."""
        keep = self.z > 0.0
        indptr = np.concatenate(([0], np.cumsum(keep.sum(axis=1))))
        parts = (self.z[keep], self.entries.column[keep], indptr)
        return sp.csr_array(parts, shape=(len(keep), len(keep)))

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
                if found is None:  # too many: halve, and d stays what it was
                    lam /= 2.0
                else:
                    lam *= 2.0
                    d = pair_distances(found.vectors, self.entries.column)
        if self.count != self.c:
            warnings.warn(
                f"affinity: {self.count} components after {max_iter} turns instead of {self.c}; "
                "raise max_iter, start from another lam, or ask for another num_clusters "
                f"(numbers so far: {[row['num_components'] for row in history]})",
                UserWarning,
                stacklevel=3,
            )
        return self._result(lam, history)

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
