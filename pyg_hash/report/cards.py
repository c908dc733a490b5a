"""The gallery as HTML: a card for each query and each answer."""

from __future__ import annotations

from collections.abc import Mapping

from pyg_hash.report.answers import Answer, GalleryRow, gallery, thumbnail
from pyg_hash.report.markup import Html, Section, element, joined
from pyg_hash.report.results import Results, direction_name
from pyg_hash.runs import RunItems
from pyg_hash.typing import IMAGE, TEXT, Modality

_LETTERS = 160  # of a text on a card
_MARKS: Mapping[bool | None, tuple[str, str, str]] = {
    True: ("right", "✓", "right"),
    False: ("wrong", "✗", "wrong"),
    None: ("", "", ""),
}


class Cards:
    """Makes cards and remembers which pictures could not be read.

    Args:
        items: ids, texts, picture paths and labels of all instances.
    """

    def __init__(self, items: RunItems) -> None:
        self.items = items
        self.unreadable: list[str] = []

    def query(self, row: int, modality: Modality) -> Html:
        """What was asked: a picture or a text, never both, for the code knows only one."""
        shown = self._picture(row) if modality == IMAGE else self._words(row)
        return element("div", shown, element("p", self._labels(row), class_="soft"), class_="query")

    def answer(self, answer: Answer, modality: Modality) -> Html:
        """What was found: first the modality that was searched, then the other one."""
        kind, sign, word = _MARKS[answer.right]
        mark = [element("span", f"{sign} {word}", class_="mark"), " "] if sign else []
        distance = element("p", mark, f"distance {answer.distance}")
        shown = [self._words(answer.row)]
        if self.items.image_paths[answer.row]:  # else the name, once, is enough
            shown.insert(0 if modality == IMAGE else 1, self._picture(answer.row))
        labels = element("p", self._labels(answer.row), class_="soft")
        return element("li", distance, shown, labels, class_=f"card {modality}s {kind}".strip())

    def _labels(self, row: int) -> str:
        return ", ".join(self.items.labels[row])

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
            if path not in self.unreadable:
                self.unreadable.append(path)
            return element("div", f"{name}: not readable", class_="none")
        return element("img", src=data, alt=f"picture {name}", width="96", height="96")


def gallery_section(
    results: Results, items: RunItems, *, num_queries: int, seed: int
) -> tuple[Section, list[str]]:
    """The gallery of both directions across modalities, and notes on what it lacks."""
    cards = Cards(items)
    parts = []
    for source, target in ((TEXT, IMAGE), (IMAGE, TEXT)):
        rows = gallery(results, source, target, num_queries=num_queries, seed=seed)
        parts.append(element("h3", direction_name(source, target).capitalize()))
        parts += [_asked(cards, row, source, target) for row in rows]
    words = (
        f"{len(rows)} queries of each modality, drawn at random (seed {seed}), with the nearest "
        "items of the database in the other modality. A card shows the Hamming distance; items at "
        "equal distance come in the order of their rows."
    )
    if results.labels is not None:
        words += " ✓ right: shares a label with the query. ✗ wrong: does not."
    notes = []
    if not any(items.image_paths):
        notes.append("This run came without picture files: cards show names instead.")
    if not any(items.texts):
        notes.append("This run came without raw texts: cards show names instead.")
    if cards.unreadable:
        first = cards.unreadable[0]
        notes.append(f"Pictures that cannot be read: {len(cards.unreadable)} (first: {first}).")
    return Section("gallery", "What queries find", joined(element("p", words), parts)), notes


def _asked(cards: Cards, row: GalleryRow, source: Modality, target: Modality) -> Html:
    answers = [cards.answer(answer, target) for answer in row.answers]
    return element(
        "article",
        cards.query(row.query, source),
        element("ol", joined(answers), class_=f"answers {target}s"),
        class_="asked",
    )
