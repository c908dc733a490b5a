"""Pairwise likelihood of cross-modal similarity."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.losses._reduction import check_matrix, check_reduction, reduce_sum
from pyg_hash.typing import Match, Reduction
from pyg_hash.validation import check_choice, check_labels, check_positive_int


class _PairwiseNLL(torch.autograd.Function):
    """Sum over all pairs; both gradients are made on the way, tile by tile.

    Autograd would keep every tile of the similarity matrix until the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        image_y: Tensor,
        text_y: Tensor,
        chunk_size: int,
        needs_grad: bool,
    ) -> Tensor:
        half = 0.5 * image
        grad_image = torch.zeros_like(image) if needs_grad else None
        grad_text = torch.zeros_like(text) if needs_grad else None
        totals = []
        for p in range(0, image.size(0), chunk_size):
            rows = slice(p, p + chunk_size)
            for q in range(0, text.size(0), chunk_size):
                columns = slice(q, q + chunk_size)
                # J = 1 costs log(1 + e^-w), J = 0 costs log(1 + e^w): one formula, no cancellation
                sign = is_match(image_y[rows], text_y[columns]).to(image.dtype).mul_(-2).add_(1)
                margin = (half[rows] @ text[columns].t()).mul_(sign)
                # above the threshold softplus(x) = x, which 40 makes exact in float64 too
                totals.append(F.softplus(margin, threshold=40).sum())
                if grad_image is not None and grad_text is not None:
                    slope = margin.sigmoid_().mul_(sign)  # sigmoid(w) - J
                    grad_image[rows].addmm_(slope, text[columns], alpha=0.5)
                    grad_text[columns].addmm_(slope.t(), half[rows])
        if grad_image is not None and grad_text is not None:
            ctx.save_for_backward(grad_image, grad_text)
        return torch.stack(totals).sum() if totals else image.new_zeros(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # a constant gradient would make second derivatives wrong
            raise RuntimeError(
                "pairwise_nll: has first derivatives only; keep it out of a backward pass with "
                "create_graph=True"
            )
        grad_image, grad_text = ctx.saved_tensors
        return (
            grad * grad_image if ctx.needs_input_grad[0] else None,
            grad * grad_text if ctx.needs_input_grad[1] else None,
            None,
            None,
            None,
            None,
        )


def is_match(a: Tensor, b: Tensor) -> Tensor:
    """``J`` of one tile, bool ``[n, m]``: same class index, or a label in common."""
    return a[:, None] == b[None, :] if a.dim() == 1 else (a @ b.t()) > 0


def comparable_labels(
    image: Tensor, text: Tensor, image_y: Tensor, text_y: Tensor, match: Match
) -> tuple[Tensor, Tensor]:
    """Check codes and labels of two sets; labels in the form that :func:`is_match` takes.

    Raises:
        TypeError, ValueError: as :func:`pairwise_nll`.
    """
    check_choice(match, ("shared", "equal"), "match")
    check_matrix(image, "image")
    check_matrix(text, "text")
    if image.dtype != text.dtype or image.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"image and text: expected both float32 or both float64, got {image.dtype} and "
            f"{text.dtype}; convert them"
        )
    if image.size(1) != text.size(1):
        raise ValueError(
            f"image and text: {image.size(1)} and {text.size(1)} bits; codes must be equally long"
        )
    check_labels(image_y, "image_y", num_rows=image.size(0))
    check_labels(text_y, "text_y", num_rows=text.size(0))
    if image_y.shape[1:] != text_y.shape[1:]:
        raise ValueError(
            f"image_y and text_y: shapes {list(image_y.shape)} and {list(text_y.shape)}; use class "
            "indices for both, or multi-hot labels with the same classes"
        )
    if image_y.dim() == 2 and match == "equal":
        both = torch.cat([image_y.bool(), text_y.bool()])
        sets = torch.unique(both, dim=0, return_inverse=True)[1]  # number every label set
        image_y, text_y = sets[: len(image_y)], sets[len(image_y) :]
    elif image_y.dim() == 2:
        image_y, text_y = image_y.to(image.dtype), text_y.to(image.dtype)
    return image_y, text_y


def pairwise_nll(
    image: Tensor,
    text: Tensor,
    image_y: Tensor,
    text_y: Tensor,
    *,
    match: Match = "shared",
    reduction: Reduction = "mean",
    chunk_size: int = 1024,
) -> Tensor:
    r"""Negative log-likelihood of the similarity of every image-text pair.

    The first term of Eq. (7) of Wu et al., "Semi-supervised cross-modal hashing via
    modality-specific and cross-modal graph convolutional networks" (MCGCN), Pattern Recognition
    136, 2023:

    .. math::
        -\sum_{p,q} \left( J_{pq}\,\omega_{pq} - \log(1 + e^{\omega_{pq}}) \right), \qquad
        \omega_{pq} = \tfrac{1}{2} \langle r^I_p, r^T_q \rangle

    Exact, in :math:`O(n m K)` time and ``chunk_size`` squared memory: neither :math:`\omega` nor
    :math:`J` is ever stored whole. It has first derivatives only:
    a backward pass with ``create_graph=True`` raises ``RuntimeError``.

    Args:
        image: relaxed codes of labelled images, float32 or float64 ``[n, num_bits]``.
        text: relaxed codes of labelled texts, same dtype, ``[m, num_bits]``.
        image_y: their labels, class index ``[n]`` or multi-hot ``[n, C]``.
        text_y: their labels, class index ``[m]`` or multi-hot ``[m, C]``.
        match: when multi-hot labels count as similar (:math:`J_{pq} = 1`): ``'shared'``, at least
            one label in common, or ``'equal'``, the same label set (two empty sets are equal).
            For class indices both mean the same class.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``n * m``.
        chunk_size: rows and columns of one tile of the similarity matrix.

    Returns:
        A scalar; an exact zero, with zero gradients, if there are no pairs.

    Raises:
        TypeError: codes that are not both float32 or both float64, or class indices that are no
            integers.
        ValueError: shapes that do not match, labels of different kinds, or an unknown option.
    """
    check_reduction(reduction)
    check_positive_int(chunk_size, "chunk_size")
    image_y, text_y = comparable_labels(image, text, image_y, text_y, match)
    needs_grad = torch.is_grad_enabled() and (image.requires_grad or text.requires_grad)
    with torch.autocast(image.device.type, enabled=False):  # half precision would not be exact
        total: Tensor = _PairwiseNLL.apply(  # type: ignore[no-untyped-call]
            image, text, image_y, text_y, chunk_size, needs_grad
        )
    return reduce_sum(total, image.size(0) * text.size(0), reduction)
