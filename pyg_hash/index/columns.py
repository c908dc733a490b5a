# ruff: noqa: D102 (what the methods do is said once, in Column)
"""Columns of an index: rows that grow, texts, ids and the fields that are kept beside a code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pyg_hash.index.arrays import damaged
from pyg_hash.utils.files import CorruptFileError

Array = NDArray[Any]
Arrays = Mapping[str, Array]
FIELD_TYPES: tuple[type, ...] = (str, int, float, bool, list)
_DTYPES: dict[type, Any] = {int: np.int64, float: np.float64, bool: np.uint8}
_COMPARE: dict[str, Any] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_FEW = 32  # texts that are looked for one by one


def check_text(value: str, name: str) -> None:
    """Raise ``ValueError`` for what databases cannot keep: NUL and halves of characters."""
    if "\0" in value:
        raise ValueError(f"{name}: {value!r} holds a NUL character; leave it out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: {value!r} is not valid Unicode ({error.reason})") from error


def all_text(values: Sequence[Any]) -> bool:
    """Whether all are plain ``str`` that can be kept, or None; quicker than one by one."""
    if not {*map(type, values)} <= {str, type(None)}:
        return False
    whole = "".join(filter(None, values))
    return "\0" not in whole and not any(map("\ud800".__le__, filter("\ue000".__gt__, {*whole})))


def field_value(value: Any, kind: type, name: str) -> Any:
    """One value of a field as ``kind``; ``TypeError`` or ``ValueError`` if it is none."""
    if hasattr(value, "item"):
        value = value.item()  # numpy's and torch's numbers
    if kind is list:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError(f"{name}: expected a list of str, got {value!r}")
        return [field_value(text, str, name) for text in value]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise ValueError(f"{name}: an int is too large for float64") from None
    if type(value) is not kind:
        raise TypeError(f"{name}: expected {kind.__name__}, got {value!r}")
    if isinstance(value, str):
        check_text(value, name)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name}: {value} does not fit int64")
    if kind is float and value != value:
        raise ValueError(f"{name}: NaN cannot be kept; use None for a missing value")
    return value


class Rows:
    """Rows of an array, and those that were added; a mapped one is checked when it is used.

    Threads may read at the same time: they see one tuple or the next.
    """

    def __init__(self, rows: Array, check: Callable[[], None] | None = None) -> None:
        self._parts = rows, list[Array]()
        self._check = check

    def __len__(self) -> int:
        base, more = self._parts
        return len(base) + sum(map(len, more))

    def append(self, rows: Array) -> None:
        """Add a copy of rows."""
        base, more = self._parts
        self._parts = base, [*more, np.array(rows, base.dtype)]

    def joined(self) -> Array:
        """All rows in one array."""
        base, more = self._both()
        if len(more):
            base = np.concatenate([base, more]) if len(base) else more
            self._parts = base, []
        return base

    def at(self, rows: Array) -> Array:
        """Some rows, ``[*rows.shape, ...]``."""
        base, more = self._both()
        if len(more) == 0:
            if base.ndim == 2 and base.flags.c_contiguous:  # bytes; whole rows are faster
                whole = base.view(f"V{base.shape[1]}")[:, 0]
                return whole[rows].view(base.dtype).reshape(*rows.shape, base.shape[1])
            return base[rows]
        late = rows >= len(base)
        result = np.empty((*rows.shape, *base.shape[1:]), base.dtype)
        result[~late], result[late] = base[rows[~late]], more[rows[late] - len(base)]
        return result

    def span(self, start: int, stop: int) -> Array:
        """Rows that were added together."""
        base, more = self._both()
        if start < len(base):
            return base[start:stop]
        return more[start - len(base) : stop - len(base)]

    def assign(self, rows: Array, values: Array) -> None:
        """Put others in the place of some rows."""
        whole = self.joined()
        whole = whole if whole.flags.writeable else whole.copy()
        whole[rows] = values
        self._parts = whole, []

    def _both(self) -> tuple[Array, Array]:
        if self._check is not None:
            self._check()
            self._check = None
        base, more = self._parts
        if len(more) > 1:
            more = [np.concatenate(more)]
            self._parts = base, more
        return base, more[0] if more else base[:0]


class Source(NamedTuple):
    """Where columns are read from: arrays by name, and what checks one before it is used."""

    arrays: Arrays
    check: Callable[..., None]
    path: Any = None

    def rows(self, name: str, dtype: Any, length: int | None = None) -> Rows:
        """A flat array; ``KeyError`` or ``ValueError`` if it is another one."""
        array = self.arrays[name]
        if array.dtype != dtype or array.ndim != 1 or length not in (None, len(array)):
            raise ValueError(f"{name} does not fit")
        return Rows(array, lambda: self.check(name))


class Texts:
    """Texts: their UTF-8 one after the other, ``[bytes]``, and where each ends, ``[n]``."""

    path: Any = None  #: of the file they are read from

    def __init__(self, text: Rows, ends: Rows) -> None:
        self._text, self._ends = text, ends
        self._prints = np.empty(0, np.int64)  # of the first so many

    @classmethod
    def of(cls, values: Sequence[str]) -> Texts:
        encoded = [value.encode() for value in values]
        ends = np.cumsum([len(value) for value in encoded], dtype=np.int64)
        return cls(Rows(np.frombuffer(b"".join(encoded), np.uint8)), Rows(ends))

    @classmethod
    def read(cls, source: Source, name: str) -> Texts:
        text, ends = source.arrays[f"{name}_text"], source.arrays[f"{name}_ends"]
        if (int(ends[-1]) if len(ends) else 0) != text.size:
            raise ValueError(f"the text of {name} is not complete")
        texts = cls(source.rows(f"{name}_text", np.uint8), source.rows(f"{name}_ends", np.int64))
        texts.path = source.path
        return texts

    def arrays(self, name: str) -> dict[str, Array]:
        return {f"{name}_text": self._text.joined(), f"{name}_ends": self._ends.joined()}

    def __len__(self) -> int:
        return len(self._ends)

    def _starts(self, places: Array) -> Array:
        return np.where(places > 0, self._ends.at(np.maximum(places - 1, 0)), 0)

    def at(self, places: Array) -> NDArray[np.object_]:
        """Some texts, in the shape of ``places``."""
        result = np.empty(places.shape, np.object_)
        with damaged(self.path):  # without checksums it can hold anything
            starts, ends = (
                x.ravel().tolist() for x in (self._starts(places), self._ends.at(places))
            )
            spans = zip(starts, ends, strict=True)
            if len(starts) > 1000:
                whole = self._text.joined().data
                texts = [str(whole[a:b], "utf-8") for a, b in spans]
            else:
                texts = [self._text.span(a, b).tobytes().decode() for a, b in spans]
        result.reshape(-1)[:] = texts
        return result

    def append(self, other: Texts) -> None:
        """Add texts."""
        before = len(self._text)
        self._text.append(other._text.joined())
        self._ends.append(other._ends.joined() + before)

    def take(self, places: Array) -> Texts:
        """Some texts alone."""
        starts, ends = self._starts(places), self._ends.at(places)
        lengths = ends - starts
        self._check_lengths(lengths)
        after = np.cumsum(lengths)
        size = int(after[-1]) if len(after) else 0
        where = np.arange(size) + np.repeat(starts - (after - lengths), lengths)
        return Texts(Rows(self._text.joined()[where]), Rows(after))

    def _check_lengths(self, lengths: Array) -> None:
        if len(lengths) and int(lengths.astype(np.uint64).max()) > len(self._text):
            raise CorruptFileError(f"{self.path}: its texts overlap; build it again")

    def equal(self, value: str) -> NDArray[np.int64]:
        """Places of a text, without decoding the others."""
        places = (self.prints() == Texts.of([value]).prints()[0]).nonzero()[0]
        return np.asarray(places[self.at(places) == value], np.int64)

    def prints(self) -> NDArray[np.int64]:
        """64 bits of each text; those of equal texts are equal."""
        start, ends = len(self._prints), self._ends.joined()
        if start == len(ends):
            return self._prints
        data = np.concatenate([self._text.joined(), np.zeros(8, np.uint8)])
        words = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))  # of any eight bytes
        at = np.concatenate([[0], ends[:-1]])[start : len(ends)]
        left = (ends[start:] - at).astype(np.uint64)
        self._check_lengths(left)
        prints, rows = left * _ODD, left.nonzero()[0]
        at, left = at[rows], left[rows]
        while len(rows):
            word = words[at]
            short = left < 8
            word[short] &= (np.uint64(1) << (left[short] * 8)) - 1
            mixed = (prints[rows] ^ word) * _ODD
            prints[rows] = mixed ^ (mixed >> 29)
            more = left > 8
            rows, at, left = rows[more], at[more] + 8, left[more] - 8
        self._prints = every = np.concatenate([self._prints, prints.view(np.int64)])
        return every

    def hits(self, op: str, values: Sequence[str]) -> NDArray[np.bool_]:
        """For each text whether it compares so to one of the values."""
        found = np.zeros(len(self), bool)
        if op in ("=", "has") and len(values) <= _FEW:
            for value in values:
                found[self.equal(value)] = True
            return found
        every = self.at(np.arange(len(self)))
        if op in _COMPARE:
            return np.asarray(_COMPARE[op](every, values[0]), bool)
        known = set(values)
        return np.fromiter((text in known for text in every), bool, len(every))


class IntIds:
    """int64 ids by row, and the last row of an id."""

    def __init__(self, values: Rows) -> None:
        self._values = values
        # how many are sorted, by which order if it is not their own, and the rows of the others
        self._known: tuple[int, Array | None, dict[int, int]] = 0, None, {}

    @classmethod
    def of(cls, ids: Array) -> IntIds:
        return cls(Rows(np.array(ids, np.int64)))

    @classmethod
    def read(cls, source: Source) -> IntIds:
        values = source.arrays["ids"]
        if values.dtype != np.int64 or values.ndim != 1:
            raise ValueError("ids are not int64")
        return cls(source.rows("ids", np.int64))

    def arrays(self) -> dict[str, Array]:
        return {"ids": self._values.joined()}

    def __len__(self) -> int:
        return len(self._values)

    def at(self, rows: Array) -> Array:
        return self._values.at(rows)

    def append(self, ids: Array) -> None:
        self._values.append(ids)

    def take(self, rows: Array) -> IntIds:
        return IntIds(Rows(self.at(rows)))

    def order(self) -> Array | None:
        """Rows by rising id, those of one id as they were added; None where they rise already."""
        return self._sort(0)[1]

    def _sort(self, late: int) -> tuple[int, Array | None, dict[int, int]]:
        """Sort, unless it was done but for ``late`` rows."""
        known, order, others = self._known
        n = len(self)
        if n - known > late:
            values = self._values.joined()
            order = None
            if not (values[1:] > values[:-1]).all():
                order = np.argsort(values)
                ranked = values[order]
                if (ranked[1:] == ranked[:-1]).any():  # then a slower sort that keeps their order
                    order = np.argsort(values, kind="stable")
            self._known = n, order, {}
        elif known + len(others) < n:
            first = known + len(others)
            new = self._values.at(np.arange(first, n)).tolist()
            self._known = known, order, others | dict(zip(new, range(first, n), strict=True))
        return self._known

    def find(self, ids: Array) -> NDArray[np.int64]:
        """Last rows of ids, -1 where there is no such id."""
        known, order, others = self._sort(min(1000, self._known[0] // 8))
        rows = np.full(len(ids), -1, np.int64)
        if known:
            values = self._values.joined()[:known]
            place = np.searchsorted(values, ids, "right", sorter=order) - 1
            row = place if order is None else order[place]
            rows = np.where((place >= 0) & (values[row] == ids), row, -1)
        if others:
            pairs = zip(ids.tolist(), rows.tolist(), strict=True)
            rows = np.array([others.get(name, row) for name, row in pairs], np.int64)
        return np.asarray(rows, np.int64)


class StrIds:
    """String ids by row, and the last row of an id, found by 64 bits of it."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._prints = IntIds(Rows(np.empty(0, np.int64)))  # of the first so many
        self._preparing = threading.Lock()

    @classmethod
    def of(cls, ids: Array) -> StrIds:
        return cls(Texts.of(ids.tolist()))

    @classmethod
    def read(cls, source: Source) -> StrIds:
        return cls(Texts.read(source, "id"))

    def arrays(self) -> dict[str, Array]:
        return self._texts.arrays("id")

    def __len__(self) -> int:
        return len(self._texts)

    def at(self, rows: Array) -> Array:
        return self._texts.at(rows)

    def append(self, ids: Array) -> None:
        self._texts.append(Texts.of(ids.tolist()))

    def take(self, rows: Array) -> StrIds:
        return StrIds(self._texts.take(rows))

    def order(self) -> Array | None:
        """None: rows come in the order of adding."""
        return None

    def find(self, ids: Array) -> NDArray[np.int64]:
        """Last rows of ids, -1 where there is no such id."""
        with self._preparing:  # threads may look for ids at the same time
            if len(self._prints) < len(self):
                self._prints.append(self._texts.prints()[len(self._prints) :])
        rows = self._prints.find(Texts.of(ids.tolist()).prints())
        there = (rows >= 0).nonzero()[0]
        other = there[self.at(rows[there]) != ids[there]]  # of another id with these 64 bits
        for place in other.tolist():
            found = self._texts.equal(ids[place])
            rows[place] = found[-1] if len(found) else -1
        return rows


class Column(Protocol):
    """Values of a field, one a row; None is a missing one."""

    def __len__(self) -> int: ...

    def arrays(self, name: str) -> dict[str, Array]:
        """What goes into a file."""

    def append(self, other: Self) -> None:
        """Add rows."""

    def assign(self, rows: Array, other: Self) -> None:
        """Put the rows of another column in the place of some."""

    def take(self, rows: Array) -> Self:
        """Some rows alone."""

    def values(self, rows: Array) -> list[Any]:
        """Plain values of some rows."""

    def hits(self, op: str, values: Sequence[Any]) -> NDArray[np.bool_]:
        """For each row whether it compares so: ``=`` or ``has`` to any value, ``<`` ... to one.

        ``null``: whether it is missing.
        """


class Numbers:
    """int, float or bool: the values ``[n]``, and which are missing."""

    def __init__(self, kind: type, values: Rows, null: Rows) -> None:
        self._kind, self._values, self._null = kind, values, null

    @classmethod
    def of(cls, kind: type, values: Sequence[Any]) -> Numbers:
        null = np.array([value is None for value in values], np.uint8)
        plain = [0 if value is None else value for value in values] if null.any() else values
        return cls(kind, Rows(np.array(plain, _DTYPES[kind])), Rows(null))

    @classmethod
    def read(cls, kind: type, source: Source, name: str, n: int) -> Numbers:
        values = source.rows(f"{name}_values", _DTYPES[kind], n)
        return cls(kind, values, source.rows(f"{name}_null", np.uint8, n))

    def arrays(self, name: str) -> dict[str, Array]:
        return {f"{name}_values": self._values.joined(), f"{name}_null": self._null.joined()}

    def __len__(self) -> int:
        return len(self._values)

    def append(self, other: Numbers) -> None:
        self._values.append(other._values.joined())
        self._null.append(other._null.joined())

    def assign(self, rows: Array, other: Numbers) -> None:
        self._values.assign(rows, other._values.joined())
        self._null.assign(rows, other._null.joined())

    def take(self, rows: Array) -> Numbers:
        return Numbers(self._kind, Rows(self._values.at(rows)), Rows(self._null.at(rows)))

    def values(self, rows: Array) -> list[Any]:
        pairs = zip(self._values.at(rows).tolist(), self._null.at(rows).tolist(), strict=True)
        return [None if null else self._kind(value) for value, null in pairs]

    def hits(self, op: str, values: Sequence[Any]) -> NDArray[np.bool_]:
        null = self._null.joined().view(bool)
        if op == "null":
            return null.copy()
        own = self._values.joined()
        if op in _COMPARE:
            found = _COMPARE[op](own, values[0])
        elif len(values) == 1:
            found = own == values[0]
        else:
            found = np.isin(own, np.array(values, own.dtype))
        here: NDArray[np.bool_] = np.greater(found, null, out=found)
        return here


class Choices:
    """str or lists of str: which of the known values each row has, int32 ``[n]``, -1 if missing.

    The same value may be known more than once: an addition brings its own.
    """

    def __init__(self, choice: Rows, texts: Texts, ends: Rows | None) -> None:
        self._choice, self._texts = choice, texts
        self._ends = ends  # of lists: where each ends among the texts

    @classmethod
    def of(cls, kind: type, values: Sequence[Any]) -> Choices:
        known: dict[Any, int] = {}
        keys = map(tuple, (v or () for v in values)) if kind is list else values
        choice = [
            -1 if value is None else known.setdefault(key, len(known))
            for key, value in zip(keys, values, strict=True)
        ]
        rows = Rows(np.array(choice, np.int32))
        if kind is not list:
            return cls(rows, Texts.of(list(known)), None)
        ends = np.cumsum([len(key) for key in known], dtype=np.int64)
        return cls(rows, Texts.of([text for key in known for text in key]), Rows(ends))

    @classmethod
    def read(cls, kind: type, source: Source, name: str, n: int) -> Choices:
        ends = source.rows(f"{name}_lists", np.int64) if kind is list else None
        return cls(source.rows(f"{name}_values", np.int32, n), Texts.read(source, name), ends)

    def arrays(self, name: str) -> dict[str, Array]:
        lists = {} if self._ends is None else {f"{name}_lists": self._ends.joined()}
        return {f"{name}_values": self._choice.joined(), **self._texts.arrays(name), **lists}

    def __len__(self) -> int:
        return len(self._choice)

    def _adopt(self, other: Choices) -> Array:
        """What another column's rows are here, its values added."""
        known = len(self._texts if self._ends is None else self._ends)
        if self._ends is not None and other._ends is not None:
            self._ends.append(other._ends.joined() + len(self._texts))
        self._texts.append(other._texts)
        choice = other._choice.joined()
        return np.where(choice < 0, -1, choice + known)

    def append(self, other: Choices) -> None:
        self._choice.append(self._adopt(other))

    def assign(self, rows: Array, other: Choices) -> None:
        self._choice.assign(rows, self._adopt(other))

    def take(self, rows: Array) -> Choices:
        choice = self._choice.at(rows)
        used, new = np.unique(choice[choice >= 0], return_inverse=True)
        kept = np.full(len(choice), -1, np.int32)
        kept[choice >= 0] = new
        if self._ends is None:
            return Choices(Rows(kept), self._texts.take(used), None)
        places, lengths = self._spans(used)
        return Choices(Rows(kept), self._texts.take(places), Rows(np.cumsum(lengths)))

    def _spans(self, lists: Array) -> tuple[Array, Array]:
        """Places of the texts of some lists, one after the other, and how many each has."""
        assert self._ends is not None
        ends = self._ends.at(lists)
        starts = np.where(lists > 0, self._ends.at(np.maximum(lists - 1, 0)), 0)
        lengths = ends - starts
        after = np.cumsum(lengths)
        size = int(after[-1]) if len(after) else 0
        return np.arange(size) + np.repeat(starts - (after - lengths), lengths), lengths

    def values(self, rows: Array) -> list[Any]:
        choice = self._choice.at(rows)
        used, new = np.unique(choice[choice >= 0], return_inverse=True)
        if self._ends is None:
            known: list[Any] = self._texts.at(used).tolist()
        else:
            places, lengths = self._spans(used)
            texts, ends = self._texts.at(places).tolist(), np.cumsum(lengths).tolist()
            known = [texts[end - n : end] for end, n in zip(ends, lengths, strict=True)]
        left = iter(new.tolist())
        found = [None if c < 0 else known[next(left)] for c in choice.tolist()]
        return found if self._ends is None else [None if v is None else [*v] for v in found]

    def hits(self, op: str, values: Sequence[Any]) -> NDArray[np.bool_]:
        choice = self._choice.joined()
        if op == "null":
            return choice < 0
        known = self._texts.hits(op, values)
        if self._ends is not None:
            before = np.concatenate([[0], np.cumsum(known)])
            edges = np.concatenate([[0], self._ends.joined()])
            with damaged(self._texts.path):
                known = np.diff(before[edges]) > 0
        found = np.zeros(len(choice), bool)
        chosen = known.nonzero()[0]
        if len(chosen) > _FEW:
            return np.asarray(np.append(known, False)[choice])  # -1 is the last
        for value in chosen.tolist():  # much faster than to look each up
            found |= choice == value
        return found


def column_of(kind: type, values: Sequence[Any]) -> Any:
    """A column of checked values."""
    return (Choices if kind in (str, list) else Numbers).of(kind, values)


def read_column(kind: type, source: Source, name: str, n: int) -> Any:
    """A column of a file; ``KeyError`` or ``ValueError`` if it does not fit."""
    return (Choices if kind in (str, list) else Numbers).read(kind, source, name, n)


class Items:
    """Rows of an index: packed codes, relaxed codes or None, ids, and a column for each field."""

    def __init__(
        self, codes: Rows, relaxed: Rows | None, ids: IntIds | StrIds, columns: dict[str, Column]
    ) -> None:
        self.codes, self.relaxed, self.ids, self.columns = codes, relaxed, ids, columns

    @classmethod
    def of(
        cls,
        packed: Array,
        relaxed: Array | None,
        ids: Array,
        metadata: Mapping[str, Sequence[Any]],
        fields: Mapping[str, type],
    ) -> Items:
        """Checked items."""
        kind = IntIds if ids.dtype == np.int64 else StrIds
        own = None if relaxed is None else Rows(relaxed)
        columns = {name: column_of(fields[name], metadata[name]) for name in fields}
        return cls(Rows(packed), own, kind.of(ids), columns)

    @classmethod
    def read(
        cls, source: Source, num_bits: int, id_type: type, fields: Mapping[str, type]
    ) -> Items:
        """Items of a file; ``KeyError`` or ``ValueError`` if they do not fit."""
        ids = (IntIds if id_type is int else StrIds).read(source)
        codes, relaxed = source.arrays["codes"], source.arrays.get("relaxed")
        if codes.dtype != np.uint8 or codes.shape != (len(ids), -(-num_bits // 8)):
            raise ValueError("codes and ids do not fit")
        own = None
        if relaxed is not None:
            if relaxed.dtype != np.int8 or relaxed.shape != (len(ids), num_bits):
                raise ValueError("codes and relaxed codes do not fit")
            own = Rows(relaxed, lambda: source.check("relaxed"))
        columns = {
            name: read_column(kind, source, f"field{i}", len(ids))
            for i, (name, kind) in enumerate(fields.items())
        }
        return cls(Rows(codes, lambda: source.check("codes")), own, ids, columns)

    def arrays(self) -> dict[str, Array]:
        """What goes into a file."""
        found = {"codes": self.codes.joined(), **self.ids.arrays()}
        if self.relaxed is not None:
            found["relaxed"] = self.relaxed.joined()
        for i, column in enumerate(self.columns.values()):
            found |= column.arrays(f"field{i}")
        return found

    def __len__(self) -> int:
        return len(self.codes)

    def append(self, other: Items) -> None:
        """Add rows, with relaxed codes as these have."""
        self.codes.append(other.codes.joined())
        if self.relaxed is not None and other.relaxed is not None:
            self.relaxed.append(other.relaxed.joined())
        self.ids.append(other.ids.at(np.arange(len(other))))
        for name, column in self.columns.items():
            column.append(other.columns[name])

    def take(self, rows: Array) -> Items:
        """Some rows alone."""
        own = None if self.relaxed is None else Rows(self.relaxed.at(rows))
        columns = {name: column.take(rows) for name, column in self.columns.items()}
        return Items(Rows(self.codes.at(rows)), own, self.ids.take(rows), columns)
