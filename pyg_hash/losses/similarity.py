"""Pairwise likelihood of cross-modal similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_hash.losses._labels import check_code_sets, comparable_labels
from pyg_hash.losses._pairs import Likelihood, sum_of_pairs
from pyg_hash.losses._reduction import check_reduction, reduce_sum
from pyg_hash.typing import Match, Reduction
from pyg_hash.utils.checks import check_choice, check_positive_int


def pairwise_nll(
    image: Tensor,
    text: Tensor,
    image_y: Tensor,
    text_y: Tensor,
    *,
    match: Match = "shared",
    reduction: Reduction = "mean",
    chunk_size: int | None = None,
) -> Tensor:
    r"""Negative log-likelihood of the similarity of every image-text pair.

    The first term of Eq. (7) of Wu et al., "Semi-supervised cross-modal hashing via
    modality-specific and cross-modal graph convolutional networks" (MCGCN), Pattern Recognition
    136, 2023:

    .. math::
        -\sum_{p,q} \left( J_{pq}\,\omega_{pq} - \log(1 + e^{\omega_{pq}}) \right), \qquad
        \omega_{pq} = \tfrac{1}{2} \langle r^I_p, r^T_q \rangle

    Exact, in :math:`O(n m K)` time and ``chunk_size`` squared memory: neither :math:`\omega` nor
    :math:`J` is ever stored whole, and one pass over the tiles makes the value and both gradients.
    It has first derivatives only: a backward pass with ``create_graph=True`` raises
    ``RuntimeError``.

    Args:
        image: relaxed codes of labelled images, float32 or float64 ``[n, num_bits]``.
        text: relaxed codes of labelled texts, same dtype, ``[m, num_bits]``.
        image_y: their labels, class index ``[n]`` or multi-hot ``[n, C]``.
        text_y: their labels, class index ``[m]`` or multi-hot ``[m, C]``.
        match: when multi-hot labels count as similar (:math:`J_{pq} = 1`): ``'shared'``, at least
            one label in common, or ``'equal'``, the same label set (two empty sets are equal).
            For class indices both mean the same class.
        reduction: ``'sum'`` is the formula; ``'mean'`` divides it by ``n * m``.
        chunk_size: rows and columns of one tile of the similarity matrix; None fits a tile into
            a core's cache (512), and is 4,096 on a GPU.

    Returns:
        A scalar; an exact zero, with zero gradients, if there are no pairs.

    Raises:
        TypeError: codes that are not both float32 or both float64, or class indices that are no
            integers.
        ValueError: shapes that do not match, labels of different kinds, or an unknown option.
    """
    _check_options(match, reduction, chunk_size)
    check_code_sets(image, text, image_y, text_y, ("image", "text"))
    image_y, text_y = comparable_labels(image_y, text_y, image.dtype, match)
    total = sum_of_pairs(image, text, image_y, text_y, Likelihood(), chunk_size)
    return reduce_sum(total, image.size(0) * text.size(0), reduction)


def sampled_pairwise_nll(
    image: Tensor,
    text: Tensor,
    image_y: Tensor,
    text_y: Tensor,
    *,
    num_samples: int,
    match: Match = "shared",
    reduction: Reduction = "mean",
    chunk_size: int | None = None,
) -> Tensor:
    r"""Unbiased estimate of :func:`pairwise_nll` from some pairs of each image and each text.

    Both sets are shuffled, images are cut into blocks of ``chunk_size``, and each block meets the
    next ``num_samples`` texts, round and round. So every image meets ``num_samples`` different
    texts, and every text about ``num_samples * n / m`` images. Value and gradients have the
    expectation of the exact ones, in :math:`O(n K)` time for each sample.

    Draws from torch's CPU random generator: ``torch.manual_seed`` makes it repeatable.

    Args:
        image: see :func:`pairwise_nll`, as all other arguments.
        text: as above.
        image_y: as above.
        text_y: as above.
        num_samples: texts that each image meets; m or more means all of them, which is exact.
        match: as above.
        reduction: as above; ``'sum'`` estimates the sum over all pairs.
        chunk_size: images of a block, and texts of one tile; None means 512.

    Returns:
        A scalar; an exact zero, with zero gradients, if there are no pairs.

    Raises:
        TypeError, ValueError: as :func:`pairwise_nll`; ``num_samples`` not a positive integer.
    """
    check_positive_int(num_samples, "num_samples")
    _check_options(match, reduction, chunk_size)
    check_code_sets(image, text, image_y, text_y, ("image", "text"))
    image_y, text_y = comparable_labels(image_y, text_y, image.dtype, match)
    n, m = image.size(0), text.size(0)
    some = min(num_samples, m)
    rows, columns = torch.randperm(n).to(image.device), torch.randperm(m).to(text.device)
    total = sum_of_pairs(
        image[rows],
        text[columns],
        image_y[rows],
        text_y[columns],
        Likelihood(),
        chunk_size,
        samples=some,
    )
    return reduce_sum(total * (m / max(some, 1)), n * m, reduction)


def _check_options(match: str, reduction: str, chunk_size: int | None) -> None:
    check_reduction(reduction)
    check_choice(match, ("shared", "equal"), "match")
    if chunk_size is not None:
        check_positive_int(chunk_size, "chunk_size")
