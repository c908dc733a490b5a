"""Ids of items by position, and the way back, as arrays that can be mapped from a file."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_hash.index.scan import Arrays


class IntIds:
    """int64 ids ``[n]``."""

    def __init__(self, values: NDArray[np.int64]) -> None:
        self.values = values

    @classmethod
    def of(cls, ids: NDArray[Any]) -> IntIds:
        """Of an array of integers."""
        return cls(ids)

    @classmethod
    def read(cls, arrays: Arrays) -> IntIds:
        """From the arrays of a file; ``KeyError`` or ``ValueError`` if they do not fit."""
        values = arrays["ids"]
        if values.dtype != np.int64 or values.ndim != 1:
            raise ValueError("ids are not int64")
        return cls(values)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What goes into a file."""
        return {"ids": self.values}

    def __len__(self) -> int:
        return len(self.values)

    def at(self, positions: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        """Ids of positions, of the same shape."""
        return self.values[positions]

    @cached_property
    def _sorter(self) -> NDArray[np.int64] | None:
        """Positions by rising id; None where they rise already."""
        rising = bool((self.values[1:] > self.values[:-1]).all())
        return None if rising else np.argsort(self.values, kind="stable")

    def find(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """Positions of ids, -1 where there is no such id."""
        if len(self) == 0:
            return np.full(len(ids), -1, np.int64)
        place = np.searchsorted(self.values, ids, sorter=self._sorter).clip(max=len(self) - 1)
        position = place if self._sorter is None else self._sorter[place]
        return np.where(self.values[position] == ids, position, -1)

    def extended(self, ids: NDArray[Any]) -> IntIds:
        """These and then ``ids``."""
        return IntIds(np.concatenate([self.values, ids]))

    def kept(self, keep: NDArray[np.bool_]) -> IntIds:
        """Those at the positions to keep."""
        return IntIds(self.values[keep])


class StrIds:
    """String ids: their UTF-8 one after the other, ``[bytes]``, and where each ends, ``[n]``."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, ids: NDArray[Any]) -> StrIds:
        """Of an array of strings."""
        encoded = [value.encode() for value in ids]
        ends = np.cumsum([len(value) for value in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    @classmethod
    def read(cls, arrays: Arrays) -> StrIds:
        """As :meth:`IntIds.read`."""
        text, ends = arrays["id_text"], arrays["id_ends"]
        if text.dtype != np.uint8 or ends.dtype != np.int64 or ends.ndim != 1:
            raise ValueError("ids are not text")
        if (int(ends[-1]) if len(ends) else 0) != text.size:
            raise ValueError("the text of the ids is not complete")
        return cls(text, ends)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What goes into a file."""
        return {"id_text": self.text, "id_ends": self.ends}

    def __len__(self) -> int:
        return len(self.ends)

    def at(self, positions: NDArray[np.int64] | slice) -> NDArray[np.object_]:
        """Ids of positions, of the same shape."""
        chosen = np.arange(len(self))[positions]
        ends = self.ends[chosen]
        starts = np.where(chosen > 0, self.ends[chosen - 1], 0)
        result = np.empty(chosen.shape, np.object_)
        for i, (start, end) in enumerate(zip(starts.flat, ends.flat, strict=True)):
            result.flat[i] = self.text[start:end].tobytes().decode()
        return result

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {value: i for i, value in enumerate(self.at(slice(None)))}

    def find(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """Positions of ids, -1 where there is no such id."""
        return np.array([self._positions.get(value, -1) for value in ids], np.int64)

    def extended(self, ids: NDArray[Any]) -> StrIds:
        """These and then ``ids``."""
        more = StrIds.of(ids)
        text = np.concatenate([self.text, more.text])
        result = StrIds(text, np.concatenate([self.ends, more.ends + self.text.size]))
        known = self.__dict__.pop("_positions", None)
        if known is not None:  # handed on: only the newest owner ever grows it
            known.update(zip(ids, range(len(self), len(result)), strict=True))
            result._positions = known
        return result

    def kept(self, keep: NDArray[np.bool_]) -> StrIds:
        """Those at the positions to keep."""
        return StrIds.of(self.at(keep.nonzero()[0]))
