"""What the stores in a database have in common."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.codes import num_bytes
from pyg_hash.index.base import Bytes, CodeStore, Columns, Ids, Metadata, Ranges, Table
from pyg_hash.index.columns import FIELD_TYPES
from pyg_hash.index.rescore import Shortlist
from pyg_hash.index.where import Condition, Tree, Where, parse, render

Hits = list[tuple[int, Any, bytes]]
"""``(distance, id, packed code)`` of one query, as databases answer; codes only if asked for."""
_LOWEST = -(2**63)  # parsers read the digits before the sign, and they do not fit int64


class DatabaseStore(CodeStore):
    """A store that asks a database for ids and for nearest items."""

    _most: int | None = None
    """Items that the database gives to one query at most."""

    def __init__(
        self,
        num_bits: int,
        id_type: type[Any],
        fields: Mapping[str, type],
        model: str | None = None,
    ) -> None:
        super().__init__(num_bits, id_type)
        self.model = model
        for name, kind in fields.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) or name in ("id", "code"):
                raise ValueError(
                    f"fields: {name!r} cannot be a name; use letters, digits and _, "
                    "not 'id' or 'code'"
                )
            if kind not in FIELD_TYPES:
                raise ValueError(
                    f"fields: {name} has type {kind!r}; use str, int, float, bool or list"
                )
        self.fields = dict(fields)

    @abstractmethod
    def _known(self, ids: NDArray[Any]) -> set[Any]:
        """Those of the ids that are there, and perhaps others."""

    @abstractmethod
    def _hits(
        self,
        packed: Bytes,
        k: int | None,
        radius: int | None,
        where: Tree | None,
        codes: bool = False,
    ) -> list[Hits]:
        """The k nearest items of each query, or all within the radius; with their codes, or not."""

    def _changing(self) -> AbstractContextManager[object]:
        """What is held from the look at the ids to the end of a change."""
        return nullcontext()

    def _insert(self, *items: Any, **options: Any) -> int:
        with self._changing():
            return super()._insert(*items, **options)

    def remove(self, ids: Ids) -> None:
        """As of every store."""
        with self._changing():
            super().remove(ids)

    def update(self, ids: Ids, metadata: Metadata) -> None:
        """As of every store; the items are written anew as a whole."""
        with self._changing():
            super().update(ids, metadata)

    def list(self, where: Where | None = None, start: int = 0, limit: int = 100) -> Any:
        """Ids, int64 ``[m]`` or an array of ``str``, in the order of the database."""
        names = np.empty(0, self._id_dtype)
        found = self._some(parse(where, self.fields), start, limit) if limit else []
        names.resize(len(found))
        names[:] = found
        return self._public(names)

    @abstractmethod
    def _some(self, where: Tree | None, start: int, limit: int) -> Sequence[Any]:
        """Ids of items that pass."""

    @abstractmethod
    def _fetch(self, ids: NDArray[Any], columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """``id``, ``code`` as bytes if asked for, and fields of items, in any order."""

    def _metadata(self, ids: NDArray[Any]) -> dict[str, Any]:
        rows = {row["id"]: row for row in self._fetch(ids, [*self.fields])}
        return {name: [rows[i][name] for i in ids.tolist()] for name in self.fields}

    def _update(self, ids: NDArray[Any], metadata: Columns) -> None:
        rows = {row["id"]: row for row in self._fetch(ids, ["code", *self.fields])}
        codes = b"".join(rows[name]["code"] for name in ids.tolist())
        packed = np.frombuffer(codes, np.uint8).reshape(len(ids), -1)
        kept = {name: [rows[i][name] for i in ids.tolist()] for name in self.fields}
        self._replace(packed, ids, np.ones(len(ids), bool), {**kept, **metadata}, None)

    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        known = self._known(ids)
        return np.array([name in known for name in ids.tolist()], bool)

    def _search(self, packed: Bytes, k: int, where: Tree | None) -> Table:
        distances = np.full((len(packed), k), -1, np.int32)
        ids = np.full((len(packed), k), self._no_id, self._id_dtype)
        for row, found in enumerate(self._hits(packed, k, None, where)):
            for column, (distance, name, _) in enumerate(sorted(found, key=itemgetter(0))):
                distances[row, column], ids[row, column] = distance, name
        return distances, ids

    def _range_search(self, packed: Bytes, radius: int, where: Tree | None) -> Ranges:
        hits = self._hits(packed, None, radius, where)
        limits = np.cumsum([0, *map(len, hits)], dtype=np.int64)
        flat = [hit for found in hits for hit in sorted(found, key=itemgetter(0))]
        ids = np.empty(len(flat), self._id_dtype)
        ids[:] = [name for _, name, _ in flat]
        return limits, np.array([distance for distance, _, _ in flat], np.int32), ids

    def _shortlists(self, packed: Bytes, count: int, where: Tree | None) -> Iterator[Shortlist]:
        count = min(count, len(self), self._most or count)
        for query in np.split(packed, len(packed)):
            (hits,) = self._hits(query, count, None, where, codes=True)
            if len(hits) == count:  # more may be as far as the last
                edge = max(map(itemgetter(0), hits))
                (hits,) = self._hits(query, None, edge, where, codes=True)
            hits.sort(key=itemgetter(1))
            names = np.empty(len(hits), self._id_dtype)
            names[:] = [name for _, name, _ in hits]
            codes = np.frombuffer(b"".join(code for _, _, code in hits), np.uint8)
            distances = np.array([distance for distance, _, _ in hits], np.int32)
            yield Shortlist(distances, names, codes.reshape(-1, num_bytes(self.num_bits)), None)


def settings_of(store: DatabaseStore) -> dict[str, Any]:
    """What a database is to know about a store, as JSON values."""
    types = {name: kind.__name__ for name, kind in store.fields.items()}
    about = {"num_bits": store.num_bits, "ids": store.id_type.__name__, "fields": types}
    return about if store.model is None else {**about, "model": store.model}


def read_settings(settings: Any) -> tuple[int, type[Any], dict[str, type], str | None]:
    """Undo :func:`settings_of`; ``KeyError`` or ``TypeError`` if it is something else."""
    kinds = {kind.__name__: kind for kind in FIELD_TYPES}
    fields = {name: kinds[kind] for name, kind in settings["fields"].items()}
    return settings["num_bits"], kinds[settings["ids"]], fields, settings.get("model")


def literal(value: Any, quoted: Callable[[str], str]) -> str:
    """A value in a database's language."""
    return quoted(value) if isinstance(value, str) else str(value).lower()


_OPPOSITE = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def expression(
    tree: Tree | None,
    column: Callable[[str], str],
    among: tuple[str, str],
    has: str,
    quoted: Callable[[str], str],
    *,
    constants: tuple[str, str] | None = None,
) -> str:
    """A filter in a database's language; empty for none.

    Args:
        tree: the filter.
        column: how a field is written.
        among: "a column has one of the values" and "none of them", with two places each.
        has: "a list in a column has a value", with two places.
        quoted: how a text is written.
        constants: what never and what always holds, for a database without missing values.
    """

    def leaf(what: Condition) -> str:
        name, op, values = column(what.field), what.op, what.values
        missing, there = constants or (f"{name} is null", f"{name} is not null")
        if op == "null":
            return there if what.negated else missing
        if op == "has":
            each = [has.format(name, literal(value, quoted)) for value in values]
            text = f"({' or '.join(each)})"
            return f"(not {text} or {missing})" if what.negated else text
        if what.negated:  # Milvus Lite knows no "not" before a comparison
            return f"({leaf(Condition(what.field, _OPPOSITE[op], values))} or {missing})"
        edge, above = f"{name} < {_LOWEST + 1}", f"{name} >= {_LOWEST + 1}"
        rest = [value for value in values if type(value) is not int or value != _LOWEST]
        if op in ("=", "!="):
            listed = ", ".join(literal(value, quoted) for value in rest)
            parts = [among[op == "!="].format(name, listed)] if rest else []
            parts += [edge if op == "=" else above] if len(rest) < len(values) else []
            return f"({(' or ' if op == '=' else ' and ').join(parts)})"
        if rest:
            return f"{name} {op} {literal(values[0], quoted)}"
        return {"<": f"({edge} and {above})", "<=": edge, ">": above, ">=": there}[op]

    return "" if tree is None else render(tree, leaf)
