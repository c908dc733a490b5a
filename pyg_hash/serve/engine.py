"""Answers to queries about one trained run; knows nothing of the web."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_hash.features.images import (
    MAX_PIXELS,
    UnreadableImageError,
    on_white,
    open_picture,
)
from pyg_hash.index import HammingIndex
from pyg_hash.models import HashModel
from pyg_hash.report.results import lacks
from pyg_hash.runs import IncompleteRunError, Run, RunItems
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, binarize
from pyg_hash.utils.files import CorruptFileError
from pyg_hash.utils.optional import require

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats from outside. Pillow knows dozens; each is code that a stranger's file would run."""

_EXAMPLES, _EXAMPLE_LETTERS = 6, 12


class QueryError(ValueError):
    """A query without an answer: words for the one who asked, and a status of HTTP."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answers:
    """What a query found.

    Attributes:
        modality: whose codes were searched.
        rows: row numbers of the items, best first: by score, by distance, by row number.
        distances: their Hamming distances.
        scores: inner products of real-valued codes; None where nothing is rescored.
        tied: how many items of the database are as far as the last answer.
        notes: what the one who asked should know, for example words without meaning to the model.
    """

    modality: Modality
    rows: list[int]
    distances: list[int]
    scores: list[float] | None
    tied: int
    notes: list[str] = field(default_factory=list)


class Question(NamedTuple):
    """Features ``[1, d]`` of a new item, the modality to search, how many answers, and notes."""

    features: Tensor
    target: Modality
    k: int
    notes: Sequence[str] = ()


class SearchEngine:
    """Searches the database of a run by words, by a picture, or by one of its own items.

    All methods may be called from several threads.

    Args:
        model: the trained model.
        items: ids, texts, picture paths and labels of all instances.
        indexes: codes of the database items by modality, under their row numbers.
        encoders: of raw items, for the modalities that have one.
        title: what the run is called.
        notes: what the run cannot do, for people.
        oversample: how many of the nearest items are rescored, times the number of answers (see
            :meth:`HammingIndex.search <pyg_hash.index.HammingIndex.search>`); None for none.
    """

    def __init__(
        self,
        model: HashModel,
        items: RunItems,
        indexes: Mapping[Modality, HammingIndex],
        encoders: Mapping[Modality, Any],
        *,
        title: str = "",
        notes: Sequence[str] = (),
        oversample: int | None = 4,
    ) -> None:
        self.model = model.eval()
        self.items = items
        self.indexes = indexes
        self.encoders = encoders
        self.title = title or type(model).__name__
        self.notes = list(notes)
        self.oversample = oversample

    @classmethod
    def of(
        cls,
        run: Run,
        model: HashModel,
        *,
        title: str = "",
        own: Mapping[Modality, Any] | None = None,
        oversample: int | None = 4,
        images_root: str | None = None,
    ) -> SearchEngine:
        """Read what a search needs from a run folder; what the run lacks is noted, not an error.

        Args:
            run: the folder.
            model: of the run.
            title: what the run is called.
            own: encoders of your own by modality, in place of those of the run.
            oversample: see the class.
            images_root: the folder of the pictures, if they have moved.

        Raises:
            CorruptFileError: a file of the run is damaged.
        """
        items = run.items(images_root)
        text = next((text for text in items.texts if text), "text")
        encoders, notes = find_encoders(run, model, own or {}, text)
        notes += lacks(items)
        indexes = {modality: run.index(modality) for modality in MODALITIES}
        for modality, index in indexes.items():
            ids = index.ids
            if len(index) == 0 or int(ids[0]) < 0 or int(ids[-1]) >= len(items):
                raise CorruptFileError(
                    f"{run.index_file(modality)}: does not fit the {len(items)} items of the run; "
                    "train it again"
                )
        return cls(model, items, indexes, encoders, title=title, notes=notes, oversample=oversample)

    def by_text(self, text: str, target: Modality, k: int) -> Answers:
        """Items nearest to some words; ``QueryError``: no encoder, or no word that it knows."""
        return self._only(TEXT, self.ask_text(text, target, k))

    def by_image(self, content: bytes, target: Modality, k: int) -> Answers:
        """Items nearest to a picture file's content; ``QueryError``: no encoder, or no picture."""
        return self._only(IMAGE, self.ask_image(content, target, k))

    def ask_text(self, text: str, target: Modality, k: int) -> Question:
        """The first half of :meth:`by_text`; :meth:`answers` is the second one."""
        encoder = self._encoder(TEXT)
        try:
            features = encoder([text])
        except (ValueError, OSError) as error:
            raise QueryError(re.sub(r"^texts:( text 0\b)?", "text:", str(error))) from error
        unknown = self._unknown_words(text)
        more = ", ..." if len(unknown) > 10 else ""
        note = f"Not in the vocabulary: {', '.join(unknown[:10])}{more}"
        return Question(features, target, k, [note] if unknown else [])

    def ask_image(self, content: bytes, target: Modality, k: int) -> Question:
        """The first half of :meth:`by_image`; :meth:`answers` is the second one."""
        encoder = self._encoder(IMAGE)
        try:
            return Question(encode_picture(encoder, decode(content)), target, k)
        except ValueError as error:
            raise QueryError(str(error)) from error

    def answers(self, source: Modality, asked: Sequence[Question]) -> list[Answers | Exception]:
        """Answers to questions about one kind of new items, coded together, or their exceptions."""
        relax = self.model.relax_image if source == IMAGE else self.model.relax_text
        try:
            relaxed = relax(torch.cat([question.features for question in asked]))
            codes = binarize(relaxed)
        except Exception as error:  # whose fault it is shows when each is asked alone
            if len(asked) > 1:
                return [answer for question in asked for answer in self.answers(source, [question])]
            return [QueryError(str(error)) if isinstance(error, ValueError | OSError) else error]
        found: dict[int, Answers | Exception] = {}
        for target, k in {(question.target, question.k) for question in asked}:
            rows = [row for row, q in enumerate(asked) if (q.target, q.k) == (target, k)]
            answers = self._nearest(codes[rows], relaxed[rows], target, k)
            for row, answer in zip(rows, answers, strict=True):
                answer.notes.extend(asked[row].notes)
                found[row] = answer
        return [found[row] for row in range(len(asked))]

    def _only(self, source: Modality, question: Question) -> Answers:
        answer = self.answers(source, [question])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def by_item(self, row: int, source: Modality, target: Modality, k: int) -> Answers:
        """Items nearest to the ``source`` code of an item; ``QueryError``: not in the database."""
        index = self.indexes[source]
        try:
            codes, relaxed = (get([row]) for get in (index.codes, index.relaxed))
        except ValueError as error:
            raise QueryError(f"item: {row} is not in the database of this run", 404) from error
        return self._nearest(codes, relaxed, target, k)[0]

    def describe(self, row: int) -> dict[str, Any]:
        """What is known of an item, as JSON values; ``QueryError`` if there is no such row."""
        if not 0 <= row < len(self.items):
            last = len(self.items) - 1
            raise QueryError(f"item: {row} is not there; rows are 0 to {last}", 404)
        return {
            "row": row,
            "id": self.items.ids[row],
            "text": self.items.texts[row],
            "labels": self.items.labels[row],
            "has_picture": self.items.image_paths[row] is not None,
        }

    def picture_path(self, row: int) -> str:
        """The picture file of an item; ``QueryError`` if there is no such row or picture."""
        if not self.describe(row)["has_picture"]:
            raise QueryError(f"item: {row} has no picture", 404)
        return str(self.items.image_paths[row])

    def about(self) -> dict[str, Any]:
        """The run as JSON values."""
        return {
            "title": self.title,
            "num_bits": self.model.num_bits,
            "items": len(self.items),
            "database": {str(m): len(index) for m, index in self.indexes.items()},
            "queries": [str(m) for m in MODALITIES if m in self.encoders],
            "first_item": int(self.indexes[IMAGE].ids[0]),
            "examples": self._examples() if TEXT in self.encoders else [],
            "notes": self.notes,
        }

    def _examples(self) -> list[str]:
        """Short names, best of one word, from all over the database; known words only."""
        rows = self.indexes[TEXT].ids.tolist()
        names = [(self.items.texts[row] or "").split(",")[0] for row in rows]
        texts = dict.fromkeys(" ".join(name.split()) for name in names)
        short = [text for text in texts if 0 < len(text) <= _EXAMPLE_LETTERS]
        words = [text for text in short if " " not in text]
        short = words if len(words) >= _EXAMPLES else short
        few = short[:: max(1, len(short) // (8 * _EXAMPLES))]
        known = [text for text in few if not self._unknown_words(text)]
        return known[:: max(1, len(known) // _EXAMPLES)][:_EXAMPLES]

    def _unknown_words(self, text: str) -> list[str]:
        """Words that mean nothing to the text encoder, if it can tell."""
        encoder = self.encoders[TEXT]
        return list(encoder.unknown_words(text)) if hasattr(encoder, "unknown_words") else []

    def _encoder(self, modality: Modality) -> Any:
        if modality not in self.encoders:
            known = " or ".join(m for m in MODALITIES if m in self.encoders)
            instead = f"with {known}" if known else "by its items"
            raise QueryError(
                f"{modality}: this run has no {modality} encoder; search {instead} instead"
            )
        return self.encoders[modality]

    def _nearest(self, codes: Tensor, relaxed: Tensor, target: Modality, k: int) -> list[Answers]:
        """The best ``k`` items for each code."""
        index = self.indexes[target]
        k, scores = min(k, len(index)), None
        if self.oversample is None:
            distances, rows = index.search(codes, k)
        else:
            best = index.search(codes, k, rescore=relaxed, oversample=self.oversample)
            distances, rows, scores = best.distances, best.ids, best.scores.tolist()
        tied = index.count_at(codes, distances[:, -1]).tolist()
        return [
            Answers(target, *found)
            for found in zip(
                rows.tolist(),
                distances.tolist(),
                [None] * len(codes) if scores is None else scores,
                tied,
                strict=True,
            )
        ]


def find_encoders(
    run: Run, model: HashModel, own: Mapping[Modality, Any], text: str
) -> tuple[dict[Modality, Any], list[str]]:
    """Encoders that encoded an item each, and a note on each that is missing or does not work."""
    encoders, notes = {}, []
    encode = {IMAGE: model.encode_image, TEXT: model.encode_text}
    for modality, name in ((IMAGE, "pictures"), (TEXT, "words")):
        try:
            encoder = own[modality] if modality in own else run.encoder(modality)
            if hasattr(encoder, "progress"):
                encoder.progress = False
            features = None
            with suppress(ValueError):  # it works, and does not like what it was given
                if modality == TEXT:
                    features = encoder([text])
                else:
                    image = require("PIL.Image", "pillow", extra="serve")
                    features = encode_picture(encoder, image.new("RGB", (64, 64), "gray"))
            if features is not None:
                encode[modality](features)
        except IncompleteRunError:
            notes.append(
                f"This run has no {modality} encoder, for its data came as features: "
                f"it cannot be searched with {name} of your own."
            )
        except Exception as error:  # a package or weights are missing, another width, a fault in it
            notes.append(f"No search with {name} of your own: {error}")
        else:
            encoders[modality] = encoder
    return encoders, notes


def decode(content: bytes) -> Any:
    """A picture file as RGB on white, turned as its EXIF says; else ``UnreadableImageError``."""
    module = require("PIL.Image", "pillow", extra="serve")
    try:
        with open_picture(io.BytesIO(content), FORMATS) as picture:
            return on_white(picture)
    except module.DecompressionBombError as error:
        raise UnreadableImageError(
            f"image: too many pixels; make it smaller, at most {MAX_PIXELS:,} are read"
        ) from error
    except Exception as error:  # a decoder in front of arbitrary bytes raises nearly anything
        raise UnreadableImageError(
            f"image: cannot be read as a picture; send one of {', '.join(FORMATS)}"
        ) from error


def encode_picture(encoder: Any, picture: Any) -> Tensor:
    """Features ``[1, d]`` of a picture, for encoders take files; ``ValueError`` of theirs."""
    with tempfile.TemporaryDirectory(prefix="pyg_hash-") as folder:
        path = Path(folder) / "query.ppm"  # pixels as they are
        picture.save(path)
        try:
            features: Tensor = encoder([path])
        except (ValueError, OSError) as error:
            raise ValueError(str(error).replace(str(path), "image")) from error
    return features
