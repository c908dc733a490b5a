"""How evenly each bit is used."""

from __future__ import annotations

from torch import Tensor

from pyg_hash.losses._reduction import check_matrix, check_reduction, reduce_sum
from pyg_hash.typing import Reduction


def balance_loss(relaxed: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Balance loss of one modality, :math:`\lVert R^\top \mathbf{1} \rVert^2`.

    The third term of Eq. (7) of Wu et al. (MCGCN), Pattern Recognition 136, 2023, without its
    factor :math:`\beta`: each bit is summed over the instances, and the sums are squared. The paper
    writes it on the binary codes :math:`B = \mathrm{sign}(R)`, whose gradient is zero everywhere;
    it is taken on the relaxed codes here.

    Args:
        relaxed: relaxed codes :math:`R`, float ``[N, num_bits]``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``N * N * num_bits``, which
            gives the squared mean of a bit, averaged over the bits, in [0, 1].

    Returns:
        A scalar; an exact zero if there are no rows.

    Raises:
        TypeError: codes that are not floating-point.
        ValueError: codes that are no matrix, or an unknown reduction.
    """
    check_reduction(reduction)
    check_matrix(relaxed, "relaxed")
    total = relaxed.sum(dim=0).square().sum()
    return reduce_sum(total, relaxed.size(0) * relaxed.numel(), reduction)
