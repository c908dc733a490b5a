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
_LETTERS = 160  # of a text on a card

Shown = tuple[dict[str, str | None] | None, str]
"""A picture, or None and a text."""


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
    cards = _Cards(items)
    parts = []
    for source, target in ((TEXT, IMAGE), (IMAGE, TEXT)):
        found = gallery(results, source, target, num_queries=num_queries, seed=seed)
        rows = [
            (cards.query(row, source), [cards.answer(answer, target) for answer in answers])
            for row, answers in found
        ]
        parts.append((f"{source.capitalize()} to {target}", target, rows))
    words = (
        f"{len(rows)} queries of each modality, drawn at random (seed {seed}), with the nearest "
        "items of the database in the other modality. A card shows the Hamming distance; items at "
        "equal distance come in the order of their rows."
    )
    if results.labels is not None:
        words += " ✓ right: shares a label with the query. ✗ wrong: does not."
    notes = lacks(items)
    if cards.unreadable:
        first, *_ = cards.unreadable
        notes.append(f"Pictures that cannot be read: {len(cards.unreadable)} (first: {first}).")
    title = "What queries find"
    return {"name": "gallery", "title": title, "words": words, "gallery": parts}, notes


class _Cards:
    """What cards show; remembers which pictures could not be read."""

    def __init__(self, items: RunItems) -> None:
        self.items = items
        self.unreadable: dict[str, None] = {}  # in order

    def query(self, row: int, modality: Modality) -> dict[str, Any]:
        """What was asked: a picture or a text, never both, for the code knows only one."""
        shown = self._picture(row) if modality == IMAGE else self._words(row)
        return {"shown": [shown], "labels": ", ".join(self.items.labels[row])}

    def answer(self, answer: Answer, modality: Modality) -> dict[str, Any]:
        """What was found: first the modality that was searched, then the other one."""
        shown = [self._words(answer.row)]
        if self.items.image_paths[answer.row]:  # else the name, once, is enough
            shown.insert(0 if modality == IMAGE else 1, self._picture(answer.row))
        return {
            "mark": "" if answer.right is None else "right" if answer.right else "wrong",
            "distance": answer.distance,
            "shown": shown,
            "labels": ", ".join(self.items.labels[answer.row]),
        }

    def _words(self, row: int) -> Shown:
        text = " ".join((self.items.texts[row] or self.items.ids[row]).split())
        return None, text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"

    def _picture(self, row: int) -> Shown:
        path, name = self.items.image_paths[row], self.items.ids[row]
        if path is None:
            return {"src": None, "alt": name}, ""
        source = thumbnail(path)
        if source is None:
            self.unreadable[path] = None
        words = f"picture {name}" if source else f"{name}: not readable"
        return {"src": source, "alt": words}, ""
