"""The second step of a search: real-valued codes put in order what Hamming distances picked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.codes import LEVELS

Bytes = NDArray[np.uint8]
Relaxed = NDArray[np.int8]
"""Relaxed codes ``[n, num_bits]`` as :func:`pyg_hash.codes.quantize` makes them."""

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


class Shortlist(NamedTuple):
    """What one query picked, in the order of items whose score and distance are the same.

    ``names`` are ids or what stands for them ``[n]``, ``packed`` their codes ``[n, bytes]``,
    ``relaxed`` their int8 codes ``[n, num_bits]`` where they are stored.
    """

    distances: NDArray[Any]
    names: NDArray[Any]
    packed: Bytes
    relaxed: Relaxed | None

    def best(self, query: NDArray[np.float64], k: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Places and scores of the k best: by score, then by distance, then as they come."""
        if self.relaxed is None:
            scores = _with_bits(self.packed, query)
        else:
            parts = np.split(self.relaxed, range(_ROWS, len(self.relaxed), _ROWS))
            scores = np.concatenate([part.astype(np.float64) @ query for part in parts]) / LEVELS
        order = np.lexsort((self.distances, -scores))[:k]
        return order, scores[order]


def _with_bits(packed: Bytes, query: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products with codes of ±1, byte by byte from a table."""
    padded = np.zeros(8 * packed.shape[1])
    padded[: len(query)] = query
    scores = np.zeros(len(packed))
    for table, column in zip(padded.reshape(-1, 8) @ _SIGNS.T, packed.T, strict=True):
        scores += table[column]
    return scores
