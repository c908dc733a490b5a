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
from pyg_hash.index.base import Bytes, Columns
from pyg_hash.index.rescore import Relaxed
from pyg_hash.index.where import Condition, Tree
from pyg_hash.stores.base import DatabaseStore, Hits, expression, read_settings, settings_of
from pyg_hash.utils.files import CorruptFileError
from pyg_hash.utils.locks import Lock
from pyg_hash.utils.optional import require

_SETTINGS = b"pyg_hash"
_WAIT_S = 10.0  # for another process that changes the table
_FEW = 1000  # ids that are looked for by a filter; for more, all ids are read


class LanceStore(DatabaseStore):
    """Codes and their metadata in a table of LanceDB, a folder on disk or in object storage.

    Every ``add``, ``replace`` and ``remove`` is on disk when it returns, whole or not at all; those
    on one machine wait for each other. Searches compare with all codes that pass the filter,
    exactly. Any number of processes may read; each sees the
    table as it was when it opened it or last changed it. :attr:`table` is LanceDB's own object,
    for everything that is not part of the interface.
    """

    def __init__(
        self,
        table: Any,
        num_bits: int,
        id_type: type[Any],
        fields: Mapping[str, type],
        model: str | None = None,
    ) -> None:
        super().__init__(num_bits, id_type, fields, model)
        self.table = table
        self._lock: Path | None = None  # of a table on this machine

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
        """Make an empty table.

        Args:
            uri: folder of the database, made if need be, or an address that LanceDB knows.
            num_bits: bits of a code.
            name: of the table.
            ids: ``int`` or ``str``.
            fields: what is kept beside a code, for example ``{"label": str, "year": int}``.
            model: ``model.digest()`` of the model whose codes it will hold, if known.

        Raises:
            FileExistsError: there is such a table already.
            ImportError: LanceDB is not installed.
            TypeError, ValueError: wrong arguments.
        """
        lancedb = require("lancedb", "lancedb", extra="lancedb")
        arrow = require("pyarrow", "pyarrow", extra="lancedb")
        store = cls(None, num_bits, ids, fields or {}, model)
        kinds: dict[type, Any] = {int: arrow.int64(), str: arrow.string()}
        kinds |= {float: arrow.float64(), bool: arrow.bool_(), list: arrow.list_(arrow.string())}
        code = arrow.list_(arrow.uint8(), num_bytes(num_bits))
        columns = [arrow.field("id", kinds[ids]), arrow.field("code", code)]
        columns += [arrow.field(key, kinds[kind]) for key, kind in store.fields.items()]
        settings = settings_of(store)
        schema = arrow.schema(columns, metadata={_SETTINGS: json.dumps(settings)})
        try:
            store.table = lancedb.connect(os.fspath(uri)).create_table(name, schema=schema)
        except ValueError as error:
            if "already exists" not in str(error):
                raise
            raise FileExistsError(
                f"{uri}: there is a table {name!r} already; open() it or choose another name"
            ) from error
        return store._at(uri, name)

    @classmethod
    def open(cls, uri: str | os.PathLike[str], *, name: str = "codes") -> Self:
        """Open a table that :meth:`create` made.

        Raises:
            FileNotFoundError: there is no such table.
            CorruptFileError: the table was not made by this class.
            ImportError: LanceDB is not installed.
        """
        lancedb = require("lancedb", "lancedb", extra="lancedb")
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
            settings = json.loads((table.schema.metadata or {})[_SETTINGS])
            return cls(table, *read_settings(settings))._at(uri, name)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(
                f"{uri}: table {name!r} was not made by LanceStore.create()"
            ) from error

    def _at(self, uri: str | os.PathLike[str], name: str) -> Self:
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

    def _add(
        self, packed: Bytes, ids: NDArray[Any], metadata: Columns, relaxed: Relaxed | None
    ) -> None:
        self.table.add(self._rows(packed, ids, metadata))

    def _replace(
        self,
        packed: Bytes,
        ids: NDArray[Any],
        present: NDArray[np.bool_],
        metadata: Columns,
        relaxed: Relaxed | None,
    ) -> None:
        merge = self.table.merge_insert("id")  # one commit
        merge = merge.when_matched_update_all().when_not_matched_insert_all()
        merge.execute(self._rows(packed, ids, metadata))

    def _rows(self, packed: Bytes, ids: NDArray[Any], metadata: Columns) -> Any:
        arrow, schema = require("pyarrow", "pyarrow", extra="lancedb"), self.table.schema
        codes = arrow.FixedSizeListArray.from_arrays(
            arrow.array(packed.reshape(-1)), packed.shape[1]
        )
        rest = [arrow.array(metadata[key], schema.field(key).type) for key in self.fields]
        columns = [arrow.array(ids.tolist(), schema.field("id").type), codes, *rest]
        return arrow.Table.from_arrays(columns, names=schema.names)

    def _some(self, where: Tree | None, start: int, limit: int) -> Sequence[Any]:
        query = self.table.search().select(["id"]).limit(limit).offset(start)
        query = query if where is None else query.where(_sql(where))
        names: list[Any] = query.to_arrow()["id"].to_pylist()
        return names

    def _fetch(self, ids: NDArray[Any], columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        for start in range(0, len(ids), _FEW):
            some = _ids(ids[start : start + _FEW])
            query = self.table.search().select(["id", *columns]).where(some).limit(_FEW)
            for row in query.to_arrow().to_pylist():
                yield row | {"code": bytes(row["code"])} if "code" in columns else row

    def _known(self, ids: NDArray[Any]) -> set[Any]:
        query = self.table.search().select(["id"])
        if len(ids) <= _FEW:
            query = query.where(_ids(ids)).limit(len(ids))
        return {name for batch in query.to_batches() for name in batch["id"].to_pylist()}

    def _remove(self, ids: NDArray[Any]) -> None:
        self.table.delete(_ids(ids))

    def _hits(
        self,
        packed: Bytes,
        k: int | None,
        radius: int | None,
        where: Tree | None,
        codes: bool = False,
    ) -> list[Hits]:
        limit = len(self) if k is None else k
        condition = _sql(where)
        hits: list[Hits] = []
        for code in packed:
            query = self.table.search(code, vector_column_name="code").distance_type("hamming")
            columns = ["id", "_distance", "code"] if codes else ["id", "_distance"]
            query = query.select(columns).limit(limit)
            if radius is not None:
                query = query.distance_range(0, radius + 0.5)  # the end does not count
            if condition:
                query = query.where(condition, prefilter=True)
            found = query.to_arrow()
            distances, names = map(int, found["_distance"].to_pylist()), found["id"].to_pylist()
            own = map(bytes, found["code"].to_pylist()) if codes else [b""] * len(names)
            hits.append(list(zip(distances, names, own, strict=True)))
        return hits


def _ids(ids: NDArray[Any]) -> str:
    return _sql(Condition("id", "=", tuple(ids.tolist())))


def _sql(tree: Tree | None) -> str:
    """A filter in SQL."""
    return expression(
        tree,
        lambda field: f"`{field}`",
        ("{} IN ({})", "{} NOT IN ({})"),
        "coalesce(array_has({}, {}), false)",
        lambda text: "'" + text.replace("'", "''") + "'",
    )
