# ruff: noqa: D102 (what the methods do is said once, in Rows and Ragged)
"""Columns of an index: texts, ids, and the fields that are kept beside a code."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pyg_hash.codes import num_bytes
from pyg_hash.index.arrays import Array, Rows, StoredArrays, ranges
from pyg_hash.utils.files import bad_text

FIELD_TYPES: tuple[type, ...] = (str, int, float, bool, list)
_DTYPES: dict[type, Any] = {int: np.int64, float: np.float64, bool: np.uint8}
_COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_FEW = 32  # values that are looked for one by one
_MANY = 16  # known ones to a new one, so that it is put among them instead of all sorted anew
_AT_ONCE = 1 << 16  # texts that are read together
_COPIED = 1000  # texts of which a copy is made; of more it would take 16 bytes a letter


def plain(values: Any) -> Any:
    """Values of NumPy, torch, pandas, polars or Arrow as a list; others are as they are."""
    if hasattr(values, "isna"):  # pandas' are missing in several ways
        if values.ndim != 1:  # a frame, which is its columns' names in turn
            return values.to_numpy().tolist()
        return [None if no else x for x, no in zip(values, values.isna(), strict=True)]
    ways = (getattr(values, name, None) for name in ("to_pylist", "to_list", "tolist"))
    return next((way() for way in ways if way is not None), values)


def checked_values(values: Sequence[Any], kind: type, name: str) -> list[Any]:
    """Plain values of a field, None if missing; ``TypeError`` or ``ValueError`` for others."""
    kinds = {*map(type, values)}
    fit = kind is bool and kinds == {bool}
    if kind is int and kinds == {int}:
        fit = -(2**63) <= min(values) <= max(values) < 2**63
    elif kind is str and kinds <= {str, type(None)}:
        fit = not bad_text("".join({*"".join(filter(None, values))}))
    if fit:  # at once, without a look at each
        return [*values]
    return [None if value is None else field_value(value, kind, name) for value in values]


def field_value(value: Any, kind: type, name: str) -> Any:
    """One value of a field as ``kind``; ``TypeError`` or ``ValueError`` if it is none."""
    if kind is list:
        value = plain(value)
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError(f"{name}: expected a list of str, got {value!r}")
        return [field_value(text, str, name) for text in value]
    if hasattr(value, "item"):
        with suppress(ValueError, RuntimeError):  # several
            value = value.item()  # numpy's and torch's numbers
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise ValueError(f"{name}: an int is too large for float64") from None
    if type(value) is not kind:
        raise TypeError(f"{name}: expected {kind.__name__}, got {value!r}")
    if isinstance(value, str) and (wrong := bad_text(value)):
        raise ValueError(f"{name}: {value!r} {wrong}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name}: {value} does not fit int64")
    if kind is float and value != value:
        raise ValueError(f"{name}: NaN cannot be kept; use None for a missing value")
    return value


class Ragged:
    """Values one after the other, and where those of each place end, int64 ``[n]``."""

    def __init__(self, data: Any, ends: Rows) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def read(cls, stored: StoredArrays, name: str) -> Self:
        """Those of a file; ``KeyError`` or ``ValueError`` if they do not fit."""
        inner = f"{name}_data"
        data = stored.rows(inner, np.uint8) if cls is Texts else Texts.read(stored, inner)
        ends = stored[f"{name}_ends"]
        if (int(ends[-1]) if len(ends) else 0) != len(data):
            raise ValueError(f"the text of {name} is not complete")
        return cls(data, stored.rows(f"{name}_ends", np.int64))

    def arrays(self, name: str) -> dict[str, Array]:
        return {**self.data.arrays(f"{name}_data"), **self.ends.arrays(f"{name}_ends")}

    def __len__(self) -> int:
        return len(self.ends)

    def append(self, other: Self) -> None:
        before = len(self.data)
        self.data.append(other.data)
        self.ends.append(Rows(other.ends.joined() + before))

    def take(self, places: Array) -> Self:
        starts, ends = self.spans(places)
        where = ranges(starts, ends - starts)
        return type(self)(self.data.take(where), Rows(np.cumsum(ends - starts)))

    def spans(self, places: Array) -> tuple[Array, Array]:
        """Where some begin and end."""
        starts = np.where(places > 0, self.ends.at(np.maximum(places - 1, 0)), 0)
        return starts, self.ends.at(places)


class Texts(Ragged):
    """Texts as UTF-8, uint8."""

    _prints = np.empty(0, np.int64)  # of the first so many
    _order = np.empty(0, np.int32)  # alike

    @classmethod
    def of(cls, values: Sequence[str]) -> Texts:
        encoded = [value.encode() for value in values]
        ends = np.cumsum([len(value) for value in encoded], dtype=np.int64)
        return cls(Rows(np.frombuffer(b"".join(encoded), np.uint8)), Rows(ends))

    def at(self, places: Array) -> NDArray[np.object_]:
        """Some texts, in the shape of ``places``."""
        result, some, flat = np.empty(places.shape, np.object_), self, places.reshape(-1)
        if len(flat) < _COPIED:
            some, flat = self.take(flat), np.arange(len(flat))
        whole, texts = some.data.joined().data, list[str]()
        for i in range(0, len(flat), _AT_ONCE):
            spans = [x.tolist() for x in some.spans(flat[i : i + _AT_ONCE])]
            texts += [str(whole[start:end], "utf-8") for start, end in zip(*spans, strict=True)]
        result.reshape(-1)[:] = texts
        return result

    def alike(self, some: Array, others: Array) -> bool:
        """Whether each of some texts is the same as another."""
        for i in range(0, len(some), _AT_ONCE):
            a, b = (self.take(places[i : i + _AT_ONCE]).arrays("") for places in (some, others))
            if not all(map(np.array_equal, a.values(), b.values())):
                return False
        return True

    def order(self) -> NDArray[np.int32]:
        """Places by rising text, as code points have it; made once, 4 bytes a text."""
        order, n = self._order, len(self)
        if len(order) < n:
            start = len(order) if _MANY * (n - len(order)) < n else 0
            late = self.at(np.arange(start, n)).tolist()
            by = sorted(range(n - start), key=late.__getitem__)
            at = _after(order[:start], map(late.__getitem__, by), self._reader())
            self._order = order = np.insert(order[:start], at, np.array(by) + start)
        return order

    def _reader(self) -> Callable[[Any], str]:
        """What gives the text of a place."""
        whole, ends = self.data.joined().data, self.ends.joined()
        return lambda place: str(whole[ends[place - 1] if place else 0 : ends[place]], "utf-8")

    def below(self, op: str, value: str) -> int:
        """How many texts, in their order, come before those that do or do not compare so."""
        find = bisect_left if op in ("<", ">=") else bisect_right
        return find(self.order(), value, key=self._reader())

    def prints(self) -> NDArray[np.int64]:
        """64 bits of each text; those of equal texts are equal."""
        old, ends = self._prints, self.ends.joined()  # read once: others may make more of them
        start = len(old)
        if start == len(ends):
            return old
        data = np.concatenate([self.data.joined(), np.zeros(8, np.uint8)])
        words = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))  # of any eight bytes
        at = np.concatenate([[0], ends[:-1]])[start : len(ends)]
        left = (ends[start:] - at).astype(np.uint64)
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
        self._prints = every = np.concatenate([old, prints.view(np.int64)])
        return every

    def places(self, values: Sequence[str]) -> NDArray[np.int64]:
        """Places of any of the values, without decoding the others."""
        wanted = {*values}
        places = np.isin(self.prints(), Texts.of([*wanted]).prints(), kind="sort").nonzero()[0]
        same = np.fromiter((v in wanted for v in self.at(places)), bool, len(places))
        return np.asarray(places[same], np.int64)


class Lists(Ragged):
    """Lists of texts."""

    @classmethod
    def of(cls, values: Sequence[Sequence[str]]) -> Lists:
        ends = np.cumsum([len(value) for value in values], dtype=np.int64)
        return cls(Texts.of([text for value in values for text in value]), Rows(ends))

    def at(self, places: Array) -> NDArray[np.object_]:
        """Some lists, each a new one."""
        some = self.take(places)
        texts, ends = some.data.at(np.arange(len(some.data))).tolist(), some.ends.joined().tolist()
        result = np.empty(len(ends), np.object_)
        result[:] = [texts[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return result

    def places(self, values: Sequence[str]) -> NDArray[np.int64]:
        """Places of lists that have one of the values."""
        found = np.zeros(len(self.data) + 1, np.int64)
        found[self.data.places(values) + 1] = 1
        before = np.cumsum(found)[np.concatenate([[0], self.ends.joined()])]
        return np.asarray(np.diff(before).nonzero()[0])


_KNOWN: dict[type, Any] = {str: Texts, list: Lists}


class Mutex:
    """A lock, of which a copy is another."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Mutex, ()


class Finder:
    """The last row of an id, int64 or text: found by it, or by its print."""

    def __init__(self, ids: Rows | Texts) -> None:
        self._ids = ids
        self._order: tuple[Array | None, Array] = None, np.empty(0, np.int64)
        self._preparing = Mutex()

    def order(self) -> Array | None:
        """Rows by rising id, of one id as they were added; None: they are, as texts always are."""
        return self._sorted()[0] if isinstance(self._ids, Rows) else None

    def hits(self, op: str, values: Sequence[Any]) -> NDArray[np.bool_]:
        """As of a column; of the rows of one id, ``=`` means the last alone."""
        own, found = self._ids, np.zeros(len(self._ids), bool)
        if op in _COMPARE:
            if isinstance(own, Texts):
                count, order = own.below(op, values[0]), own.order()
                found[order[:count] if op[0] == "<" else order[count:]] = True
                return found
            return np.asarray(_COMPARE[op](own.joined(), values[0]), bool)
        rows = self.find(np.array(values, np.object_ if isinstance(own, Texts) else np.int64))
        found[rows[rows >= 0]] = True
        return found

    def _sorted(self) -> tuple[Array | None, Array]:
        """Rows by rising key, of one key as they were added, None if they are; and the keys so."""
        order, ranked = self._order
        known, own = len(ranked), self._ids
        if known < len(own):
            values = own.joined() if isinstance(own, Rows) else own.prints()
            if (values[1:] > values[:-1]).all():
                order, ranked = None, values
            else:
                order = np.arange(known) if order is None else order
                late = np.argsort(values[known:], kind="stable")
                new = values[known:][late]
                at = np.searchsorted(ranked, new, "right")
                order, ranked = np.insert(order, at, late + known), np.insert(ranked, at, new)
            self._order = order, ranked
        return order, ranked

    def find(self, ids: Array) -> NDArray[np.int64]:
        """Last rows of ids, -1 where there is no such id."""
        texts, keys = self._ids, ids
        with self._preparing.lock:  # threads may look for ids at the same time
            if isinstance(texts, Texts):
                keys = Texts.of(ids.tolist()).prints()
            order, ranked = self._sorted()
        if len(ranked) == 0:
            return np.full(len(ids), -1, np.int64)
        place = np.searchsorted(ranked, keys, "right") - 1
        row = place if order is None else order[place]
        rows = np.where((place >= 0) & (ranked[place] == keys), row, -1)
        if isinstance(texts, Texts):
            there = (rows >= 0).nonzero()[0]
            other = there[texts.at(rows[there]) != ids[there]]  # of another id with this print
            for place in other.tolist():
                rows[place] = max(texts.places([ids[place]]).tolist(), default=-1)
        return np.asarray(rows, np.int64)


class Column:
    """Values of a field, one a row, and which are missing.

    Numbers are kept as they are, texts and lists as places among the known ones, int32. An
    addition brings its own, so that the same text may be known more than once. What filters make
    of a column is in memory, until it changes: the values, and the ranks of texts that are
    compared, as narrow as they are, at most 4 bytes a row.
    """

    def __init__(self, kind: type, values: Rows, null: Rows, known: Any) -> None:
        self._kind, self._values, self._null, self._known = kind, values, null, known
        self._made: dict[str, tuple[Array, int, Any]] = {}
        self._asked: Any = None  # rows and assignments when somebody asked for texts of lists
        self._tagged: Any = (0, 0), None  # the same of what _tags made, and that
        self._assigned = 0  # times
        self._last = np.empty(0, np.int32)  # of the first lists: the assignment that changed each

    @classmethod
    def of(cls, kind: type, values: Sequence[Any]) -> Column:
        """Of checked values; None is a missing one."""
        null = np.array([value is None for value in values], np.uint8)
        plain = [kind() if value is None else value for value in values] if null.any() else values
        if known := _KNOWN.get(kind):
            places: dict[Any, int] = {}
            keys = map(tuple, plain) if kind is list else plain
            plain = [places.setdefault(key, len(places)) for key in keys]
            known = known.of([*places])
        return cls(kind, Rows(np.array(plain, _DTYPES.get(kind, np.int32))), Rows(null), known)

    @classmethod
    def read(cls, kind: type, stored: StoredArrays, name: str, n: int) -> Column:
        values = stored.rows(f"{name}_values", _DTYPES.get(kind, np.int32), n)
        null = stored.rows(f"{name}_null", np.uint8, n)
        known = _KNOWN.get(kind)
        return cls(kind, values, null, known and known.read(stored, name))

    def arrays(self, name: str) -> dict[str, Array]:
        own = self._values.arrays(f"{name}_values") | self._null.arrays(f"{name}_null")
        return own if self._known is None else {**own, **self._known.arrays(name)}

    def __len__(self) -> int:
        return len(self._values)

    def _adopted(self, other: Column) -> Rows:
        """Another column's values as they are here, its texts added."""
        if self._known is None:
            return other._values
        first = len(self._known)
        self._known.append(other._known)
        return Rows(other._values.joined() + np.int32(first))

    def append(self, other: Column) -> None:
        self._values.append(self._adopted(other))
        self._null.append(other._null)

    def assign(self, rows: Array, other: Column) -> None:
        self._values.assign(rows, self._adopted(other))
        self._null.assign(rows, other._null)
        if self._kind is list:
            if more := len(self) - len(self._last):
                self._last = np.append(self._last, np.zeros(more, np.int32))
            self._last[rows] = self._assigned + 1
        self._assigned += 1

    def take(self, rows: Array) -> Column:
        values, known = self._values.take(rows), self._known
        if known is not None:
            used, places = np.unique(values.joined(), return_inverse=True)
            values, known = Rows(places.astype(np.int32)), known.take(used)
        return Column(self._kind, values, self._null.take(rows), known)

    def at(self, rows: Array) -> list[Any]:
        """Plain values of some rows, None for missing ones."""
        values = self._values.at(rows)
        if self._known is not None:
            values = self._known.at(values)
        if self._kind is bool:
            values = values.view(bool)
        pairs = zip(values.tolist(), self._null.at(rows).tolist(), strict=True)
        return [None if null else value for value, null in pairs]

    def _once(self, make: Callable[[Array], Any]) -> Any:
        """What is made of the values, kept until they change."""
        whole, assigned = self._values.joined(), self._assigned
        known = self._made.get(make.__name__)
        if known is None or known[0] is not whole or known[1] != assigned:
            self._made[make.__name__] = known = whole, assigned, make(whole)
        return known[2]

    def _ranks(self, whole: Array) -> Array:
        """The place of each text in their order."""
        ranks = np.empty(len(self._known), np.int32)
        ranks[self._known.order()] = np.arange(len(ranks), dtype=np.int32)
        return _narrow(ranks[whole])

    def _holes(self, _: Array) -> bool:
        """Whether some are missing."""
        return bool(self._null.joined().any())

    def _blank(self, whole: Array) -> NDArray[np.bool_]:
        """Which lists have no text, or are missing."""
        empty = np.diff(self._known.ends.joined(), prepend=0) == 0
        return np.asarray(empty[whole] | self._null.joined().view(bool))

    def _tags(self) -> tuple[Array, Array] | None:
        """Texts of lists, sorted by their prints, and their rows: 8 bytes a text of each row.

        None: nobody asked for texts twice since the last change, or prints do not tell them apart.
        """
        now, data = (len(self), self._assigned), self._known.data
        again, self._asked = self._asked == now, now
        (n, assigned), tags = self._tagged
        if not again or (n, assigned) == now:
            return tags if again else None
        changed = (self._last[:n] > assigned).nonzero()[0]
        new = np.append(changed, np.arange(n, now[0]))
        if tags is None or _MANY * len(new) > now[0]:
            changed, new, tags = new[:0], np.arange(now[0]), np.empty((2, 0), np.int32)
        prints, (starts, ends) = data.prints(), self._known.spans(self._values.at(new))
        late = ranges(starts, ends - starts)
        by = np.argsort(prints[late], kind="stable")
        late, whose = late[by], new.repeat(ends - starts)[by]
        kept = np.isin(tags[1], changed, invert=True) if len(changed) else slice(None)
        texts, rows = tags[0][kept], tags[1][kept]
        at = _after(texts, prints[late].tolist(), prints.item)
        texts, rows = np.insert(texts, at, late), np.insert(rows, at, whose)
        at = at + np.arange(len(late))
        at = at[at > 0]
        at = at[prints[texts[at]] == prints[texts[at - 1]]]
        tags = (texts, rows) if data.alike(texts[at - 1], texts[at]) else None
        self._tagged = now, tags
        return tags

    def hits(self, op: str, values: Sequence[Any]) -> NDArray[np.bool_]:
        """For each row whether it compares so: ``=`` or ``has`` to any value, ``<`` ... to one.

        ``null``: whether it is missing, or a list without a text.
        """
        null, known = self._null.joined().view(bool), self._known
        if op == "null":
            return np.array(self._once(self._blank) if self._kind is list else null)
        if op in _COMPARE and known is not None:
            below = known.below(op, values[0])
            found = _COMPARE["<" if op[0] == "<" else ">="](self._once(self._ranks), below)
        elif op in _COMPARE:
            found = _COMPARE[op](self._once(_narrow), values[0])
        elif op == "has" and len(values) <= _FEW and (tags := self._tags()) is not None:
            (texts, rows), prints, found = tags, known.data.prints(), np.zeros(len(self), bool)
            for value in values:
                key = Texts.of([value]).prints().item()
                start, end = (f(texts, key, key=prints.item) for f in (bisect_left, bisect_right))
                if known.data.at(texts[start:end][:1]).tolist() == [value]:
                    found[rows[start:end]] = True
        else:
            found = self._among(values if known is None else known.places(values).tolist())
        here: NDArray[np.bool_] = found
        return np.greater(here, null, out=here) if self._once(self._holes) else here

    def _among(self, values: Sequence[Any]) -> Any:
        """For each row whether it has one of some numbers or places."""
        own = self._once(_narrow)
        if len(values) > _FEW:
            return np.isin(own, np.array(values, _DTYPES.get(self._kind, np.int32)))
        first, *others = values or [-1]  # no place; much faster than to look each up
        found = own == first
        for value in others:
            found |= own == value
        return found


def _after(order: Array, keys: Iterable[Any], key: Callable[[Any], Any]) -> Any:
    """Where some keys that rise go into an order."""
    if len(order) == 0:
        return 0
    return np.array([bisect_right(order, one, key=key) for one in keys], np.int64)


def _narrow(whole: Array) -> Array:
    """Numbers as narrow as these allow: a filter costs what it reads."""
    if whole.dtype.kind != "i" or len(whole) == 0:
        return whole
    ends = np.array([whole.min(), whole.max()])
    fits = (t for t in (np.int8, np.int16, np.int32) if (ends.astype(t) == ends).all())
    return whole.astype(next(fits, whole.dtype), copy=False)


class Items:
    """Rows of an index: packed codes, ids, relaxed codes or None, and a column for each field.

    ``parts`` are these as a file has them: ``codes``, ``ids``, ``relaxed``, ``field0`` ...
    """

    def __init__(self, parts: Mapping[str, Any], fields: Iterable[str]) -> None:
        self._parts = parts
        self.codes: Rows = parts["codes"]
        self.ids: Rows | Texts = parts["ids"]
        self.relaxed: Rows | None = parts.get("relaxed")
        self.columns: dict[str, Column] = {n: parts[f"field{i}"] for i, n in enumerate(fields)}
        self.finder = Finder(self.ids)

    @classmethod
    def of(
        cls,
        packed: Array,
        ids: Array,
        metadata: Mapping[str, Sequence[Any]],
        fields: Mapping[str, type],
        relaxed: Array | None = None,
    ) -> Items:
        names = Texts.of(ids.tolist()) if ids.dtype == np.object_ else Rows(ids)
        parts: dict[str, Any] = {"codes": Rows(packed), "ids": names}
        if relaxed is not None:
            parts["relaxed"] = Rows(relaxed)
        for i, (name, kind) in enumerate(fields.items()):
            parts[f"field{i}"] = Column.of(kind, metadata[name])
        return cls(parts, fields)

    @classmethod
    def read(
        cls, stored: StoredArrays, num_bits: int, id_type: type, fields: Mapping[str, type]
    ) -> Items:
        ids = stored.rows("ids", np.int64) if id_type is int else Texts.read(stored, "ids")
        n, parts = len(ids), dict[str, Any](ids=ids)
        parts["codes"] = stored.rows("codes", np.uint8, n, num_bytes(num_bits))
        if "relaxed" in stored:
            parts["relaxed"] = stored.rows("relaxed", np.int8, n, num_bits)
        for i, kind in enumerate(fields.values()):
            parts[f"field{i}"] = Column.read(kind, stored, f"field{i}", n)
        return cls(parts, fields)

    def arrays(self) -> dict[str, Array]:
        parts = self._parts.items()
        return {key: array for name, part in parts for key, array in part.arrays(name).items()}

    def __len__(self) -> int:
        return len(self.codes)

    def append(self, other: Items) -> None:
        """Add rows, with relaxed codes as these have."""
        for name, part in self._parts.items():
            part.append(other._parts[name])

    def take(self, rows: Array) -> Items:
        return Items({name: part.take(rows) for name, part in self._parts.items()}, self.columns)
