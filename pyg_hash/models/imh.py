"""IMH: hash functions that keep the neighbours of each modality and the pairs of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyg_hash.knn import knn
from pyg_hash.models.closed_form import LinearHashModel, selected_features
from pyg_hash.models.common import Widths
from pyg_hash.typing import MODALITIES, Metric
from pyg_hash.utils.checks import check_positive, check_positive_int, check_weight

if TYPE_CHECKING:
    import scipy.sparse as sp
    from torch_geometric.data import HeteroData

Floats = npt.NDArray[np.float64]


class IMH(LinearHashModel):
    r"""Inter-media hashing; no label is read.

    Song, Yang, Yang, Huang, Shen, "Inter-Media Hashing for Large-Scale Retrieval from
    Heterogeneous Data Sources", SIGMOD 2013. Pairs share one relaxed code, row by row in
    :math:`F`; the paper reaches this by a very large weight of their difference. Neighbours in
    either modality shall have similar codes, and a ridge regression on the features of either
    modality shall give them:

    .. math::
        \min_{F^\top F = I} \sum_m \Big( \lambda\, \mathrm{tr}(F^\top L_m F)
        + \min_W \lVert X_m W - F \rVert^2 + \beta_m \lVert W \rVert^2 \Big), \qquad
        L_m = D_m - A_m

    with :math:`A_m` the union of k-nearest-neighbour edges. The inner minimum is
    :math:`W_m = (X_m^\top X_m + \beta_m I)^{-1} X_m^\top F`, so :math:`F` are the eigenvectors of
    the smallest eigenvalues of

    .. math::
        \sum_m I - X_m (X_m^\top X_m + \beta_m I)^{-1} X_m^\top + \lambda L_m .

    That matrix is only ever multiplied with: its parts are sparse or of low rank. A code is
    :math:`\mathrm{sign}(x W_m - u)` with the median :math:`u` of the training items.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
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
    eye = torch.eye(len(gram)).to(gram)
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
