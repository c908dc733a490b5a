"""What the stores in a database have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.index.base import CodeStore, Columns, New
from pyg_hash.index.lookup import Bytes, Hits
from pyg_hash.index.where import Condition, Group, Tree

_LOWEST = -(2**63)  # parsers read the digits before the sign, and they do not fit int64
_OPPOSITE = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class DatabaseStore(CodeStore):
    """A store that asks a database for ids and for nearest items.

    Attributes:
        _column: how the database's language writes a field.
        _among: "a column has one of the values" and "none of them".
        _has: "a list in a column has a value".
    """

    _column = "{}"
    _among: tuple[str, str]
    _has: str

    @staticmethod
    @abstractmethod
    def _quoted(value: str) -> str:
        """How a text is written."""

    def _constants(self) -> tuple[str, str] | None:
        """What never and what always holds, for a database without missing values."""
        return None

    def _scope(self, where: Tree | None) -> str:
        """The filter in the database's language; empty for none."""
        return "" if where is None else self._written(where)

    def _named(self, ids: NDArray[Any]) -> str:
        """The filter of these ids."""
        return self._scope(Condition("id", "=", tuple(ids.tolist())))

    def _literal(self, value: Any) -> str:
        if value == _LOWEST:
            return f"({_LOWEST + 1} - 1)"
        return self._quoted(value) if isinstance(value, str) else str(value).lower()

    def _written(self, what: Tree) -> str:
        if isinstance(what, Group):
            parts = map(self._written, what.parts)
            return f"({(' and ' if what.every else ' or ').join(parts)})"
        name, op, values = self._column.format(what.field), what.op, what.values
        missing, there = self._constants() or (f"{name} is null", f"{name} is not null")
        if op == "null":
            return there if what.negated else missing
        literals = [self._literal(value) for value in values]
        if op == "has":
            text = f"({' or '.join(self._has.format(name, each) for each in literals)})"
            return f"(not {text} or {missing})" if what.negated else text
        if what.negated:  # Milvus Lite knows no "not" before a comparison
            opposite = Condition(what.field, _OPPOSITE[op], values)
            return f"({self._written(opposite)} or {missing})"
        listed = ", ".join(literals)
        if op in ("=", "!="):
            return self._among[op == "!="].format(name, listed)
        return f"{name} {op} {listed}"

    def _known(self, ids: NDArray[Any]) -> set[Any]:
        """Those of the ids that are there, and perhaps others."""
        return {row["id"] for row in self._fetch(ids, [])}

    @abstractmethod
    def _fetch(self, ids: NDArray[Any], columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """``id``, ``code`` as bytes if asked for, and fields of items, in any order."""

    @abstractmethod
    def _answers(
        self, scope: Any, packed: Bytes, k: int | None, radius: int | None
    ) -> Iterator[list[tuple[int, Any]]]:
        """Distances and ids for each query, as :meth:`_hits`."""

    def _hits(self, scope: Any, packed: Bytes, k: int | None, radius: int | None) -> Hits:
        found = [sorted(hits) for hits in self._answers(scope, packed, k, radius)]
        distances = np.array([far for hits in found for far, _ in hits], np.int32)
        names = np.array([name for hits in found for _, name in hits], self._id_dtype)
        return Hits(np.repeat(np.arange(len(found)), [*map(len, found)]), distances, names)

    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        known = self._known(ids)
        return np.array([name in known for name in ids.tolist()], bool)

    def _rows(self, ids: NDArray[Any], columns: Sequence[str]) -> list[Mapping[str, Any]]:
        found = {row["id"]: row for row in self._fetch(ids, columns)}
        return [found[name] for name in ids.tolist()]

    def _metadata(self, ids: NDArray[Any]) -> dict[str, Any]:
        rows = self._rows(ids, [*self.fields])
        return {name: [row[name] for row in rows] for name in self.fields}

    def _codes_of(self, names: NDArray[Any]) -> tuple[Bytes, None]:
        codes = b"".join(row["code"] for row in self._rows(names, ["code"]))
        return np.frombuffer(codes, np.uint8).reshape(len(names), -(-self.num_bits // 8)), None

    def _update(self, ids: NDArray[Any], metadata: Columns) -> None:
        new = New(self._codes_of(ids)[0], ids, {**self._metadata(ids), **metadata})
        self._put(new, np.ones(len(ids), bool))
