"""Baselines that whiten both modalities and take one SVD or several: CCA, ITQ, LSH, SCM."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

from pyg_hash.codes import binarize
from pyg_hash.models.closed_form import LinearHashModel, Views, centred, selected_features
from pyg_hash.models.common import Widths, known_labels, multi_hot
from pyg_hash.models.rotation import itq_rotation
from pyg_hash.utils.checks import check_choice, check_seed, check_weight

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

# the strongest of 1e-3 .. 1e3 on a validation split of each data set, 32 bits: CCA without it fits
# noise (weighted ITQ on Wikipedia: .21 at 1e-3, .36 at 10, .35 at 1000, where it is a PLS)
RIDGE = 10.0
_RANK = 1e-10  # eigenvalues below this share of the largest are rounding
_TIES = 1e-6  # the share of correlation that orders directions which are alike to SCM


class CCA(LinearHashModel):
    r"""Signs of the strongest canonical variates; no label is read.

    Hotelling, "Relations Between Two Sets of Variates", *Biometrika* 28, 1936, with a ridge; on
    pairs the cross-view hashing (CVH) of Kumar & Udupa, IJCAI 2011. A code is
    :math:`\mathrm{sign}((x - \mu_m) W_m)`, where over the training rows the directions maximise

    .. math::
        \mathrm{tr}(W_I^\top C_{IT} W_T) \quad \text{with} \quad
        W_m^\top \left(C_{mm} + r\,\tfrac{\mathrm{tr}\,C_{mm}}{d_m} I\right) W_m = I .

    Args:
        num_features: see :class:`HashModel`.
        num_bits: code length, at most the number of canonical directions.
        ridge: :math:`r`; without it the directions fit noise.
    """

    reads_labels = False

    _takes_all: ClassVar[bool] = False

    def __init__(self, num_features: Widths, num_bits: int = 32, *, ridge: float = RIDGE) -> None:
        super().__init__(num_features, num_bits)
        check_weight(ridge, "ridge")
        self.ridge = ridge

    def _solve(self, data: HeteroData) -> None:
        views = selected_features(data)
        count = None if self._takes_all else self.num_bits
        fitted = cca(*views, count, ridge=self.ridge)
        self._keep(self._weights(fitted, views), fitted.means)

    def _weights(self, fitted: Projection, views: Views) -> Views:
        """The maps ``[d, num_bits]`` of centred features, given the canonical directions."""
        return fitted.weights


class ITQ(CCA):
    r"""Canonical variates, rotated towards their signs; no label is read.

    Gong, Lazebnik, Gordo, Perronnin, "Iterative Quantization: A Procrustean Approach to Learning
    Binary Codes for Large-Scale Image Retrieval", *TPAMI* 35(12), 2013, Sec. 3.2, with CCA in place
    of PCA. One rotation :math:`R` is found on the training rows of both modalities together: a code
    is :math:`\mathrm{sign}((x - \mu_m) W_m R)`.

    Args:
        num_features, num_bits, ridge: see :class:`CCA`.
        weighted: multiply each variate by its correlation before the rotation, as the authors'
            program does with CCA.
        iterations: turns of the alternation (paper: 50).
        seed: seed of the first rotation.
    """

    def __init__(
        self,
        num_features: Widths,
        num_bits: int = 32,
        *,
        ridge: float = RIDGE,
        weighted: bool = True,
        iterations: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(num_features, num_bits, ridge=ridge)
        check_seed(iterations, "iterations")
        self.weighted, self.iterations, self.seed = weighted, iterations, seed

    def _weights(self, fitted: Projection, views: Views) -> Views:
        if self.weighted:
            fitted = fitted._replace(weights=fitted.times(fitted.correlations.diag()))
        variates = torch.cat([fitted(x, view) for view, x in enumerate(views)])
        return fitted.times(itq_rotation(variates, iterations=self.iterations, seed=self.seed))


class LSH(CCA):
    r"""Random hyperplanes through the space of all canonical variates; no label is read.

    Charikar, "Similarity Estimation Techniques from Rounding Algorithms", STOC 2002, Sec. 3:
    Hamming distances estimate angles. The space is that of :class:`CCA`, with every variate
    multiplied by its correlation: the floor that a learned code of the same space has to beat.

    Args:
        num_features, num_bits: see :class:`HashModel`.
        ridge: see :class:`CCA`; more of it pays here.
        seed: seed of the hyperplanes.
    """

    _takes_all = True

    def __init__(
        self, num_features: Widths, num_bits: int = 32, *, ridge: float = 50.0, seed: int = 0
    ) -> None:
        super().__init__(num_features, num_bits, ridge=ridge)
        self.seed = seed

    def _weights(self, fitted: Projection, views: Views) -> Views:
        generator = torch.Generator().manual_seed(self.seed)
        count = len(fitted.correlations)
        planes = torch.randn(
            count, self.num_bits, generator=generator, dtype=torch.float64, device="cpu"
        )
        return fitted.times(fitted.correlations[:, None] * planes.to(fitted.correlations))


class SCM(LinearHashModel):
    r"""Semantic correlation maximization.

    Zhang & Li, "Large-Scale Supervised Multimodal Hashing with Semantic Correlation Maximization",
    AAAI 2014. With the label vectors scaled to length 1, :math:`\tilde L`, the similarity of two
    labelled items is :math:`\tilde S = 2 \tilde L \tilde L^\top - 1 1^\top`. Their codes shall
    minimise

    .. math:: \lVert \mathrm{sgn}(X W_x)\, \mathrm{sgn}(Y W_y)^\top - K \tilde S \rVert_F^2 .

    ``'orthogonal'`` (Sec. "Orthogonal Projection Learning") drops the signs and asks for
    :math:`W_x^\top X^\top X W_x = n I` and the same of :math:`W_y`: a generalised eigenproblem of
    :math:`C = X^\top \tilde S Y`. Directions beyond as many as there are classes, all alike to it,
    are ordered by their correlation here. ``'sequential'`` (Algorithm 1) takes bit by bit the
    leading direction of what the bits before have left:
    :math:`C \leftarrow C - X^\top \mathrm{sgn}(X w_x)\, \mathrm{sgn}(Y w_y)^\top Y`, from
    :math:`K C`. No matrix of pairs is made. The authors' program adds 1e-6 as ridge.

    Args:
        num_features, num_classes: see :class:`HashModel`.
        num_bits: code length; for ``'orthogonal'`` at most the rank of either modality's features.
        variant: ``'sequential'`` or ``'orthogonal'``.
        ridge: multiple of a modality's mean variance that is added to every variance.
    """

    def __init__(
        self,
        num_features: Widths,
        num_classes: int,
        num_bits: int = 32,
        *,
        variant: str = "sequential",
        ridge: float = 1.0,
    ) -> None:
        super().__init__(num_features, num_bits)
        check_choice(variant, ("sequential", "orthogonal"), "variant")
        check_weight(ridge, "ridge")
        self.num_classes, self.variant, self.ridge = num_classes, variant, ridge

    def _solve(self, data: HeteroData) -> None:
        labels = multi_hot(known_labels(data, self.num_classes), self.num_classes)
        views, means = centred(selected_features(data, "labeled_mask"))
        image, text = (whitener(x.T @ x / len(x), self.ridge) for x in views)
        learn = sequential_directions if self.variant == "sequential" else orthogonal_directions
        spread = (views[0] @ image, views[1] @ text)
        directions = learn(spread, labels.to(views[0]), self.num_bits)
        self._keep((image @ directions[0], text @ directions[1]), means)


class Projection(NamedTuple):
    """Canonical directions of two views, the strongest correlation first."""

    means: Views  # [d] each
    weights: Views  # [d, k]
    correlations: Tensor  # [k]

    def __call__(self, x: Tensor, view: int) -> Tensor:
        """Canonical variates float64 ``[n, k]`` of rows of one view."""
        return (x.double() - self.means[view]) @ self.weights[view]

    def times(self, matrix: Tensor) -> Views:
        """The weights with a matrix ``[k, num_bits]`` behind them."""
        return self.weights[0] @ matrix, self.weights[1] @ matrix


def cca(x: Tensor, y: Tensor, count: int | None = None, *, ridge: float = 0.0) -> Projection:
    """The ``count`` strongest canonical directions, or all there are, by whitening and an SVD."""
    views, means = centred((x.double(), y.double()))
    whiteners = [whitener(view.T @ view / len(view), ridge) for view in views]
    available = min(matrix.size(1) for matrix in whiteners)
    if count is None:
        count = available
    elif count > available:
        raise ValueError(
            f"num_bits: {count} canonical directions wanted, but the two views have only "
            f"{available}; use at most as many bits, or wider features"
        )
    first, second = (view @ matrix for view, matrix in zip(views, whiteners, strict=True))
    left, values, right = torch.linalg.svd(first.T @ second / len(x), full_matrices=False)
    weights = (whiteners[0] @ left[:, :count], whiteners[1] @ right[:count].T)
    return Projection(means, weights, values[:count])


def whitener(covariance: Tensor, ridge: float) -> Tensor:
    r"""What makes :math:`C + r\,\mathrm{tr}(C)/d\,I` the identity, without null directions."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > _RANK * values[-1]
    if not bool(kept.any()):
        raise ValueError(
            "features: those of one item alone have no direction; learn from more, e.g. by a "
            "higher label_rate"
        )
    scale = (values[kept] + ridge * values.clamp(min=0).mean()).sqrt()
    return torch.div(vectors[:, kept], scale)


def orthogonal_directions(views: Views, labels: Tensor, num_bits: int) -> Views:
    """Directions of whitened views, jointly, by multi-hot labels; all float64."""
    x, y = views
    available = min(x.size(1), y.size(1))
    if num_bits > available:
        raise ValueError(
            f"num_bits: {num_bits} orthogonal directions wanted, but the features have only "
            f"{available}; use fewer bits, or variant='sequential'"
        )
    left, right = _similarity_factors(views, labels)
    product, correlation = left @ right.T, x.T @ y
    share = _TIES * torch.linalg.matrix_norm(product) / torch.linalg.matrix_norm(correlation)
    u, _, v = torch.linalg.svd(product + share * correlation, full_matrices=False)
    return u[:, :num_bits], v[:num_bits].T


def sequential_directions(views: Views, labels: Tensor, num_bits: int) -> Views:
    """Directions of whitened views, one after the other."""
    x, y = views
    left, right = _similarity_factors(views, labels)
    left = num_bits * left
    image, text = [], []
    for _ in range(num_bits):
        # of left @ right.T, which has few columns in between
        q_left, r_left = torch.linalg.qr(left)
        q_right, r_right = torch.linalg.qr(right)
        inner, _, outer = torch.linalg.svd(r_left @ r_right.T)
        u, v = q_left @ inner[:, 0], q_right @ outer[0]
        image.append(u)
        text.append(v)
        left = torch.cat([left, -(x.T @ binarize(x @ u).to(x))[:, None]], dim=1)
        right = torch.cat([right, (y.T @ binarize(y @ v).to(y))[:, None]], dim=1)
    return torch.stack(image, dim=1), torch.stack(text, dim=1)


def _similarity_factors(views: Views, labels: Tensor) -> Views:
    """``A`` and ``B`` with ``A @ B.T = X.T @ S @ Y``, of one column more than there are classes."""
    unit = torch.nn.functional.normalize(labels, dim=1)
    one = torch.ones_like(unit[:, :1])
    x, y = views
    return x.T @ torch.cat([2.0 * unit, -one], dim=1), y.T @ torch.cat([unit, one], dim=1)
