"""LanceDB: an embedded store with metadata and filters."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pyg_hash.codes import num_bytes
from pyg_hash.index.base import New, arguments
from pyg_hash.index.lookup import Bytes
from pyg_hash.stores.base import DatabaseStore
from pyg_hash.utils.files import CorruptFileError
from pyg_hash.utils.locks import Lock
from pyg_hash.utils.optional import require

_SETTINGS = b"pyg_hash"
_WAIT_S = 10.0  # for another process that changes the table
_FEW = 1000  # ids that are looked for by a filter; for more, all ids are read


class LanceStore(DatabaseStore):
    """Codes and their metadata in a table of LanceDB, a folder on disk or in object storage.

    Every change is on disk when the call returns, whole or not at all; those on one machine wait
    for each other. Searches compare with all codes that pass the filter, exactly. Any number of
    processes may read; each sees the table as it was when it opened it or last changed it.
    :attr:`table` is LanceDB's own object, for everything that is not part of the interface.
    """

    _column = "`{}`"
    _among = "{} IN ({})", "{} NOT IN ({})"
    _has = "coalesce(array_has({}, {}), false)"

    table: Any
    _lock: Path | None = None  # of a table on this machine

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str],
        num_bits: int,
        *,
        name: str = "codes",
        ids: type[int] | type[str] = int,
        fields: Mapping[str, type] | None = None,
        model: str | None = None,
    ) -> Self:
        """Make an empty table ``name``.

        ``uri`` is a folder, made if need be, or an address that LanceDB knows; the other arguments
        are those of every :class:`CodeStore <pyg_hash.index.CodeStore>`.

        Raises:
            FileExistsError: there is such a table already.
            ImportError: LanceDB is not installed.
        """
        lancedb, arrow = _libraries()
        store = cls(num_bits, ids, fields, model)
        kinds: dict[type, Any] = {int: arrow.int64(), str: arrow.string()}
        kinds |= {float: arrow.float64(), bool: arrow.bool_(), list: arrow.list_(arrow.string())}
        code = arrow.list_(arrow.uint8(), num_bytes(num_bits))
        columns = [arrow.field("id", kinds[ids]), arrow.field("code", code)]
        columns += [arrow.field(key, kinds[kind]) for key, kind in store.fields.items()]
        schema = arrow.schema(columns, metadata={_SETTINGS: json.dumps(store._described())})
        try:
            table = lancedb.connect(os.fspath(uri)).create_table(name, schema=schema)
        except ValueError as error:
            if "already exists" not in str(error):
                raise
            raise FileExistsError(
                f"{uri}: there is a table {name!r} already; open() it or choose another name"
            ) from error
        return store._of(table, uri, name)

    @classmethod
    def open(cls, uri: str | os.PathLike[str], *, name: str = "codes") -> Self:
        """Open a table that :meth:`create` made.

        Raises:
            FileNotFoundError: there is no such table.
            CorruptFileError: the table was not made by this class.
            ImportError: LanceDB is not installed.
        """
        lancedb, _ = _libraries()
        uri = os.fspath(uri)
        if "://" not in uri and not os.path.isdir(uri):
            raise FileNotFoundError(f"{uri}: no such folder")
        try:
            table = lancedb.connect(uri).open_table(name)
        except ValueError as error:
            if "not found" not in str(error):
                raise
            raise FileNotFoundError(f"{uri}: there is no table {name!r}") from error
        try:
            about = arguments(json.loads((table.schema.metadata or {})[_SETTINGS]))
            return cls(**about)._of(table, uri, name)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(
                f"{uri}: table {name!r} was not made by LanceStore.create()"
            ) from error

    def _of(self, table: Any, uri: str | os.PathLike[str], name: str) -> Self:
        self.table = table
        if "://" not in os.fspath(uri):
            self._lock = Path(uri) / f".{name}.lock"
        return self

    @contextmanager
    def _changing(self) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        with Lock(self._lock, f"store: {self._lock.parent}", wait_s=_WAIT_S):
            self.table.checkout_latest()  # ids that others added meanwhile
            yield

    def __len__(self) -> int:
        """Number of items."""
        return int(self.table.count_rows())

    def save(self) -> None:
        """Nothing to do: every change is on disk already."""

    def close(self) -> None:
        """Let go of the table."""
        self.table = None

    def items(self, batch_size: int = 1 << 16) -> Iterator[tuple[Bytes, NDArray[Any]]]:
        """All items."""
        width = num_bytes(self.num_bits)
        for batch in self.table.search().select(["id", "code"]).to_batches(batch_size):
            codes = batch["code"].flatten().to_numpy().reshape(-1, width)
            yield codes, np.array(batch["id"].to_pylist(), self._id_dtype)

    def _put(self, new: New, there: NDArray[np.bool_]) -> None:
        arrow, schema = _libraries()[1], self.table.schema
        codes = arrow.FixedSizeListArray.from_arrays(
            arrow.array(new.packed.reshape(-1)), new.packed.shape[1]
        )
        rest = [arrow.array(new.metadata[key], schema.field(key).type) for key in self.fields]
        columns = [arrow.array(new.ids.tolist(), schema.field("id").type), codes, *rest]
        rows = arrow.Table.from_arrays(columns, names=schema.names)
        if there.any():
            merge = self.table.merge_insert("id")  # one commit
            merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
        else:
            self.table.add(rows)

    @staticmethod
    def _quoted(value: str) -> str:
        return "'" + value.replace("'", "''") + "'"

    def _listed(self, scope: str, start: int, limit: int) -> NDArray[Any]:
        query = self.table.search().select(["id"]).limit(limit).offset(start)
        query = query.where(scope) if scope else query
        return np.array(query.to_arrow()["id"].to_pylist(), self._id_dtype)

    def _fetch(self, ids: NDArray[Any], columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        for start in range(0, len(ids), _FEW):
            some = self._named(ids[start : start + _FEW])
            query = self.table.search().select(["id", *columns]).where(some).limit(_FEW)
            for row in query.to_arrow().to_pylist():
                yield row | {"code": bytes(row["code"])} if "code" in columns else row

    def _known(self, ids: NDArray[Any]) -> set[Any]:
        query = self.table.search().select(["id"])
        if len(ids) <= _FEW:
            query = query.where(self._named(ids)).limit(len(ids))
        return {name for batch in query.to_batches() for name in batch["id"].to_pylist()}

    def _remove(self, ids: NDArray[Any]) -> None:
        self.table.delete(self._named(ids))

    def _answers(
        self, scope: str, packed: Bytes, k: int | None, radius: int | None
    ) -> Iterator[list[tuple[int, Any]]]:
        limit = len(self) if k is None else k
        for code in packed:
            query = self.table.search(code, vector_column_name="code").distance_type("hamming")
            query = query.select(["id", "_distance"]).limit(limit)
            if radius is not None:
                query = query.distance_range(0, radius + 0.5)  # the end does not count
            if scope:
                query = query.where(scope, prefilter=True)
            found = query.to_arrow()
            distances, names = found["_distance"].to_pylist(), found["id"].to_pylist()
            yield list(zip(map(int, distances), names, strict=True))


def _libraries() -> tuple[Any, Any]:
    lancedb = require("lancedb", "lancedb", extra="lancedb")
    return lancedb, require("pyarrow", "pyarrow", extra="lancedb")
