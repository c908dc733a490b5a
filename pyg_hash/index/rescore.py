"""The second step of a search: real-valued codes put in order what Hamming distances picked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.codes import LEVELS

_ROWS = 1 << 14  # items that are compared at a time
_SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1  # of each byte


class Rescored(NamedTuple):
    """What a search with ``rescore`` found, best first.

    Attributes:
        distances: Hamming distances, int32 ``[q, k]``; -1 where there are fewer items.
        ids: int64 ``[q, k]``, or an array of ``str``.
        scores: inner products of real-valued codes, float64 ``[q, k]``; -inf where there is none.
    """

    distances: Tensor
    ids: Any
    scores: Tensor


def best(
    query: NDArray[np.float64],
    distances: NDArray[Any],
    packed: NDArray[np.uint8],
    relaxed: NDArray[np.int8] | None,
    k: int,
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Places and scores of the k best: by score, then by distance, then as they come.

    Args:
        query: real-valued code ``[num_bits]``.
        distances: of items ``[n]``.
        packed: their codes ``[n, bytes]``.
        relaxed: their codes as :func:`pyg_hash.codes.quantize` makes them, ``[n, num_bits]``;
            None: the bits count.
        k: at least 1.
    """
    if relaxed is None:
        padded = np.zeros(8 * packed.shape[1])
        padded[: len(query)] = query
        scores = np.zeros(len(packed))
        for table, column in zip(padded.reshape(-1, 8) @ _SIGNS.T, packed.T, strict=True):
            scores += table[column]  # of each byte
    else:
        parts = np.split(relaxed, range(_ROWS, len(relaxed), _ROWS))
        scores = np.concatenate([part.astype(np.float64) @ query for part in parts]) / LEVELS
    order = np.lexsort((distances, -scores))[:k]
    return order, scores[order]
