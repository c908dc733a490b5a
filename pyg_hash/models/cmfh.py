"""CMFH: one latent matrix that both modalities factorise into."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.models.closed_form import LinearHashModel, centred, selected_features
from pyg_hash.models.common import Widths
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_fraction, check_positive, check_positive_int, check_weight


class Factors(NamedTuple):
    """One state of the alternation, rows being samples.

    Attributes:
        latent: :math:`V`, float64 ``[n, K]``.
        loadings: :math:`U_m`, float64 ``[K, d_m]`` of each modality.
        maps: :math:`P_m`, float64 ``[d_m, K]`` of each modality.
    """

    latent: Tensor
    loadings: tuple[Tensor, Tensor]
    maps: tuple[Tensor, Tensor]


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
    :math:`\bar v` of training items. In the paper an item of the database has the sign of its row
    of :math:`V`, which both of its modalities made; here every item is encoded by its own map.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_bits: code length :math:`K`.
        share: :math:`\lambda`, of the images (paper: 0.5).
        mu: weight of the maps (paper: 100).
        gamma: weight of the regulariser (paper: 0.01).
        iterations: most turns.
        tolerance: relative decrease of the objective below which the turns end.
        seed: seed of the first :math:`V`.
    """

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
        check_positive(mu, "mu")
        check_positive(gamma, "gamma")
        check_weight(tolerance, "tolerance")
        check_positive_int(iterations, "iterations")
        self.share, self.mu, self.gamma = share, mu, gamma
        self.iterations, self.tolerance, self.seed = iterations, tolerance, seed

    def _solve(self, data: HeteroData) -> None:
        views, means = centred(selected_features(data))
        factors = self.factorise(views)[0]
        for m, mean, weight in zip(MODALITIES, means, factors.maps, strict=True):
            self._keep_centred(m, weight, mean)

    def factorise(self, views: tuple[Tensor, Tensor]) -> tuple[Factors, list[float]]:
        """The alternation on centred features, and the objective after each turn.

        Args:
            views: float64 ``[n, d_i]`` and ``[n, d_t]``.
        """
        weights = (self.share, 1.0 - self.share)
        generator = torch.Generator().manual_seed(self.seed)
        latent = torch.randn(len(views[0]), self.num_bits, generator=generator).to(views[0])
        eye = torch.eye(self.num_bits).to(latent)
        ridges = [_ridge_factor(x, self.gamma / self.mu) for x in views]
        objectives: list[float] = []
        for _ in range(self.iterations):
            gram = latent.T @ latent
            # a modality of weight 0 has no loadings: the regulariser alone decides
            loadings = tuple(
                torch.linalg.solve(w * gram + self.gamma * eye, w * (latent.T @ x))
                for w, x in zip(weights, views, strict=True)
            )
            maps = tuple(
                torch.cholesky_solve(x.T @ latent, ridge)
                for x, ridge in zip(views, ridges, strict=True)
            )
            system = (2.0 * self.mu + self.gamma) * eye
            target = torch.zeros_like(latent)
            for w, x, u, p in zip(weights, views, loadings, maps, strict=True):
                system = system + w * (u @ u.T)
                target += x @ (w * u.T + self.mu * p)
            latent = torch.linalg.solve(system, target.T).T
            factors = Factors(latent, (loadings[0], loadings[1]), (maps[0], maps[1]))
            objectives.append(self.objective(views, factors))
            if len(objectives) > 1 and (
                objectives[-2] - objectives[-1] <= self.tolerance * objectives[-2]
            ):
                break
        return factors, objectives

    def objective(self, views: tuple[Tensor, Tensor], factors: Factors) -> float:
        """What a turn decreases."""
        v = factors.latent
        total = self.gamma * v.square().sum()
        weights = (self.share, 1.0 - self.share)
        for w, x, u, p in zip(weights, views, factors.loadings, factors.maps, strict=True):
            total += w * (x - v @ u).square().sum() + self.mu * (v - x @ p).square().sum()
            total += self.gamma * (u.square().sum() + p.square().sum())
        return float(total)


def _ridge_factor(x: Tensor, ridge: float) -> Tensor:
    """The Cholesky factor of ``X.T @ X + ridge * I``."""
    gram = x.T @ x
    gram.diagonal().add_(ridge)
    factor: Tensor = torch.linalg.cholesky(gram)
    return factor
