"""Iterative quantization of canonical variates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.codes import binarize
from pyg_hash.models.cca import RIDGE, CanonicalModel
from pyg_hash.models.closed_form import selected_features
from pyg_hash.models.common import Widths


class ITQ(CanonicalModel):
    r"""Canonical variates, rotated towards their signs; no label is read.

    Gong, Lazebnik, Gordo, Perronnin, "Iterative Quantization: A Procrustean Approach to Learning
    Binary Codes for Large-Scale Image Retrieval", *TPAMI* 35(12), 2013, Sec. 3.2, with CCA in place
    of PCA (in the paper's own form with CCA the other view are labels). One rotation :math:`R` is
    found on the training rows of both modalities together: a code is
    :math:`\mathrm{sign}((x - \mu_m) W_m R)`.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_bits: code length, at most the number of canonical directions.
        ridge: see :class:`CCA`.
        weighted: multiply each variate by its correlation before the rotation, as the authors'
            program does with CCA: directions that say little about the other modality weigh
            little.
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
        super().__init__(num_features, num_bits, ridge)
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 0:
            raise ValueError(f"iterations: expected an integer of at least 0, got {iterations!r}")
        self.weighted, self.iterations, self.seed = weighted, iterations, seed

    def _solve(self, data: HeteroData) -> None:
        fitted = self._directions(data, self.num_bits)
        if self.weighted:
            image, text = fitted.weights
            scaled = (image * fitted.correlations, text * fitted.correlations)
            fitted = fitted._replace(weights=scaled)
        variates = [fitted(x, view) for view, x in enumerate(selected_features(data))]
        turned = itq_rotation(torch.cat(variates), iterations=self.iterations, seed=self.seed)
        self._keep_directions(fitted, turned[0])


def itq_rotation(v: Tensor, *, iterations: int = 50, seed: int = 0) -> tuple[Tensor, list[float]]:
    r"""The rotation that brings rows close to their signs (Gong et al., TPAMI 2013, Sec. 3.2).

    Minimises :math:`\lVert B - V R \rVert_F^2` in turns: :math:`B = \mathrm{sign}(V R)`, then the
    orthogonal Procrustes solution for :math:`R`; the start is a random rotation.

    Args:
        v: float64 ``[n, k]``, centred.
        iterations: number of turns.
        seed: seed of the start.

    Returns:
        The rotation float64 ``[k, k]``, and the error before the first turn and after each.
    """
    start = torch.randn(v.size(1), v.size(1), generator=torch.Generator().manual_seed(seed))
    rotation = torch.linalg.qr(start.to(v)).Q
    errors = []
    for turn in range(iterations + 1):
        rotated = v @ rotation
        codes = binarize(rotated).to(v)
        errors.append(float((codes - rotated).square().sum()))
        if turn < iterations:
            left, _, right = torch.linalg.svd(v.T @ codes)
            rotation = left @ right
    return rotation, errors
