"""Exact Hamming search over codes with ids, kept in one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.codes import LEVELS, check_packed, unpack_bits
from pyg_hash.index.arrays import damaged, read_arrays, write_arrays
from pyg_hash.index.base import Bytes, Columns
from pyg_hash.index.memory import InMemory
from pyg_hash.index.rescore import Relaxed, Rescored
from pyg_hash.index.scan import FaissScan, Scan
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.checks import check_choice, check_positive_int

Backend = Literal["auto", "faiss", "torch"]


class HammingIndex(InMemory):
    """Codes under integer ids, searched exhaustively by Hamming distance.

    Uses FAISS if it is installed, else a slower exact search in torch with the same results.
    Items are kept in order of their ids, so **equal distances are ordered by lower id**, also
    where ``k`` cuts through them, whatever the order of insertion. Adding ids above all present
    ones appends; adding lower ones copies the index.

    Example:
        >>> index = HammingIndex(32)
        >>> index.add(model.encode(data, "image"))
        >>> distances, ids = index.search(model.encode_text(x), k=10)

    Args:
        num_bits: bits of a code; need not be a multiple of 8 (the rest of a byte is zero).
        backend: ``'faiss'``, ``'torch'``, or ``'auto'``: FAISS if it is installed.

    Raises:
        TypeError, ValueError: ``num_bits`` is not a positive integer, or unknown backend.
        ImportError: ``backend='faiss'`` and FAISS is not installed.
    """

    _kind = "index"

    def __init__(self, num_bits: int, *, backend: Backend = "auto") -> None:
        check_choice(backend, ("auto", "faiss", "torch"), "backend")
        if backend == "auto":
            backend = "faiss" if _faiss.is_installed() else "torch"
        super().__init__(num_bits, int, FaissScan if backend == "faiss" else Scan)
        self.backend = backend
        self._next_id = 0

    def __repr__(self) -> str:
        """Bits, items and backend."""
        return f"HammingIndex(num_bits={self.num_bits}, items={len(self)}, backend={self.backend})"

    @property
    def ids(self) -> Tensor:
        """All ids, ascending, int64 ``[len(self)]``."""
        return torch.tensor(self._ids.at(slice(None)))

    def add(
        self,
        codes: Tensor,
        ids: Tensor | Sequence[int] | None = None,
        *,
        relaxed: Tensor | None = None,
    ) -> None:
        """Add items.

        Args:
            codes: n codes, int8 ±1 ``[n, num_bits]`` or packed.
            ids: n different integers that fit int64 and are not in the index; by default the
                numbers after the highest id ever added, from 0.
            relaxed: the same items before their signs were taken, float ``[n, num_bits]`` in
                [-1, 1], of all items of the index or of none: kept as int8 in steps of 1 / 127,
                ``num_bits`` bytes an item, for :meth:`search` to rescore by.

        Raises:
            TypeError, ValueError: wrong types, shapes or values; ids given twice or present
                already; relaxed codes of some items only, or of other signs than the codes. The
                index is then unchanged.
        """
        packed = self._packed_codes(codes)
        numbers = np.arange(self._next_id, self._next_id + len(packed)) if ids is None else ids
        self._insert(packed, numbers, {}, relaxed)

    def codes(self, ids: Tensor | Sequence[int]) -> Tensor:
        """The codes of items: int8 ±1 ``[n, num_bits]``, in the order of ``ids``.

        Raises:
            TypeError: ids that are not integers.
            ValueError: ids that are not in the index.
        """
        packed = self._ready()[0][self._rows(ids)]
        return unpack_bits(torch.from_numpy(packed), self.num_bits)

    def relaxed(self, ids: Tensor | Sequence[int]) -> Tensor:
        """What rescoring knows of items: their relaxed codes, or their codes where it has none.

        Returns:
            float32 ``[n, num_bits]``, in the order of ``ids``.

        Raises:
            TypeError, ValueError: as :meth:`codes`.
        """
        rows = self._rows(ids)
        if self._relaxed is None:
            return self.codes(ids).float()
        return torch.from_numpy(self._relaxed.joined()[rows]).float() / LEVELS

    def _rows(self, ids: Tensor | Sequence[int]) -> NDArray[np.int64]:
        """Positions of items; ``ValueError`` unless all are there."""
        names = self._id_array(ids)
        self._check_present(names)
        return self._ids.find(names)

    @overload
    def search(
        self, codes: Tensor, k: int, *, rescore: None = None, oversample: int = 4
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def search(
        self, codes: Tensor, k: int, *, rescore: Tensor, oversample: int = 4
    ) -> Rescored: ...

    def search(
        self, codes: Tensor, k: int, *, rescore: Tensor | None = None, oversample: int = 4
    ) -> tuple[Tensor, Tensor] | Rescored:
        """The ``k`` nearest items of each query, or with ``rescore`` the best of the nearest.

        Rescoring takes the ``oversample * k`` nearest items and **all** that are as far as the
        last of these, and orders them by the inner product of the query's real-valued code with
        the items' relaxed codes if :meth:`add` was given them, else with the items' bits.

        Args:
            codes: q codes, int8 ±1 ``[q, num_bits]`` or packed.
            k: 1 to ``len(self)``.
            rescore: real-valued codes of the queries, float ``[q, num_bits]``, as
                ``model.relax_text(x)`` gives them.
            oversample: how many items to rescore, times ``k``.

        Returns:
            ``(distances, ids)``: int32 and int64 ``[q, k]`` on the CPU, nearest first, equal
            distances by lower id. With ``rescore`` also ``scores``, float64 ``[q, k]``, highest
            first, equal scores by distance, then by lower id.

        Raises:
            TypeError, ValueError: wrong types, shapes or values, or ``k`` out of range.
        """
        check_positive_int(k, "k")
        if k > len(self):
            raise ValueError(
                f"k: {k} items asked for, but the index holds {len(self)}; use k <= {len(self)}"
            )
        if rescore is None:
            return self._nearest(codes, k, {})
        return self._rescored(codes, k, rescore, oversample, {})

    def range_search(self, codes: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
        """All items within a Hamming radius, **distance <= radius**, of codes as in :meth:`search`.

        Returns:
            ``(limits, distances, ids)``, on the CPU: int64 ``[q + 1]``, int32 and int64 ``[m]``.
            The matches of query i are ``limits[i]:limits[i + 1]``, ordered as by :meth:`search`.

        Raises:
            TypeError, ValueError: wrong types, shapes or values.
        """
        return self._within(codes, radius, {})

    def count_at(self, codes: Tensor, distances: Tensor) -> Tensor:
        """How many items are exactly as far from each query as ``distances`` says: int64 ``[q]``.

        With the distance of the last answer: how many are tied there.

        Raises:
            TypeError, ValueError: wrong types, shapes or values, as :meth:`range_search`.
        """
        counts = torch.zeros(len(codes), dtype=torch.int64)
        for row, radius in enumerate(distances.tolist()):
            near = self._within(codes[row : row + 1], radius, {})[1]
            counts[row] = (near == radius).sum()
        return counts

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a safetensors file, atomically; ``OSError``: it cannot be written."""
        metadata = {"num_bits": self.num_bits, "next_id": self._next_id, "model": self.model}
        write_arrays(path, "HammingIndex", self._arrays(), metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, backend: Backend = "auto") -> HammingIndex:
        """Read what :meth:`save` wrote; the backend may be another one.

        Raises:
            FileNotFoundError: there is no such file.
            CorruptFileError: the file is truncated, damaged or something else.
            ImportError: ``backend='faiss'`` and FAISS is not installed.
        """
        arrays, metadata = read_arrays(path, "HammingIndex", mapped=False)
        with damaged(path):
            index = cls(metadata["num_bits"], backend=backend)
            check_packed(torch.from_numpy(arrays["codes"]), index.num_bits)
            index._restore(arrays)
            if bool((np.diff(arrays["ids"]) <= 0).any()):
                raise ValueError("ids do not fit the codes: they do not ascend")
            index._next_id = int(metadata["next_id"])
            index.model = metadata.get("model")
        return index

    def _add(
        self, packed: Bytes, ids: NDArray[Any], metadata: Columns, relaxed: Relaxed | None
    ) -> None:
        order = ids.argsort()
        appended = len(self) == 0 or ids.min() > self._ids.at(slice(-1, None))[0]
        own = None if relaxed is None else relaxed[order]
        super()._add(packed[order], ids[order], metadata, own)
        if not appended:
            self._reorder(self._ids.at(slice(None)).argsort())
        self._next_id = max(self._next_id, int(ids.max()) + 1)
