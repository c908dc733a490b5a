"""Codes under ids: what an index and every store check and promise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.codes import (
    check_codes,
    check_packed,
    check_relaxed,
    exact_queries,
    pack_bits,
    quantize,
    unpack_bits,
)
from pyg_hash.index.rescore import Relaxed, Rescored, Shortlist
from pyg_hash.utils.checks import check_positive_int

Bytes = NDArray[np.uint8]
Ids = Tensor | NDArray[Any] | Sequence[int] | Sequence[str]
Columns = Mapping[str, list[Any]]
"""Values of each field, one an item; or those that a filter allows."""
Table = tuple[NDArray[np.int32], NDArray[Any]]
"""Distances and ids ``[q, k]``."""
Ranges = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]
"""Limits ``[q + 1]``, distances and ids ``[m]``."""


class CodeSet(ABC):
    """Codes of ``num_bits`` bits under ids of ``id_type``, searched by Hamming distance.

    Attributes:
        model: digest of the model whose codes these are (:meth:`HashModel.digest
            <pyg_hash.models.HashModel.digest>`), kept in the file; None: not known.
    """

    model: str | None = None

    _kind = "store"
    """What it is called in messages."""
    _keeps_relaxed = False
    """Whether it can keep relaxed codes of its items."""

    def __init__(self, num_bits: int, id_type: type[Any]) -> None:
        check_positive_int(num_bits, "num_bits")
        if id_type not in (int, str):
            raise ValueError(f"ids: {id_type!r} is not known; use int or str, the types themselves")
        self.num_bits = num_bits
        self.id_type = id_type
        self._id_dtype = np.int64 if id_type is int else np.object_
        self._no_id = -1 if id_type is int else None

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    def __repr__(self) -> str:
        """Bits, kind of ids and items."""
        return (
            f"{type(self).__name__}(num_bits={self.num_bits}, ids={self.id_type.__name__}, "
            f"items={len(self)})"
        )

    def contains(self, ids: Ids) -> list[bool]:
        """Whether each id is there; ``TypeError``: ids of another type."""
        names = self._id_array(ids)
        return self._present(names).tolist() if len(names) else []

    def remove(self, ids: Ids) -> None:
        """Remove items; an id given twice is removed once.

        Raises:
            TypeError: ids of another type.
            ValueError: ids that are not there; nothing is then removed.
        """
        gone = np.unique(self._id_array(ids))
        if len(gone):
            self._check_present(gone)
            self._remove(gone)

    @abstractmethod
    def _add(
        self, packed: Bytes, ids: NDArray[Any], metadata: Columns, relaxed: Relaxed | None
    ) -> None: ...

    @abstractmethod
    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]: ...

    @abstractmethod
    def _remove(self, ids: NDArray[Any]) -> None: ...

    @abstractmethod
    def _search(self, packed: Bytes, k: int, where: Columns) -> Table: ...

    @abstractmethod
    def _range_search(self, packed: Bytes, radius: int, where: Columns) -> Ranges: ...

    @abstractmethod
    def _shortlists(self, packed: Bytes, count: int, where: Columns) -> Iterator[Shortlist]:
        """For each query the ``count`` nearest items, and all at the distance of the last."""

    def _ids_of(self, names: NDArray[Any]) -> NDArray[Any]:
        """Ids of what a shortlist names."""
        return names

    def _check_present(self, ids: NDArray[Any]) -> None:
        """Raise ``ValueError`` unless all ids are there."""
        absent = ids[~self._present(ids)].tolist()
        if absent:
            raise ValueError(
                f"ids: {len(absent)} are not in the {self._kind} (first: {absent[0]!r})"
            )

    def _replace(
        self,
        packed: Bytes,
        ids: NDArray[Any],
        present: NDArray[np.bool_],
        metadata: Columns,
        relaxed: Relaxed | None,
    ) -> None:
        """Add items, some in the place of those that are present, whole or not at all."""
        raise NotImplementedError

    def _insert(
        self,
        packed: Bytes,
        ids: Ids,
        metadata: Columns,
        relaxed: Tensor | None = None,
        *,
        replace: bool = False,
    ) -> int:
        """Add items whose ids are new, or raise and leave all as it was; how many were there."""
        new = self._id_array(ids)
        steps = None
        if relaxed is not None:
            if not self._keeps_relaxed:
                raise ValueError(
                    f"relaxed: {type(self).__name__} keeps codes alone; leave it out, or use a "
                    "HammingIndex or a FaissStore"
                )
            self._check_relaxed(relaxed, "relaxed", len(packed))
            codes = unpack_bits(torch.from_numpy(packed), self.num_bits)
            steps = quantize(relaxed.cpu(), codes).numpy()
        if len(new) != len(packed):
            raise ValueError(f"ids: {len(new)} ids for {len(packed)} codes; give one a code")
        if self.id_type is not int or not bool((new[1:] > new[:-1]).all()):
            values, counts = np.unique(new, return_counts=True)
            if len(values) < len(new):
                twice = values[counts > 1].tolist()[0]
                raise ValueError(f"ids: {twice!r} is given more than once; ids must be unique")
        if len(new) == 0:
            return 0
        there = self._present(new)
        if replace and there.any():
            self._replace(packed, new, there, metadata, steps)
            return int(there.sum())
        present = new[there].tolist()
        if present:
            raise ValueError(
                f"ids: {len(present)} are in the {self._kind} already (first: {present[0]!r}); "
                "remove them first or choose others"
            )
        self._add(packed, new, metadata, steps)
        return 0

    def _nearest(self, codes: Tensor, k: int, where: Columns) -> tuple[Tensor, Any]:
        """Distances and ids ``[q, k]`` of checked queries."""
        packed = self._packed_codes(codes)
        check_positive_int(k, "k")
        if len(packed):
            distances, ids = self._search(packed, k, where)
        else:
            distances, ids = np.empty((0, k), np.int32), np.empty((0, k), self._id_dtype)
        return torch.from_numpy(distances), self._public(ids)

    def _rescored(
        self, codes: Tensor, k: int, relaxed: Tensor, oversample: int, where: Columns
    ) -> Rescored:
        """The best by score of the nearest ``oversample * k`` and all as far as the last."""
        packed = self._packed_codes(codes)
        check_positive_int(k, "k")
        check_positive_int(oversample, "oversample")
        self._check_relaxed(relaxed, "rescore", len(packed))
        queries = exact_queries(relaxed.cpu()).numpy()
        distances = np.full((len(packed), k), -1, np.int32)
        ids = np.full((len(packed), k), self._no_id, self._id_dtype)
        scores = np.full((len(packed), k), -np.inf)
        if len(packed) and len(self):
            found = self._shortlists(packed, oversample * k, where)
            for row, (query, some) in enumerate(zip(queries, found, strict=True)):
                best, score = some.best(query, k)
                distances[row, : len(best)] = some.distances[best]
                ids[row, : len(best)] = self._ids_of(some.names[best])
                scores[row, : len(best)] = score
        return Rescored(torch.from_numpy(distances), self._public(ids), torch.from_numpy(scores))

    def _check_relaxed(self, relaxed: Tensor, name: str, rows: int) -> None:
        check_relaxed(relaxed, name)
        if relaxed.shape != (rows, self.num_bits):
            raise ValueError(
                f"{name}: expected shape [{rows}, {self.num_bits}], a row a code, got "
                f"{list(relaxed.shape)}"
            )

    def _within(self, codes: Tensor, radius: int, where: Columns) -> tuple[Tensor, Tensor, Any]:
        """Limits, distances and ids of what lies within the radius of checked queries."""
        packed = self._packed_codes(codes)
        if isinstance(radius, bool) or not isinstance(radius, int):
            raise TypeError(f"radius: expected an integer, got {radius!r}")
        if radius < 0:
            raise ValueError(f"radius: expected 0 or more, got {radius}")
        if len(packed) and len(self):
            limits, distances, ids = self._range_search(packed, min(radius, self.num_bits), where)
        else:
            limits = np.zeros(len(packed) + 1, np.int64)
            distances, ids = np.empty(0, np.int32), np.empty(0, self._id_dtype)
        return torch.from_numpy(limits), torch.from_numpy(distances), self._public(ids)

    def _public(self, ids: NDArray[Any]) -> Tensor | NDArray[Any]:
        return torch.from_numpy(ids) if self.id_type is int else ids

    def _packed_codes(self, codes: Tensor) -> Bytes:
        """Codes, int8 ±1 or packed already, as rows of bytes."""
        if isinstance(codes, Tensor) and codes.dtype == torch.uint8:
            check_packed(codes, self.num_bits, "codes")
            packed: Bytes = np.ascontiguousarray(codes.cpu().numpy())
            return packed
        check_codes(codes, "codes", num_bits=self.num_bits)
        packed = pack_bits(codes.cpu()).numpy()
        return packed

    def _id_array(self, ids: Any) -> NDArray[Any]:
        """Ids as int64 ``[n]``, or as an object array of ``str``."""
        if self.id_type is int:
            return self._int_ids(ids)
        if isinstance(ids, str):
            raise TypeError("ids: expected a list of strings, got one string")
        array = np.empty(len(ids), np.object_)
        for i, value in enumerate(ids):
            if not isinstance(value, str):
                raise TypeError(
                    f"ids: this {self._kind} has string ids, got {type(value).__name__}"
                )
            check_text(value, "ids")
            array[i] = str(value)
        return array

    def _int_ids(self, ids: Any) -> NDArray[np.int64]:
        try:
            array = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
        except (ValueError, OverflowError) as error:
            raise TypeError(f"ids: expected integers that fit int64 ({error})") from error
        if array.shape == (0,):
            return np.empty(0, np.int64)
        if array.dtype.kind not in "iu" or int(array.max()) > np.iinfo(np.int64).max:
            raise TypeError(
                f"ids: expected integers, got {array.dtype}; this {self._kind} has integer ids "
                "that fit int64"
            )
        if array.ndim != 1:
            raise ValueError(f"ids: expected shape [n], got {list(array.shape)}")
        return array.astype(np.int64)


def check_text(value: str, name: str) -> None:
    """Raise ``ValueError`` for what databases cannot keep: NUL and halves of characters."""
    if "\0" in value:
        raise ValueError(f"{name}: {value!r} holds a NUL character; leave it out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: {value!r} is not valid Unicode ({error.reason})") from error
