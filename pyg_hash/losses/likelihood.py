"""Likelihood of similarity between codes of two sets, in the paper's and the code's form."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from pyg_hash.losses._labels import check_code_sets, comparable_labels
from pyg_hash.losses._pairs import Likelihood, sum_of_pairs
from pyg_hash.losses._reduction import check_reduction, reduce_sum
from pyg_hash.typing import Reduction
from pyg_hash.utils.checks import check_choice, check_number, check_positive_int

PairLoss = Literal["nll", "squared_nll"]


def similarity_likelihood(
    a: Tensor,
    b: Tensor,
    a_y: Tensor,
    b_y: Tensor,
    *,
    kind: PairLoss = "nll",
    factor: float | None = None,
    similar: float | None = None,
    reduction: Reduction = "mean",
    chunk_size: int | None = None,
) -> Tensor:
    r"""Negative log-likelihood of the similarity of all pairs of two sets of codes.

    The first terms of Eq. (3), (5) and (8) of Xu et al., "Graph Convolutional Network Hashing for
    Cross-Modal Retrieval" (GCH), IJCAI 2019, ``kind='nll'``:

    .. math::
        \sum_{i,j} \left( \log(1 + e^{\Gamma_{ij}}) - S_{ij}\,\Gamma_{ij} \right), \qquad
        \Gamma_{ij} = \tfrac{1}{2} \langle h_i, h'_j \rangle

    where :math:`S_{ij} = 1` if the two share a label, else 0. Its released code descends the
    square of each summand, without the factor 1/2 and with :math:`S_{ij} = 0.999`, which makes the
    optimum finite (:math:`\Gamma \approx 6.9`): ``kind='squared_nll'``.

    Exact, in ``chunk_size`` squared memory; first derivatives only.

    Args:
        a: relaxed codes, float32 or float64 ``[n, num_bits]``.
        b: relaxed codes, same dtype, ``[m, num_bits]``.
        a_y: labels of ``a``, class index ``[n]`` or multi-hot ``[n, C]``.
        b_y: labels of ``b``, class index ``[m]`` or multi-hot ``[m, C]``.
        kind: ``'nll'`` (paper) or ``'squared_nll'`` (released code).
        factor: of the inner product; None takes 1/2 for ``'nll'``, 1 for ``'squared_nll'``.
        similar: :math:`S_{ij}` of pairs that share a label, in (0, 1]; None takes 1 for ``'nll'``,
            0.999 for ``'squared_nll'``.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``n * m``.
        chunk_size: rows and columns of one tile, see :func:`pairwise_nll`.

    Returns:
        A scalar; an exact zero if there are no pairs.

    Raises:
        TypeError: codes that are not both float32 or both float64, or class indices that are no
            integers.
        ValueError: shapes that do not match, labels of different kinds, a number out of its
            range, or an unknown option.
    """
    check_reduction(reduction)
    check_choice(kind, ("nll", "squared_nll"), "kind")
    if chunk_size is not None:
        check_positive_int(chunk_size, "chunk_size")
    squared = kind == "squared_nll"
    factor = (1.0 if squared else 0.5) if factor is None else factor
    similar = (0.999 if squared else 1.0) if similar is None else similar
    check_likelihood(factor, similar)
    check_code_sets(a, b, a_y, b_y)
    a_y, b_y = comparable_labels(a_y, b_y, a.dtype)
    total = sum_of_pairs(a, b, a_y, b_y, Likelihood(factor, similar, squared), chunk_size)
    return reduce_sum(total, a.size(0) * b.size(0), reduction)


def check_likelihood(
    factor: float, similar: float, names: tuple[str, str] = ("factor", "similar")
) -> None:
    """Raise unless ``factor > 0`` and ``0 < similar <= 1``; ``names`` is what errors call them."""
    if not 0 < check_number(factor, names[0]) < float("inf"):
        raise ValueError(f"{names[0]}: expected a positive number, got {factor!r}")
    if not 0 < check_number(similar, names[1]) <= 1:
        raise ValueError(f"{names[1]}: expected a number above 0 and at most 1, got {similar!r}")
