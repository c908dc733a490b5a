"""Answers to queries about one trained run; knows nothing of the web."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_hash.index import HNSW, IVF, HammingIndex
from pyg_hash.index.base import CodeStore
from pyg_hash.models import HashModel
from pyg_hash.models.signs import signed_new
from pyg_hash.runs import CATALOG, NAME, IncompleteRunError, Run, picture_file
from pyg_hash.serve.guard import FORMATS, QueryError
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, binarize, other
from pyg_hash.utils.checks import check_collection, check_mapping, check_positive_int
from pyg_hash.utils.files import CorruptFileError, bad_text, load_tensors, save_tensors
from pyg_hash.utils.locks import BusyError, Lock
from pyg_hash.utils.pictures import decode
from pyg_hash.utils.provenance import check_model

_EXAMPLES, _EXAMPLE_LETTERS, _EXAMPLE_ITEMS = 6, 12, 2000
_PATIENCE = 5.0  # seconds, with another process that changes the same two stores
_REPLACED = "items: the run was replaced by one of another model; restart it: this has the old"
_STRETCH = 25  # answers: fewer are the first of these
OWN = ("text", "image", "labels")  # fields that every answer has by name


@dataclass(frozen=True)
class Answers:
    """What a query found, best first: by score, by distance, by id."""

    modality: Modality  #: whose codes were searched
    #: ids in the index, which are row numbers of the items where a run has no catalogue
    rows: list[Any]
    distances: list[int]  #: their Hamming distances
    scores: list[float] | None  #: inner products of real-valued codes; None: nothing is rescored
    #: items of the database, or of what the filter leaves of it, as far as the last answer
    tied: int
    items: list[dict[str, Any]]  #: what is known of each, as :meth:`SearchEngine.describe` has it
    #: what the one who asked should know, for example words without meaning to the model
    notes: list[str] = field(default_factory=list)


class Wanted(NamedTuple):
    """Which answers; pages of one length follow each other without gaps."""

    target: Modality  #: whose codes are searched
    k: int  #: how many
    offset: int = 0  #: after how many others
    where: str | None = None  #: a filter, as of ``HammingIndex.search``; an empty one is none


class Question(NamedTuple):
    """Features ``[1, d]`` of a new item, which answers, and notes."""

    features: Tensor
    wanted: Wanted
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class NewItem:
    """An item to add: id, features ``[1, d]`` by modality, values of fields, a picture as JPEG."""

    id: str
    features: Mapping[Modality, Tensor]
    values: Mapping[str, Any] = field(default_factory=dict)
    picture: bytes | None = None


@dataclass(eq=False, repr=False)
class SearchEngine:
    """Searches a run by words, by a picture, or by one of its own items; threads may share it."""

    model: HashModel  #: the trained model
    #: what is searched, by modality, with fields of what is known of the items; or twice one store
    indexes: Mapping[Modality, CodeStore]
    encoders: Mapping[Modality, Any]  #: of raw items, for the modalities that have one
    _: KW_ONLY
    title: str = ""  #: what the run is called
    notes: Sequence[str] = ()  #: what the run cannot do, for people
    #: how many of the nearest items are rescored, times the number of answers (see
    #: :meth:`HammingIndex.search <pyg_hash.index.HammingIndex.search>`); None for none
    oversample: int | None = 4
    #: the folder that pictures are below; None: absolute paths alone lead to one, wherever it is
    images_root: str | None = None
    outside: bool = False  #: whether absolute paths lead out of ``images_root``
    added: Path | None = None  #: the folder for pictures of added items
    force: bool = False  #: whether codes of another model, or of several, are searched too

    def __post_init__(self) -> None:
        check_mapping(self.indexes, "indexes")
        check_collection(self.notes, "notes")
        check_mapping(self.encoders, "encoders")
        if self.oversample is not None:
            check_positive_int(self.oversample, "oversample")
        kinds = {"model": (self.model, HashModel), "title": (self.title, str)}
        kinds |= {f"indexes[{m!r}]": (self.indexes.get(m), CodeStore) for m in MODALITIES}
        for name, (value, kind) in kinds.items():
            if not isinstance(getattr(value, "_orig_mod", value), kind):  # or a compiled model
                raise TypeError(f"{name}: expected a {kind.__name__}, got {value!r:.99}")
        self.model, indexes = self.model.eval(), self.indexes
        self.title, self.notes = self.title or type(self.model).__name__, [*self.notes]
        self.is_one = indexes[IMAGE] is indexes[TEXT]
        self._turns, self._changes = _Turns(), threading.Lock()
        self._about: dict[str, Any] | None = None  # until items change
        self.was_replaced = False  # whether a change met stores of another model at their place
        path = getattr(indexes[IMAGE], "path", None)
        for modality, index in indexes.items():
            own = getattr(index, "modality", None) or modality
            if own != modality and not self.is_one:
                told = f"holds codes of the other modality, {own}; give each its own"
                raise ValueError(f"indexes: that of {modality} {told}")
            self._check_model(modality, index)
        both = all(isinstance(index, HammingIndex) for index in indexes.values())
        # what a change makes of two stores, until both have it
        self._before = Path(f"{path}.before") if path and both and not self.is_one else None

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
        store: CodeStore | None = None,
        force: bool = False,
    ) -> SearchEngine:
        """Read what a search needs from a run folder; what the run lacks is noted, not an error.

        What is searched is the store, else the run's catalogue, else its index files.

        Args:
            run: the folder.
            model: of the run.
            title: what the run is called.
            own: encoders of your own by modality, in place of those of the run.
            oversample: see the class.
            images_root: the folder of the pictures, if they have moved. Else relative paths, also
                those of a store, are below that of the catalogue.
            store: an open store of codes of this model.
            force: see the class.

        Raises:
            CorruptFileError: a file of the run is damaged.
            ValueError: what is searched has codes of another model.
        """
        added, lacks, text = None, list[str](), "text"
        outside = store is not None and images_root is None  # its owner's own paths
        indexes: Mapping[Modality, CodeStore]
        if store is not None:
            indexes = dict.fromkeys(MODALITIES, store)
            if images_root is None and run.has_catalog:
                images_root = run.pictures_root()
            added = Path(getattr(store, "path", None) or run.path / CATALOG).with_name("added")
        elif run.has_catalog:
            indexes = {modality: run.catalog(modality) for modality in MODALITIES}
            images_root, added = run.pictures_root(images_root), run.path / CATALOG / "added"
        else:
            items = run.items(images_root)
            images_root = run.pictures_root(images_root) or None
            indexes = {modality: run.searched(modality, items) for modality in MODALITIES}
            for index in indexes.values():
                index.hidden = (IMAGE,)  # absolute paths
            lacks, text = items.lacks(), next(filter(None, items.texts), text)
        if images_root and not os.path.isdir(images_root):
            told = "is gone: nothing in it is shown; --images_root says where it is now"
            lacks.append(f"The folder of pictures {told}")
        encoders, notes = find_encoders(run, model, own or {}, text)
        more: Any = {"title": title, "oversample": oversample, "images_root": images_root}
        more |= {"outside": outside, "added": added, "force": force}
        engine = cls(model, indexes, encoders, notes=notes + lacks, **more)
        try:
            engine.recover()
        except (OSError, QueryError) as error:
            told = _Fault(f"A change that was interrupted is half done: {error}")
            engine.notes = [*engine.notes, told]
        return engine

    # queries ---------------------------------------------------------------------------------

    def by_text(self, text: str, target: Modality, k: int) -> Answers:
        """Items nearest to some words; ``QueryError``: no encoder, or no word that it knows."""
        return self._only(TEXT, self.ask_text(text, Wanted(target, k)))

    def by_image(self, content: bytes, target: Modality, k: int) -> Answers:
        """Items nearest to a picture file's content; ``QueryError``: no encoder, or no picture."""
        self.encoder(IMAGE)
        with tempfile.TemporaryDirectory(prefix="pyg_hash-") as folder:
            path = Path(folder) / "query.ppm"  # pixels as they are
            try:
                decode(io.BytesIO(content), FORMATS).save(path)
            except ValueError as error:
                raise QueryError(str(error)) from error
            return self._only(IMAGE, Question(self.features(IMAGE, path), Wanted(target, k)))

    def ask_text(self, text: str, wanted: Wanted) -> Question:
        """The first half of :meth:`by_text`; :meth:`answers` is the second one."""
        features, unknown = self.features(TEXT, text), self._unknown_words(text)
        more = ", ..." if len(unknown) > 10 else ""
        note = f"Not in the vocabulary: {', '.join(unknown[:10])}{more}"
        return Question(features, wanted, [note] if unknown else [])

    def features(self, modality: Modality, item: str | Path) -> Tensor:
        """Features ``[1, d]`` of words or a picture file; ``QueryError``: no encoder takes it."""
        encoder = self.encoder(modality)
        try:
            features: Tensor = encoder([item])
        except (ValueError, OSError) as error:
            told = str(error).replace(str(item), IMAGE) if modality == IMAGE else str(error)
            raise QueryError(re.sub(r"^texts:( text 0\b)?", "text:", told)) from error
        return features

    def answers(self, source: Modality, asked: Sequence[Question]) -> list[Answers | Exception]:
        """Answers to questions about one kind of new items, coded together, or their exceptions."""
        try:
            features = torch.cat([question.features for question in asked])
            relaxed = signed_new(self.model, features, source)
        except Exception as error:  # whose fault it is shows when each is asked alone
            if len(asked) > 1:
                return [answer for question in asked for answer in self.answers(source, [question])]
            return [QueryError(str(error)) if isinstance(error, ValueError | OSError) else error]
        found: dict[int, Answers | Exception] = {}
        for wanted in dict.fromkeys(question.wanted for question in asked):
            rows = [row for row, question in enumerate(asked) if question.wanted == wanted]
            try:
                answers = self.nearest(relaxed[rows], wanted)
            except QueryError as error:
                found.update(dict.fromkeys(rows, error))
                continue
            for row, answer in zip(rows, answers, strict=True):
                answer.notes.extend(asked[row].notes)
                found[row] = answer
        return [found[row] for row in range(len(asked))]

    def _only(self, source: Modality, question: Question) -> Answers:
        answer = self.answers(source, [question])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def by_item(
        self,
        row: Any,
        source: Modality,
        target: Modality,
        k: int,
        offset: int = 0,
        where: str | None = None,
    ) -> Answers:
        """Items nearest to the ``source`` code of an item; ``QueryError``: not in the database."""
        with self._turns.reading():
            index = self.indexes[source]
            if not isinstance(index, HammingIndex):
                raise QueryError(f"item: {type(index).__name__} gives no codes of its items")
            try:
                relaxed = index.relaxed([row])
            except CorruptFileError:  # is no fault of the one who asked, and names a file
                raise
            except ValueError as error:
                raise QueryError(f"item: {row} is not in the database of this run", 404) from error
        return self.nearest(relaxed, Wanted(target, k, offset, where))[0]

    def nearest(self, relaxed: Tensor, wanted: Wanted, *, ties: bool = True) -> list[Answers]:
        """The answers for real-valued codes ``[q, num_bits]``, with ``ties`` counted or not."""
        target, k, offset, where = wanted
        codes, where = binarize(relaxed), where if where and where.strip() else None
        with self._turns.reading():
            index = self.indexes[target]  # a change may open another
            try:
                found = self._ranked(index, codes, relaxed, k, offset, where)
                pages = [dict(islice(near.items(), offset, offset + k)) for near in found]
                tied = [0] * len(pages)
                if ties and any(pages):
                    last = torch.tensor([[*page.values()][-1][0] if page else 0 for page in pages])
                    tied = index.count_at(codes, last, where=where).tolist()
            except CorruptFileError:
                raise
            except (TypeError, ValueError) as error:
                raise QueryError(str(error)) from error
            answers = []
            for page, number in zip(pages, tied, strict=True):
                far, scores = ([near[i] for near in page.values()] for i in (0, 1))
                own, known = scores if self.oversample else None, self._known(index, [*page])
                answers.append(Answers(target, [*page], far, own, number if page else 0, known))
            return answers

    def _ranked(
        self, index: Any, codes: Tensor, relaxed: Tensor, k: int, offset: int, where: str | None
    ) -> list[dict[Any, tuple[int, float]]]:
        """Distance and score of at least the first ``offset + k`` ids for each code, in order.

        Rescored, or of an approximate index, which find other first ones for more, they come in
        stretches of ``k`` (25 at least), as many, twice, four times as many, ...: each holds the
        best of the nearest (rescored: of ``oversample`` times as many) as there are up to its end,
        so that what comes first does not depend on how far one reads on.
        """
        exact = isinstance(index, HammingIndex) and not isinstance(index.index, HNSW | IVF)
        size, end = max(1, len(index)), offset + k
        if self.oversample or not exact:
            end = max(k, _STRETCH)
        more = {"rescore": relaxed, "oversample": self.oversample} if self.oversample else {}
        ranked: list[dict[Any, tuple[int, float]]] = [{} for _ in range(len(codes))]
        while True:
            near = index.search(codes, min(end, size), where=where, **more)
            distances, ids, *rest = (column.tolist() for column in near)
            scores = rest[0] if rest else distances  # in whose place nobody reads these
            for found, *columns in zip(ranked, ids, distances, scores, strict=True):
                for name, distance, score in zip(*columns, strict=True):
                    if distance >= 0 and len(found) < end:
                        found.setdefault(name, (distance, score))
            if end >= min(offset + k, size):
                return ranked
            most = index._most  # more than that the index refuses, by name
            end = 2 * end if most is None or offset + k > most else min(2 * end, most)

    # items -----------------------------------------------------------------------------------

    def key(self, text: str) -> Any:
        """What an address calls an item, as its id in the index."""
        if problem := bad_text(text):
            raise QueryError(f"item: its id {problem}", 422)
        if self.indexes[IMAGE].id_type is str:
            return text
        number = int(text) if re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) else -1
        if str(number) != text or not -(2**63) <= number < 2**63:
            raise QueryError(f"item: expected a number that fits int64, got {text[:20]!r}", 404)
        return number

    def target(self, source: Modality) -> Modality:
        """Which codes are searched, if nothing is said: the other kind's, if there are any."""
        return other(source) if len(self.indexes[other(source)]) else source

    def coded(self, row: Any) -> Modality:
        """Which code an item is compared by, if nothing is said: its picture's, if it has one."""
        with self._turns.reading():
            return IMAGE if self.indexes[IMAGE].contains([row])[0] else TEXT

    def describe(self, row: Any) -> dict[str, Any]:
        """What is known of an item: ``row`` (None in a catalogue), ``id``, fields, ``metadata``.

        ``QueryError``: there is no such item.
        """
        with self._turns.reading():
            for index in self.indexes.values():
                if index.contains([row])[0]:
                    return self._known(index, [row])[0]
        raise QueryError(f"item: {row!r} is not in the database", 404)

    def _known(self, index: CodeStore, rows: Sequence[Any]) -> list[dict[str, Any]]:
        found = []
        for row, values in _values(index, rows).items():
            own = {name: values.pop(name, None) for name in OWN}
            numbered = NAME in values and not self.is_writable
            about = {"row": row, "id": values.pop(NAME)} if numbered else {"row": None}
            found.append({"id": str(row), **about, **own, "metadata": values})
        return found

    def picture_path(self, row: Any) -> str:
        """The picture file of an item; ``QueryError`` if there is no such item or picture."""
        path = self.describe(row)["image"]
        if not path:
            raise QueryError(f"item: {row} has no picture", 404)
        places = [os.path.abspath(place) for place in (self.images_root, self.added) if place]
        root = os.path.abspath(self.images_root) if self.images_root else ""
        file = os.path.normpath(picture_file(path, root, (self.added or Path()).absolute()))
        anywhere = os.path.isabs(path) and (self.outside or self.images_root is None)
        # a relative one is never below the working folder, where another picture may have its name
        inside = any(Path(file).is_relative_to(place) for place in places)
        if not anywhere and not inside:
            raise QueryError(f"item: {row} has no picture below the folder of pictures", 404)
        return file

    @property
    def fields(self) -> Mapping[str, type]:
        """What is kept of each item, by name."""
        return self.indexes[IMAGE].fields

    # changes ---------------------------------------------------------------------------------

    @property
    def is_writable(self) -> bool:
        """Whether items can be added and removed: a catalogue or a store, not the run's indexes."""
        index = self.indexes[IMAGE]
        return not isinstance(index, HammingIndex) or index.path is not None

    def add(self, new: Sequence[NewItem], *, replace: bool = False) -> int:
        """Add items, or put them in the place of others, and save; how many were there before.

        ``QueryError``: an id is there, a value is not kept, or an item has nothing to code, or
        nothing of the modality whose codes the one store keeps.
        """
        names = [item.id for item in new]
        if len({*names}) < len(names):
            raise QueryError(f"items: {max(names, key=names.count)!r} is given twice")
        for item in new:
            if "image" in item.values:
                raise QueryError(f"items: the image of {item.id!r} is not one that was kept here")
            for modality in item.features or self.indexes:
                fields = self.indexes[modality].fields
                if unknown := set(item.values) - set(fields):
                    kept = ", ".join(fields) or "nothing"
                    raise QueryError(f"items: {min(unknown)!r} is not kept here, but {kept}")
        of = {m: {i.id: i.features[m] for i in new if m in i.features} for m in MODALITIES}
        if self.is_one:  # one code an item: that of its picture, if there is one
            kind = getattr(self.indexes[IMAGE], "modality", None)
            lone = other(kind or IMAGE)
            of[lone] = {name: x for name, x in of[lone].items() if name not in of[other(lone)]}
            if kind and of[lone]:
                raise QueryError(
                    f"items: {next(iter(of[lone]))!r} is one of {lone} alone, and this store keeps "
                    f"the {kind}s of a run, which are found and replaced by their ids; serve the "
                    f"whole run, or the store of its {lone}s"
                )
        with self._changing(names, new) as values:
            key_of = dict(zip(names, values, strict=True))
            known: dict[Any, dict[str, Any]] = {}
            for index in self._each():
                known = _values(index, _present(index, values)) | known
            if known and not replace:
                raise QueryError(f"items: {str(min(known))!r} is there already; say replace", 409)
            for key, item in zip(values, new, strict=True):
                if not item.features and (key not in known or "text" in item.values):
                    told = "has neither words, nor picture, nor vector"
                    raise QueryError(f"items: {item.id!r} {told}")
                # what a new code is of takes the place of what the old one was of
                values[key] = {**known.get(key, {}), **dict.fromkeys(item.features), **values[key]}
            coded: dict[Any, set[Any]] = {index: set() for index in self._each()}
            for modality, some in of.items():
                index, ids = self.indexes[modality], [key_of[name] for name in some]
                coded[index].update(ids)
                if ids:
                    codes = [signed_new(self.model, x, modality) for x in some.values()]
                    relaxed = torch.cat(codes)
                    fit = bool((relaxed.abs() <= 1).all())
                    keeps = isinstance(index, HammingIndex) and (
                        index.has_relaxed or (fit and not len(index))
                    )
                    more: Any = {"relaxed": relaxed if keeps else None}
                    more |= {"model": self._digest, "force": self.force}
                    index.replace(binarize(relaxed), ids, _columns(index, ids, values), **more)
            for index, done in coded.items():
                if rest := _present(index, [key for key in values if key not in done]):
                    index.update(rest, _columns(index, rest, values))
        return len(known)

    def remove(self, ids: Sequence[str]) -> int:
        """Remove items, and save; how many. ``QueryError``: some are not there; none is removed."""
        with self._changing(ids) as found:
            for index, some in self._all_of(found).items():
                index.remove(some)
        return len(found)

    def update(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Change fields of items, by id, and save; codes and fields that are not named stay.

        ``QueryError``: an id is not there, or a value is not kept; nothing is changed.
        """
        with self._changing([*rows]) as found:
            new, names = dict(zip(found, rows.values(), strict=True)), {*chain(*rows.values())}
            for index, some in self._all_of(found).items():
                values = {key: {**own, **new[key]} for key, own in _values(index, some).items()}
                index.update(some, {n: [values[key].get(n) for key in some] for n in names})

    def _all_of(self, keys: Collection[Any]) -> dict[Any, list[Any]]:
        """Which of some items each store has; ``QueryError``: one is in none."""
        there = {index: _present(index, keys) for index in self._each()}
        if gone := set(keys).difference(*there.values()):
            raise QueryError(f"item: {min(gone)!r} is not in the database", 404)
        return there

    @contextmanager
    def _changing(
        self, names: Sequence[str], new: Sequence[NewItem] = ()
    ) -> Iterator[dict[Any, dict[str, Any]]]:
        """Change items, all or nothing, and save; yields values of new items by the ids named."""
        if not self.is_writable:
            told = (
                "this run has no catalogue to change; make one with pyg-hash build, or use --store"
            )
            raise QueryError(f"items: {told}", 409)
        pictures: list[Path] = []
        with self._alone():
            try:
                self._take_back()
                values: dict[Any, dict[str, Any]] = {self.key(name): {} for name in names}
                before = self._before and _before(self.indexes, [*values])
                for key, item in zip(values, new, strict=False):
                    values[key] |= item.values
                    if item.picture is not None and self.added and "image" in self.fields:
                        digest = hashlib.sha256(item.picture).hexdigest()[:32]
                        path = (self.added / f"{digest}.jpg").absolute()
                        if not path.exists():
                            path.parent.mkdir(parents=True, exist_ok=True)
                            pictures.append(path)
                            path.write_bytes(item.picture)
                        values[key]["image"] = f"added/{path.name}"  # wherever it moves
                yield values
                if self._before and before:  # not sooner: a refused change writes nothing
                    save_tensors(self._before, *before)
                for index in self._each():
                    index.save()
                if self._before is not None:
                    self._before.unlink()
                self._about = None
            except Exception as error:
                for path in pictures:
                    path.unlink(missing_ok=True)
                self._reopen()
                # else the next change, or a restart, does it
                with suppress(OSError, CorruptFileError):
                    self._take_back()
                if isinstance(error, QueryError) or not isinstance(error, TypeError | ValueError):
                    raise
                raise QueryError(f"items: {error}") from error

    @cached_property
    def _digest(self) -> str:
        return self.model.digest()

    def _check_model(self, modality: Modality, index: CodeStore) -> None:
        if index.model is not None:  # else nothing can be said of it, or that was said
            what = f"{modality}: {getattr(index, 'path', None) or 'its index'}"
            check_model(index.model, self._digest, what, force=self.force)

    def _each(self) -> list[Any]:
        return list(dict.fromkeys(self.indexes.values()))

    def _lock(self) -> None:
        """Lock the stores that are files, as they are now; ``BusyError``: others go on changing."""
        if self.was_replaced:
            raise QueryError(_REPLACED, 503)
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                for index in self._each():
                    if isinstance(index, HammingIndex):
                        index.lock()
                return
            except OSError as error:
                with self._turns.writing():  # no search waits for longer
                    self._reopen()
                if not isinstance(error, BusyError) or time.monotonic() > until:
                    raise
            time.sleep(0.05)

    def _reopen(self) -> None:
        """Open the stores again, as they were saved, and not locked, unless they were replaced."""
        opened: dict[Any, HammingIndex] = {
            index: HammingIndex.open(index.path)
            for index in self._each()
            if isinstance(index, HammingIndex) and index.path is not None
        }
        try:
            for modality, index in self.indexes.items():
                self._check_model(modality, opened.get(index, index))
        except ValueError as error:
            for old, new in opened.items():
                new.close()
                old.unlock()
            self.was_replaced = True
            raise QueryError(_REPLACED, 503) from error
        self.indexes = {m: opened.get(index, index) for m, index in self.indexes.items()}
        for index in opened:
            index.close()
        self._about = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While two stores are not one yet, nobody else changes them, or takes that back."""
        try:
            with ExitStack() as stack:
                stack.enter_context(self._changes)
                if self._before is not None:
                    path = self._before.with_name(f".{self._before.name}.lock")
                    stack.enter_context(Lock(path, f"store: {path.parent}", _PATIENCE))
                self._lock()
                stack.enter_context(self._turns.writing())
                yield
        except BusyError as error:
            raise QueryError(f"items: {error}", 503) from error

    def recover(self) -> None:
        """Take back what a killed process changed in one of two stores.

        ``OSError``: it cannot; ``CorruptFileError``: what is to tell what it changed is damaged, or
        somebody else's; ``QueryError``: another process goes on changing them.
        """
        if self._before is None or not self._before.is_file():
            return
        with self._alone():
            try:
                self._take_back()
            finally:
                self._reopen()  # as they are, and not locked

    def _take_back(self) -> None:
        if self._before is None or not self._before.is_file():
            return
        try:
            tensors, about = load_tensors(self._before)
            keys, kept = about["keys"], {modality: about[modality] for modality in MODALITIES}
        except (CorruptFileError, LookupError, TypeError) as error:
            told = "is damaged, or not what an interrupted change left there; move it elsewhere"
            raise CorruptFileError(f"{self._before}: {told}") from error
        for modality, index in self.indexes.items():
            ids, fields = kept[modality]
            index.remove(_present(index, keys))
            if ids:
                relaxed = tensors.get(f"{modality}.relaxed")
                index.add(tensors[f"{modality}.codes"], ids, fields, relaxed=relaxed)
            index.save()
        self._before.unlink()
        self._about = None

    # the whole -------------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """The run as JSON values."""
        with self._turns.reading():  # it is forgotten by who writes
            if self._about is not None:
                return self._about
            counts = {str(m): len(index) for m, index in self.indexes.items()}
            hidden = self.indexes[IMAGE].hidden
            first = [*chain(*(index.list(limit=1).tolist() for index in self._each()))]
            self._about = about = {
                "title": self.title,
                "num_bits": self.model.num_bits,
                "items": max(counts.values()),
                "database": counts,
                "queries": [str(m) for m in MODALITIES if m in self.encoders],
                "first_item": first[0] if first else None,
                "examples": self._examples() if TEXT in self.encoders else [],
                "notes": [note.told if isinstance(note, _Fault) else note for note in self.notes],
                "fields": {n: t.__name__ for n, t in self.fields.items() if n not in hidden},
                "one_store": self.is_one,
                "similar": all(isinstance(index, HammingIndex) for index in self.indexes.values()),
            }
            return about

    def _examples(self) -> list[str]:
        """Short names, best of one word, from all over the database; known words only."""
        if "text" not in self.indexes[TEXT].fields:
            return []
        some = self.indexes[TEXT].list(limit=_EXAMPLE_ITEMS)
        texts = self.indexes[TEXT].metadata(some)["text"]
        names = [" ".join((text or "").split(",")[0].split()) for text in texts]
        short = [text for text in dict.fromkeys(names) if 0 < len(text) <= _EXAMPLE_LETTERS]
        words = [text for text in short if " " not in text]
        short = words if len(words) >= _EXAMPLES else short
        few = short[:: max(1, len(short) // (8 * _EXAMPLES))]
        known = [text for text in few if not self._unknown_words(text)]
        return known[:: max(1, len(known) // _EXAMPLES)][:_EXAMPLES]

    def _unknown_words(self, text: str) -> list[str]:
        """Words that mean nothing to the text encoder, if it can tell."""
        encoder = self.encoders[TEXT]
        return list(encoder.unknown_words(text)) if hasattr(encoder, "unknown_words") else []

    def encoder(self, modality: Modality) -> Any:
        """What encodes new items; ``QueryError``: nothing does."""
        if modality not in self.encoders:
            known = " or ".join(m for m in MODALITIES if m in self.encoders)
            told = f"search with {known} instead" if known else "search by its items instead"
            raise QueryError(f"{modality}: this run has no {modality} encoder; {told}")
        return self.encoders[modality]


def _present(index: CodeStore, keys: Collection[Any]) -> list[Any]:
    return [key for key, there in zip(keys, index.contains([*keys]), strict=True) if there]


def _values(index: CodeStore, keys: Sequence[Any]) -> dict[Any, dict[str, Any]]:
    kept = index.metadata(keys) if keys and index.fields else {}
    return {key: {name: v[i] for name, v in kept.items()} for i, key in enumerate(keys)}


def _columns(
    index: CodeStore, ids: Sequence[Any], values: Mapping[Any, Mapping[str, Any]]
) -> dict[str, list[Any]]:
    return {name: [values[key].get(name) for key in ids] for name in index.fields}


def _before(
    indexes: Mapping[Modality, Any], keys: list[Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that two stores hold of some items, for :meth:`SearchEngine.recover`."""
    tensors, about = dict[str, Tensor](), dict[str, Any](keys=keys)
    for modality, index in indexes.items():
        ids = _present(index, keys)
        about[modality] = ids, index.metadata(ids)
        tensors[f"{modality}.codes"] = index.codes(ids)
        if index.has_relaxed:
            tensors[f"{modality}.relaxed"] = index.relaxed(ids)
    return tensors, about


class _Fault(str):
    """A note whose reason, which may name files of the server, is for its console alone."""

    @property
    def told(self) -> str:
        """What visitors read."""
        return f"{self.partition(':')[0]}; the server was told why when it began."


class _Turns:
    """Any number of searches at a time, or one change, for which new searches wait."""

    def __init__(self) -> None:
        self._gate, self._state, self._readers = threading.Lock(), threading.Condition(), 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._gate, self._state:
            self._readers += 1
        try:
            yield
        finally:
            with self._state:
                self._readers -= 1
                self._state.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._gate:
            with self._state:
                self._state.wait_for(lambda: not self._readers)
            yield


def find_encoders(
    run: Run, model: HashModel, own: Mapping[Modality, Any], text: str
) -> tuple[dict[Modality, Any], list[str]]:
    """Encoders that encoded an item each, and a note on each that is missing or does not work."""
    encoders, notes = {}, []
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
                    with tempfile.TemporaryDirectory() as folder, suppress(OSError):
                        gray = Path(folder) / "query.ppm"
                        gray.write_bytes(b"P6 64 64 255 " + 64 * 64 * b"\x80\x80\x80")
                        features = encoder([gray])
            if features is not None:
                signed_new(model, features, modality)
        except IncompleteRunError:
            notes.append(
                f"This run has no {modality} encoder, for {run.why_no_encoder(modality)[0]}: "
                f"it cannot be searched with {name} of your own."
            )
        except Exception as error:  # a package or weights are missing, another width, a fault in it
            notes.append(_Fault(f"No search with {name} of your own: {error}"))
        else:
            encoders[modality] = encoder
    return encoders, notes
