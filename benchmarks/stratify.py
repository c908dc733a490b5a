"""Stratified splits of multi-label rows into parts of exact sizes."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt


def iterative_split(
    labels: npt.NDArray[np.uint8], sizes: Mapping[str, int], *, seed: int
) -> dict[str, list[int]]:
    """Split rows so that every part has its share of every label.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML PKDD 2011, Algorithm 1): the rows
    of the rarest label that is left are dealt first, each to the part that lacks that label most
    (ties: the part that lacks most rows, then by name). A full part gets no more rows, so sizes
    are exact.

    Args:
        labels: zeros and ones ``[N, C]``, at least one a row.
        sizes: part -> number of rows; they sum to N.
        seed: seed of the order of rows.

    Returns:
        Part -> sorted row numbers.

    Raises:
        ValueError: a row without label, or sizes that do not sum to N.
    """
    num_rows = len(labels)
    if sum(sizes.values()) != num_rows:
        raise ValueError(f"sizes: sum to {sum(sizes.values())}, expected {num_rows} (rows)")
    bare = np.flatnonzero(labels.sum(axis=1) == 0)
    if len(bare):
        raise ValueError(f"labels: {len(bare)} rows have none (first: row {bare[0]}); drop them")
    order = list(range(num_rows))
    random.Random(seed).shuffle(order)
    total = labels.sum(axis=0, dtype=np.int64)
    wanted = {part: total * (size / num_rows) for part, size in sizes.items()}
    room = dict(sizes)
    parts: dict[str, list[int]] = {part: [] for part in sizes}
    left = total.copy()
    free = np.ones(num_rows, dtype=bool)
    while left.any():
        label = int(np.where(left > 0, left, num_rows + 1).argmin())
        for row in order:
            if not free[row] or not labels[row, label]:
                continue
            part = max(
                (part for part in sorted(room) if room[part] > 0),
                key=lambda part: (wanted[part][label], room[part]),
            )
            parts[part].append(row)
            room[part] -= 1
            wanted[part] = wanted[part] - labels[row]
            left -= labels[row]
            free[row] = False
    return {part: sorted(rows) for part, rows in parts.items()}
