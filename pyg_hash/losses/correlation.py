"""Correlation of codes with similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.losses._labels import check_code_sets, comparable_labels, similar_sums
from pyg_hash.losses._reduction import check_reduction, reduce_sum
from pyg_hash.typing import Match, Reduction
from pyg_hash.utils.checks import check_choice, check_positive_int


def linear_similarity_loss(
    image: Tensor,
    text: Tensor,
    image_y: Tensor,
    text_y: Tensor,
    *,
    match: Match = "shared",
    reduction: Reduction = "mean",
    chunk_size: int = 1024,
) -> Tensor:
    r"""Negative correlation of the similarity of every image-text pair with that of the codes.

    The similarity term of Shen, Zhai, Liu, Jiang, "Semi-supervised graph convolutional hashing
    network for large-scale cross-modal retrieval" (SGCH), ICIP 2020:

    .. math:: -\sum_{p,q} S_{pq} \langle h^I_p, h^T_q \rangle

    With the paper's :math:`S \in \{0, 1\}` all codes could be one and the same, because nothing
    pushes codes apart; :math:`S \in \{-1, 1\}` here. Each bit has the same optimum, whatever the
    other bits are. Keep a :func:`balance_loss` beside it: without one, the optimum for many classes
    is one code for all images and its opposite for all texts.

    Exact, in :math:`O((n + m) K)` memory beside one tile of :math:`S`; for one label a row also in
    that time. It has first derivatives only.

    Args:
        image: relaxed codes of labelled images, float32 or float64 ``[n, num_bits]``.
        text: relaxed codes of labelled texts, same dtype, ``[m, num_bits]``.
        image_y: their labels, class index ``[n]`` or multi-hot ``[n, C]``.
        text_y: their labels, class index ``[m]`` or multi-hot ``[m, C]``.
        match: when multi-hot labels count as similar, see :func:`pairwise_nll`.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``n * m * num_bits``, which
            gives a value in [-1, 1].
        chunk_size: rows and columns of one tile of :math:`S`.

    Returns:
        A scalar; an exact zero, with zero gradients, if there are no pairs.

    Raises:
        TypeError, ValueError: as :func:`pairwise_nll`.
    """
    check_reduction(reduction)
    check_positive_int(chunk_size, "chunk_size")
    check_choice(match, ("shared", "equal"), "match")
    check_code_sets(image, text, image_y, text_y, ("image", "text"))
    image_y, text_y = comparable_labels(image_y, text_y, image.dtype, match)
    with torch.no_grad():  # S = 2 J - 1 with J of the similar pairs
        to_image, to_text = similar_sums(image, text, image_y, text_y, chunk_size)
        to_image, to_text = 2 * to_image - text.sum(0), 2 * to_text - image.sum(0)
        product = (image * to_image).sum()
    # twice the product less itself: the value is one product, the gradient is of both factors
    total = (image * to_image).sum() + (text * to_text).sum() - product
    return reduce_sum(-total, image.numel() * text.size(0), reduction)
