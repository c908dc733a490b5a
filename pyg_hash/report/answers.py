"""Queries with what they find: the part of a report that needs no statistics."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pyg_hash.features import UnreadableImageError
from pyg_hash.features.images import square_jpeg
from pyg_hash.index import HammingIndex
from pyg_hash.report.results import Results
from pyg_hash.typing import Modality
from pyg_hash.utils.checks import check_positive_int

_PIXELS = 96
_QUALITY = 80


@dataclass(frozen=True)
class Answer:
    """One item that was found.

    Attributes:
        row: its row number.
        distance: its Hamming distance to the query.
        right: whether it shares a label with the query; None for data without labels.
    """

    row: int
    distance: int
    right: bool | None


@dataclass(frozen=True)
class GalleryRow:
    """One query and the items nearest to it.

    Attributes:
        query: row number of the query.
        answers: nearest first; equal distances by row number.
    """

    query: int
    answers: list[Answer]


def gallery(
    results: Results,
    source: Modality,
    target: Modality,
    *,
    num_queries: int = 6,
    k: int = 8,
    seed: int = 0,
) -> list[GalleryRow]:
    """Search the database with some queries, drawn at random rather than for their looks.

    Args:
        results: codes, labels and splits.
        source: the modality that asks.
        target: the modality that is searched.
        num_queries: how many; all of them if there are fewer.
        k: answers to each; all items if there are fewer.
        seed: of the draw.

    Raises:
        TypeError, ValueError: ``num_queries`` or ``k`` not a positive integer.
    """
    check_positive_int(num_queries, "num_queries")
    check_positive_int(k, "k")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(results.query.numel(), generator=generator)[:num_queries]
    queries = results.query[drawn]
    index = HammingIndex(results.num_bits)
    index.add(results.codes[target][results.database], ids=results.database)
    distances, ids = index.search(results.codes[source][queries], min(k, len(index)))
    rows = []
    for query, found, far in zip(queries.tolist(), ids, distances.tolist(), strict=True):
        right: Sequence[bool | None] = [None] * found.numel()
        if results.labels is not None:
            right = results.relevant(source, query, target, found)
        parts = zip(found.tolist(), far, right, strict=True)
        rows.append(GalleryRow(query, [Answer(*part) for part in parts]))
    return rows


def thumbnail(path: str | os.PathLike[str]) -> str | None:
    """A small square JPEG of a picture as a ``data:`` address, or None if it cannot be read.

    Raises:
        ImportError: Pillow is not installed.
    """
    try:
        content = square_jpeg(path, _PIXELS, _QUALITY)
    except UnreadableImageError:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
