"""Fusion of two modalities by reweighting each with the other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pyg_hash.utils.checks import check_choice, check_positive_int

FusionNorm = Literal["max", "softmax"]


def reweighted_fusion(
    image: Tensor, text: Tensor, *, norm: FusionNorm = "max", chunk_size: int = 1024
) -> Tensor:
    r"""Fused features :math:`f_r`, each modality reweighted by its relation to the other.

    Eq. (6) of Xu et al. (GCH), IJCAI 2019. As printed, :math:`f \times \tilde W` with
    :math:`\tilde W = \mathrm{norm}(f^x f^{y\top})`, the shapes do not multiply; this is what its
    released code computes:

    .. math::
        f_r = \tfrac{1}{2} \left( \tilde W^\top f^x + \tilde W f^y \right)

    ``norm='max'`` divides by the largest entry, so that the products can be taken from the right,
    :math:`f^y (f^{x\top} f^x) / \max`, in :math:`O(N d^2)` time; the largest entry itself is found
    in chunks. No array of instances by instances is made in either case.

    Args:
        image: image features :math:`f^x`, float ``[N, d]``.
        text: text features :math:`f^y` of the same instances, same dtype, ``[N, d]``.
        norm: ``'max'``; where no entry is positive, nothing is divided, because a negative
            divisor would turn every relation around. Or ``'softmax'``: each row of the two weight
            matrices is the softmax of its entries divided by :math:`\sqrt d`, as in Vaswani et
            al., "Attention is all you need".
        chunk_size: rows of the weight matrix at a time.

    Returns:
        float ``[N, d]``.

    Raises:
        ValueError: shapes that differ, or an unknown ``norm``.
    """
    check_choice(norm, ("max", "softmax"), "norm")
    check_positive_int(chunk_size, "chunk_size")
    if image.shape != text.shape or image.dim() != 2:
        raise ValueError(
            f"image and text: shapes {list(image.shape)} and {list(text.shape)}; fusion needs "
            "features of the same instances, equally wide"
        )
    if norm == "softmax":
        first = _attend(text, image, chunk_size)
        second = _attend(image, text, chunk_size)
        return 0.5 * (first + second)
    total = text @ (image.t() @ image) + image @ (text.t() @ text)
    return 0.5 * total / _divisor(image, text, chunk_size)


def _divisor(image: Tensor, text: Tensor, chunk_size: int) -> Tensor:
    """The largest entry of ``image text^T``, differentiable; 1 if there is no positive one.

    Nothing here waits for a GPU.
    """
    n = text.size(0)
    with torch.no_grad():
        tops = []
        for start in range(0, image.size(0), chunk_size):
            product = (image[start : start + chunk_size] @ text.t()).flatten()
            value, place = product.max(dim=0)
            tops.append(torch.stack((value.double(), (place + start * n).double())))
        value, place = torch.stack(tops).unbind(1)
        best = value.argmax()
        top = place[best].long()  # float64 is exact up to 2^53 entries
    entry = (image.index_select(0, top[None] // n) * text.index_select(0, top[None] % n)).sum()
    return torch.where(value[best] > 0, entry, torch.ones_like(entry))


def _attend(query: Tensor, key: Tensor, chunk_size: int) -> Tensor:
    """``softmax(query key^T / sqrt(d)) key``; the backward pass computes each chunk again."""
    parts = []
    for rows in torch.split(query, chunk_size):
        if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
            parts.append(checkpoint(_attend_rows, rows, key, use_reentrant=False))
        else:
            parts.append(_attend_rows(rows, key))
    return torch.cat(parts)


def _attend_rows(query: Tensor, key: Tensor) -> Tensor:
    weights = torch.softmax(query @ key.t() / key.size(1) ** 0.5, dim=1)
    return weights @ key
