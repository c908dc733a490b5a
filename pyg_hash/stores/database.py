"""What stores in a database have in common: fields, settings, and answers one query at a time."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.index.base import Bytes, Columns, Ranges, Table
from pyg_hash.stores.base import FIELD_TYPES, CodeStore

Hits = list[tuple[int, Any]]
"""``(distance, id)`` of one query, as databases answer."""


class DatabaseStore(CodeStore):
    """A store that asks a database for ids and for nearest items."""

    def __init__(self, num_bits: int, id_type: type[Any], fields: Mapping[str, type]) -> None:
        super().__init__(num_bits, id_type)
        for name, kind in fields.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) or name in ("id", "code"):
                raise ValueError(
                    f"fields: {name!r} cannot be a name; use letters, digits and _, "
                    "not 'id' or 'code'"
                )
            if kind not in FIELD_TYPES:
                raise ValueError(f"fields: {name} has type {kind!r}; use str, int, float or bool")
        self.fields = dict(fields)

    @abstractmethod
    def _known(self, ids: NDArray[Any]) -> set[Any]:
        """Those of the ids that are there, and perhaps others."""

    @abstractmethod
    def _hits(self, packed: Bytes, k: int | None, radius: int | None, where: Columns) -> list[Hits]:
        """The k nearest items of each query, or all within the radius."""

    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        known = self._known(ids)
        return np.array([name in known for name in ids.tolist()], bool)

    def _search(self, packed: Bytes, k: int, where: Columns) -> Table:
        distances = np.full((len(packed), k), -1, np.int32)
        ids = np.full((len(packed), k), self._no_id, self._id_dtype)
        for row, found in enumerate(self._hits(packed, k, None, where)):
            for column, (distance, name) in enumerate(sorted(found, key=itemgetter(0))):
                distances[row, column], ids[row, column] = distance, name
        return distances, ids

    def _range_search(self, packed: Bytes, radius: int, where: Columns) -> Ranges:
        hits = self._hits(packed, None, radius, where)
        limits = np.cumsum([0, *map(len, hits)], dtype=np.int64)
        flat = [hit for found in hits for hit in sorted(found, key=itemgetter(0))]
        ids = np.empty(len(flat), self._id_dtype)
        ids[:] = [name for _, name in flat]
        return limits, np.array([distance for distance, _ in flat], np.int32), ids


def settings_of(num_bits: int, id_type: type, fields: Mapping[str, type]) -> dict[str, Any]:
    """What a database is to know about a store, as JSON values."""
    types = {name: kind.__name__ for name, kind in fields.items()}
    return {"num_bits": num_bits, "ids": id_type.__name__, "fields": types}


def read_settings(settings: Any) -> tuple[int, type[Any], dict[str, type]]:
    """Undo :func:`settings_of`; ``KeyError`` or ``TypeError`` if it is something else."""
    kinds = {kind.__name__: kind for kind in FIELD_TYPES}
    fields = {name: kinds[kind] for name, kind in settings["fields"].items()}
    return settings["num_bits"], kinds[settings["ids"]], fields


def condition(
    column: str,
    values: Sequence[Any],
    quoted: Callable[[str], str],
    members: str = "{} IN ({})",
    either: str = " OR ",
) -> str:
    """Condition in a database's language, by default SQL: the column has one of the values."""
    lowest = -(2**63)  # parsers read the digits before the sign, and they do not fit int64
    rest = [value for value in values if not isinstance(value, int) or value != lowest]
    literals = [quoted(v) if isinstance(v, str) else str(v).lower() for v in rest]
    parts = [members.format(column, ", ".join(literals))] if rest else []
    if len(rest) < len(values):
        parts.append(f"{column} < {lowest + 1}")
    return f"({either.join(parts)})"
