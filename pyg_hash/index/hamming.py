"""Exact Hamming search over codes with ids, kept in one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pyg_hash.codes import pack_bits, unpack_bits
from pyg_hash.index._binary import BinaryEngine, FaissEngine, TorchEngine
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.checks import check_choice, check_positive_int
from pyg_hash.utils.files import CorruptFileError, load_tensors, save_tensors

_FORMAT = "pyg_hash.HammingIndex"
_VERSION = 1


class HammingIndex:
    """Codes under integer ids, searched exhaustively by Hamming distance.

    Uses FAISS's ``IndexBinaryFlat`` if FAISS is installed, else a slower exact search in torch
    with the same results. Items are kept in order of their ids, so **equal distances are ordered
    by lower id**, also where ``k`` cuts through them, whatever the order of insertion. Adding ids
    above all present ones appends; adding lower ones copies the index.

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

    def __init__(
        self, num_bits: int, *, backend: Literal["auto", "faiss", "torch"] = "auto"
    ) -> None:
        check_positive_int(num_bits, "num_bits")
        check_choice(backend, ("auto", "faiss", "torch"), "backend")
        if backend == "auto":
            backend = "faiss" if _faiss.is_installed() else "torch"
        self.num_bits = num_bits
        self.backend = backend
        self._ids = torch.empty(0, dtype=torch.int64)  # ascending; position -> id
        self._next_id = 0
        self._engine = self._new_engine()

    def __len__(self) -> int:
        """Number of items."""
        return self._ids.numel()

    def __repr__(self) -> str:
        """Bits, items and backend."""
        return f"HammingIndex(num_bits={self.num_bits}, items={len(self)}, backend={self.backend})"

    @property
    def ids(self) -> Tensor:
        """All ids, ascending, int64 ``[len(self)]``."""
        return self._ids.clone()

    def add(self, codes: Tensor, ids: Tensor | Sequence[int] | None = None) -> None:
        """Add items.

        Args:
            codes: int8 ±1 ``[n, num_bits]``.
            ids: n different integers that fit int64 and are not in the index; by default the
                numbers after the highest id ever added, from 0.

        Raises:
            TypeError: codes that are not int8, ids that are not integers.
            ValueError: wrong shapes or values, ids given twice or present already. The index is
                then unchanged.
        """
        packed = self._pack(codes)
        if ids is None:
            new = torch.arange(self._next_id, self._next_id + codes.size(0))
        else:
            new = _as_ids(ids)
        if new.numel() != codes.size(0):
            raise ValueError(f"ids: {new.numel()} ids for {codes.size(0)} codes; give one a code")
        if new.numel() == 0:
            return
        new, order = new.sort()
        packed = packed[order]
        twice = new[1:][new.diff() == 0]
        if twice.numel():
            raise ValueError(f"ids: {int(twice[0])} is given more than once; ids must be unique")
        present = new[self._position(new) >= 0]
        if present.numel():
            raise ValueError(
                f"ids: {present.numel()} are in the index already (first: {int(present[0])}); "
                "remove them first or choose others"
            )
        if len(self) and int(new[0]) < int(self._ids[-1]):
            merged, order = torch.cat([self._ids, new]).sort()
            self._rebuild(torch.cat([self._engine.packed(), packed])[order], merged)
        else:
            self._engine.add(packed)
            self._ids = torch.cat([self._ids, new])
        self._next_id = max(self._next_id, int(new[-1]) + 1)

    def codes(self, ids: Tensor | Sequence[int]) -> Tensor:
        """The codes of items: int8 ±1 ``[n, num_bits]``, in the order of ``ids``.

        Raises:
            TypeError: ids that are not integers.
            ValueError: ids that are not in the index.
        """
        positions = self._present(_as_ids(ids))
        return unpack_bits(self._engine.packed()[positions], self.num_bits)

    def search(self, codes: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` nearest items of each query.

        Args:
            codes: int8 ±1 ``[q, num_bits]``.
            k: 1 to ``len(self)``.

        Returns:
            ``(distances, ids)``: int32 and int64 ``[q, k]`` on the CPU, nearest first, equal
            distances by lower id.

        Raises:
            TypeError: codes that are not int8, or ``k`` not an integer.
            ValueError: wrong shapes or values, or ``k`` out of range.
        """
        packed = self._pack(codes)
        check_positive_int(k, "k")
        if k > len(self):
            raise ValueError(
                f"k: {k} items asked for, but the index holds {len(self)}; use k <= {len(self)}"
            )
        if codes.size(0) == 0:
            return torch.empty(0, k, dtype=torch.int32), torch.empty(0, k, dtype=torch.int64)
        distances, positions = self._engine.search(packed, k)
        return distances.int(), self._ids[positions]

    def range_search(self, codes: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
        """All items within a Hamming radius, **distance <= radius**.

        Args:
            codes: int8 ±1 ``[q, num_bits]``.
            radius: 0 or more.

        Returns:
            ``(limits, distances, ids)``, on the CPU: int64 ``[q + 1]``, int32 and int64 ``[m]``.
            The matches of query i are ``limits[i]:limits[i + 1]``, nearest first, equal distances
            by lower id.

        Raises:
            TypeError: codes that are not int8, or ``radius`` not an integer.
            ValueError: wrong shapes or values, or a negative radius.
        """
        packed = self._pack(codes)
        if isinstance(radius, bool) or not isinstance(radius, int):
            raise TypeError(f"radius: expected an integer, got {radius!r}")
        if radius < 0:
            raise ValueError(f"radius: expected 0 or more, got {radius}")
        limits = torch.zeros(codes.size(0) + 1, dtype=torch.int64)
        if codes.size(0) == 0 or len(self) == 0:
            return limits, torch.empty(0, dtype=torch.int32), torch.empty(0, dtype=torch.int64)
        query, distances, positions = self._engine.range_search(packed, min(radius, self.num_bits))
        order = ((query * (self.num_bits + 1) + distances) * len(self) + positions).argsort()
        limits[1:] = query.bincount(minlength=codes.size(0)).cumsum(0)
        return limits, distances[order].int(), self._ids[positions[order]]

    def remove(self, ids: Tensor | Sequence[int]) -> None:
        """Remove items.

        Args:
            ids: ids in the index; one given twice is removed once.

        Raises:
            TypeError: ids that are not integers.
            ValueError: ids that are not in the index, which is then unchanged.
        """
        keep = torch.ones(len(self), dtype=torch.bool)
        keep[self._present(_as_ids(ids))] = False
        self._rebuild(self._engine.packed()[keep], self._ids[keep])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to one safetensors file, atomically.

        Raises:
            OSError: the file cannot be written.
        """
        metadata = {
            "format": _FORMAT,
            "version": _VERSION,
            "num_bits": self.num_bits,
            "next_id": self._next_id,
        }
        save_tensors(path, {"codes": self._engine.packed(), "ids": self._ids}, metadata)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        backend: Literal["auto", "faiss", "torch"] = "auto",
    ) -> HammingIndex:
        """Read what :meth:`save` wrote; the backend may be another one.

        Raises:
            FileNotFoundError: there is no such file.
            CorruptFileError: the file is truncated, damaged or something else.
            ImportError: ``backend='faiss'`` and FAISS is not installed.
        """
        tensors, metadata = load_tensors(path)
        if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
            raise CorruptFileError(f"{path}: is not an index that HammingIndex.save() wrote")
        if metadata.get("version") != _VERSION:
            raise CorruptFileError(
                f"{path}: has version {metadata.get('version')!r}, this pyg_hash reads {_VERSION}; "
                "build the index again"
            )
        try:
            index = cls(metadata["num_bits"], backend=backend)
            codes, ids = tensors["codes"], tensors["ids"]
            if len(ids) != len(codes) or ids.dtype != torch.int64 or bool((ids.diff() <= 0).any()):
                raise ValueError("ids do not fit the codes")
            for part in torch.split(codes, 1 << 16):
                unpack_bits(part, index.num_bits)
            next_id = int(metadata["next_id"])
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"{path}: is damaged ({error}); build it again") from error
        index._rebuild(codes, ids)
        index._next_id = next_id
        return index

    def _pack(self, codes: Tensor) -> Tensor:
        return pack_bits(codes, num_bits=self.num_bits).cpu()

    def _new_engine(self) -> BinaryEngine:
        num_bytes = (self.num_bits + 7) // 8
        if self.backend == "faiss":
            return FaissEngine(num_bytes)
        return TorchEngine(num_bytes)

    def _rebuild(self, packed: Tensor, ids: Tensor) -> None:
        engine = self._new_engine()
        if ids.numel():
            engine.add(packed)
        self._engine, self._ids = engine, ids

    def _present(self, ids: Tensor) -> Tensor:
        """Positions of ids that must be there."""
        positions = self._position(ids)
        missing = ids[positions < 0]
        if missing.numel():
            raise ValueError(
                f"ids: {missing.numel()} are not in the index (first: {int(missing[0])})"
            )
        return positions

    def _position(self, ids: Tensor) -> Tensor:
        """Positions of ids, -1 where an id is not in the index."""
        if len(self) == 0:
            return torch.full_like(ids, -1)
        position = torch.searchsorted(self._ids, ids).clamp_max(len(self) - 1)
        return torch.where(self._ids[position] == ids, position, -1)


def _as_ids(ids: Tensor | Sequence[int]) -> Tensor:
    if not isinstance(ids, Tensor) and len(ids) == 0:
        return torch.empty(0, dtype=torch.int64)
    try:
        tensor = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"ids: expected integers that fit int64 ({error})") from error
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"ids: expected integers, got {tensor.dtype}")
    if tensor.dim() != 1:
        raise ValueError(f"ids: expected shape [n], got {list(tensor.shape)}")
    return tensor.cpu().long()
