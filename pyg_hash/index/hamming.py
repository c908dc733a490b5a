"""The index: codes under ids with fields beside them, in memory or in a file that is mapped."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial, reduce
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.codes import LEVELS, check_packed, num_bytes, unpack_bits
from pyg_hash.index import arrays, lookup
from pyg_hash.index.base import Codes, CodeStore, Columns, Ids, New, arguments
from pyg_hash.index.columns import Column, Items, Mutex
from pyg_hash.index.lookup import Bytes, Hits
from pyg_hash.index.where import Condition, Tree
from pyg_hash.typing import PathLike
from pyg_hash.utils import faiss as _faiss
from pyg_hash.utils.checks import check_choice, check_flags, check_positive_int
from pyg_hash.utils.files import check_path, check_writable
from pyg_hash.utils.locks import BusyError, Lock
from pyg_hash.utils.provenance import MIXED, say_mixed

Backend = Literal["auto", "faiss", "torch"]
_View = tuple[NDArray[Any] | None, Bytes]
_Scope = tuple[NDArray[np.bool_] | None, Callable[[], _View]]
_SHARE = 4  # rows of the file to one that changed before it is written anew
_CHANGES = 256  # in the journal


class HammingIndex(CodeStore):
    """Codes under ids, with fields beside them, searched by Hamming distance: exact by default.

    In memory, or with :meth:`create` and :meth:`open` in a file. There, changes are in memory
    until :meth:`save`, which writes what changed into a journal, the folder ``NAME.store.log``
    beside ``NAME.store``, and the file anew when a quarter has changed: what ``save`` returned
    from is kept, whatever happens, and a change is there as a whole or not at all. Copy or remove
    the file and the folder together. Any number of processes may read the file while one writes
    it; each goes on with the content that it opened. One at a time may change it, from the first
    change to :meth:`save` or :meth:`close`: others get a :class:`BusyError
    <pyg_hash.utils.locks.BusyError>` that names the process. Threads may search one index at the
    same time, but not change it meanwhile. One in memory can be pickled and deep-copied.

    Without FAISS the search is done in torch, slower and with the same results. For examples see
    :doc:`/get_started` (in memory) and :doc:`/stores` (in a file).

    Args:
        num_bits, ids, fields, model: as of every :class:`CodeStore <pyg_hash.index.CodeStore>`.
        index: ``Flat()`` (default), ``MultiIndex()``, ``IVF(...)`` or ``HNSW(...)``.
        backend: ``'faiss'``, ``'torch'`` (``Flat()`` alone), or ``'auto'``: FAISS if installed.
            ``ImportError``: it is needed and not installed.
    """

    path: Path | None = None  #: the file; None: in memory
    recall: dict[str, float] | None = None  #: what :meth:`measure_recall` found
    modality: str | None = None  #: ``'image'`` or ``'text'``, whose codes a run keeps, if it says

    _keeps_relaxed = _renames_model = True
    _field_name = re.compile(r"[^`\x00-\x1f\ud800-\udfff]{1,100}")

    def __init__(
        self,
        num_bits: int,
        *,
        ids: type[int] | type[str] = int,
        fields: Mapping[str, type] | None = None,
        index: lookup.Index | None = None,
        model: str | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(num_bits, ids, fields, model)
        index = lookup.Flat() if index is None else index
        if not isinstance(index, lookup.Index):
            raise TypeError(f"index: expected Flat(), MultiIndex(), IVF() or HNSW(), got {index!r}")
        check_choice(backend, ("auto", "faiss", "torch"), "backend")
        if backend == "auto":
            torch_will_do = isinstance(index, lookup.Flat) and not _faiss.is_installed()
            backend = "torch" if torch_will_do else "faiss"
        elif backend == "torch" and not isinstance(index, lookup.Flat):
            raise ValueError(f"backend: 'torch' knows Flat() alone, not {index!r}")
        self.index, self.backend = index, backend
        self._preparing = Mutex()
        self._exact = lookup.FaissScan() if backend == "faiss" else lookup.Scan()
        self._next_id = 0
        self._late = 0  # rows that the journal changed
        self._journal: arrays.Journal | None = None  # of a file that can have one
        self._opened: arrays.State = None, ()
        self._lock: Lock | None = None
        self._clear()

    def __getstate__(self) -> dict[str, Any]:
        """For a copy, or another process; ``TypeError``: it has a file, whose changes are one's."""
        if self.path is not None:
            raise TypeError(f"store: {self.path} cannot be copied; save() it, and open() it there")
        return vars(self)

    def _clear(self) -> None:
        packed, ids = np.empty((0, num_bytes(self.num_bits)), np.uint8), np.empty(0, self._id_dtype)
        self._items = Items.of(packed, ids, {name: [] for name in self.fields}, self.fields)
        self._alive: NDArray[np.bool_] | None = None  # None: all rows
        self._num_gone = 0  # of these, so that searches count none
        self._tables: Any = None  # what is kept beside the codes
        if isinstance(self.index, lookup.MultiIndex):
            self._tables = lookup.MultiIndexHash()
        elif isinstance(self.index, lookup.FaissIndex):
            self._tables = lookup.Approximate(self.index)
        self._view: _View | None = None
        self._begin()

    def _begin(self, kept: int | None = None) -> None:
        """Note what changes from now on; ``kept`` rows are stored, None: write the file anew."""
        self._kept, self._about = kept, self._settings()
        self._gone = self._changed = np.empty(0, np.int64)  # rows

    @classmethod
    def create(
        cls,
        path: PathLike,
        num_bits: int,
        *,
        ids: type[int] | type[str] = int,
        fields: Mapping[str, type] | None = None,
        index: lookup.Index | None = None,
        model: str | None = None,
    ) -> Self:
        """A new, empty index in the file ``path``, which appears with :meth:`save`.

        ``OSError``: it could not be written, or in the place of its journal is something else.
        """
        check_path(path)
        store = cls(num_bits, ids=ids, fields=fields, index=index, model=model)
        if os.path.lexists(path):
            raise FileExistsError(f"{path}: exists already; open() it or choose another name")
        check_writable(path)
        arrays.check_log(path)
        store.path, store._opened = Path(path), arrays.state(path)
        return store

    @classmethod
    def open(cls, path: PathLike, *, mapped: bool = True) -> Self:
        """Open what :meth:`save` wrote.

        ``mapped`` leaves codes, ids, fields and hash tables on disk, to be read as they are used;
        what IVF and HNSW keep beside the codes is always read into memory.
        """
        check_path(path)
        check_flags(mapped=mapped)
        store = cls._read(Path(path), mapped, "auto")
        store.path = Path(path)
        return store

    @classmethod
    def load(cls, path: PathLike, *, backend: Backend = "auto") -> Self:
        """Read what :meth:`save` wrote into memory; errors as of :meth:`open`."""
        check_path(path)
        return cls._read(Path(path), False, backend)

    @classmethod
    def _read(cls, path: Path, mapped: bool, backend: Backend) -> Self:
        index, (file, changes) = arrays.at_one_moment(path, partial(cls._of, path, mapped, backend))
        # what is saved from now on is not in it, and forbids to change it
        index._opened = file, changes if index._journal is None else index._journal.listed
        if index.model == MIXED:
            say_mixed(f"store: {path}")
        return index

    @classmethod
    def _of(cls, path: Path, mapped: bool, backend: Backend) -> Self:
        """What is in the file and its journal."""
        stored, about = arrays.read_arrays(path, "HammingIndex", mapped=mapped)
        with arrays.damaged(path):
            settings = dict(about["index"])
            way = lookup.KINDS[settings.pop("kind")](**settings)
            index = cls(**arguments(about), index=way, backend=backend)
            if not mapped:
                check_packed(torch.from_numpy(stored["codes"]), index.num_bits)
            index._items = Items.read(stored, index.num_bits, index.id_type, index.fields)
            if len(index) and index._tables is not None:
                index._tables.restore(stored, stored["codes"])
            index._note(about)
            mark = about["mark"]
        if mark is not None:
            index._journal = arrays.Journal(path, str(mark))
            for changes, more in index._journal.read():
                with arrays.damaged(path):
                    index._late += index._replay(changes, more)
            index._begin(len(index._items))
        return index

    def _note(self, about: Mapping[str, Any]) -> None:
        self.recall, self.model, self._next_id = about["recall"], about["model"], about["next_id"]
        self.modality = about.get("modality")

    def _settings(self) -> dict[str, Any]:
        own = {"recall": self.recall, "model": self.model, "modality": self.modality}
        return {**own, "next_id": self._next_id}

    def _replay(self, stored: arrays.StoredArrays, about: Mapping[str, Any]) -> int:
        """Do again what :meth:`_write_change` wrote; how many rows it changed."""
        new = Items.read(stored, self.num_bits, self.id_type, self.fields)
        if about["rows"] != len(self._items):
            raise ValueError("the changes of the journal do not fit the file")
        self._append(new)
        rows, gone = stored["changed"], stored["gone"]
        for i, (name, kind) in enumerate(self.fields.items() if len(rows) else ()):
            column = Column.read(kind, stored, f"changed{i}", len(rows))
            self._items.columns[name].assign(rows, column)
        self._drop(gone)
        self._note(about)
        return len(new) + len(rows) + len(gone)

    def _write_change(self, journal: arrays.Journal) -> None:
        """Write what is new, changed and gone since the last time."""
        assert self._kept is not None
        rows = np.unique(self._changed)
        new = {"gone": np.unique(self._gone), "changed": rows}
        new |= self._items.take(np.arange(self._kept, len(self._items))).arrays()
        for i, column in enumerate(self._items.columns.values() if len(rows) else ()):
            new |= column.take(rows).arrays(f"changed{i}")
        journal.write(new, {"rows": self._kept, **self._settings()})

    def save(self, path: PathLike | None = None) -> None:
        """Write what changed, atomically; after an ``OSError`` what was there still is.

        ``path`` is a file for all of the index; None: its own, which an index in memory has not
        (``ValueError``). Either may be in the hands of another process (``BusyError``), or have
        something else in the place of its journal (``OSError``).
        """
        own = self.path
        if path is not None and (own is None or os.path.realpath(own) != os.path.realpath(path)):
            with _right(Path(path), wait_s=1.0):  # other threads save there, too
                self._write(Path(path), None)
            return
        if own is None:
            raise ValueError("path: this index is in memory; give the path of a file")
        if self._lock is not None and not self._lock.is_held:
            self.unlock()  # nothing kept others out: to look once more whether one has written
        self.lock()
        kept, journal, changed = self._kept, self._journal, len(self._gone) + len(self._changed)
        changed += len(self._items) - (kept or 0)
        share = _SHARE * (changed + self._late)
        if kept is None or journal is None or journal.count >= _CHANGES or share > kept:
            mark = uuid.uuid4().hex
            self._write(own, mark)
            self._journal, self._late = arrays.Journal(own, mark), 0
        elif changed or self._settings() != self._about:
            self._write_change(journal)
            self._late += changed
        self._begin(len(self._items))
        self._opened = arrays.state(own)
        self.unlock()

    def compact(self) -> None:
        """Write the file anew, with all that is in its journal; errors as of :meth:`save`."""
        self._begin()
        self.save()

    def _write(self, path: Path, mark: str | None) -> None:
        """All in one file, in order, without a journal; without a mark it can have none."""
        if (rows := self._order()) is not None:
            self._keep(rows)
        packed, kept = self._items.codes.joined(), self._items.arrays()
        if self._tables is not None and len(packed):
            kept |= self._tables.arrays(packed)
        way = {"kind": type(self.index).__name__, **vars(self.index)}
        about = {**self._described(), "index": way, "mark": mark}
        arrays.write_arrays(path, "HammingIndex", kept, {**about, **self._settings()})
        arrays.clear(path)

    def close(self) -> None:
        """Let go of the file; what was not saved is lost."""
        self._clear()
        self.unlock()
        self.path = None

    def lock(self) -> None:
        """Take the right to change the file, which else the first change does, until ``save``.

        ``BusyError``: another process changes the file, or did since it was opened, or took the
        right and then forked this one.
        """
        if self._lock is not None and self._lock.is_held and self._lock.owner != os.getpid():
            raise BusyError(
                f"store: the right to change {self.path} belongs to process {self._lock.owner}, "
                "which forked; open the store in this process, or unlock() it if that one ended"
            )
        if self.path is None or self._lock is not None:
            return
        self._lock = _right(self.path)
        if arrays.state(self.path) != self._opened:
            self.unlock()
            raise BusyError(
                f"store: {self.path} was changed by another process since it was opened here, "
                "or by a save that was interrupted; open it again"
            )

    def unlock(self) -> None:
        """Give back the right of :meth:`lock`; what was not saved stays so."""
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def __len__(self) -> int:
        return len(self._items) - self._num_gone

    @property
    def _kind(self) -> str:  # type: ignore[override]
        return "index" if self.path is None else "store"

    @property
    def has_relaxed(self) -> bool:
        """Whether relaxed codes are kept beside the codes, which rescoring then uses."""
        return self._items.relaxed is not None

    @property
    def ids(self) -> Any:
        """All ids: int64 ``[len(self)]``, ascending, or an array of ``str`` as they were added."""
        return self._public(self._items.ids.at(self._all(None)))

    def codes(self, ids: Ids) -> Tensor:
        """The codes of items: int8 ±1 ``[n, num_bits]``, in the order of ``ids``."""
        packed = self._items.codes.at(self._rows(ids))
        return unpack_bits(torch.from_numpy(packed), self.num_bits)

    def relaxed(self, ids: Ids) -> Tensor:
        """Relaxed codes of items, or their codes if there are none: float32 ``[n, num_bits]``."""
        if self._items.relaxed is None:
            return self.codes(ids).float()
        return torch.from_numpy(self._items.relaxed.at(self._rows(ids))).float() / LEVELS

    def items(self, batch_size: int = 1 << 16) -> Iterator[tuple[Bytes, NDArray[Any]]]:
        """All items, as ``(packed codes, ids)``: by id, or strings as they were added."""
        rows = self._all(None)
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            yield self._items.codes.at(part), self._items.ids.at(part)

    def measure_recall(self, codes: Codes, k: int = 10) -> float:
        """How much of the true answer ``search`` finds, 0 to 1; kept in ``recall`` and the file.

        An answer counts if it is as near as the true ``k``-th item, so that ties are no loss. The
        codes are queries like those to come, not items of the store; a few hundred will do.
        """
        check_positive_int(k, "k")
        k, query = int(k), self._packed_codes(codes)
        if len(query) == 0 or k > len(self):
            raise ValueError(
                f"k: {len(query)} queries and k = {k} of {len(self)} items; give "
                "at least one query and k no larger than the store"
            )
        distances = self.search(codes, k)[0].numpy()
        worst = self._exact.search(self._ready(None)[1], query, k).distances.reshape(-1, k)[:, -1:]
        value = float(((distances >= 0) & (distances <= worst)).mean())
        self.recall = {"value": value, "k": k, "queries": len(query)}
        return value

    # rows ------------------------------------------------------------------------------------

    def _order(self, passing: NDArray[np.bool_] | None = None) -> NDArray[Any] | None:
        """Rows that are there and pass, in the order of equal distances; None: all, as they are."""
        order, keep = self._items.finder.order(), self._alive if passing is None else passing
        if keep is None:
            return order
        return keep.nonzero()[0] if order is None else order[keep[order]]

    def _passing(self, tree: Tree) -> NDArray[np.bool_]:
        if isinstance(tree, Condition):
            name = self.id_field if tree.field == "id" else tree.field
            column = self._items.columns.get(name, self._items.finder)
            found = column.hits("=" if tree.op == "!=" else tree.op, tree.values)
            if tree.op == "!=":
                found = ~(found | column.hits("null", ()))
            return ~found if tree.negated else found
        join = np.logical_and if tree.every else np.logical_or
        return reduce(lambda a, b: join(a, b, out=a), map(self._passing, tree.parts))

    def _ready(self, passing: NDArray[np.bool_] | None) -> _View:
        """Rows that pass in the order of equal distances, None for all, and their codes."""
        if passing is not None:
            rows = self._all(passing)
            return rows, self._items.codes.at(rows)
        with self._preparing.lock:  # of several threads that search, one prepares
            if self._view is None:
                order, packed = self._order(), self._items.codes.joined()
                self._view = order, packed if order is None else packed[order]
            return self._view

    def _all(self, passing: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Rows that are there and pass, in the order of equal distances."""
        rows = self._order(passing)
        return np.arange(len(self._items)) if rows is None else rows

    def _prepared(self) -> Bytes:
        """The codes of all rows, which the way to look them up knows then."""
        packed = self._items.codes.joined()
        with self._preparing.lock:
            self._tables.update(packed)
        return packed

    def _rows(self, ids: Ids) -> NDArray[np.int64]:
        """Rows of items; ``ValueError`` unless all are there."""
        return self._find(self._there(self._id_array(ids)))

    def _find(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        rows = self._items.finder.find(ids) if len(ids) else np.zeros(0, np.int64)
        return rows if self._alive is None else np.where(self._alive[rows], rows, -1)

    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        return self._find(ids) >= 0

    # changes ---------------------------------------------------------------------------------

    def _numbered(self, count: int) -> NDArray[Any]:
        if self.id_type is str:
            return super()._numbered(count)
        return np.arange(self._next_id, self._next_id + count)

    def _append(self, items: Items) -> None:
        if len(items) == 0:
            return
        if len(self._items) == 0:  # from now on with relaxed codes, or without
            self._items = items.take(np.empty(0, np.int64))
        self._items.append(items)
        if self._alive is not None:
            self._alive = np.concatenate([self._alive, np.ones(len(items), bool)])
        self._view = None

    def _drop(self, rows: NDArray[Any]) -> None:
        if len(rows):
            alive = np.ones(len(self._items), bool) if self._alive is None else self._alive.copy()
            alive[rows] = False
            self._alive, self._view = alive, None
            self._num_gone = len(alive) - int(alive.sum())

    def _keep(self, rows: NDArray[Any]) -> None:
        """Keep these rows alone, in this order."""
        if self._tables is not None:
            self._tables.reordered(self._items.codes.joined(), rows)
        self._items, self._alive, self._view = self._items.take(rows), None, None
        self._num_gone = 0
        self._begin()

    def _put(self, new: New, there: NDArray[np.bool_]) -> None:
        if len(self) and (new.relaxed is None) == self.has_relaxed:
            wrong = "has other items without; leave it out, or add all items anew"
            if new.relaxed is None:
                wrong = "has relaxed codes of its other items; give these too"
            raise ValueError(f"relaxed: the {self._kind} {wrong}")
        items = Items.of(new.packed, new.ids, new.metadata, self.fields, new.relaxed)
        self.lock()
        if there.any():
            self._remove(new.ids[there])
        if len(self) == 0 and len(self._items):
            self._keep(np.empty(0, np.int64))  # may now have relaxed codes, or none
        self._append(items)
        if self.id_type is int:
            self._next_id = max(self._next_id, int(new.ids.max()) + 1)
        self.recall = None

    def _remove(self, ids: NDArray[Any]) -> None:
        rows = self._find(ids)
        self.lock()
        self._drop(rows)
        self._gone = np.concatenate([self._gone, rows])
        self.recall = None
        if 2 * len(self) < len(self._items):
            self._keep(self._all(None))

    def _update(self, ids: NDArray[Any], metadata: Columns) -> None:
        rows = self._find(ids)
        self.lock()
        for name, values in metadata.items():
            self._items.columns[name].assign(rows, Column.of(self.fields[name], values))
        self._changed = np.concatenate([self._changed, rows])

    def _metadata(self, ids: NDArray[Any]) -> dict[str, Any]:
        rows = self._find(ids)
        return {name: column.at(rows) for name, column in self._items.columns.items()}

    # searches --------------------------------------------------------------------------------

    def _scope(self, where: Tree | None) -> _Scope:
        passing = None if where is None else self._passing(where)
        if passing is not None and self._alive is not None:
            passing &= self._alive
        return passing, cache(partial(self._ready, passing))

    def _ties(self, scope: _Scope) -> bool:
        return scope[0] is not None or not isinstance(self._tables, lookup.Approximate)

    def _hits(self, scope: _Scope, packed: Bytes, k: int | None, radius: int | None) -> Hits:
        passing, ready = scope
        tables, radius = self._tables, radius or 0
        if k is not None and not self._ties(scope):
            self._prepared()
            return cast(Hits, tables.nearest(packed, k, self._alive))
        hashed = k is None and isinstance(tables, lookup.MultiIndexHash)
        if hashed and tables.pays(len(self._items), packed, radius):
            found = tables.range_search(self._prepared(), packed, radius)
            keep = self._alive if passing is None else passing
            if keep is not None:
                found = found.some(keep[found.names])
            ids = self._items.ids.at(found.names) if self.id_type is int else found.names
            return cast(Hits, found.some(np.lexsort((ids, found.distances, found.query))))
        rows, codes = ready()
        if len(codes) == 0:
            return lookup.NOTHING
        if k is None:
            found = self._exact.range_search(codes, packed, radius)
            found = found.some(np.lexsort(found[::-1]))
        else:  # in order already
            found = self._exact.search(codes, packed, min(k, len(codes)))
        return found if rows is None else found._replace(names=rows[found.names])

    def _codes_of(self, names: NDArray[Any]) -> tuple[Bytes, NDArray[np.int8] | None]:
        relaxed = self._items.relaxed
        return self._items.codes.at(names), None if relaxed is None else relaxed.at(names)

    def _listed(self, scope: _Scope, start: int, limit: int) -> NDArray[Any]:
        return self._all(scope[0])[start : start + limit]

    def _ids_of(self, names: NDArray[Any]) -> NDArray[Any]:
        return self._items.ids.at(names)


def _right(path: Path, wait_s: float = 0.0) -> Lock:
    """The right to change a file, whose journal is its own."""
    arrays.check_log(path)
    real = Path(os.path.realpath(path))
    return Lock(real.with_name(f".{real.name}.lock"), f"store: {path}", wait_s)
