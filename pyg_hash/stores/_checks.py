"""Checks of what is given to a store; each returns it in the one form that stores work with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.codes import pack_bits
from pyg_hash.utils.checks import check_codes

FIELD_TYPES: tuple[type, ...] = (str, int, float, bool)


def check_id_type(id_type: object) -> None:
    """Raise ``ValueError`` unless ids are ``int`` or ``str``."""
    if id_type not in (int, str):
        raise ValueError(f"ids: {id_type!r} is not known; use int or str, the types themselves")


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


def settings_of(num_bits: int, id_type: type, fields: Mapping[str, type]) -> dict[str, Any]:
    """What a database is to know about a store, as JSON values."""
    types = {name: kind.__name__ for name, kind in fields.items()}
    return {"num_bits": num_bits, "ids": id_type.__name__, "fields": types}


def read_settings(settings: Any) -> tuple[int, type[Any], dict[str, type]]:
    """Undo :func:`settings_of`; ``KeyError`` or ``TypeError`` if it is something else."""
    kinds = {kind.__name__: kind for kind in FIELD_TYPES}
    fields = {name: kinds[kind] for name, kind in settings["fields"].items()}
    return settings["num_bits"], kinds[settings["ids"]], fields


def packed_codes(codes: Tensor, num_bits: int) -> NDArray[np.uint8]:
    """Codes, int8 ±1 or packed uint8, as packed uint8 ``[n, ceil(num_bits / 8)]`` in a row.

    Raises:
        TypeError, ValueError: not codes, another width, or padding bits that are not zero.
    """
    if not isinstance(codes, Tensor) or codes.dtype != torch.uint8:
        check_codes(codes, "codes", num_bits=num_bits)
        return pack_bits(codes.cpu()).numpy()
    width = (num_bits + 7) // 8
    if codes.dim() != 2 or codes.size(1) != width:
        raise ValueError(
            f"codes: {num_bits} bits, packed, take shape [n, {width}], got {list(codes.shape)}"
        )
    packed: NDArray[np.uint8] = np.ascontiguousarray(codes.cpu().numpy())
    if num_bits % 8 and (packed[:, -1] & (0xFF >> num_bits % 8)).any():
        raise ValueError(f"codes: bits after bit {num_bits} are not zero; is num_bits right?")
    return packed


def id_array(ids: Any, id_type: type) -> NDArray[Any]:
    """Ids as int64 ``[n]``, or as an object array of ``str``.

    Raises:
        TypeError: ids of another type, or integers beyond int64.
        ValueError: not one-dimensional, or strings that cannot be kept.
    """
    if isinstance(ids, Tensor):
        ids = ids.detach().cpu().numpy()
    if id_type is str:
        return _strings(ids)
    if len(ids) == 0:
        return np.empty(0, np.int64)
    try:
        array = np.asarray(ids)
    except (ValueError, OverflowError) as error:
        raise TypeError(f"ids: expected integers that fit int64 ({error})") from error
    if array.dtype.kind == "u" and int(array.max()) > np.iinfo(np.int64).max:
        raise TypeError("ids: expected integers that fit int64, some are larger")
    if array.dtype.kind not in "iu":
        found = type(array.flat[0]).__name__ if array.dtype == object else str(array.dtype)
        raise TypeError(f"ids: this store has integer ids that fit int64, got {found}")
    if array.ndim != 1:
        raise ValueError(f"ids: expected shape [n], got {list(array.shape)}")
    return array.astype(np.int64)


def _strings(ids: Sequence[str]) -> NDArray[np.object_]:
    if isinstance(ids, str):
        raise TypeError("ids: expected a list of strings, got one string")
    array = np.empty(len(ids), np.object_)
    for i, value in enumerate(ids):
        if not isinstance(value, str):
            raise TypeError(f"ids: this store has string ids, got {type(value).__name__}")
        check_text(value, "ids")
        array[i] = str(value)
    return array


def check_text(value: str, name: str) -> None:
    """Raise ``ValueError`` for what databases cannot keep: NUL and halves of characters."""
    if "\0" in value:
        raise ValueError(f"{name}: {value!r} holds a NUL character; leave it out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: {value!r} is not valid Unicode ({error.reason})") from error


def check_unique(ids: NDArray[Any]) -> None:
    """Raise ``ValueError`` if an id is there twice."""
    if ids.dtype == np.int64 and bool((ids[1:] > ids[:-1]).all()):
        return
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        twice = values[counts > 1].tolist()[0]
        raise ValueError(f"ids: {twice!r} is given more than once; ids must be unique")


def check_radius(radius: object) -> None:
    """Raise unless ``radius`` is an integer of at least 0."""
    if isinstance(radius, bool) or not isinstance(radius, int):
        raise TypeError(f"radius: expected an integer, got {radius!r}")
    if radius < 0:
        raise ValueError(f"radius: expected 0 or more, got {radius}")


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
