"""Random mini-batches."""

from __future__ import annotations

import torch
from torch import Tensor


def random_batches(rows: Tensor, batch_size: int) -> list[Tensor]:
    """A random partition of the positions of ``rows``; no batch has less than two.

    A last batch of one joins the one before: a single row has no pairs, and no variance that
    batch normalisation could divide by. The order is drawn from torch's global generator.

    Args:
        rows: ``[n]``, with ``n >= 2``; only its length and device matter.
        batch_size: positions of a batch, at least 2.

    Returns:
        int64 positions ``0 .. n - 1``, on the device of ``rows``.
    """
    order = torch.randperm(rows.numel()).to(rows.device)
    batches = list(torch.split(order, batch_size))
    if batches[-1].numel() == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
