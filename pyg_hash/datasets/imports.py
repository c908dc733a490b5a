"""Files in the layouts that others hand on -> a feature file; nothing is ever unpickled."""

from __future__ import annotations

import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from pyg_hash.datasets.base import encode_all
from pyg_hash.datasets.build import as_array
from pyg_hash.datasets.feature_file import is_feature_file
from pyg_hash.datasets.feature_write import write_feature_file
from pyg_hash.datasets.raw import Array, Variable, read_variables
from pyg_hash.features import EfficientNetLite0, words_and_meaning
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, PathLike
from pyg_hash.utils.files import check_writable
from pyg_hash.utils.optional import require

MOST_QUERIES = 2000
LABELS, PATHS, IDS, TEXTS = "labels", "image_paths", "ids", "texts"
ROWS, NAMES = "rows", "class_names"
_WORDS = {  # of a name -> what it holds; the first that fits, and what is named by letters last
    PATHS: "index path paths file files filename filenames",
    NAMES: "names classes",
    IDS: "id ids",
    ROWS: "idx ind inx indices rows mask masks",
    LABELS: "label labels lab labs category categories cat target targets gnd",
    IMAGE: "image images img imgs picture pictures visual vision",
    TEXT: "text texts txt tag tags bow sentence sentences caption captions",
}
_OF_TEXTS: dict[str, str] = {IMAGE: PATHS, TEXT: TEXTS}
_OF_NUMBERS: dict[str, str] = {PATHS: ROWS, NAMES: LABELS}
_TWIN: dict[str, str] = {IMAGE: PATHS, PATHS: IMAGE, TEXT: TEXTS, TEXTS: TEXT}
_LETTERS: dict[str, str] = {IMAGE: "i", TEXT: "t", LABELS: "l"}
_AXES: dict[str, str] = {IMAGE: "x v", TEXT: "y"}
_SPLITS = {
    "train": "tr train training",
    "query": "te test query queries",
    "database": "db database retrieval gallery",
    "val": "val valid validation",
    "labeled": "labeled labelled",
}
_ORDER = ("", "database", "train", "val", "query")
_ASKED = ("query", "val")  # never all rows
_ITEMS = (LABELS, PATHS, IDS, TEXTS, *MODALITIES)


@dataclass
class Imported:
    """What :func:`import_files` did; ``print`` it."""

    path: Path | None = None  #: the feature file
    notes: list[str] = field(default_factory=list)  #: what was guessed, a line each

    def __str__(self) -> str:
        return "\n".join([*self.notes, f"written: {self.path}"])


def import_files(
    files: Sequence[PathLike],
    out: PathLike,
    *,
    images_root: PathLike | None = None,
    seed: int = 0,
    **names: str | None,
) -> Imported:
    """Write a feature file from MATLAB (5 and 7.3), HDF5, NPY, NPZ and COCO's caption files.

    What is picture, text, label and split is told by the names that the field uses (``IAll TAll
    LAll``, ``I_tr .. I_te .. I_db``, ``VDatabase ..``, ``index caption label``, ...), and arrays
    that lie on their side by the number of rows. Training rows that the database repeats become
    one row. Texts, pixels and picture files without features are encoded by the demo's encoders,
    which are kept; rows whose text is empty are left out. Without a split a tenth of the rows, at
    most 2,000, are queries.

    Args:
        files: those that belong together.
        out: the feature file to write.
        images_root: folder of the pictures, where paths name them and no array holds features.
        seed: of the queries that are drawn where no split is named.
        **names: where a name says nothing: ``image``, ``text``, ``labels``, ``ids``,
            ``image_paths`` and ``class_names`` are names of variables, or ``FILE:NAME``; with a
            comma between them several, of which each names its split. ``train``, ``query``,
            ``database``, ``val`` and ``labeled`` are variables of row numbers or masks, or
            ``START:STOP``.

    ``TypeError``: an unknown keyword. ``ValueError``: a pickle, or nothing tells what is what; the
    message lists what there is. ``CorruptFileError``, ``FileNotFoundError``: of a file.
    """
    check_writable(out)
    found = gather(files, names)
    if TEXTS in found.values and TEXT not in found.values:
        found.leave_out(np.array([not text.strip() for text in found.values[TEXTS]], bool))
    rows: dict[str, Any] = found.splits(seed)
    more: dict[str, Any] = {"labels": found.labels(), **found.features}
    if IMAGE not in more:
        more[IMAGE], more["image_encoder"], note = _encoded_pictures(found.values, images_root)
        found.notes.append(note)
    if TEXT not in more:
        texts = found.values[TEXTS]
        encoder = more["text_encoder"] = words_and_meaning([*compress(texts, rows["train"])])
        more[TEXT] = encode_all(text=(encoder, texts))[TEXT]
        found.notes.append("text: encoded by BagOfWords and StaticWords")
    kinds = (IDS, PATHS, TEXTS, NAMES)
    more |= {kind: found.values[kind] for kind in kinds if kind in found.values}
    about = "imported from " + ", ".join(sorted({Path(file).name for file in files}))
    return Imported(write_feature_file(out, about=about, **rows, **more), found.notes)


# what is what ---------------------------------------------------------------------------------


def kind_of(name: str) -> tuple[str, str, int]:
    """What a name says: the kind (``''``: nothing), the split (``''``: all), and how vaguely."""
    above, _, own = name.rpartition("/")

    def tokens(of: str) -> set[str]:
        return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", of)}

    def first(known: Mapping[str, str], of: str = own) -> str:
        return next((k for k, words in known.items() if {*words.split()} & tokens(of)), "")

    split = first(_SPLITS) or first(_SPLITS, above)  # as in train/image
    for vague, known in enumerate((_WORDS, _LETTERS, _AXES)):
        if kind := first(known):
            if kind == ROWS:
                return kind, split, int(bool({"mask", "masks"} & tokens(own)))
            return kind, split if split in _ORDER else "", vague
    alone = first(_SPLITS) and tokens(own) <= {*_SPLITS[split].split()}
    return ROWS if alone else "", split, 2


def _rows(values: Any, kept: Array) -> Any:
    """Those of a list, an array or something sparse that a mask keeps."""
    return [*compress(values, kept)] if isinstance(values, list) else values[kept]


@dataclass
class Gathered:
    """One row an item, of all files together; ``values`` may be pixels or raw texts."""

    values: dict[str, Any]
    masks: dict[str, Any]  # of the splits that are named
    num_rows: int
    notes: list[str]

    @property
    def features(self) -> dict[Any, Any]:
        """The matrices of features among the values."""
        found = {m: self.values.get(m) for m in MODALITIES}
        return {m: x for m, x in found.items() if x is not None and len(x.shape) == 2}

    def leave_out(self, bare: Array) -> None:
        """Keep the rows that have a text, and say which have none; ``ValueError``: no row has."""
        if not bare.any():
            return
        first, kept = int(bare.argmax()), ~bare
        name = self.values[PATHS][first] if PATHS in self.values else f"row {first}"
        told = f"{bare.sum():,} of {len(bare):,} rows have no text (first: {name})"
        if bare.all():
            raise ValueError(f"text: {told}")
        self.notes.append(f"left out: {told}")
        of_rows = {kind: _rows(value, kept) for kind, value in self.values.items() if kind != NAMES}
        self.values |= of_rows
        self.masks = {name: mask[kept] for name, mask in self.masks.items()}
        self.num_rows = int(kept.sum())

    def labels(self) -> Any:
        """Class indices, zeros and ones, words, or None."""
        values = self.values.get(LABELS)
        if values is None or isinstance(values, list):
            return values
        values = as_array(values, LABELS)
        if values.ndim == 1 or values.shape[1] == 1:
            values = values.reshape(-1)
            self.notes.append(f"labels: one column of classes {values.min()} .. {values.max()}")
            return values
        known = set(np.unique(values).tolist())
        if not known <= {-1, 0, 1}:
            raise ValueError(
                f"labels: a matrix {list(values.shape)} of other numbers than 0 and 1, or -1 and 1"
            )
        hot = values > 0
        listed = " and ".join(str(int(value)) for value in sorted(known))
        alone = bool((hot.sum(axis=1) == 1).all())
        each = "one class a row" if alone else f"{hot.sum() / len(hot):.2f} classes a row"
        self.notes.append(f"labels: {hot.shape[1]} columns of {listed}, {each}")
        return hot.argmax(axis=1) if alone else hot.astype(np.uint8)

    def splits(self, seed: int) -> dict[str, Array]:
        """The masks that a feature file needs."""
        masks, n = dict(self.masks), self.num_rows
        if "query" not in masks:
            told = [mask for name, mask in masks.items() if name != "labeled"]
            left = ~np.logical_or.reduce([*told, np.zeros(n, bool)])
            if told and left.any():
                masks["query"] = left
            else:
                count = min(MOST_QUERIES, max(1, n // 10))
                drawn = np.random.default_rng(seed).permutation(n)[:count]
                asked = np.isin(np.arange(n), drawn)
                masks = {name: mask & ~asked for name, mask in masks.items()} | {"query": asked}
                self.notes.append(f"query: none is named, so {count} rows are drawn (seed {seed})")
        rest = ~masks["query"] & ~masks.get("val", np.zeros(n, bool))
        masks.setdefault("train", masks.get("database", rest) & rest)
        counts = {name: int(mask.sum()) for name, mask in masks.items()}
        self.notes.append("splits: " + ", ".join(f"{s} {count:,}" for s, count in counts.items()))
        return masks


def gather(
    files: Sequence[PathLike],
    given: Mapping[str, str | None],
    arguments: Mapping[str, str] | None = None,
) -> Gathered:
    """Read what belongs together; ``given`` are the names of :func:`import_files`.

    ``arguments``: what the caller has in place of these, for messages. Such a caller takes pictures
    without texts too, and texts without pictures.
    """
    names, argument = {name: value for name, value in given.items() if value}, arguments or {}
    source = argument.get("files", "files")
    options = [f"--{argument.get(kind, kind)} VAR" for kind in (IMAGE, TEXT, LABELS)]
    known = [*_ITEMS, NAMES, *_SPLITS]
    if unknown := sorted(set(names) - set(known)):
        raise TypeError(f"{unknown[0]}: is no argument; use some of {', '.join(known)}")
    if ours := next((file for file in files if is_feature_file(Path(file))), None):
        raise ValueError(f"{ours}: is a feature file already; nothing is to be imported")
    variables = [variable for file in files for variable in read_variables(Path(file))]
    if not variables:
        raise ValueError(f"{source}: no array or text in {', '.join(map(str, files))}")
    chosen = _chosen(variables, names, argument)
    groups: dict[str, dict[str, Variable]] = {}
    for split in _ORDER:
        group = {kind: chosen[split, kind] for kind in _ITEMS if (split, kind) in chosen}
        if _sides(group) >= (2 if arguments is None else 1):
            groups[split] = group
    only = [*groups][0] if len(groups) == 1 else ""
    if only in ("query", "val") and all("/" in v.name for v in groups[only].values()):
        groups = {"": groups[only]}  # a file's one folder, whatever it is called
    if "" in groups:  # one that is named without a split is of all rows
        groups = {"": groups[""]}
    if not groups:
        there = ", ".join(sorted({kind for _, kind in chosen})) or "nothing"
        wrong = f"{source}: nothing tells what is picture and what is text (found: {there})"
        raise ValueError(f"{wrong}; say {', '.join(options)}, of\n{_listed(variables)}")
    rows = {split: v for (split, kind), v in chosen.items() if kind == ROWS and split}
    for split in {*groups} - {*names}:  # a part of its own has its own rows
        rows.pop(split, None)
    classes = [v for (_, kind), v in chosen.items() if kind == NAMES][:1]
    if classes and NAMES not in names:
        whole, count = groups.get("", {}), max(classes[0].shape)
        of_rows = bool(whole) and all(count in v.shape for v in whole.values())
        of_rows = of_rows and not re.search("class|categ|label", classes[0].name, re.IGNORECASE)
        if of_rows and IDS not in whole and len({*map(str, classes[0].load())}) == count:
            whole[IDS] = classes[0]
        if of_rows or not any(LABELS in group for group in groups.values()):
            classes = []
    notes = [
        f"{split or 'all rows'}: " + ", ".join(f"{kind} = {v}" for kind, v in group.items())
        for split, group in groups.items()
    ] + [f"class_names = {variable}" for variable in classes]
    used = {id(v) for group in (*groups.values(), rows) for v in group.values()}
    left = [v for v in variables if id(v) not in used.union(map(id, classes))]
    for file in map(Path, files):
        own = [v for v in variables if v.file == file]
        if all(v in left for v in own):  # it was named for nothing
            told = [(v, " ".join(kind_of(v.name)[:2]).strip() or "nothing") for v in own]
            listed = ", ".join(f"{v}, whose name says {kind}" for v, kind in told)
            raise ValueError(
                f"{source}: nothing of {file} is used ({listed or 'it holds no array'}) beside "
                f"{'; '.join(notes)}. Say what it is with {' or '.join(options)}, or leave it out"
            )
    parts = {split: _aligned(group, notes, source) for split, group in groups.items()}
    if left:
        notes.append(f"not used: {', '.join(map(str, left))}")
    found = _stacked(parts, notes)
    for variable in classes:
        found.values[NAMES] = variable.load()
    for split in _SPLITS:
        if split in names and not _called(variables, names[split]):
            span = re.fullmatch(r"(?=.*\d)(\d*):(\d*)", names[split])
            start, stop = (int(span[1] or 0), int(span[2] or found.num_rows)) if span else (0, 0)
            if not start < stop <= found.num_rows:
                what = f"START:STOP within the {found.num_rows} rows, 0 the first, or a variable"
                raise ValueError(f"{split}: expected {what}, got {names[split]!r}")
            found.masks[split] = np.isin(np.arange(found.num_rows), np.arange(start, stop))
        elif split in rows:
            try:
                mask = _mask(rows[split], found.num_rows, said := [f"{split} = {rows[split]}"])
                if split not in names and (not mask.any() or (mask.all() and split in _ASKED)):
                    raise ValueError(f"{rows[split]}: {'all' if mask.any() else 'no'} rows")
                found.masks[split] = mask
                notes += said
            except ValueError as error:
                if split in names or kind_of(rows[split].name)[2] == 0:
                    raise
                notes.append(f"not used: {error}")  # a name that says less than idx
    return found


def _called(variables: Sequence[Variable], name: str) -> list[Variable]:
    """Those of this name, or ``FILE:NAME``."""
    found = []
    for v in variables:
        files = v.file.name, v.file.stem, str(v.file)
        if name in (v.name, *(f"{file}:{v.name}" for file in files)):
            found.append(v)
    return found


def _listed(variables: Sequence[Variable]) -> str:
    return "\n".join(f"  {variable}" for variable in variables)


def _chosen(
    variables: list[Variable], names: Mapping[str, str], argument: Mapping[str, str]
) -> dict[tuple[str, str], Variable]:
    """By split and kind: as told, else by their names, of which a vague one gives way."""
    told: dict[int, tuple[str, str, int]] = {}
    for kind, value in names.items():
        if kind in _SPLITS and not _called(variables, value):
            continue
        for name in value.split(","):
            own = _called(variables, name)
            if len(own) != 1:
                problem = "is not there" if not own else "is there more than once: say FILE:NAME"
                wrong = f"{argument.get(kind, kind)}: {name!r} {problem}"
                raise ValueError(f"{wrong}; there are\n{_listed(variables)}")
            split = kind_of(own[0].name)[1] if "," in value else ""
            told[id(own[0])] = (ROWS, kind, -1) if kind in _SPLITS else (kind, split, -1)
    guesses: list[tuple[tuple[bool, bool, int], tuple[str, str], Variable]] = []
    problems: list[tuple[str, Variable]] = []
    for variable in variables:
        kind, split, vague = told.get(id(variable)) or kind_of(variable.name)
        if variable.problem:
            problems += [(kind, variable)] * (kind in (LABELS, *MODALITIES) and vague < 1)
            continue
        kind = (_OF_TEXTS if variable.is_text else _OF_NUMBERS).get(kind, kind)
        is_told, dims = id(variable) in told, len(variable.shape)
        flat = 1 < max(variable.shape, default=0) == np.prod(variable.shape)
        is_rows = is_told or (split and flat and not variable.is_text)
        if kind and (is_rows or kind != ROWS) and (dims > 1 or kind not in MODALITIES):
            inner = "/" in variable.name and not is_told
            guesses.append(((inner, dims > 2, vague), (split, kind), variable))
    best: dict[tuple[str, str], tuple[Any, Variable]] = {}
    for rank, (split, kind), variable in sorted(guesses, key=lambda guess: guess[0]):
        outer = {k: v for (s, k), ((inner, *_), v) in best.items() if s == split and not inner}
        if rank[0] and kind in _ITEMS and _sides(outer) == 2:
            items = [v for k, v in outer.items() if k in _ITEMS]
            if _TWIN.get(kind) in outer or not _common(items) & {*variable.shape}:  # a setting
                continue
        first_rank, first = best.setdefault((split, kind), (rank, variable))
        if first is variable or first_rank != rank:  # features before pixels
            continue
        if kind != ROWS or not np.array_equal(variable.load(), first.load()):
            option = argument.get(kind, split if kind == ROWS else kind)
            wrong = f"may be {first}, or {variable}"
            raise ValueError(f"{kind}: {wrong}; say which with --{option} FILE:NAME")
    taken = {id(variable) for _, variable in best.values()}
    for variable in variables:  # y is the labels where the texts have a name that says more
        kind, split, vague = kind_of(variable.name)
        free = (kind, vague) == (TEXT, 2) and id(variable) not in {*taken, *told}
        free = free and variable.name.islower()  # Y is the texts to many
        others = [v for (s, kind), (_, v) in best.items() if s == split and kind in _ITEMS]
        if free and (split, LABELS) not in best and _may_be_labels(variable, others):
            best[split, LABELS] = (False, False, 3), variable
    there = {kind for _, kind in best}
    for kind, variable in problems:
        if not there & {kind, _OF_TEXTS.get(kind, kind)}:
            raise ValueError(variable.problem)
    return {place: variable for place, (_, variable) in best.items()}


def _may_be_labels(variable: Variable, others: Sequence[Variable]) -> bool:
    rows = _common([variable, *others])
    if variable.problem or variable.is_text or not rows or len(variable.shape) > 2:
        return False
    values = as_array(variable.load(), variable.name)
    known, flat = {*np.unique(values).tolist()}, values.size == max(values.shape)
    return known <= {-1, 0, 1} or (flat and all(v >= 0 and v % 1 == 0 for v in known))


def _sides(group: Mapping[str, Variable]) -> int:
    """How many of pictures and texts, or their features, there are."""
    return bool({IMAGE, PATHS} & {*group}) + bool({TEXT, TEXTS} & {*group})


def _common(variables: Iterable[Variable]) -> set[int]:
    """What may be the number of rows of all of them."""
    return set.intersection(*({*v.shape} for v in variables)) - {1}


def _aligned(
    group: Mapping[str, Variable], notes: list[str], source: str
) -> tuple[dict[str, Any], int]:
    """The values with one row an item, and how many."""
    common = set.intersection(*({*v.shape} for v in group.values()))
    if not common - {1} and common != {1}:
        listed = "\n".join(f"  {kind} = {v}" for kind, v in group.items())
        raise ValueError(f"{source}: these have no number of rows in common:\n{listed}")
    first = [n for n in common if all(v.shape[0] == n for v in group.values())]
    n = max(first or common)
    if not first and all(
        v.file.suffix in (".npy", ".npz") and v.shape[1:] == (n,) for v in group.values()
    ):  # of MATLAB's and others' this says that all lie on their side; here, of equal widths
        told = f"{', '.join(map(str, group.values()))} have different numbers of rows"
        raise ValueError(f"{source}: {told}; if their columns are the items, save them transposed")
    matrices = [v for v in group.values() if len(v.shape) > 1 and min(v.shape) > 1]
    values = {}
    for kind, variable in group.items():
        value = variable.load()
        if kind == TEXTS:
            value = [" ".join(text) if isinstance(text, list) else text for text in value]
        elif not variable.is_text:
            axis = variable.shape.index(n)
            if variable.shape == (n, n):  # lies as all others of its file do
                others = [v for v in matrices if v.file == variable.file and v.shape.count(n) == 1]
                axis = int(bool(others) and all(v.shape.index(n) for v in others))
                how = "columns" if axis else "rows"
                notes.append(f"{variable}: is square; its {how} are taken for the items")
            elif axis and min(variable.shape) > 1:
                notes.append(f"{variable}: turned, for its rows are the items")
            if axis:
                value = value.T if len(value.shape) == 2 else np.moveaxis(value, axis, 0)
            if kind in (LABELS, IDS):
                value = as_array(value, kind)
                value = value.reshape(-1) if value.size == n else value
        values[kind] = value
    return values, n


def _stacked(parts: Mapping[str, tuple[dict[str, Any], int]], notes: list[str]) -> Gathered:
    """All parts one below the other; training rows that the database has are its rows."""
    if "" in parts:
        return Gathered(parts[""][0], {}, parts[""][1], notes)
    kinds = {split: {*values} for split, (values, _) in parts.items()}
    for kind in set.union(*kinds.values()):
        if lacking := [split for split in parts if kind not in kinds[split]]:
            raise ValueError(f"{kind}: {', '.join(lacking)} has none, the others have; give it")
    kept: dict[str, Array] = {}
    places: dict[str, Array] = {}
    start = 0
    for split, (values, n) in parts.items():
        place = np.full(n, -1)
        if split == "train" and "database" in parts:
            free = defaultdict[int, list[int]](list)
            for row, digest in enumerate(_hashes(parts["database"][0])):
                free[digest].append(row)
            place[:] = [free[key].pop(0) if free[key] else -1 for key in _hashes(values)]
            again = int((place >= 0).sum())
            notes.append(f"train: {again:,} of {n:,} rows are repeated in the database")
        kept[split], places[split] = place < 0, place
        own = int(kept[split].sum())
        place[kept[split]] = np.arange(start, start + own)
        start += own
    values = {}
    for kind in next(iter(kinds.values())):
        whole = [of[kind] for of, _ in parts.values()]
        pieces = [*map(_rows, whole, kept.values())]
        if isinstance(pieces[0], list):
            values[kind] = [*chain(*pieces)]
        elif len({piece.shape[1:] for piece in pieces}) > 1:
            listed = ", ".join(str(list(piece.shape)) for piece in whole)
            raise ValueError(f"{kind}: the splits are of different widths: {listed}")
        else:
            values[kind] = (sp.vstack if sp.issparse(pieces[0]) else np.concatenate)(pieces)
    masks = {split: np.isin(np.arange(start), places[split]) for split in parts}
    return Gathered(values, masks, start, notes)


def _hashes(values: Mapping[str, Any]) -> list[int]:
    """What tells rows apart, features and labels together."""

    def rows(column: Any) -> Iterator[Any]:
        if isinstance(column, list):
            return map(repr, column)
        return (as_array(row, "row").astype(np.float32).tobytes() for row in column)

    return [*map(hash, zip(*map(rows, values.values()), strict=True))]


def _mask(variable: Variable, num_rows: int, notes: list[str]) -> Array:
    """The rows that a variable of numbers or of zeros and ones means."""
    values = as_array(variable.load(), variable.name).ravel()
    is_binary = {*np.unique(values).tolist()} <= {0, 1}
    if is_binary and len(values) == num_rows:
        return values.astype(bool)
    if values.dtype.kind == "b" or (is_binary and len(values) > 2):
        raise ValueError(f"{variable}: a mask of other rows than the {num_rows} that there are")
    if values.dtype.kind not in "biuf" or (values % 1 != 0).any():
        raise ValueError(f"{variable}: expected row numbers or a mask, got {values.dtype}")
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    from_one = high == num_rows or (low > 0 and variable.file.suffix.lower() == ".mat")
    if low < 0 or high - from_one >= num_rows or (from_one and low == 0):
        raise ValueError(f"{variable}: row numbers {low} .. {high} of {num_rows} rows")
    notes.append(f"{variable}: row numbers from {int(from_one)}")
    return np.isin(np.arange(num_rows), values.astype(np.int64) - from_one)


# what has no features yet ---------------------------------------------------------------------


def _encoded_pictures(values: dict[str, Any], root: Any) -> tuple[Any, Any, str]:
    """Features, their encoder and a note; of picture files, whose places become absolute."""
    encoder = EfficientNetLite0(progress=False)
    note = "image: encoded by EfficientNetLite0"
    if IMAGE not in values:
        paths = values[PATHS] = [below(root, path) for path in values[PATHS]]
        if lost := [path for path in paths if not os.path.isfile(path)]:
            told = f"{len(lost)} of {len(paths)} picture files are not there (first: {lost[0]})"
            remedy = "give --images_root FOLDER, or a file of their features too"
            raise ValueError(f"image: {told}; {remedy}")
        return encode_all(image=(encoder, paths))[IMAGE], encoder, note
    pixels = values[IMAGE]
    channels = [axis for axis in (1, pixels.ndim - 1) if pixels.shape[axis] in (1, 3)]
    if pixels.ndim != 4 or not channels or pixels.dtype != np.uint8:
        known = "features [N, d], nor pixels uint8 [N, 3, height, width] or [N, height, width, 3]"
        raise ValueError(f"image: {pixels.dtype} {list(pixels.shape)} are no {known}")
    make = require("PIL.Image", "pillow").fromarray
    axis = channels[0]
    with tempfile.TemporaryDirectory() as folder:

        def encode(rows: Sequence[int]) -> Any:
            files = [Path(folder, f"{place}.bmp") for place in range(len(rows))]
            for row, file in zip(rows, files, strict=True):
                picture = np.moveaxis(pixels[row], axis - 1, -1)
                make(np.array(np.broadcast_to(picture, (*picture.shape[:2], 3)))).save(file)
            return encoder(files)

        found = encode_all(image=(encode, range(len(pixels))))[IMAGE]
    return found, encoder, f"{note}, from pixels {list(pixels.shape)}"


def below(root: Any, path: str, is_file: Callable[[str], bool] = os.path.isfile) -> str:
    """A picture by its path, else below ``root`` by as much of that as leads to a file."""
    whole = path if root is None else os.path.join(root, path)
    if root is not None and not is_file(whole):
        parts = re.split(r"[\\/]+", path)
        tries = (os.path.join(root, *parts[start:]) for start in range(1, len(parts)))
        whole = next(filter(is_file, tries), whole)
    return os.path.abspath(whole)
