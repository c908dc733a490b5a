"""What a catalogue is made of: pictures, texts, labels and columns, in files that people have."""

from __future__ import annotations

import codecs
import csv
import io
import json
import ntpath
import os
import re
import shlex
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pyg_hash.datasets.base import label_names
from pyg_hash.datasets.build import as_array
from pyg_hash.datasets.feature_file import (
    StoredMatrix,
    is_feature_file,
    open_feature_file,
    read_labels,
    read_splits,
    stored_encoder,
    stored_items,
)
from pyg_hash.datasets.imports import IDS, LABELS, NAMES, PATHS, TEXTS, below, gather, kind_of
from pyg_hash.datasets.raw import Array, coco_captions
from pyg_hash.features.words import UNSPACED, find_words
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, PathLike
from pyg_hash.utils.files import check_file, check_folder
from pyg_hash.utils.oddities import OddDataWarning
from pyg_hash.utils.optional import require
from pyg_hash.utils.pictures import PICTURE_SUFFIXES, not_taken
from pyg_hash.utils.settings import field_name

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
BLOCK = 1 << 14  # rows of features that are read at a time
ROLES = {  # of a column, by its name; the first that a table has
    IMAGE: "image picture photo img image_path img_path picture_path file_name filename file "
    "filepath image_file path",
    TEXT: "caption text description sentence title name headline captions texts",
    "label": "label labels category categories class classes genre tags tag",
    "id": "id ids uid key item_id image_id product_id sku asin",
}
_ARGUMENTS = {  # of import_files -> those of open_source
    **{IMAGE: "image_column", PATHS: "image_column", TEXT: "text_column", TEXTS: "text_column"},
    **{LABELS: "label_column", IDS: "id_column", "files": "source"},
}
_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")  # of no class
_FEWEST_NAMES = 10  # of files, to be texts
_ELSEWHERE = re.compile(r"\w{2,}://")
_NO_NAME = re.compile(  # of cameras, screens and dates
    "img|dscn?|dscf|pxl|image|photo|pic|picture|file|frame|图片|圖片|照片|写真|사진|截图|截圖|截屏|"
    "画像|図|图|圖|그림|副本|[年月日时時分秒년월일]|[上下]午|午[前後]|오전|오후",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"[^\W\d_]+")
_UNSPACED = re.compile(rf"(?![\d〇年月日时時分秒])[{UNSPACED}]")  # numbers and dates are no text
_SMALL = re.compile("[\u0e01-\u17d3\u30a0-\u30ff\uff66-\uff9f]")  # of those: six to a word, not two
_DATE = re.compile(r"\d ?[年月/-] ?\d")
# one or two letters may be a word: of those, of India and of Hangul
_DENSE = re.compile(rf"(?!〇)[{UNSPACED}\u0900-\u0dff\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
_NUMBER = re.compile(r"-?(?=\.?\d)(0|[1-9]\d*)?(\.\d+)?([eE]-?\d+)?")
_MARKED = re.compile(r"[-+]?(\d+|\d{1,3}([.,]\d{3})+)([.,]\d+)?")  # in any country
_THOUSANDS = re.compile(r"-?(\d{1,3}|[1-9]\d{0,2}(\.\d{3})+)")
_WHOLE = re.compile(r"-?(0|[1-9]\d*)")
_GRAMMAR = ("and", "or", "not", "in", "has", "is", "null", "true", "false")  # of filters
_ENCODINGS = ("cp932", "gbk", "euc-kr", "cp1252", "utf-16")  # of Japan, China, Korea, the West
_MARKS = {  # the longer one first, which begins as another
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_MISSING = ("nan", "none", "null", "<na>")  # what programs write of a value that is not there
_EXTRAS = ("text", "image", "labels", "id", "code")  # names that a catalogue keeps for itself


@dataclass
class Source:
    """Rows of a catalogue; row ``i`` of everything is item ``i``, None where it lacks something."""

    ids: list[str]
    images: list[str | None]  #: picture files
    texts: list[str | None]
    labels: list[list[str]]
    fields: dict[str, tuple[type, list[Any]]] = field(default_factory=dict)  #: type and values
    features: dict[Modality, Any] = field(default_factory=dict)  #: ready-made, ``[N, d]``
    splits: dict[str, Array] = field(default_factory=dict)  #: masks that the source declares
    encoders: dict[Modality, Any] = field(default_factory=dict)  #: of a feature file
    read_as: dict[str, str] = field(default_factory=dict)  #: what was read as what
    problems: dict[str, str] = field(default_factory=dict)  #: place -> what is wrong there
    lacking: dict[Modality, Array] = field(default_factory=dict)  #: rows without features
    files: list[str] = field(default_factory=list)  #: what was read
    #: ``images`` before the look at the disk
    written: list[str | None] = field(default_factory=list)
    states: list[str] = field(default_factory=list)  #: size, time and digest of each picture's file
    lines: list[int] = field(default_factory=list)  #: of each row, 1 the first; of a file of lines

    def __len__(self) -> int:
        return len(self.ids)

    def place(self, row: int) -> str:
        """What messages call a row: its line, else its number, 0 the first."""
        return f"line {self.lines[row]}" if self.lines else f"row {row}"

    def has(self, modality: Modality) -> Array:
        """Which rows have a picture, or a text, bool ``[N]``."""
        if modality in self.features:
            return ~self.lacking.get(modality, np.zeros(len(self), bool))
        return np.array([value is not None for value in self.items(modality)], bool)

    def rows(self, modality: Modality, rows: Array) -> Array:
        """Ready-made features of rows in ascending order, float32."""
        wanted = np.isin(np.arange(len(self)), rows)
        blocks = self.blocks(modality)
        return np.concatenate([block[wanted[at : at + len(block)]] for at, block in blocks])

    def blocks(self, modality: Modality) -> Iterator[tuple[int, Array]]:
        """All ready-made features in blocks of rows, float32, and where each begins."""
        for start in range(0, len(self), BLOCK):
            part = self.features[modality][start : min(start + BLOCK, len(self))]
            yield start, np.asarray(as_array(part, modality), np.float32)

    def items(self, modality: Modality) -> list[str | None]:
        """The raw pictures or texts."""
        return self.images if modality == IMAGE else self.texts

    def drop(self, modality: Modality, row: int) -> None:
        """Leave out the picture or the text of a row."""
        self.items(modality)[row] = None
        if modality in self.features:
            self.lacking.setdefault(modality, np.zeros(len(self), bool))[row] = True


def open_source(
    paths: Sequence[PathLike],
    *,
    columns: Mapping[str, str | None] | None = None,
    images_root: PathLike | None = None,
    encoding: str | None = None,
    label_separator: str | None = None,
) -> Source:
    """Read a source, all but its pictures; the options are those of ``pyg-hash build``.

    ``paths``: one folder of pictures, table (CSV, TSV, JSON lines, Parquet), JSON file of captions
    in MS-COCO's layout or feature file; or the NPY, NPZ, MATLAB or HDF5 files of one catalogue's
    features. ``columns``: names of those that are ``image``, ``text``, ``label`` and ``id``; of a
    table ``""`` says that none is.

    Errors are those of a file that is not there, and ``ValueError``: what cannot be read; problems
    of single rows are in ``problems``.
    """
    named = {role: name for role, name in (columns or {}).items() if name is not None}
    first = Path(paths[0])
    for path in map(Path, paths):
        if not path.is_dir():
            check_file(path, "source", kind="file or folder")
    check_folder(images_root, "images_root")
    if first.is_dir() or first.suffix.lower() in TABLES:
        if len(paths) > 1:
            raise ValueError(f"source: {first} is one by itself; several are for files of features")
        if first.is_dir():
            return _elsewhere(_folder(first), first)
        source = _table(first, named, images_root, encoding, label_separator)
    elif len(paths) == 1 and is_feature_file(first):
        source = _feature_file(first)
    else:
        source = _arrays(paths, named, images_root)
    source.files = [os.path.abspath(path) for path in paths]
    return _elsewhere(source, Path(images_root or first.parent))


def _elsewhere(source: Source, root: Path) -> Source:
    """Say which pictures are not in their folder: ``serve`` shows what somebody's rows name."""
    own = os.path.join(os.path.realpath(root), "")
    there = (path for path in source.images if path)
    if out := [path for path in there if not os.path.realpath(path).startswith(own)]:
        told = f"{len(out):,} outside of {root}, or links out of it (first: {out[0]})"
        source.read_as[IMAGE] = f"{source.read_as.get(IMAGE, 'files')}, but {told}"
    return source


# folders --------------------------------------------------------------------------------------


def _folder(root: Path) -> Source:
    """Pictures below a folder; texts from files beside them, else from names and sub-folders."""
    found, left, problems = list[Path](), list[Path](), dict[str, str]()

    def lost(path: PathLike, error: OSError) -> None:
        problems[str(path)] = f"cannot be read ({error.strerror or error})"

    for place, folders, names in os.walk(root, onerror=lambda error: lost(error.filename, error)):
        shut = {n for n in folders if n[0] == "." or os.path.islink(os.path.join(place, n))}
        left.extend(Path(place, name) for name in shut)
        folders[:] = sorted({*folders} - shut)
        for path in (Path(place, name) for name in sorted(names)):
            (found if _is_picture(path.name) and path.name[0] != "." else left).append(path)
    alike = {_alike(path): path for path in left if path.suffix.lower() == ".txt"}
    there, exact = {*left}, (path.with_suffix(".txt") for path in found)
    captions = [path if path in there else alike.get(_alike(path), path) for path in exact]
    others = sorted(str(path.relative_to(root)) for path in there.difference(captions))
    if not found:
        more = next((f"; {place}: {text}" for place, text in problems.items()), "")
        more += f"; not taken, {not_taken(others)}" if others else ""
        raise FileNotFoundError(f"source: no picture in {root}{more}")
    relative = [path.relative_to(root) for path in found]
    # a class may be called train: such folders are parts where classes lie in them
    parted = any(len(p.parts) > 2 and p.parts[0].lower() in _PARTS for p in relative)
    skipped = _PARTS if parted else ()
    labels = [[_nfc(n) for n in p.parts[:-1] if n.lower() not in skipped][:1] for p in relative]
    classes = sorted({label for own in labels for label in own})
    if len(classes) < 2:
        labels = [[] for _ in found]
    images: list[str | None] = [os.path.abspath(path) for path in found]
    source = Source([path.as_posix() for path in relative], images, [], labels, problems=problems)
    kinds = "captions beside the pictures", "names of the files", "names of the folders"
    counts, words = Counter[str](), _names_of(found)
    for name, beside, own in zip(words, captions, labels, strict=True):
        texts = ["", name, *map(_words_of, own)]
        try:
            if beside.is_file():
                texts[0] = " ".join(beside.read_text(encoding="utf-8-sig").split())
        except UnicodeDecodeError as error:
            problems[str(beside)] = f"not UTF-8 ({error.reason} at byte {error.start})"
        except OSError as error:
            lost(beside, error)
        if str(beside) in problems:  # a name is no text in the place of a caption
            texts = []
        found_in = {kind: text for kind, text in zip(kinds, texts, strict=False) if text}
        counts.update([*found_in][:1])
        source.texts.append(next(iter(found_in.values()), None))
    listed = ", ".join(f"{counts[kind]:,} from {kind}" for kind in kinds if counts[kind])
    if not counts[kinds[0]] and counts.total() < _FEWEST_NAMES <= len(found):
        source.texts = [None] * len(found)
        listed = listed and f"none ({listed}: too few to learn from)"
    source.read_as = {IMAGE: f"{len(found):,} files", TEXT: listed or "none", "id": "paths"}
    several = f"{len(classes)} sub-folders: {', '.join(classes):.100}"
    source.read_as["labels"] = several if any(labels) else "none"
    if others:
        source.read_as["not taken"] = not_taken(others)
    return source


def _alike(path: Path) -> tuple[Path, str]:
    """Where a file is and what it is called, whatever its ending and normal form."""
    return path.parent, _nfc(path.stem)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _words_of(name: str) -> str:
    """The words of a file's name; none of a camera's."""
    words = find_words(re.sub(r"(?<=[a-z])(?=[A-Z])|[\d_]+", " ", name))
    long = (word for word in words if len(word) > 2 or _DENSE.search(word))
    return " ".join(words) if not all(map(_NO_NAME.fullmatch, long)) else ""


def _names_of(paths: Sequence[Path]) -> list[str]:
    """The words of files' names; none of short ones that nearly all of a folder, or all, have."""
    names = [(path.parent, _words_of(path.stem)) for path in paths]
    sizes, same = Counter(path.parent for path in paths), Counter(names)
    everywhere = Counter(text for _, text in names)

    def is_telling(folder: Path, text: str) -> bool:
        if any(len(run) > 2 and not _NO_NAME.fullmatch(run) for run in _LETTERS.findall(text)):
            return True
        counts = (same[folder, text], sizes[folder]), (everywhere[text], len(paths))
        return not any(1 < count > 0.8 * of for count, of in counts)

    return [text if is_telling(folder, text) else "" for folder, text in names]


# tables ---------------------------------------------------------------------------------------


def _table(
    path: Path,
    named: Mapping[str, str],
    images_root: PathLike | None,
    encoding: str | None,
    separator: str | None,
) -> Source:
    source, root = Source([], [], [], []), Path(images_root or path.parent)
    read_as, left_out, binary = source.read_as, list[str](), list[str]()
    typed = path.suffix.lower() not in (".csv", ".tsv")
    if path.suffix.lower() == ".parquet":
        columns = _parquet(path, left_out, binary)
    elif not typed:
        columns = _separated(path, encoding, source, left_out)
    else:
        columns = _json(path, source)
    total = len(next(iter(columns.values()), ()))
    if total == 0:
        first = next((f"; {place}: {text}" for place, text in source.problems.items()), "")
        raise ValueError(f"source: {path} holds no row{first}")
    roles, vectors = _roles(columns, named, path, separator, binary)
    for modality in MODALITIES:
        if name := vectors.get(modality):
            matrix = source.features[modality] = columns[name]
            source.lacking[modality] = np.asarray(np.isnan(matrix).all(axis=1))
            read_as[modality] = f"column {name!r}, features of {matrix.shape[1]}"
    none: list[Any] = [None] * total
    image, text, label, key = (roles.get(role, "") for role in ROLES)
    places = columns.get(image, none)
    source.images, source.written = _places(places, root, images_root is not None, path, source)
    source.texts = [_joined(value) for value in columns.get(text, none)]
    if odd := [row for row, own in enumerate(source.texts) if (own or "").lower() in _MISSING]:
        warnings.warn(
            f"{path}: {len(odd)} of {total} texts are {source.texts[odd[0]]!r} or the like (first: "
            f"{source.place(odd[0])}), which is taken for a text; where it means that there is "
            "none, leave the cell empty (in pandas: do not make texts of NaN)",
            OddDataWarning,
            stacklevel=3,
        )
    source.labels, how = _labels(columns.get(label, none), separator)
    for role, name, more in ((IMAGE, image, f", below {root}"), (TEXT, text, "")):
        if name:
            shown = f"{read_as[role]}; shown: " if role in read_as else ""
            read_as[role] = f"{shown}column {name!r}{more}"
    read_as["labels"] = f"column {label!r}{how}" if label else "none"
    read_as["id"] = f"column {key!r}" if key else "numbers of the rows"
    ids = columns[key] if key else range(total)
    source.ids = ["" if value is None else str(value).strip() for value in ids]
    left_out += [
        f"column {name!r} (vectors of {columns[name].shape[1]}; what they are tells "
        "--image_column or --text_column)"
        for name in columns
        if isinstance(columns[name], np.ndarray) and name not in vectors.values()
    ]
    left = [name for name in columns if name not in roles.values()]
    others = {name: columns[name] for name in left if isinstance(columns[name], list)}
    if TEXT not in {**roles, **vectors}:
        words = {n: {*filter(_is_unspaced, others[n])} for n in others}
        best = max(words, key=lambda name: sum(map(len, words[name])), default="")
        if best and len(words[best]) > 2:
            read_as[TEXT] = f"none; for texts: --text_column {shlex.quote(best)}"
    read_as["fields"] = ", ".join(_add_fields(source, others, typed)) or "none"
    if left_out:
        read_as["not kept"] = ", ".join(left_out)
    return source


def _add_fields(source: Source, columns: Mapping[str, list[Any]], typed: bool) -> list[str]:
    """Give the source the columns that hold something, by names that filters know; told of each."""
    values, there, told = dict[str, list[Any]](), dict[str, list[Any]](), list[str]()
    for name, column in columns.items():
        values[name] = [v.strip() or None if isinstance(v, str) else v for v in column]
        there[name] = [v for v in values[name] if v is not None and v == v]
    decimal = any(_numbers_with(r",(?!\d{3}$)", column) for column in there.values())
    for name in filter(there.get, values):
        plain = field_name(name)
        while plain in _EXTRAS or plain.lower() in _GRAMMAR or plain in source.fields:
            plain += "_"
        kind, convert, why = _type_of(there[name], typed, decimal)
        kept = [None if v is None or v != v else convert(v) for v in values[name]]
        source.fields[plain] = kind, kept
        renamed = "" if plain == name else f"column {name!r} as "
        told.append(f"{renamed}{plain} ({kind.__name__}{why})")
    return told


def _separated(
    path: Path, encoding: str | None, source: Source, left_out: list[str]
) -> dict[str, Any]:
    raw = path.read_bytes()
    if encoding is None:
        encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "utf-8")
        little, big = (raw[at:1000:2].count(0) for at in (1, 0))
        one_side = max(little, big) > 8 * min(little, big)  # else of UTF-32, or they fill cells
        if encoding == "utf-8" and one_side and max(little, big) > len(raw[:1000]) // 4:
            wrong = f"source: {path}: looks like UTF-16 without a byte order mark; save it as UTF-8"
            raise ValueError(f"{wrong}, or give --encoding utf-16-{'le' if little > big else 'be'}")
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
    except LookupError as error:
        raise ValueError(f"encoding: {encoding} is not known; cp1252 and latin-1 are") from error
    except UnicodeDecodeError as error:
        line, tried = raw.count(b"\n", 0, error.start) + 1, codecs.lookup(encoding)
        others = [name for name in _ENCODINGS if codecs.lookup(name) != tried]
        wrong = f"line {line} is not in {encoding} (byte 0x{raw[error.start]:02x})"
        remedy = "save it as UTF-8, or give --encoding with the one that it was saved in, e.g."
        raise ValueError(f"source: {path}: {wrong}; {remedy} {', '.join(others)}") from error
    is_tsv = path.suffix.lower() == ".tsv"
    head, _, rest = text.partition("\n")
    if told := re.fullmatch(r"sep=(.)\r?", head, re.IGNORECASE):  # Excel's
        mark, text = told[1], f"\n{rest}"
    else:
        mark = delimiter(head, "\t" if is_tsv else ",;\t|")
    try:
        rows = _cells(text, mark)
    except ValueError as error:
        if not is_tsv:
            raise ValueError(
                f'source: {path}: {error}; in a cell between quotes a quote is doubled, as ""'
            ) from error
        rows = []
    if is_tsv and (not rows or any("\n" in c and mark in c for _, row in rows for c in row)):
        plain = _cells(text, mark, csv.QUOTE_NONE)
        sizes = [[len(row) for _, row in of if any(row)] for of in (rows, plain)]
        fitting = [own.count(own[0]) if own else 0 for own in sizes]  # have the cells of the head
        if fitting[1] > fitting[0]:
            rows, source.read_as["quotes"] = plain, "are letters, as they do not pair"
    (line, names), *body = [row for row in rows if any(row[1])] or [(0, [])]
    if data := [name for name in names if _NUMBER.fullmatch(name) or _is_picture(name)]:
        wrong = f"line {line} should name the columns, but {data[0]!r:.60} looks like a value"
        remedy = "put a line of names before it, e.g. image,text"
        raise ValueError(f"source: {path}: {wrong}; {remedy}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"source: {path}: two columns are named {twice[0]!r}")
    for line, row in body:
        if len(row) != len(names):
            wrong = f"{len(row)} cells, the head has {len(names)}"
            source.problems[f"{path.name}, line {line}"] = wrong
    body = [(line, row) for line, row in body if len(row) == len(names)]
    source.lines, cells = [line for line, _ in body], [row for _, row in body]
    columns = {name: _lists([row[i] or None for row in cells]) for i, name in enumerate(names)}
    if columns.pop("", None) is not None:  # the row numbers that pandas writes
        left_out.append("a column without a name")
    return columns


def _cells(text: str, mark: str, quoting: Any = csv.QUOTE_MINIMAL) -> list[tuple[int, list[str]]]:
    """The line where each row begins, and its cells; ``ValueError`` names the line."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=mark, strict=True, quoting=quoting)
    rows, end = list[tuple[int, list[str]]](), 0
    try:
        for row in reader:
            rows.append((end + 1, [cell.strip() for cell in row]))
            end = reader.line_num
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    return rows


def _lists(values: list[str | None]) -> list[Any]:
    """Cells, or the lists of texts that all of them hold as JSON, as ``export`` writes them."""
    if not any(values) or not all(v is None or (v[0], v[-1]) == ("[", "]") for v in values):
        return values
    try:
        lists = [v and json.loads(v) for v in values]
    except (ValueError, RecursionError):
        return values
    is_list = all(isinstance(text, str) for own in lists if own for text in own)
    return lists if is_list else values


def delimiter(head: str, marks: str = ",;\t|") -> str:
    """What stands between the cells of CSV: the mark that makes the most of its first line."""
    csv.field_size_limit(1 << 30)

    def cells(mark: str) -> int:
        return len(next(csv.reader(io.StringIO(head, newline=""), delimiter=mark), []))

    return max(marks, key=cells)


def _json(path: Path, source: Source) -> dict[str, Any]:
    rows: list[Any] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            content = json.loads(text)
            if isinstance(content, dict) and {"images", "annotations"} <= set(content):
                return coco_captions(content)
            rows = content if isinstance(content, list) else [content]
        else:
            for number, line in enumerate(text.split("\n"), 1):
                if line.strip():
                    try:
                        rows.append(json.loads(line))
                        source.lines.append(number)
                    except (ValueError, RecursionError) as error:
                        source.problems[f"{path.name}, line {number}"] = f"no JSON ({error})"
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"source: {path}: {error}") from error
    if odd := [number for number, row in enumerate(rows) if not isinstance(row, dict)]:
        told = f"{source.place(odd[0])} is {rows[odd[0]]!r:.40}"
        raise ValueError(f"source: {path}: {told}; expected an object a row, or MS-COCO's layout")
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(path: Path, left_out: list[str], binary: list[str]) -> dict[str, Any]:
    """The columns, those of lists of numbers as matrices; ``binary`` gets those of pictures."""
    library = require("pyarrow", "pyarrow", extra="parquet")
    parquet = require("pyarrow.parquet", "pyarrow", extra="parquet")
    columns: dict[str, Any] = {}
    types, wrong = library.types, "no Parquet file"
    try:
        with parquet.ParquetFile(path) as file:
            wrong = f"pyarrow {library.__version__} cannot read it, a newer one may"
            for name, kind in zip(file.schema_arrow.names, file.schema_arrow.types, strict=True):
                lists = types.is_list(kind) or types.is_fixed_size_list(kind)
                if "binary" in str(kind):
                    left_out.append(f"column {name!r} ({kind!s:.40})")
                    of = {inner.name for inner in kind} if types.is_struct(kind) else set()
                    if name.lower() in ROLES[IMAGE].split() or of == {"bytes", "path"}:
                        binary.append(name)
                elif lists and types.is_floating(kind.value_type):
                    columns[name] = _vectors(file, name)
                elif types.is_temporal(kind):  # Python's have no ns
                    texts = file.read(columns=[name])[0].cast(library.string()).to_pylist()
                    iso = [t and re.sub(r"\.0+(?!\d)", "", t) for t in texts]
                    columns[name] = [t and t.replace(" ", "T") for t in iso]
                else:
                    columns[name] = file.read(columns=[name])[0].to_pylist()
    except (library.ArrowException, OSError) as error:
        raise ValueError(f"source: {path}: {wrong} ({error})") from error
    return columns


def _vectors(file: Any, name: str) -> Array:
    """A column of lists of numbers, float32 ``[N, d]``; NaN where a row has none."""
    compute = require("pyarrow.compute", "pyarrow", extra="parquet")
    rows, place = np.empty((0, 0), np.float32), 0
    for batch in file.iter_batches(BLOCK, columns=[name]):  # never all twice in memory
        column = batch.column(0)
        widths = compute.list_value_length(column).drop_null().unique().to_pylist()
        if widths and len(rows) == 0:
            rows = np.full((file.metadata.num_rows, widths[0]), np.nan, np.float32)
        if widths and widths != [rows.shape[1]]:
            raise ValueError(f"source: {name}: vectors of different lengths, row {place} or later")
        if widths:
            values = column.flatten().to_numpy(zero_copy_only=False)
            there = column.is_valid().to_numpy(zero_copy_only=False)
            rows[place : place + len(column)][there] = values.reshape(there.sum(), *widths)
        place += len(column)
    if len(rows) == 0:
        raise ValueError(f"source: {name}: holds no vector")
    return rows


def _roles(
    columns: Mapping[str, Any],
    named: Mapping[str, str],
    path: Path,
    separator: str | None,
    binary: Sequence[str],
) -> tuple[dict[str, str], dict[str, str]]:
    """The column of each role, as told, by its name, or by its values; and those of features."""
    inside = (
        f"source: {path}: column {(*binary, '')[0]!r} holds pictures as bytes, which are not read; "
        "write each into a file and name these in a column, or leave them out: --image_column ''"
    )
    if named.get(IMAGE) in binary:
        raise ValueError(inside)
    for role, name in named.items():
        if name and name not in columns:
            raise ValueError(f"{role}_column: {path} has none called {name!r}; {_named(columns)}")
    matrices = [name for name, values in columns.items() if isinstance(values, np.ndarray)]
    vectors = {role: name for role, name in named.items() if name in matrices}
    roles = {role: name for role, name in named.items() if name not in matrices}
    for name in matrices:
        kind = kind_of(name)[0]
        if kind in MODALITIES and name not in vectors.values() and named.get(kind) != "":
            vectors.setdefault(kind, name)
    plain = {re.sub(r"\W+", "_", n).lower(): n for n in reversed([*columns]) if n not in matrices}
    for role, words in ROLES.items():
        free = [plain[w] for w in words.split() if w in plain and plain[w] not in roles.values()]
        if role not in roles and free:
            roles[role] = free[0]
    if "label" in roles and "label" not in named:  # names of single things are no classes
        lists, _ = _labels(columns[roles["label"]], separator)
        classes = [word for own in lists for word in own]
        if len(set(classes)) > max(10, len(classes) // 2):
            del roles["label"]
    left = [n for n in columns if n not in roles.values() and n not in matrices]
    for role, test in ((IMAGE, _is_picture), (TEXT, _is_text), (TEXT, _is_unspaced_text)):
        if role in roles or (role == IMAGE and role in vectors):
            continue
        shares = dict[str, tuple[float, int]]()  # of the values, that are texts and pass; letters
        for name in (n for n in left if n not in roles.values()):
            there = [value for value in columns[name] if value is not None]
            texts = [value for value in there if isinstance(value, str)]
            share = sum(map(test, texts)) / max(1, len(there))
            if share > 0.5 and test is not _is_unspaced_text:
                shares[name] = share, 0
            elif share > 0.5 and 2 * len({*texts}) > len(there):  # else classes
                shares[name] = round(share, 1), sum(map(len, {*texts}))
        if shares:
            roles[role] = max(shares, key=lambda n: shares[n])
    if binary and IMAGE not in {**roles, **vectors}:
        raise ValueError(inside)
    if not (roles.get(IMAGE) or roles.get(TEXT) or {*MODALITIES} & {*vectors}):
        told = f"source: {path}: nothing tells which column holds pictures or texts"
        raise ValueError(f"{told}; give --image_column or --text_column; {_named(columns)}")
    return roles, vectors


def _named(columns: Iterable[str]) -> str:
    return f"its columns are {', '.join(map(repr, columns)) or '(none)'}"


def _is_picture(text: str) -> bool:
    return text.lower().endswith(PICTURE_SUFFIXES)


def _is_text(text: str) -> bool:
    return len(text.split()) > 2


def _is_unspaced_text(text: str) -> bool:
    """Whether it has letters for three words where spaces tell none; a long text's head has."""
    letters = [] if text.isascii() else _UNSPACED.findall(text[:60])
    return 3 * len(letters) - 2 * len(_SMALL.findall("".join(letters))) > 17


def _is_unspaced(value: Any) -> bool:
    """Whether it has letters of scripts without spaces, and no date."""
    return isinstance(value, str) and bool(_UNSPACED.search(value) and not _DATE.search(value))


def _places(
    values: Sequence[Any], root: Path, is_given: bool, path: Path, source: Source
) -> tuple[list[str | None], list[str | None]]:
    """Where the pictures are, and as they are written: that is the same when they are moved."""
    places, written = list[str | None](), list[str | None]()

    @cache
    def names(folder: str) -> dict[str, str]:
        with suppress(OSError, ValueError):  # there is none, or none in this locale
            return {_nfc(name): name for name in os.listdir(folder)}
        return {}

    def found(place: str) -> str:
        """A path as its folders write it: archives of macOS have other normal forms (NFD)."""
        parts = list[str]()
        while not place.isascii() and os.path.basename(place) and not os.path.exists(place):
            place, name = os.path.split(place)
            parts.append(name)
        for name in reversed(parts):
            place = os.path.join(place, names(place).get(_nfc(name), name))
        return place

    for row, value in enumerate(values):
        if value is not None and (not isinstance(value, str) or "\0" in value):
            wrong = f"expected the name of a picture, got {value!r:.40}"
            source.problems[f"{path.name}, {source.place(row)}"] = wrong
            value = None
        if value and _ELSEWHERE.match(value):
            raise ValueError(
                f"source: {path}: {source.place(row)} names a picture on the network "
                f"({value:.60}); nothing is fetched, so download the pictures and name the files"
            )
        name = value.strip() if value else ""
        place = os.path.join(root, name)
        if "\\" in name and not os.path.isfile(place):  # of Windows
            place = os.path.join(root, name := name.replace("\\", "/"))
        is_moved = is_given and (os.path.isabs(name) or ntpath.isabs(name))  # it lay there before
        if is_moved:
            place = below(root, name)
        place = os.path.abspath(place)
        written.append(place if name else None)
        if is_moved and not name.isascii() and not os.path.isfile(place):
            place = below(root, name, lambda path: os.path.isfile(found(os.path.abspath(path))))
        places.append(found(place) if name else None)
    return places, written


def _joined(value: Any) -> str | None:
    """One text of one or several."""
    if isinstance(value, list):
        value = " ".join(str(part) for part in value if part is not None)
    text = "" if value is None or value != value else " ".join(str(value).split())
    return text or None


def _labels(values: Sequence[Any], mark: str | None) -> tuple[list[list[str]], str]:
    """Labels of each row, and how they were told apart."""
    if any(isinstance(value, list) for value in values):
        mark, lists = "", [v if isinstance(v, list) else [] if v is None else [v] for v in values]
    else:
        texts = ["" if v is None or v != v else str(v) for v in values]
        if mark is None:
            mark = next((mark for mark in ";|," if any(mark in text for text in texts)), "")
        lists = [text.split(mark) if mark else [text] for text in texts]
    how = f", several a row apart by {mark!r}" if mark else ""
    given = [[_nfc(str(part)).strip() for part in own if part is not None] for own in lists]
    return [[*dict.fromkeys(filter(None, own))] for own in given], how


def _fits(value: Any, bits: int) -> bool:
    """Whether an integer, or its text, is kept as it is: by int64 (63 bits), by a float (53)."""
    return (type(value) is not str or len(value) <= 20) and -(2**bits) <= int(value) < 2**bits


def _numbers_with(mark: str, values: Sequence[Any]) -> bool:
    """Whether the values are texts that look like numbers, some with this pattern in them."""
    are_numbers = all(isinstance(value, str) and _MARKED.fullmatch(value) for value in values)
    return are_numbers and any(re.search(mark, value) for value in values)


def _type_of(
    values: Sequence[Any], typed: bool, decimal: bool
) -> tuple[type, Callable[[Any], Any], str]:
    """The type of a column, what makes it of a value, and why numbers are texts, if they are."""
    marked = ", as its numbers have {}; for numbers write 1371.40, not 1.371,40"
    convert: Callable[[Any], Any] = _plain
    if all(isinstance(value, str) for value in values):
        if typed:  # a text is one, whatever it looks like
            return str, str, ""
        if all(value.lower() in ("true", "false") for value in values):
            return bool, lambda value: value.lower() == "true", ""
        whole = [value for value in values if _WHOLE.fullmatch(value)]
        if len(whole) == len(values) and all(_fits(value, 63) for value in whole):
            return int, int, ""
        if all(_NUMBER.fullmatch(value) for value in values) and all(_fits(v, 53) for v in whole):
            if decimal and all(map(_THOUSANDS.fullmatch, values)):
                return str, str, marked.format("points, and others decimal commas")
            return float, float, ""
        if _numbers_with(",", values):
            return str, str, marked.format("commas")
        convert = str
    for kind in (bool, int):
        if all(type(value) is kind and _fits(value, 63) for value in values):
            return kind, kind, ""
    if all(type(v) is float or (type(v) is int and _fits(v, 53)) for v in values):
        return float, float, ""
    if all(isinstance(value, list) and all(isinstance(v, str) for v in value) for value in values):
        return list, list, ""
    large = any(_WHOLE.fullmatch(text) and not _fits(text, 53) for text in map(convert, values))
    return str, convert, ", as some of its integers are too large for numbers" * large


def _plain(value: Any) -> str:
    """Text of what is none: dates in ISO's format, lists and mappings as JSON."""
    if isinstance(value, list | dict | bool | int | float):
        return json.dumps(value, default=_plain)
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


# features -------------------------------------------------------------------------------------


class _Stored:
    """A matrix of a feature file, of which rows are read as they are needed."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        with open_feature_file(path) as file:
            self.shape = StoredMatrix(file, name).shape

    def __getitem__(self, rows: slice) -> Array:
        out = np.empty((rows.stop - rows.start, self.shape[1]), np.float32)
        with open_feature_file(self.path) as file:
            StoredMatrix(file, self.name).read_rows(rows.start, rows.stop, out)
        return out


def _feature_file(path: Path) -> Source:
    features: dict[Modality, Any] = {m: _Stored(path, m) for m in MODALITIES}
    n = features[IMAGE].shape[0]
    with open_feature_file(path) as file:
        splits = {name: mask.numpy() for name, mask in read_splits(file, n).items()}
        y = read_labels(file)
    none: list[str | None] = [None] * n
    items = stored_items(path, 0 if y is None else int(y.max()) + 1 if y.dim() == 1 else y.size(1))
    source = Source(items.ids, [*items.image_paths] or none, [*items.texts] or none, [])
    source.features, source.splits = features, splits
    source.labels = label_names(y, items.class_names, n)
    found = {modality: stored_encoder(path, modality) for modality in MODALITIES}
    source.encoders = {modality: e for modality, e in found.items() if e is not None}
    return _told(source)


def _arrays(paths: Sequence[PathLike], named: Mapping[str, str], images_root: Any) -> Source:
    told = {{"label": LABELS, "id": IDS}.get(role, role): name for role, name in named.items()}
    found = gather(paths, told, _ARGUMENTS)
    n, values = found.num_rows, found.values
    if set(values) & set(MODALITIES) - set(found.features):
        remedy = "make features of them with: pyg-hash data import"
        raise ValueError(f"source: {paths[0]} holds pixels; {remedy}")
    none, first = [None] * n, Path(paths[0])
    ids, texts = map(str, values.get(IDS, range(n))), values.get(TEXTS, none)
    source = Source([*ids], [], [text or None for text in texts], [])
    root, is_given = images_root or first.parent, images_root is not None
    pictures = values.get(PATHS, none)
    if IMAGE in found.features:  # what lies elsewhere is not needed
        pictures = [None if _ELSEWHERE.match(str(value)) else value for value in pictures]
    source.images, source.written = _places(pictures, root, is_given, first, source)
    source.features, source.splits = found.features, found.masks
    y = found.labels()
    if isinstance(y, list):
        source.labels = [[own] if isinstance(own, str) else list(own) for own in y]
    else:
        source.labels = label_names(y, values.get(NAMES, []), n)
    return _told(source, found.notes)


def _told(source: Source, notes: Sequence[str] = ()) -> Source:
    for modality in MODALITIES:
        if modality in source.features:
            source.read_as[modality] = f"features of {source.features[modality].shape[1]}"
        elif any(source.items(modality)):
            source.read_as[modality] = "raw"
    source.labels = [[*map(_nfc, own)] for own in source.labels]
    source.read_as["labels"] = "given" if any(source.labels) else "none"
    if notes:
        source.read_as["variables"] = "; ".join(notes)
    return source
