"""CMFH and IMH: one latent code of each pair, and a linear map of either modality to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyg_hash.knn import knn
from pyg_hash.models.closed_form import LinearHashModel, Views, centred, selected_features
from pyg_hash.models.common import Widths
from pyg_hash.typing import MODALITIES, Metric
from pyg_hash.utils.checks import (
    check_each,
    check_fraction,
    check_positive,
    check_positive_int,
    check_weight,
)

if TYPE_CHECKING:
    import scipy.sparse as sp
    from torch_geometric.data import HeteroData

Floats = npt.NDArray[np.float64]


class CMFH(LinearHashModel):
    r"""Collective matrix factorization hashing; no label is read.

    Ding, Guo, Zhou, "Collective Matrix Factorization Hashing for Multimodal Data", CVPR 2014. The
    centred features of both modalities are factorised with one latent matrix :math:`V`, and linear
    maps :math:`P_m` lead new items there. The objective (rows being samples here)

    .. math::
        \sum_m \lambda_m \lVert X_m - V U_m \rVert^2 + \mu \sum_m \lVert V - X_m P_m \rVert^2
        + \gamma \Big( \lVert V \rVert^2
        + \sum_m (\lVert U_m \rVert^2 + \lVert P_m \rVert^2) \Big), \quad
        \lambda_I = \lambda,\ \lambda_T = 1 - \lambda

    is descended in turns: :math:`U_m`, :math:`P_m` and :math:`V` are each the least-squares
    solution for the other two. A code is :math:`\mathrm{sign}(x P_m - \bar v)` with the mean
    :math:`\bar v` of training items, those of the database too (paper: the sign of a row of
    :math:`V`).

    Args:
        num_features, num_bits: see :class:`HashModel`.
        share: :math:`\lambda`, of the images (paper: 0.5).
        mu: weight of the maps (paper: 100).
        gamma: weight of the regulariser (paper: 0.01).
        iterations: most turns.
        tolerance: relative decrease of the objective below which the turns end.
        seed: seed of the first :math:`V`.
    """

    reads_labels = False

    def __init__(
        self,
        num_features: Widths,
        num_bits: int = 32,
        *,
        share: float = 0.22,
        mu: float = 1.8,
        gamma: float = 6.6,
        iterations: int = 100,
        tolerance: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(num_features, num_bits)
        check_fraction(share, "share")
        check_each(check_positive, mu=mu, gamma=gamma)
        check_weight(tolerance, "tolerance")
        check_positive_int(iterations, "iterations")
        self.share, self.mu, self.gamma = share, mu, gamma
        self.iterations, self.tolerance, self.seed = iterations, tolerance, seed

    def _solve(self, data: HeteroData) -> None:
        views, means = centred(selected_features(data))
        self._keep(self.factorise(views)[2], means)

    def factorise(self, views: Views) -> tuple[Tensor, Views, Views, list[float]]:
        """``V``, ``U`` and ``P`` of centred features, and the objective after each turn."""
        shares = (self.share, 1.0 - self.share)
        generator = torch.Generator().manual_seed(self.seed)
        shape = len(views[0]), self.num_bits
        v = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu").to(views[0])
        eye = v.new_ones(self.num_bits).diag()
        ridge = self.gamma / self.mu
        ridges = [
            torch.linalg.cholesky(x.T @ x + ridge * x.new_ones(x.size(1)).diag()) for x in views
        ]
        objectives: list[float] = []
        for _ in range(self.iterations):
            gram, system = v.T @ v, (2.0 * self.mu + self.gamma) * eye
            target, parts = torch.zeros_like(v), []
            for w, x, factor in zip(shares, views, ridges, strict=True):
                # a modality of share 0 has no loadings: the regulariser alone decides
                u = torch.linalg.solve(w * gram + self.gamma * eye, w * (v.T @ x))
                p = torch.cholesky_solve(x.T @ v, factor)
                system = system + w * (u @ u.T)
                target += x @ (w * u.T + self.mu * p)
                parts.append((w, x, u, p))
            v = torch.linalg.solve(system, target.T).T
            objective = self.gamma * v.square().sum()
            for w, x, u, p in parts:
                objective += w * (x - v @ u).square().sum() + self.mu * (v - x @ p).square().sum()
                objective += self.gamma * (u.square().sum() + p.square().sum())
            objectives.append(float(objective))
            if len(objectives) > 1 and (
                objectives[-2] - objectives[-1] <= self.tolerance * objectives[-2]
            ):
                break
        (_, _, u, p), (_, _, u_text, p_text) = parts
        return v, (u, u_text), (p, p_text), objectives


class IMH(LinearHashModel):
    r"""Inter-media hashing; no label is read.

    Song, Yang, Yang, Huang, Shen, "Inter-Media Hashing for Large-Scale Retrieval from
    Heterogeneous Data Sources", SIGMOD 2013. Pairs share one relaxed code, a row of :math:`F`.
    Neighbours in either modality shall have similar codes, and a ridge regression on the features
    of either modality shall give them:

    .. math::
        \min_{F^\top F = I} \sum_m \Big( \lambda\, \mathrm{tr}(F^\top L_m F)
        + \min_W \lVert X_m W - F \rVert^2 + \beta_m \lVert W \rVert^2 \Big), \qquad
        L_m = D_m - A_m

    with :math:`A_m` the union of k-nearest-neighbour edges. The inner minimum is
    :math:`W_m = (X_m^\top X_m + \beta_m I)^{-1} X_m^\top F`, so :math:`F` are the eigenvectors of
    the smallest eigenvalues of

    .. math:: \sum_m I - X_m (X_m^\top X_m + \beta_m I)^{-1} X_m^\top + \lambda L_m .

    A code is :math:`\mathrm{sign}(x W_m - u)` with the median :math:`u` of the training items.

    Args:
        num_features: see :class:`HashModel`.
        num_bits: code length, less than there are training pairs.
        k: neighbours of an item.
        metric: similarity that neighbours are found by.
        weight: :math:`\lambda`.
        ridge: :math:`\beta_m`, as a multiple of the mean eigenvalue of :math:`X_m^\top X_m`.
    """

    reads_labels = False

    def __init__(
        self,
        num_features: Widths,
        num_bits: int = 32,
        *,
        k: int = 10,
        metric: Metric = "cosine",
        weight: float = 0.45,
        ridge: float = 0.15,
    ) -> None:
        super().__init__(num_features, num_bits)
        check_positive_int(k, "k")
        check_weight(weight, "weight")
        check_positive(ridge, "ridge")
        self.k, self.metric, self.graph_weight, self.ridge = k, metric, weight, ridge

    def _solve(self, data: HeteroData) -> None:
        views = selected_features(data)
        count = len(views[0])
        if max(self.num_bits, self.k) >= count:
            raise ValueError(
                f"num_bits, k: {self.num_bits} and {self.k}, but there are only {count} training "
                "pairs; both must be less"
            )
        image, text = (knn_laplacian(x, self.k, self.metric) for x in views)
        fits = [ridge_regression(x - x.mean(dim=0), self.ridge) for x in views]
        scores = [q.cpu().numpy() for _, q in fits]
        latent = smallest_eigenvectors(self.graph_weight * (image + text), scores, self.num_bits)
        relaxed = torch.from_numpy(latent).to(views[0])
        for m, x, (to_map, q) in zip(MODALITIES, views, fits, strict=True):
            weight = to_map @ (q.T @ relaxed)
            # equally many items on both sides, between the two in the middle
            self.weight[m].copy_(weight)
            self.offset[m].copy_((x @ weight).quantile(0.5, dim=0))


def knn_laplacian(x: Tensor, k: int, metric: Metric) -> sp.csr_array:
    """``D - A`` of the graph where each row is joined to its ``k`` nearest ones."""
    import scipy.sparse as sp

    count = len(x)
    _, near = knn(x.float(), x.float(), k, metric=metric, exclude_self=True)
    ends = near.flatten().cpu().numpy()
    starts = np.repeat(np.arange(count), k)
    edges = sp.csr_array((np.ones(len(ends)), (starts, ends)), shape=(count, count))
    found: Any = sp.csgraph.laplacian(edges.maximum(edges.T))
    return sp.csr_array(found)


def ridge_regression(x: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    r"""``R`` and ``Q = X R`` with :math:`(X^\top X + \beta I)^{-1} = R R^\top`."""
    gram = x.T @ x
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    factor = torch.linalg.cholesky(gram)
    eye = gram.new_ones(len(gram)).diag()
    root = torch.linalg.solve_triangular(factor, eye, upper=False).T
    return root, x @ root


def smallest_eigenvectors(graph: sp.csr_array, scores: list[Floats], count: int) -> Floats:
    """Of ``sum_m (I - Q_m Q_m^T) + L`` with a sparse L and given Q, orthonormal ``[n, count]``."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    rows = graph.shape[0]

    def apply(v: Floats) -> Floats:
        result: Floats = len(scores) * v + graph @ v
        for q in scores:
            result -= q @ (q.T @ v)
        return result

    operator = LinearOperator((rows, rows), matvec=apply, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(rows)
    width = min(rows, max(4 * count, 20))
    values, vectors = eigsh(operator, k=count, which="SA", v0=start, ncv=width, tol=1e-8)
    vectors = vectors[:, np.argsort(values)]
    top = np.abs(vectors).argmax(axis=0)  # an eigenvector has no sign of its own
    return np.asarray(vectors * np.sign(vectors[top, np.arange(count)]))
