"""The second step of a search: real-valued codes put in order what Hamming distances picked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.utils.checks import check_floats

Bytes = NDArray[np.uint8]
Relaxed = NDArray[np.int8]
"""Relaxed codes ``[n, num_bits]`` in steps of 1 / 127, none of them 0."""

LEVELS = 127
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


def check_relaxed(relaxed: Tensor, name: str, rows: int, num_bits: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless these are finite floats ``[rows, num_bits]``."""
    if not isinstance(relaxed, Tensor):
        kind = type(relaxed).__name__
        raise TypeError(f"{name}: expected a floating-point tensor [n, num_bits], got {kind}")
    check_floats(relaxed, name)
    if relaxed.shape != (rows, num_bits):
        raise ValueError(
            f"{name}: expected shape [{rows}, {num_bits}], a row a code, got {list(relaxed.shape)}"
        )
    if not bool(relaxed.isfinite().all()):
        raise ValueError(f"{name}: contains NaN or inf; did training diverge?")


def exact_queries(relaxed: Tensor) -> NDArray[np.float64]:
    """Relaxed codes ``[q, num_bits]`` to 38 binary places or so, as far as sums of them are exact.

    Products with int8 then add up without rounding, in whatever order and company, so that items
    with equal codes have equal scores; it moves a score by less than 1e-9 of its largest value.
    """
    query = relaxed.detach().double().cpu().numpy()
    places = 52 - 7 - query.shape[1].bit_length()  # a float64 has 52, an int8 takes 7
    shift = places - np.frexp(np.abs(query).max(1, keepdims=True))[1]
    exact: NDArray[np.float64] = np.ldexp(np.rint(np.ldexp(query, shift)), -shift)
    return exact


def quantized(relaxed: Tensor, packed: Bytes) -> Relaxed:
    """Checked relaxed codes in steps of 1 / 127; what rounds to 0 is one step, of the code's sign.

    ``ValueError``: beyond [-1, 1], or of another sign than the code.
    """
    values = relaxed.detach().double().cpu()
    if bool((values.abs() > 1).any()):
        raise ValueError(
            f"relaxed: goes up to {float(values.abs().max()):g}; expected values in [-1, 1], as "
            "models give them"
        )
    steps: Relaxed = values.mul(LEVELS).round().to(torch.int8).numpy()
    signs = np.unpackbits(packed, axis=1, count=steps.shape[1]).astype(np.int8) * 2 - 1
    (wrong,) = np.nonzero((steps * signs < 0).any(1))
    if len(wrong):
        raise ValueError(
            f"relaxed: {len(wrong)} rows have other signs than their codes (first: row "
            f"{wrong[0]}); give codes and relaxed codes of one pass, codes = binarize(relaxed)"
        )
    return np.where(steps == 0, signs, steps)
