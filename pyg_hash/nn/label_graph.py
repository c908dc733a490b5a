"""The graph of shared labels as one linear operator."""

from __future__ import annotations

import torch
from torch import Tensor


class LabelGraph:
    r"""The normalised graph of shared labels, :math:`\tilde D^{-1/2} \tilde A \tilde D^{-1/2}`.

    Eq. (7) of Xu et al. (GCH), IJCAI 2019, with :math:`\tilde A = A + I` and
    :math:`A_{ij} = \langle l_i, l_j \rangle`, the number of labels that two instances share; so
    the diagonal of :math:`A` is :math:`|l_i|`. Exact in factored form: a product with
    :math:`\tilde A` is :math:`L (L^\top X) + X`, and the degrees are :math:`L (L^\top 1) + 1`; no
    array of instances by instances is ever made.

    Args:
        labels: multi-hot labels ``L``, float ``[N, C]``.
        add_self_loops: the paper's ``+ I``. False is its released code, which propagates over
            ``A`` alone; there an instance without labels receives nothing.

    Raises:
        TypeError: labels that are not floating-point.
        ValueError: labels that are no matrix.
    """

    def __init__(self, labels: Tensor, *, add_self_loops: bool = True) -> None:
        if not labels.is_floating_point():
            raise TypeError(f"labels: expected float multi-hot labels, got {labels.dtype}")
        if labels.dim() != 2:
            raise ValueError(f"labels: expected multi-hot [N, C], got {list(labels.shape)}")
        self.labels = labels
        self.add_self_loops = add_self_loops
        degree = labels @ labels.sum(dim=0) + float(add_self_loops)
        self.inv_sqrt_degree = torch.where(degree > 0, degree, torch.inf).rsqrt().unsqueeze(1)

    def __matmul__(self, x: Tensor) -> Tensor:
        """Propagate ``x``, float ``[N, d]``: float ``[N, d]``."""
        z = self.inv_sqrt_degree * x
        out = self.labels @ (self.labels.t() @ z)
        if self.add_self_loops:
            out = out + z
        return self.inv_sqrt_degree * out
