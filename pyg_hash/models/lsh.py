"""Random hyperplanes."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

from pyg_hash.models.cca import CanonicalModel
from pyg_hash.models.common import Widths


class LSH(CanonicalModel):
    r"""Random hyperplanes through the space of all canonical variates; no label is read.

    Charikar, "Similarity Estimation Techniques from Rounding Algorithms", STOC 2002, Sec. 3: two
    vectors fall on the same side of a random hyperplane with probability
    :math:`1 - \theta / \pi`, so Hamming distances estimate angles. Images and texts have no
    angle before they share a space; here that is the one of :class:`CCA`, with every variate
    multiplied by its correlation. There are as many bits as wanted, and none is better than
    another: the floor that a learned code of the same space has to beat.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_bits: code length.
        ridge: see :class:`CCA`; more of it pays here.
        seed: seed of the hyperplanes.
    """

    def __init__(
        self, num_features: Widths, num_bits: int = 32, *, ridge: float = 50.0, seed: int = 0
    ) -> None:
        super().__init__(num_features, num_bits, ridge)
        self.seed = seed

    def _solve(self, data: HeteroData) -> None:
        fitted = self._directions(data, None)
        generator = torch.Generator().manual_seed(self.seed)
        count = len(fitted.correlations)
        planes = torch.randn(count, self.num_bits, generator=generator, dtype=torch.float64)
        self._keep_directions(fitted, fitted.correlations[:, None] * planes.to(fitted.correlations))
