"""Ways to look codes up: by a scan, in hash tables, or in an approximate index of FAISS."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from pyg_hash.index.arrays import StoredArrays
from pyg_hash.index.scan import Bytes, FaissScan, Hits, ranges
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.checks import check_positive_int

_GROWTH = 8  # times the codes that groups were made of


class Index:
    """Settings of a way to look codes up."""

    def settings(self) -> dict[str, Any]:
        """Name and arguments, as JSON values."""
        return {"kind": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Flat(Index):
    """Compare with all codes: exact."""


@dataclass(frozen=True)
class MultiIndex(Index):
    """As :class:`Flat`, and small radii are looked up in hash tables: exact, without a scan.

    The tables take ``4 * ceil(num_bits / 16)`` bytes an item and are built again after a change.
    """


class FaissIndex(Index, ABC):
    """Settings of an approximate index of FAISS: positive integers."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():  # type: ignore[call-overload]
            if (name, value) != ("nlist", None):
                check_positive_int(value, name)

    @abstractmethod
    def make(self, packed: Bytes) -> Any:
        """An index without codes, trained on ``packed``; ``ValueError``: too few of them."""


@dataclass(frozen=True)
class IVF(FaissIndex):
    """Codes in ``nlist`` groups, of which the ``nprobe`` nearest are searched: approximate.

    Args:
        nlist: groups; None takes ``4 sqrt(n)``, as far as there are 39 codes to each.
        nprobe: groups that a query looks into.
    """

    nlist: int | None = None
    nprobe: int = 16

    def make(self, packed: Bytes) -> Any:
        """Groups by k-means."""
        faiss = _faiss.load()
        nlist = self.nlist or max(1, min(int(4 * len(packed) ** 0.5), len(packed) // 39))
        if nlist > len(packed):
            raise ValueError(f"nlist: {nlist} groups of {len(packed)} codes; use fewer")
        bits = 8 * packed.shape[1]
        coarse = faiss.IndexBinaryFlat(bits)
        index = faiss.IndexBinaryIVF(coarse, bits, nlist)
        coarse.this.disown()  # the index frees it
        index.own_fields = True
        index.cp.min_points_per_centroid = 1  # few are what the user asked for
        index.nprobe = self.nprobe
        index.train(packed)
        return index


@dataclass(frozen=True)
class HNSW(FaissIndex):
    """A graph of near codes, walked towards the query: approximate.

    Args:
        m: neighbours of a code in the graph.
        ef_construction: candidates held while the graph is built.
        ef_search: candidates held while it is searched.
    """

    m: int = 32
    ef_construction: int = 40
    ef_search: int = 64

    def make(self, packed: Bytes) -> Any:
        """An empty graph."""
        index = _faiss.load().IndexBinaryHNSW(8 * packed.shape[1], self.m)
        index.hnsw.efConstruction, index.hnsw.efSearch = self.ef_construction, self.ef_search
        return index


class Approximate(FaissScan):
    """``nearest`` through an index of FAISS, of different codes; radius lookups by a scan.

    Rows of one code are one entry of the index, so that a crowd of them neither hides others from
    a query nor costs more than one. Groups are made again when there are eight times the codes.
    """

    def __init__(self, kind: FaissIndex) -> None:
        super().__init__()
        self._kind = kind
        self._forget()

    def _forget(self) -> None:
        self._index: Any = None
        self._entry: NDArray[Any] = np.empty(0, np.int32)  # of each row
        self._made = 0  # codes that groups were made of
        self._rows: tuple[NDArray[Any], NDArray[Any]] | None = None  # by entry, and where each ends
        self._known: dict[bytes, int] = {}  # entries of codes

    def update(self, packed: Bytes) -> None:
        """Take in codes: new ones as entries, the others as rows of theirs."""
        start = len(self._entry)
        if start == len(packed):
            return
        keys = np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel()
        known = self._known or dict(zip(keys[:start].tolist(), self._entry.tolist(), strict=True))
        count, new = 0 if self._index is None else int(self._index.ntotal), list[int]()
        late = keys[start:].tolist()
        for row, key in enumerate(late, start):
            if known.setdefault(key, count + len(new)) == count + len(new):
                new.append(row)
        if isinstance(self._kind, IVF) and start and count + len(new) >= _GROWTH * self._made:
            self._forget()
            return self.update(packed)
        if self._index is None:
            self._index, self._made = self._kind.make(packed[new]), len(new)
        self._index.add(packed[new])
        more = np.array([known[key] for key in late], np.int32)
        self._entry, self._known, self._rows = np.append(self._entry, more), known, None

    def reordered(self, packed: Bytes, rows: NDArray[Any]) -> None:
        """Entries without rows stay, unless they are many."""
        if self._index is None:
            return
        self.update(packed)
        self._entry, self._rows, self._known = self._entry[rows], None, {}
        if 2 * len(np.unique(self._entry)) < self._index.ntotal:
            self._forget()

    def arrays(self, packed: Bytes) -> dict[str, NDArray[Any]]:
        """FAISS's own form of it, and a checksum, since FAISS does not check what it reads."""
        self.update(packed)
        data = self._faiss.serialize_index_binary(self._index)
        about = np.array([_sum(data), self._made])
        return {"index": data, "index_entry": self._entry, "index_about": about}

    def restore(self, arrays: StoredArrays, packed: Bytes) -> None:
        """Undo :meth:`arrays`, checked at once, since FAISS reads all of it."""
        for name in ("index", "index_entry", "index_about"):
            arrays.check(name)
        data, (total, made) = np.array(arrays["index"]), arrays["index_about"].tolist()
        if total not in (_sum(data), zlib.crc32(data.data)):  # that of earlier versions
            raise ValueError("the index has a wrong checksum")
        index = self._faiss.deserialize_index_binary(data)
        entry = arrays["index_entry"]
        fits = len(entry) == len(packed) and index.code_size == packed.shape[1]
        if not fits or not 0 <= entry.min() <= entry.max() < index.ntotal:
            raise ValueError("the index does not fit the codes")
        self._index, self._entry, self._made = index, entry, made

    def nearest(self, query: Bytes, k: int, alive: NDArray[np.bool_] | None) -> Hits:
        """Rows by query, then distance; k at least where the index finds so many."""
        if self._rows is None:
            order = np.argsort(self._entry, kind="stable")
            ends = np.bincount(self._entry, minlength=self._index.ntotal).cumsum()
            self._rows = order, ends
        order, ends = self._rows
        total, asked, pending = len(ends), min(k, len(ends)), np.arange(len(query))
        found = []
        while len(pending):
            far, entries = self._index.search(np.ascontiguousarray(query[pending]), asked)
            there = entries >= 0
            entry, seen = entries[there], there.sum(axis=1)
            start = np.where(entry > 0, ends[entry - 1], 0)
            counts = ends[entry] - start
            rows = order[ranges(start, counts)]
            whose = np.repeat(np.repeat(pending, seen), counts)
            hits = Hits(whose, np.repeat(far[there], counts), rows)
            if alive is not None:
                hits = Hits(*(column[alive[rows]] for column in hits))
            # some entries have no row any more
            few = np.bincount(hits.query, minlength=len(query))[pending] < k
            more = pending[few & (seen == asked) & (asked < total)]
            found.append(Hits(*(column[~np.isin(hits.query, more)] for column in hits)))
            pending, asked = more, min(4 * asked, total)
        q, d, p = (np.concatenate(column) for column in zip(*found, strict=True))
        ranked = np.lexsort((p, d, q))
        return Hits(q[ranked], d[ranked], p[ranked])


KINDS: dict[str, type[Index]] = {kind.__name__: kind for kind in (Flat, MultiIndex, IVF, HNSW)}


def _sum(data: NDArray[np.uint8]) -> int:
    """A checksum that an int64 holds."""
    return xxh3_64_intdigest(data.data) >> 1
