"""What is kept beside a code, and filters by it: types and values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pyg_hash.index.base import check_text

FIELD_TYPES: tuple[type, ...] = (str, int, float, bool)


def checked_fields(fields: Mapping[str, type]) -> dict[str, type]:
    """Names and types of what is kept beside a code.

    Raises:
        ValueError: a name that is no plain word or is taken, or an unknown type.
    """
    for name, kind in fields.items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) or name in ("id", "code"):
            raise ValueError(
                f"fields: {name!r} cannot be a name; use letters, digits and _, not 'id' or 'code'"
            )
        if kind not in FIELD_TYPES:
            raise ValueError(f"fields: {name} has type {kind!r}; use str, int, float or bool")
    return dict(fields)


def _value(value: Any, kind: type, name: str) -> Any:
    """One value of a field as ``kind``."""
    if hasattr(value, "item"):
        value = value.item()  # numpy's and torch's numbers
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise TypeError(f"{name}: expected {kind.__name__}, got {value!r}")
    if isinstance(value, str):
        check_text(value, name)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name}: {value} does not fit int64")
    if kind is float and value != value:
        raise ValueError(f"{name}: NaN cannot be kept")
    return value


def columns(
    metadata: Mapping[str, Sequence[Any]] | None, fields: Mapping[str, type], n: int
) -> dict[str, list[Any]]:
    """Values of all fields, a list of ``n`` each.

    Raises:
        TypeError: a value of another type than its field's.
        ValueError: other fields than the store's, or another number of values.
    """
    metadata = {} if metadata is None else metadata
    if set(metadata) != set(fields):
        raise ValueError(
            f"metadata: got {sorted(metadata) or 'nothing'}, this store keeps "
            f"{sorted(fields) or 'nothing'} beside a code; give exactly that"
        )
    result = {}
    for name, values in metadata.items():
        if len(values) != n:
            raise ValueError(f"metadata: {name} has {len(values)} values for {n} codes")
        result[name] = [_value(value, fields[name], f"metadata: {name}") for value in values]
    return result


def conditions(where: Mapping[str, Any] | None, fields: Mapping[str, type]) -> dict[str, list[Any]]:
    """A filter as the allowed values of each field.

    Raises:
        TypeError: a value of another type than its field's.
        ValueError: an unknown field, or no value.
    """
    result = {}
    for name, wanted in ({} if where is None else where).items():
        if name not in fields:
            raise ValueError(
                f"where: {name!r} is not known; this store keeps {sorted(fields) or 'no fields'}"
            )
        values = [wanted] if isinstance(wanted, FIELD_TYPES) else list(wanted)
        if not values:
            raise ValueError(f"where: {name} has no value to look for")
        result[name] = [_value(value, fields[name], f"where: {name}") for value in values]
    return result
