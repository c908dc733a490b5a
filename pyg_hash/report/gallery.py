"""Queries with what they find, and their cards on the page: the part without statistics."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from pyg_hash.features import UnreadableImageError
from pyg_hash.features.images import square_jpeg
from pyg_hash.index import HammingIndex
from pyg_hash.report.results import Results
from pyg_hash.runs import RunItems
from pyg_hash.typing import IMAGE, TEXT, Modality

_PIXELS, _QUALITY = 96, 80  # of a picture on a card


class Answer(NamedTuple):
    """Row number and Hamming distance of an item that was found.

    ``right``: whether it shares a label with the query; None for data without labels.
    """

    row: int
    distance: int
    right: bool | None


def gallery(
    results: Results,
    source: Modality,
    target: Modality,
    *,
    num_queries: int = 6,
    k: int = 8,
    seed: int = 0,
) -> list[tuple[int, list[Answer]]]:
    """Row numbers of some queries, drawn at random rather than for their looks, and their answers.

    Answers are nearest first, equal distances by row number. Where there are fewer queries than
    ``num_queries``, or fewer items than ``k``, all are taken.
    """
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
        rows.append((query, list(map(Answer, found.tolist(), far, right))))
    return rows


def thumbnail(path: str | os.PathLike[str]) -> str | None:
    """A small square JPEG of a picture as a ``data:`` address, or None if it cannot be read."""
    try:
        content = square_jpeg(path, _PIXELS, _QUALITY)
    except UnreadableImageError:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


def lacks(items: RunItems) -> list[str]:
    """What a run has not kept of its items, for people."""
    kinds = {"picture files": items.image_paths, "raw texts": items.texts}
    words = "This run came without {}: cards show names instead."
    return [words.format(kind) for kind, values in kinds.items() if not any(values)]


def gallery_section(
    results: Results, items: RunItems, *, num_queries: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """The gallery of both directions across modalities, and notes on what it lacks."""
    parts = [
        (*pair, gallery(results, *pair, num_queries=num_queries, seed=seed))
        for pair in ((TEXT, IMAGE), (IMAGE, TEXT))
    ]
    shown = [a.row for _, _, found in parts for _, answers in found for a in answers]
    shown += [query for query, _ in parts[1][2]]
    paths = dict.fromkeys(filter(None, (items.image_paths[row] for row in shown)))
    pictures = {path: thumbnail(path) for path in paths}
    words = (
        f"{len(parts[0][2])} queries of each modality, drawn at random (seed {seed}), with the "
        "nearest items of the database in the other modality. A card shows the Hamming distance; "
        "items at equal distance come in the order of their rows."
    )
    if results.labels is not None:
        words += " ✓ right: shares a label with the query. ✗ wrong: does not."
    notes = lacks(items)
    unreadable = [path for path, picture in pictures.items() if picture is None]
    if unreadable:
        notes.append(f"Pictures that cannot be read: {len(unreadable)} (first: {unreadable[0]}).")
    section = {"name": "gallery", "title": "What queries find", "words": words}
    return {**section, "gallery": parts, "pictures": pictures}, notes
