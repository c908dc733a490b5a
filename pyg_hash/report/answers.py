"""Queries with what they find, and their cards on the page: the part without statistics."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pyg_hash.features import UnreadableImageError
from pyg_hash.features.images import square_jpeg
from pyg_hash.index import HammingIndex
from pyg_hash.report.markup import Html, Section, element, joined
from pyg_hash.report.results import Results, direction_name
from pyg_hash.runs import RunItems
from pyg_hash.typing import IMAGE, TEXT, Modality
from pyg_hash.utils.checks import check_positive_int

_PIXELS, _QUALITY = 96, 80  # of a picture on a card
_LETTERS = 160  # of a text on a card
_MARKS: Mapping[bool | None, tuple[str, str]] = {
    True: ("right", "✓ right"),
    False: ("wrong", "✗ wrong"),
    None: ("", ""),
}


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
    """The row number of a query, and its answers: nearest first, equal distances by row number."""

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
        rows.append(GalleryRow(query, list(map(Answer, found.tolist(), far, right))))
    return rows


def thumbnail(path: str | os.PathLike[str]) -> str | None:
    """A small square JPEG of a picture as a ``data:`` address, or None if it cannot be read."""
    try:
        content = square_jpeg(path, _PIXELS, _QUALITY)
    except UnreadableImageError:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


def gallery_section(
    results: Results, items: RunItems, *, num_queries: int, seed: int
) -> tuple[Section, list[str]]:
    """The gallery of both directions across modalities, and notes on what it lacks."""
    cards = _Cards(items)
    parts = []
    for source, target in ((TEXT, IMAGE), (IMAGE, TEXT)):
        rows = gallery(results, source, target, num_queries=num_queries, seed=seed)
        parts.append(element("h3", direction_name(source, target).capitalize()))
        for row in rows:
            answers = [cards.answer(answer, target) for answer in row.answers]
            listed = element("ol", answers, class_=f"answers {target}s")
            query = cards.query(row.query, source)
            parts.append(element("article", query, listed, class_="asked"))
    words = (
        f"{len(rows)} queries of each modality, drawn at random (seed {seed}), with the nearest "
        "items of the database in the other modality. A card shows the Hamming distance; items at "
        "equal distance come in the order of their rows."
    )
    if results.labels is not None:
        words += " ✓ right: shares a label with the query. ✗ wrong: does not."
    notes = []
    for kind, values in (("picture files", items.image_paths), ("raw texts", items.texts)):
        if not any(values):
            notes.append(f"This run came without {kind}: cards show names instead.")
    if cards.unreadable:
        first, *_ = cards.unreadable
        notes.append(f"Pictures that cannot be read: {len(cards.unreadable)} (first: {first}).")
    return Section("gallery", "What queries find", joined(element("p", words), parts)), notes


class _Cards:
    """Makes cards and remembers which pictures could not be read."""

    def __init__(self, items: RunItems) -> None:
        self.items = items
        self.unreadable: dict[str, None] = {}  # in order

    def query(self, row: int, modality: Modality) -> Html:
        """What was asked: a picture or a text, never both, for the code knows only one."""
        shown = self._picture(row) if modality == IMAGE else self._words(row)
        return element("div", shown, self._labels(row), class_="query")

    def answer(self, answer: Answer, modality: Modality) -> Html:
        """What was found: first the modality that was searched, then the other one."""
        kind, words = _MARKS[answer.right]
        mark = [element("span", words, class_="mark"), " "] if words else []
        distance = element("p", mark, f"distance {answer.distance}")
        shown = [self._words(answer.row)]
        if self.items.image_paths[answer.row]:  # else the name, once, is enough
            shown.insert(0 if modality == IMAGE else 1, self._picture(answer.row))
        style = f"card {modality}s {kind}".strip()
        return element("li", distance, shown, self._labels(answer.row), class_=style)

    def _labels(self, row: int) -> Html:
        return element("p", ", ".join(self.items.labels[row]), class_="soft")

    def _words(self, row: int) -> Html:
        text = " ".join((self.items.texts[row] or self.items.ids[row]).split())
        if len(text) > _LETTERS:
            text = text[: _LETTERS - 1] + "…"
        return element("p", text, class_="words")

    def _picture(self, row: int) -> Html:
        path, name = self.items.image_paths[row], self.items.ids[row]
        if path is None:
            return element("div", name, class_="none")
        data = thumbnail(path)
        if data is None:
            self.unreadable[path] = None
            return element("div", f"{name}: not readable", class_="none")
        return element("img", src=data, alt=f"picture {name}", width="96", height="96")
