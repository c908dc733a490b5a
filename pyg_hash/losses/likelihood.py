"""Likelihood of similarity between codes of two sets, in the paper's and the code's form."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.losses._reduction import check_matrix, check_reduction, reduce_sum
from pyg_hash.losses.similarity import is_match
from pyg_hash.typing import Reduction
from pyg_hash.validation import check_choice, check_labels, check_number, check_positive_int

PairLoss = Literal["nll", "squared_nll"]


class _Tiled(torch.autograd.Function):
    """Sum over all pairs; gradients are made on the way, so that no tile is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        a_y: Tensor,
        b_y: Tensor,
        squared: bool,
        factor: float,
        similar: float,
        chunk_size: int,
        needs_grad: bool,
    ) -> Tensor:
        grads = (torch.zeros_like(a), torch.zeros_like(b)) if needs_grad else ()
        total = a.new_zeros(())
        for p in range(0, a.size(0), chunk_size):
            rows = slice(p, p + chunk_size)
            for q in range(0, b.size(0), chunk_size):
                columns = slice(q, q + chunk_size)
                target = similar * is_match(a_y[rows], b_y[columns]).to(a.dtype)
                theta = factor * (a[rows] @ b[columns].t())
                # log(1 + e^t) - S t without the cancellation of two large numbers
                cost = theta.clamp(min=0) - target * theta + F.softplus(-theta.abs())
                total += cost.square().sum() if squared else cost.sum()
                if grads:
                    slope = factor * (theta.sigmoid() - target)
                    if squared:
                        slope *= 2 * cost
                    grads[0][rows].addmm_(slope, b[columns])
                    grads[1][columns].addmm_(slope.t(), a[rows])
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # a constant gradient would make second derivatives wrong
            raise RuntimeError(
                "similarity_likelihood: has first derivatives only; keep it out of a backward "
                "pass with create_graph=True"
            )
        of_a, of_b = ctx.saved_tensors
        needs_a, needs_b = ctx.needs_input_grad[:2]
        none = (None,) * 7
        return (grad * of_a if needs_a else None, grad * of_b if needs_b else None, *none)


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
    chunk_size: int = 1024,
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
        chunk_size: rows and columns of one tile of the similarity matrix.

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
    check_positive_int(chunk_size, "chunk_size")
    squared = kind == "squared_nll"
    factor = (1.0 if squared else 0.5) if factor is None else factor
    similar = (0.999 if squared else 1.0) if similar is None else similar
    check_likelihood(factor, similar)
    check_code_sets(a, b, a_y, b_y)
    if a_y.dim() == 2:
        a_y, b_y = a_y.to(a.dtype), b_y.to(a.dtype)
    needs_grad = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    with torch.autocast(a.device.type, enabled=False):  # half precision would not be exact
        total: Tensor = _Tiled.apply(  # type: ignore[no-untyped-call]
            a, b, a_y, b_y, squared, factor, similar, chunk_size, needs_grad
        )
    return reduce_sum(total, a.size(0) * b.size(0), reduction)


def check_likelihood(
    factor: float, similar: float, names: tuple[str, str] = ("factor", "similar")
) -> None:
    """Raise unless ``factor > 0`` and ``0 < similar <= 1``; ``names`` is what errors call them."""
    if not 0 < check_number(factor, names[0]) < float("inf"):
        raise ValueError(f"{names[0]}: expected a positive number, got {factor!r}")
    if not 0 < check_number(similar, names[1]) <= 1:
        raise ValueError(f"{names[1]}: expected a number above 0 and at most 1, got {similar!r}")


def check_code_sets(a: Tensor, b: Tensor, a_y: Tensor, b_y: Tensor) -> None:
    """Raise unless two sets of codes have the same kind of codes and of labels."""
    check_matrix(a, "a")
    check_matrix(b, "b")
    if a.dtype != b.dtype or a.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"a and b: expected both float32 or both float64, got {a.dtype} and {b.dtype}; "
            "convert them"
        )
    if a.size(1) != b.size(1):
        raise ValueError(f"a and b: {a.size(1)} and {b.size(1)} bits; codes must be equally long")
    check_labels(a_y, "a_y", num_rows=a.size(0))
    check_labels(b_y, "b_y", num_rows=b.size(0))
    if a_y.shape[1:] != b_y.shape[1:]:
        raise ValueError(
            f"a_y and b_y: shapes {list(a_y.shape)} and {list(b_y.shape)}; use class indices for "
            "both, or multi-hot labels with the same classes"
        )
