"""The unified sparse affinity graph of several views: SGEH's stage 1, of the GMC family.

In its steps graphs are padded rows, float64 ``[m, w]``, of the columns that ``Candidates`` lists:
``z`` is the unified one, ``s`` that of a view. So are a view's squared distances b (inf where an
entry is impossible) and those between embeddings, ``d``. ``order``, int64 ``[m, k + 1]``, has the
places of a view's nearest neighbours, nearest first.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform
from tqdm.auto import tqdm

from pyg_hash.knn import knn
from pyg_hash.transforms.masks import as_pairs
from pyg_hash.typing import AFFINITY, IMAGE, MODALITIES, PAIR
from pyg_hash.utils.checks import (
    check_choice,
    check_features,
    check_positive,
    check_positive_int,
    check_positive_ints,
)

__all__ = [
    "AffinityGraph",
    "Neighbours",
    "nearest_neighbours",
    "neighbour_weights",
    "project_rows",
    "unified_affinity",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_ROUNDING = 1e-12  # weights up to this are rounding errors of the projection and become zero
_SMALLEST = float(np.sqrt(np.finfo(np.float64).eps))
_LEAST_WIDTH = 60  # of the Krylov space: narrower ones are restarted too often
_RESTARTS = 5000
_CHUNK_ELEMENTS = 1 << 21
_MANY_ROWS = 4000  # above them the eigenvectors of so many clusters take hours


def neighbour_weights(cost: Floats, k: int, order: Ints | None = None) -> Floats:
    r"""Row-wise weights of the ``k`` cheapest entries, SGEH Eq. 4, which solves SGEH Eq. 3.

    .. math:: s_j = \frac{(e_{(k+1)} - e_j)_+}{\sum_{h \le k} (e_{(k+1)} - e_{(h)})}

    This minimises :math:`e^T s + g \lVert s \rVert_2^2` on the simplex, with the largest :math:`g`
    that keeps at most ``k`` entries of the row. Where all ``k + 1`` cheapest (finite in every row)
    cost the same, the first ``k`` weigh ``1 / k``. Ranked by another ``order``, it is SGEH Eq. 18
    as printed, and as in GMC's code: rows need not sum to 1.
    """
    ranks = np.argsort(cost, axis=1, kind="stable")[:, : k + 1] if order is None else order
    ranked = np.take_along_axis(cost, ranks, axis=1)
    gain = ranked[:, k:] - ranked[:, :k]
    total = gain.sum(axis=1, keepdims=True)
    if order is None:
        even = total == 0.0
        weight = np.where(even, 1.0 / k, gain / np.where(even, 1.0, total))
    else:
        weight = np.maximum(gain / (total + np.finfo(np.float64).eps), 0.0)
    out = np.zeros(cost.shape)
    np.put_along_axis(out, ranks[:, :k], weight, axis=1)
    return out


def update_view(
    distance: Floats, order: Ints, z: Floats, weight: float, *, rank: str = "effective"
) -> Floats:
    r"""The S-step: one view's graph given Z, SGEH Eq. 17 (SGEH Eq. 16 is the sum over the views).

    Each row minimises :math:`\sum_j b_j s_j + \lambda_1 \lVert s \rVert_2^2 +
    w \lVert z - s \rVert_2^2` on the simplex, of at most ``k`` entries: the cost of one is
    :math:`e_j = b_j - 2 w z_j`. ``rank='effective'`` ranks by e, which is exact; ``'gmc'`` by b.
    """
    k = order.shape[1] - 1
    return neighbour_weights(distance - 2.0 * weight * z, k, order if rank == "gmc" else None)


def view_weight(z: Floats, s: Floats, *, rule: str = "gmc") -> float:
    r"""The weight of a view, SGEH Eq. 21.

    ``rule='gmc'`` is :math:`1 / (2 \lVert Z - S \rVert_F)`, the derivative of the square root in
    SGEH Eq. 19; ``'paper'`` leaves out the 2, as printed.
    """
    norm = max(float(np.linalg.norm(z - s)), _SMALLEST)  # equal graphs have a finite weight
    return 1.0 / norm if rule == "paper" else 0.5 / norm


def update_unified(
    s: Sequence[Floats],
    weights: Sequence[float],
    d: Floats,
    lam: float,
    support: Bools,
    *,
    u_step: str = "exact",
) -> Floats:
    r"""The Z-step: the unified graph given everything else, SGEH Eq. 22.

    Each row minimises :math:`\sum_v w_v \lVert z - s_v \rVert_2^2 + \lambda d^T z` on the simplex
    (for :math:`\lambda = 0` SGEH Eq. 5); :math:`\lambda` is :math:`\lambda_2`, not the printed
    :math:`\lambda_1`, and :math:`d_{ij}` a squared distance (GMC). ``u_step='exact'`` projects
    :math:`(\sum_v w_v s_v - \frac{\lambda}{2} d) / \sum_v w_v`; ``'gmc'`` the mean of
    :math:`s_v - \frac{\lambda}{2 V w_v} d`, as printed, which solves the problem only if the
    weights are equal.
    """
    if u_step == "gmc":
        pull = sum(0.5 * lam / (len(s) * weight) for weight in weights) / len(s)
        mean = np.mean(s, axis=0)
    else:
        total = sum(weights)
        pull = 0.5 * lam / total
        mean = sum((weight / total) * view for weight, view in zip(weights, s, strict=True))
    return project_rows(mean - pull * d, support)


def project_rows(q: Floats, support: Bools) -> Floats:
    r"""The nearest point of the simplex to each row, SGEH Eq. 23.

    .. math::
        z = \arg\min_z \lVert z - q \rVert_2^2
        \quad \text{s.t.} \quad z \ge 0,\; \mathbf{1}^T z = 1,\;
        z_j = 0 \text{ outside the support}

    The solution is :math:`z_j = (q_j - t)_+`, here with the exact :math:`t` from the sorted row
    (paper: Newton's method). A row without support is a ``ValueError``.
    """
    if not support.any(axis=1).all():
        raise ValueError("support: a row has no entry; there is no simplex to project on")
    top = np.where(support, q, -np.inf).max(axis=1, keepdims=True)
    # the projection does not change when a row is shifted, and is zero below the largest entry - 1
    shifted = np.where(support, q - top, -2.0)
    ordered = -np.sort(-shifted, axis=1)
    count = np.arange(1, q.shape[1] + 1)
    threshold = (np.cumsum(ordered, axis=1) - 1.0) / count
    kept = (ordered > threshold).sum(axis=1, keepdims=True)
    z: Floats = shifted - np.take_along_axis(threshold, kept - 1, axis=1)
    z[z <= _ROUNDING] = 0.0
    return z


class Embedding(NamedTuple):
    """Orthonormal eigenvectors ``[m, c]``, those of eigenvalue 0 first, and the eigenvalues."""

    vectors: Floats
    values: Floats
    residual: float  # the largest |L f - v f| of any column


def components(graph: sp.csr_array) -> tuple[int, Ints]:
    """Number of weakly connected components and that of each row, numbered by first row; exact."""
    count, label = connected_components(graph, directed=True, connection="weak")
    return int(count), label.astype(np.int64)


def laplacian(graph: sp.csr_array) -> sp.csr_array:
    """L = D - (Z + Z^T) / 2 with D the row sums of (Z + Z^T) / 2."""
    symmetric = ((graph + graph.T) * 0.5).tocsr()
    degree = sp.diags_array(np.asarray(symmetric.sum(axis=1)).ravel())
    return sp.csr_array(degree - symmetric)


def indicators(label: Ints, count: int) -> Floats:
    """Orthonormal columns, one a component, that span the null space of L: ``[m, count]``."""
    member = (label[:, None] == np.arange(count)).astype(np.float64)
    out: Floats = member / np.sqrt(member.sum(axis=0))
    return out


def smallest_eigenvectors(
    lap: sp.csr_array,
    label: Ints,
    count: int,
    c: int,
    *,
    tol: float = 1e-10,
    seed: int = 0,
    dense_rows: int = 1000,
) -> Embedding:
    """The ``c`` smallest eigenpairs of a Laplacian, SGEH Eq. 6; ``count`` components, ``label``.

    By LAPACK up to ``dense_rows`` rows, above by Lanczos, with residuals of ``tol`` times twice the
    largest degree at most, or a ``RuntimeError``.
    """
    m, wanted = lap.shape[0], c - count
    null = indicators(label, count)
    top = 2.0 * float(lap.diagonal().max())  # the spectrum ends there

    def flipped(x: Floats) -> Any:  # off the null space, the smallest pairs become the largest
        return top * (x - null @ (null.T @ x)) - lap @ x

    if m <= dense_rows:
        lifted = lap.toarray() + 2.0 * top * (null @ null.T)  # the null space goes above it
        values, vectors = scipy.linalg.eigh(lifted, subset_by_index=[0, wanted - 1])
    else:
        try:
            values, vectors = eigsh(
                LinearOperator(lap.shape, matvec=flipped, dtype=np.float64),
                k=wanted,
                which="LA",
                v0=np.random.default_rng(seed).standard_normal(m),
                ncv=min(m, max(2 * wanted + 1, _LEAST_WIDTH)),
                maxiter=_RESTARTS,
                tol=tol,
            )
        except ArpackNoConvergence as error:
            raise RuntimeError(
                f"affinity: {len(error.eigenvalues)} of {wanted} eigenvectors found; the graph is "
                "hard to embed, use a larger k, fewer clusters, or a larger tol"
            ) from error
        order = np.argsort(-values)
        values, vectors = top - values[order], vectors[:, order]
    residual = np.linalg.norm(lap @ vectors - vectors * values, axis=0).max(initial=0.0)
    vectors = np.concatenate((null, vectors), axis=1)
    return Embedding(vectors, np.concatenate((np.zeros(count), values)), float(residual))


@dataclass(frozen=True)
class Neighbours:
    """Features of a view, float ``[m, d]``, and the ``k + 1`` nearest other rows of each row."""

    features: Tensor
    index: Tensor


def nearest_neighbours(x: Tensor, k: int, name: str = "x") -> Neighbours:
    """The ``k + 1`` nearest rows: ``k`` neighbours and the one that bounds their weights.

    ``TypeError`` or ``ValueError``: ``x`` is not floating point, not finite, or has fewer than
    ``k + 2`` rows; ``k`` is no positive integer.
    """
    check_features(x, name)
    check_positive_int(k, "k")
    if x.size(0) < k + 2:
        raise ValueError(
            f"k: {k} neighbours need at least {k + 2} rows (the row, k neighbours and the next), "
            f"but {name} has {x.size(0)}; use k <= {max(x.size(0) - 2, 1)}"
        )
    return Neighbours(x, knn(x, x, k + 1, metric="l2", exclude_self=True)[1])


class Candidates(NamedTuple):
    """Entries that an affinity may occupy: a row's neighbours in any view, ascending, padded."""

    column: Ints  # row numbers [m, w]
    support: Bools  # [m, w], the k nearest neighbours in at least one view: where Z lives
    distance: list[Floats]  # squared distances in each view [m, w], inf in the padding
    order: list[Ints]  # in each view the places of its k + 1 neighbours, nearest first

    def matrix(self, values: Floats) -> sp.csr_array:
        """The positive ones of some values, float64 ``[m, w]``, as a matrix ``[m, m]``."""
        keep = values > 0.0
        indptr = np.concatenate(([0], np.cumsum(keep.sum(axis=1))))
        parts = (values[keep], self.column[keep], indptr)
        return sp.csr_array(parts, shape=(len(keep), len(keep)))


def candidates(views: Sequence[Neighbours]) -> Candidates:
    """The union of the views' neighbours."""
    lists = [view.index.cpu().numpy() for view in views]
    joined = np.concatenate(lists, axis=1)
    arrangement = np.argsort(joined, axis=1, kind="stable")
    column = np.take_along_axis(joined, arrangement, axis=1)
    valid = np.ones(column.shape, dtype=bool)
    valid[:, 1:] = column[:, 1:] != column[:, :-1]
    first = np.maximum.accumulate(np.where(valid, np.arange(column.shape[1]), 0), axis=1)
    place = np.empty_like(first)  # of each entry of joined in the sorted row, repeats merged
    np.put_along_axis(place, arrangement, first, axis=1)

    found = Candidates(column, np.zeros(column.shape, dtype=bool), [], [])
    starts = np.cumsum([index.shape[1] for index in lists])[:-1]
    for view, own in zip(views, np.split(place, starts, axis=1), strict=True):
        exact = row_distances(view.features, column)  # in float64: all have one rounding
        ranked = np.full(column.shape, np.inf)
        np.put_along_axis(ranked, own, np.take_along_axis(exact, own, axis=1), axis=1)
        order = np.argsort(ranked, axis=1, kind="stable")[:, : own.shape[1]]
        np.put_along_axis(found.support, order[:, :-1], True, axis=1)
        found.distance.append(np.where(valid, exact, np.inf))
        found.order.append(order)
    return found


def row_distances(x: Tensor, column: Ints) -> Floats:
    """Squared distances in float64 between row i and the rows ``column[i]``, block by block."""
    x = x.detach().cpu()
    out = np.empty(column.shape)
    step = max(1, _CHUNK_ELEMENTS // (column.shape[1] * x.size(1)))
    for start in range(0, len(column), step):
        part = slice(start, start + step)
        pairs = x[torch.from_numpy(column[part])].double().sub_(x[part, None].double())
        out[part] = pairs.square_().sum(dim=2).numpy()
    return out


@dataclass(frozen=True)
class AffinityGraph:
    r"""A unified affinity graph Z in CSR form, with its clusters. All tensors are on the CPU.

    Each row of Z sums to 1; there is no diagonal. ``eigenvalue_sum`` and ``residual`` of an
    iteration in ``history`` are None where no eigenvectors were needed.
    """

    indptr: Tensor  #: int64 ``[m + 1]``
    indices: Tensor  #: column of each entry, ascending in each row, int64 ``[E]``
    values: Tensor  #: float64 ``[E]``, positive
    cluster: Tensor  #: connected component of each row, int64 ``[m]``, numbered by first row
    num_components: int  #: number of clusters
    converged: bool  #: whether there are exactly as many as asked for
    iterations: int
    lam: float  #: :math:`\lambda` of the last iteration
    weights: list[float]  #: of the views
    history: list[dict[str, Any]]

    @property
    def edge_index(self) -> Tensor:
        """Rows i and columns j of the entries, sorted by i, then j: int64 ``[2, E]``."""
        row = torch.arange(len(self.cluster), device="cpu").repeat_interleave(self.indptr.diff())
        return torch.stack((row, self.indices))

    def to_dense(self) -> Tensor:
        """Z, float64 ``[m, m]``; for small graphs."""
        dense = torch.zeros(len(self.cluster), len(self.cluster), dtype=torch.float64, device="cpu")
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
    view's graph S, the weights of the views, the unified graph Z, and the embedding D, the
    ``num_clusters`` smallest eigenvectors of Z's Laplacian.
    After each turn :math:`\lambda` doubles if Z has too few connected components, halves (and D
    goes back) if too many; exactly ``num_clusters`` of them end the search. Everything is sparse: Z
    lives where the nearest-neighbour graphs do.

    Where the paper is unclear: :math:`S_{ii} = 0` (1, as is printed too, would leave nothing for
    others), and :func:`neighbour_weights` replaces the Gaussian kernel, which is never used. Give
    rows of equal length, which put the distances of all views on one scale.

    Args:
        views: two or more; each the features, float ``[m, d]``, or what
            :func:`nearest_neighbours` made of them.
        num_clusters: c, the number of components wanted.
        k: neighbours a row in each view.
        rank: ``'effective'`` solves the S-step exactly; ``'gmc'`` is it as printed, whose rows
            need not sum to 1.
        weight_rule: ``'gmc'``, as the paper's proof yields it, or ``'paper'``, twice that.
        u_step: ``'exact'`` solves the Z-step; ``'gmc'`` is it as printed, exact for equal weights.
        lam: the first :math:`\lambda` (GMC: 1).
        max_iter: at most so many turns (GMC: 20).
        tol: above 1,000 rows: residual of an accepted eigenvector, relative to the spectrum.
        seed: of the eigensolver's first vector there.
        progress: show a progress bar.

    ``UserWarning``: ``max_iter`` turns did not lead to ``num_clusters`` components; the last graph
    is returned with ``converged=False``. ``TypeError`` or ``ValueError``: views that do not fit,
    unknown options, and a ``num_clusters`` that cannot be reached. ``RuntimeError``: eigenvectors
    that could not be found.
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

    def embed() -> tuple[sp.csr_array, int, Ints, Embedding | None]:
        graph = entries.matrix(z)
        count, label = components(graph)
        if count >= num_clusters:
            return graph, count, label, None
        lap = laplacian(graph)
        found = smallest_eigenvectors(lap, label, count, num_clusters, tol=tol, seed=seed)
        return graph, count, label, found

    graph, count, label, found = embed()
    vectors = indicators(label, count) if found is None else found.vectors
    history: list[dict[str, Any]] = []
    with tqdm(total=max_iter, desc="affinity", unit="turn", disable=not progress) as bar:
        for iteration in range(1, max_iter + 1):
            d = row_distances(torch.from_numpy(vectors), entries.column)
            parts = zip(entries.distance, entries.order, weights, strict=True)
            s = [update_view(b, order, z, w, rank=rank) for b, order, w in parts]
            weights = [view_weight(z, view, rule=weight_rule) for view in s]
            z = update_unified(s, weights, d, lam, entries.support, u_step=u_step)
            graph, count, label, found = embed()
            turn = {
                "iteration": iteration,
                "lam": lam,
                "num_components": count,
                "largest_component": int(np.bincount(label).max()),
                "num_edges": graph.nnz,
                "weights": list(weights),
                "eigenvalue_sum": None if found is None else float(found.values.sum()),
                "residual": None if found is None else found.residual,
            }
            history.append(turn)
            bar.update()
            bar.set_postfix(components=f"{count}/{num_clusters}", lam=f"{lam:g}")
            if count == num_clusters or iteration == max_iter:
                break
            lam *= 2.0 if count < num_clusters else 0.5  # GMC's rule
            if found is not None:  # of too many components the embedding stays what it was
                vectors = found.vectors
    if count != num_clusters:
        warnings.warn(
            f"affinity: {count} components after {len(history)} turns instead of {num_clusters}; "
            "raise max_iter, start from another lam, or change num_clusters (numbers so far: "
            f"{[row['num_components'] for row in history]})",
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


def check_options(
    num_clusters: int, k: int, rank: str, weight_rule: str, u_step: str, lam: float, max_iter: int
) -> None:
    """Raise for options that are wrong whatever the data."""
    check_positive_ints(num_clusters=num_clusters, k=k, max_iter=max_iter)
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
        listed = ", ".join(map(str, rows))
        raise ValueError(f"views: {listed} rows; row i of all must be the same instance")
    if num_clusters > rows[0] // 2:
        raise ValueError(
            f"num_clusters: {num_clusters} components of {rows[0]} rows are impossible, because "
            f"each has at least two; use num_clusters <= {max(rows[0] // 2, 1)}"
        )
    if rows[0] > _MANY_ROWS and num_clusters > rows[0] // 6:
        what = f"{num_clusters} eigenvectors of {rows[0]} rows take too long"
        remedy = f"use num_clusters <= {rows[0] // 6}, or at most {_MANY_ROWS} rows"
        raise ValueError(f"num_clusters: {what}; {remedy}")
    lists = []
    for number, view in enumerate(views):
        if not isinstance(view, Neighbours):
            view = nearest_neighbours(view, k, f"views[{number}]")
        if (given := view.index.size(1) - 1) != k:
            what = f"has {given} neighbours a row, not k={k}"
            raise ValueError(f"views[{number}]: {what}; make it with nearest_neighbours(x, k)")
        lists.append(view)
    return lists


@dataclass(eq=False)
class UnifiedAffinity(BaseTransform):
    """The sparse graph that both modalities agree on, with ``num_clusters`` components.

    The first stage of SGEH, see :func:`~pyg_hash.transforms.affinity.unified_affinity`. Only pairs
    of ``train_mask`` are looked at, and no label. Put it after :class:`ScaleFeatures` and
    :class:`ValidationSplit`.

    Adds ``data['pair']`` with ``num_nodes`` (all N pairs) and ``cluster`` (int64 ``[N]``, the
    component, -1 outside ``train_mask``); ``data['pair', 'affinity', 'pair']`` with
    ``edge_index`` (row 0 is i and row 1 is j of :math:`Z_{ij}`, sorted by i, then j) and
    ``edge_weight`` (float32; the rows of Z sum to 1; Z is not symmetric); and the settings and
    the course of the search in ``data.affinity``.

    The number of clusters is the paper's c, whose numbers (10,000 of NUS-WIDE's 20,000 pairs)
    contradict its code (10 clusters and 5 neighbours on Wikipedia); the number of classes is meant.

    Args:
        num_clusters: number of connected components of the graph; None takes the number of classes
            that the data set names (``data.num_classes``), without a look at any label.
        k: neighbours of a pair in each modality, by squared Euclidean distance.
        rank, weight_rule, u_step, lam, max_iter, seed, progress: of ``unified_affinity``, which
            warns and raises, too.

    ``ValueError``: training rows that are not finite or too few, or no number of clusters.
    """

    num_clusters: int | None = None
    k: int = 5
    _: KW_ONLY
    rank: str = "effective"
    weight_rule: str = "gmc"
    u_step: str = "exact"
    lam: float = 1.0
    max_iter: int = 20
    seed: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        c, steps = self.num_clusters, (self.rank, self.weight_rule, self.u_step)
        check_options(1 if c is None else c, self.k, *steps, self.lam, self.max_iter)

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with the affinity graph."""
        if "affinity" in data:
            raise ValueError("UnifiedAffinity: the affinity graph exists already; apply it once")
        data = as_pairs(data, "train_mask", labels=False)
        settings = dict(vars(self))
        if self.num_clusters is None:
            settings["num_clusters"] = int(data.num_classes if "num_classes" in data else 0)
        if settings["num_clusters"] == 0:
            raise ValueError("num_clusters: the data names no classes; say how many clusters")
        mask = data[IMAGE].train_mask
        for m in MODALITIES:  # here, where row numbers are those of the data
            check_features(data[m].x.where(mask[:, None], 0.0), f"data['{m}'].x under train_mask")
        rows = mask.nonzero().flatten()
        graph = unified_affinity([data[m].x[rows] for m in MODALITIES], **settings)
        pair, edges = data[PAIR], data[AFFINITY]
        pair.num_nodes = data[IMAGE].x.size(0)
        pair.cluster = torch.full((pair.num_nodes,), -1, device=rows.device)
        pair.cluster[rows] = graph.cluster.to(rows.device)
        edges.edge_index = rows[graph.edge_index.to(rows.device)]
        edges.edge_weight = graph.values.float().to(rows.device)
        kept = ("num_clusters", "k", "rank", "weight_rule", "u_step")
        found = ("num_components", "converged", "iterations", "lam", "history")
        data.affinity = {
            **{name: settings[name] for name in kept},
            **{name: getattr(graph, name) for name in found},
            "metric": "l2",
            "weights": dict(zip(MODALITIES, graph.weights, strict=True)),
        }
        return data
