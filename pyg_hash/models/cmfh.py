"""CMFH: one latent matrix that both modalities factorise into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyg_hash.models.closed_form import LinearHashModel, Views, centred, selected_features
from pyg_hash.models.common import Widths
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_fraction, check_positive, check_positive_int, check_weight

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


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
        check_positive(mu, "mu")
        check_positive(gamma, "gamma")
        check_weight(tolerance, "tolerance")
        check_positive_int(iterations, "iterations")
        self.share, self.mu, self.gamma = share, mu, gamma
        self.iterations, self.tolerance, self.seed = iterations, tolerance, seed

    def _solve(self, data: HeteroData) -> None:
        views, means = centred(selected_features(data))
        maps = self.factorise(views)[2]
        for m, mean, weight in zip(MODALITIES, means, maps, strict=True):
            self._keep(m, weight, mean)

    def factorise(self, views: Views) -> tuple[Tensor, Views, Views, list[float]]:
        """``V``, ``U`` and ``P`` of centred features, and the objective after each turn."""
        shares = (self.share, 1.0 - self.share)
        generator = torch.Generator().manual_seed(self.seed)
        v = torch.randn(len(views[0]), self.num_bits, generator=generator).to(views[0])
        eye = torch.eye(self.num_bits).to(v)
        ridge = self.gamma / self.mu
        ridges = [
            torch.linalg.cholesky(x.T @ x + ridge * torch.eye(x.size(1)).to(x)) for x in views
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
