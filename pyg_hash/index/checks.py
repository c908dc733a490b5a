"""What an index and a store ask of ids, radii and files before they take them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.utils.files import CorruptFileError

VERSION = 1


def check_radius(radius: object) -> None:
    """Raise unless ``radius`` is an integer of at least 0."""
    if isinstance(radius, bool) or not isinstance(radius, int):
        raise TypeError(f"radius: expected an integer, got {radius!r}")
    if radius < 0:
        raise ValueError(f"radius: expected 0 or more, got {radius}")


def int_ids(ids: Any, owner: str) -> NDArray[np.int64]:
    """Ids as int64 ``[n]``; ``owner`` is an ``'index'`` or a ``'store'``.

    Raises:
        TypeError: ids of another type, or integers beyond int64.
        ValueError: not one-dimensional.
    """
    if isinstance(ids, Tensor):
        ids = ids.detach().cpu().numpy()
    elif len(ids) == 0:
        return np.empty(0, np.int64)
    try:
        array = np.asarray(ids)
    except (ValueError, OverflowError) as error:
        raise TypeError(f"ids: expected integers that fit int64 ({error})") from error
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise TypeError("ids: expected integers that fit int64, some are larger")
    if array.dtype.kind not in "iu":
        found = type(array.flat[0]).__name__ if array.dtype == object else str(array.dtype)
        raise TypeError(
            f"ids: expected integers, got {found}; this {owner} has integer ids that fit int64"
        )
    if array.ndim != 1:
        raise ValueError(f"ids: expected shape [n], got {list(array.shape)}")
    return array.astype(np.int64)


def check_new_ids(ids: NDArray[Any], num_codes: int) -> None:
    """Raise ``ValueError`` unless there is one id a code and none is there twice."""
    if len(ids) != num_codes:
        raise ValueError(f"ids: {len(ids)} ids for {num_codes} codes; give one a code")
    if ids.dtype == np.int64 and bool((ids[1:] > ids[:-1]).all()):
        return
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        twice = values[counts > 1].tolist()[0]
        raise ValueError(f"ids: {twice!r} is given more than once; ids must be unique")


def check_absent(ids: NDArray[Any], present: NDArray[np.bool_], owner: str) -> None:
    """Raise ``ValueError`` if some ids are present."""
    if present.any():
        raise ValueError(
            f"ids: {int(present.sum())} are in the {owner} already (first: "
            f"{ids[present].tolist()[0]!r}); remove them first or choose others"
        )


def check_present(ids: NDArray[Any], present: NDArray[np.bool_], owner: str) -> None:
    """Raise ``ValueError`` unless all ids are present."""
    if not present.all():
        gone = ids[~present].tolist()
        raise ValueError(f"ids: {len(gone)} are not in the {owner} (first: {gone[0]!r})")


def check_format(path: str | os.PathLike[str], metadata: Any, name: str, kind: str) -> None:
    """Raise ``CorruptFileError`` unless a file is of the class ``name`` and of this version.

    Args:
        path: the file, for the message.
        metadata: what the file says of itself.
        name: the class that writes such files.
        kind: what it is, ``'an index'`` or ``'a store'``.
    """
    if not isinstance(metadata, dict) or metadata.get("format") != f"pyg_hash.{name}":
        raise CorruptFileError(f"{path}: is not {kind} that {name}.save() wrote")
    if metadata.get("version") != VERSION:
        raise CorruptFileError(
            f"{path}: has version {metadata.get('version')!r}, this pyg_hash reads {VERSION}; "
            f"build the {kind.split()[-1]} again"
        )
