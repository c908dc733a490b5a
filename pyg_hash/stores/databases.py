"""Stores in a database: LanceDB, embedded, and Milvus, for when one machine is outgrown."""

from __future__ import annotations

import json
import logging
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pyg_hash.codes import num_bytes
from pyg_hash.index.base import CodeStore, Columns, New, arguments
from pyg_hash.index.lookup import Bytes, Hits
from pyg_hash.index.where import Condition, Group, Tree
from pyg_hash.typing import PathLike
from pyg_hash.utils.checks import check_choice, check_positive_int
from pyg_hash.utils.files import CorruptFileError, check_path
from pyg_hash.utils.locks import Lock
from pyg_hash.utils.optional import require

Answers = Iterator[list[tuple[int, Any]]]  # distances and ids of items, for each query
_LOWEST = -(2**63)  # parsers read the digits before the sign, and they do not fit int64
_OPPOSITE = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_NAMES = 1000  # ids in one condition; LanceDB reads all ids where it looks for more
_SETTINGS, _WAIT_S = b"pyg_hash", 10.0  # of LanceDB: wait for another that changes the table
_MOST = 16_384  # answers that Milvus gives to one query
_ROWS = 10_000  # in one request to it, which must stay under 64 MB
_TEXT, _LIST = 65_535, 4_096  # bytes of a string in it, strings of a list


class DatabaseStore(CodeStore):
    """A store that asks a database for ids and for nearest items, in its own language."""

    _column = "{}"  # a field
    _among: tuple[str, str]  # "a column has one of the values" and "none of them"
    _has: str  # "a list in a column has a value"
    _length = "array_length({})"  # of a list in a column

    @staticmethod
    @abstractmethod
    def _quoted(value: str) -> str:
        """How a text is written."""

    def _nulls(self, field: str, column: str) -> tuple[str, str]:
        """That a field is missing, or a list without a text, and that it is there."""
        if self.fields.get(field) is list:
            length = self._length.format(column)
            return (
                f"({column} is null or {length} == 0)",
                f"({column} is not null and {length} != 0)",
            )
        return f"{column} is null", f"{column} is not null"

    def _scope(self, where: Tree | None) -> str:
        """The filter in the database's language; empty for none."""
        return "" if where is None else self._written(where)

    def _named(self, ids: NDArray[Any]) -> str:
        return self._written(Condition("id", "=", tuple(ids.tolist())))

    def _parts(self, ids: NDArray[Any]) -> Iterator[str]:
        for i in range(0, len(ids), _NAMES):
            yield self._named(ids[i : i + _NAMES])

    def _literal(self, value: Any) -> str:
        if value == _LOWEST:
            return f"({_LOWEST + 1} - 1)"
        return self._quoted(value) if isinstance(value, str) else str(value).lower()

    def _written(self, what: Tree) -> str:
        if isinstance(what, Group):
            parts = map(self._written, what.parts)
            return f"({(' and ' if what.every else ' or ').join(parts)})"
        name, op, values = self._column.format(what.field), what.op, what.values
        missing, there = self._nulls(what.field, name)
        if op == "null":
            return there if what.negated else missing
        literals = [self._literal(value) for value in values]
        if op == "has":
            text = f"({' or '.join(self._has.format(name, each) for each in literals)})"
            return f"(not {text} or {missing})" if what.negated else text
        if what.negated:  # Milvus Lite knows no "not" before a comparison
            opposite = Condition(what.field, _OPPOSITE[op], values)
            return f"({self._written(opposite)} or {missing})"
        listed = ", ".join(literals)
        if op in ("=", "!="):
            return self._among[op == "!="].format(name, listed)
        return f"{name} {op} {listed}"

    def _known(self, ids: NDArray[Any]) -> set[Any]:
        """Those of the ids that are there, and perhaps others."""
        return {row["id"] for row in self._fetch(ids, [])}

    @abstractmethod
    def _fetch(self, ids: NDArray[Any], columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """``id``, ``code`` as bytes if asked for, and fields of items, in any order."""

    @abstractmethod
    def _answers(self, scope: str, packed: Bytes, k: int | None, radius: int | None) -> Answers:
        """As :meth:`_hits`."""

    def _hits(self, scope: Any, packed: Bytes, k: int | None, radius: int | None) -> Hits:
        found = [sorted(hits) for hits in self._answers(scope, packed, k, radius)]
        distances = np.array([far for hits in found for far, _ in hits], np.int32)
        names = np.array([name for hits in found for _, name in hits], self._id_dtype)
        return Hits(np.repeat(np.arange(len(found)), [*map(len, found)]), distances, names)

    def _present(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        known = self._known(ids) if len(ids) else set()
        return np.array([name in known for name in ids.tolist()], bool)

    def _rows(self, ids: NDArray[Any], columns: Sequence[str]) -> list[Mapping[str, Any]]:
        found = {row["id"]: row for row in self._fetch(ids, columns)}
        return [found[name] for name in ids.tolist()]

    def _metadata(self, ids: NDArray[Any]) -> dict[str, Any]:
        rows = self._rows(ids, [*self.fields])
        return {name: [row[name] for row in rows] for name in self.fields}

    def _codes_of(self, names: NDArray[Any]) -> tuple[Bytes, None]:
        codes = b"".join(row["code"] for row in self._rows(names, ["code"]))
        return np.frombuffer(codes, np.uint8).reshape(-1, num_bytes(self.num_bits)), None

    def _update(self, ids: NDArray[Any], metadata: Columns) -> None:
        new = New(self._codes_of(ids)[0], ids, {**self._metadata(ids), **metadata})
        self._put(new, np.ones(len(ids), bool))


class LanceStore(DatabaseStore):
    """Codes and their metadata in a table of LanceDB, a folder on disk or in object storage.

    Every change is on disk when the call returns, whole or not at all; those on one machine wait
    for each other. Searches compare with all codes that pass the filter, exactly. Any number of
    processes may read; each sees the table as it was when it opened it or last changed it.
    ``table`` is LanceDB's own object, for everything that is not part of the interface.
    """

    _column = "`{}`"
    _among = "{} IN ({})", "{} NOT IN ({})"
    _has = "coalesce(array_has({}, {}), false)"
    _length = "coalesce(array_length({}), 0)"

    table: Any
    _lock: Path | None = None  # of a table on this machine

    @classmethod
    def create(
        cls,
        uri: PathLike,
        num_bits: int,
        *,
        name: str = "codes",
        ids: type[int] | type[str] = int,
        fields: Mapping[str, type] | None = None,
        model: str | None = None,
    ) -> Self:
        """Make an empty table ``name``.

        ``uri`` is a folder, made if need be, or an address that LanceDB knows; all else is as of
        every :class:`CodeStore <pyg_hash.index.CodeStore>`.
        """
        check_path(uri, "uri")
        lancedb = require("lancedb", "lancedb", extra="lancedb")
        arrow = require("pyarrow", "pyarrow", extra="lancedb")
        store = cls(num_bits, ids, fields, model)
        kinds: dict[type, Any] = {int: arrow.int64(), str: arrow.string()}
        kinds |= {float: arrow.float64(), bool: arrow.bool_(), list: arrow.list_(arrow.string())}
        code = arrow.list_(arrow.uint8(), num_bytes(store.num_bits))
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
    def open(cls, uri: PathLike, *, name: str = "codes") -> Self:
        """Open a table that :meth:`create` made."""
        check_path(uri, "uri")
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
            about = arguments(json.loads((table.schema.metadata or {})[_SETTINGS]))
            return cls(**about)._of(table, uri, name)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(
                f"{uri}: table {name!r} was not made by LanceStore.create()"
            ) from error

    def _of(self, table: Any, uri: PathLike, name: str) -> Self:
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
        import pyarrow as arrow

        values, width = arrow.array(new.packed.reshape(-1)), new.packed.shape[1]
        codes = arrow.FixedSizeListArray.from_arrays(values, width)
        columns = {"id": new.ids.tolist(), "code": codes, **new.metadata}
        rows = arrow.Table.from_pydict(columns, schema=self.table.schema)
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
        for some in self._parts(ids):
            query = self.table.search().select(["id", *columns]).where(some).limit(_NAMES)
            for row in query.to_arrow().to_pylist():
                yield row | {"code": bytes(row["code"])} if "code" in columns else row

    def _known(self, ids: NDArray[Any]) -> set[Any]:
        query = self.table.search().select(["id"])
        if len(ids) <= _NAMES:
            query = query.where(self._named(ids)).limit(len(ids))
        return {name for batch in query.to_batches() for name in batch["id"].to_pylist()}

    def _remove(self, ids: NDArray[Any]) -> None:
        self.table.delete(self._named(ids))

    def _answers(self, scope: str, packed: Bytes, k: int | None, radius: int | None) -> Answers:
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


class MilvusStore(DatabaseStore):
    """Codes and their metadata in a collection of Milvus.

    The same class talks to a cluster (``"http://host:19530"``) and to a file of Milvus Lite
    (``"codes.db"``, which needs ``milvus-lite`` 2.5; version 3 has no binary vectors). Changes
    are seen by everybody at once (consistency level Strong) but large ones are sent in parts, so
    one that fails may be half done. ``client`` is Milvus's own object.
    """

    _most = _MOST
    _among = "{} in [{}]", "{} not in [{}]"
    _has = "array_contains({}, {})"

    client: Any
    name: str
    nprobe = 16
    _lite = False

    @classmethod
    def create(
        cls,
        uri: PathLike,
        num_bits: int,
        *,
        name: str = "codes",
        ids: type[int] | type[str] = int,
        fields: Mapping[str, type] | None = None,
        index: Literal["BIN_FLAT", "BIN_IVF_FLAT"] = "BIN_FLAT",
        nlist: int = 1024,
        model: str | None = None,
        **connection: Any,
    ) -> Self:
        """Make an empty collection ``name``.

        ``uri`` is the address of a cluster, or a file of Milvus Lite; ``index='BIN_FLAT'`` is
        exact, ``'BIN_IVF_FLAT'`` (clusters only) looks into ``nprobe`` of ``nlist`` groups, in
        radius searches too; ``connection`` is more for ``pymilvus.MilvusClient``, for example
        ``token``. The others are those of every :class:`CodeStore <pyg_hash.index.CodeStore>`.

        ``ConnectionError``: the server cannot be reached; ``pymilvus.MilvusException``: it refuses.
        """
        check_path(uri, "uri")
        check_choice(index, ("BIN_FLAT", "BIN_IVF_FLAT"), "index")
        check_positive_int(nlist, "nlist")
        milvus = require("pymilvus", "pymilvus", extra="milvus")
        uri, kind = os.fspath(uri), milvus.DataType
        store = cls(num_bits, ids, fields, model)
        store._lite = "://" not in uri
        kinds: dict[type, dict[str, Any]] = {
            int: {"datatype": kind.INT64},
            str: {"datatype": kind.VARCHAR, "max_length": _TEXT},
            float: {"datatype": kind.DOUBLE},
            bool: {"datatype": kind.BOOL},
            list: {"datatype": kind.ARRAY, "element_type": kind.VARCHAR, "max_capacity": _LIST}
            | {"max_length": _TEXT},
        }
        about = json.dumps({"pyg_hash": store._described()})
        schema = milvus.MilvusClient.create_schema(
            auto_id=False, enable_dynamic_field=False, description=about
        )
        schema.add_field("id", is_primary=True, **kinds[ids])
        schema.add_field("code", kind.BINARY_VECTOR, dim=8 * num_bytes(store.num_bits))
        for key, value in store.fields.items():
            schema.add_field(key, nullable=not store._lite, **kinds[value])
        params = milvus.MilvusClient.prepare_index_params()
        more = {"nlist": nlist} if index == "BIN_IVF_FLAT" else {}
        params.add_index("code", index_type=index, metric_type="HAMMING", params=more)
        client = _connected(uri, **connection)
        if client.has_collection(name):
            client.close()
            raise FileExistsError(
                f"{uri}: there is a collection {name!r} already; open() it or choose another name"
            )
        try:
            client.create_collection(
                name, schema=schema, index_params=params, consistency_level="Strong"
            )
        except BaseException:
            client.drop_collection(name)  # it may be there, without its index
            client.close()
            raise
        store.client, store.name = client, name
        return store

    @classmethod
    def open(cls, uri: PathLike, *, name: str = "codes", **connection: Any) -> Self:
        """Open a collection that :meth:`create` made; errors are those of :meth:`create` too."""
        check_path(uri, "uri")
        require("pymilvus", "pymilvus", extra="milvus")
        uri = os.fspath(uri)
        if "://" not in uri and not os.path.exists(uri):
            raise FileNotFoundError(f"{uri}: no such file")
        client = _connected(uri, **connection)
        if not client.has_collection(name):
            client.close()
            raise FileNotFoundError(f"{uri}: there is no collection {name!r}")
        try:
            about = json.loads(client.describe_collection(name)["description"])["pyg_hash"]
            store = cls(**arguments(about))
        except (KeyError, TypeError, ValueError) as error:
            client.close()
            raise CorruptFileError(
                f"{uri}: collection {name!r} was not made by MilvusStore.create()"
            ) from error
        client.load_collection(name)
        store.client, store.name, store._lite = client, name, "://" not in uri
        return store

    def __len__(self) -> int:
        return int(self.client.query(self.name, output_fields=["count(*)"])[0]["count(*)"])

    def save(self) -> None:
        """Have the server write out what it still holds in its log; nothing is lost without."""
        self.client.flush(self.name)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def items(self, batch_size: int = _ROWS) -> Iterator[tuple[Bytes, NDArray[Any]]]:
        """All items."""
        for rows in self._pages("", ["id", "code"], min(batch_size, _MOST)):
            codes = b"".join(row["code"][0] for row in rows)
            packed = np.frombuffer(bytearray(codes), np.uint8).reshape(len(rows), -1)
            yield packed, np.array([row["id"] for row in rows], self._id_dtype)

    def _pages(self, scope: str, columns: Sequence[str], most: int) -> Iterator[list[Any]]:
        """Items that pass a filter, ascending by id: pymilvus' own iterator does not quote ids."""
        more: Any = {"output_fields": columns, "limit": most}
        more |= {"iterator": "True", "reduce_stop_for_best": "True"}  # a cluster keeps the order
        page = scope
        while rows := self.client.query(self.name, filter=page, **more):
            yield rows
            page = self._written(Condition("id", ">", (rows[-1]["id"],)))
            page = f"{scope} and {page}" if scope else page

    def _put(self, new: New, there: NDArray[np.bool_]) -> None:
        names, metadata = new.ids.tolist(), new.metadata
        send = self.client.upsert if there.any() else self.client.insert
        for value in chain(names, *metadata.values()):
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    _check_text(text)
        if self._lite:
            _check_for_lite(names, metadata)
        codes = (code.tobytes() for code in new.packed)
        columns = {"id": names, "code": codes, **metadata}
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        while part := [*islice(rows, _ROWS)]:
            send(self.name, part)

    @staticmethod
    def _quoted(value: str) -> str:
        _check_text(value)
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def _written(self, what: Tree) -> str:
        if self._lite and isinstance(what, Condition) and what.op == "has" and what.negated:
            raise ValueError(
                f"where: Milvus Lite knows no not {what.field} has; look for what an item has, or "
                "keep them in another store"
            )
        return super()._written(what)

    def _nulls(self, field: str, column: str) -> tuple[str, str]:
        if not self._lite and field != "id":
            return super()._nulls(field, column)
        if self.fields.get(field) is list:
            return f"array_length({column}) == 0", f"array_length({column}) != 0"
        zero = '""' if self.id_type is str else "0"  # Milvus Lite has no missing values, nor ids
        return f"(id < {zero} and id > {zero})", f"(id >= {zero} or id < {zero})"

    def _listed(self, scope: str, start: int, limit: int) -> NDArray[Any]:
        pages = self._pages(scope, ["id"], min(start + limit, _MOST))
        names = (row["id"] for rows in pages for row in rows)
        return np.array([*islice(names, start, start + limit)], self._id_dtype)

    def _fetch(self, ids: NDArray[Any], columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        for part in self._parts(ids):
            names = ["id", *columns]
            for row in self.client.query(self.name, filter=part, output_fields=names):
                yield {**row, "code": row["code"][0]} if "code" in columns else row

    def _remove(self, ids: NDArray[Any]) -> None:
        for part in self._parts(ids):
            self.client.delete(self.name, filter=part)

    def _answers(self, scope: str, packed: Bytes, k: int | None, radius: int | None) -> Answers:
        if k is not None and k > _MOST:
            raise ValueError(f"k: {k}, but Milvus answers with at most {_MOST} items")
        params = {"nprobe": self.nprobe}
        if radius is not None:  # Milvus means distance < radius
            params |= {"radius": radius + 1, "range_filter": 0}
        how = {"metric_type": "HAMMING", "params": params}
        more: Any = {"filter": scope, "limit": _MOST if k is None else k, "search_params": how}
        for start in range(0, len(packed), _NAMES):
            some = [code.tobytes() for code in packed[start : start + _NAMES]]
            for found in self.client.search(self.name, some, anns_field="code", **more):
                yield [(int(hit["distance"]), hit["id"]) for hit in found]


def _connected(uri: str, **connection: Any) -> Any:
    milvus = require("pymilvus", "pymilvus", extra="milvus")
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints all that it raises too
    if "://" not in uri and find_spec("milvus_lite") is None:
        raise ImportError(
            f"{uri}: a file needs the package milvus-lite; install it, in an environment of its "
            "own, with: pip install milvus-lite==2.5.1 'setuptools<81'; or give the address of a "
            "server, http://HOST:PORT"
        )
    try:
        return milvus.MilvusClient(uri, **connection)
    except milvus.MilvusException as error:
        raise ConnectionError(
            f"{uri}: Milvus cannot be reached there ({error}); check the address, and that it runs"
        ) from error


def _check_text(value: str) -> None:
    """Raise ``ValueError`` for what Milvus cannot keep or, in an expression, cannot read."""
    if "\n" in value or "\r" in value:
        raise ValueError(
            f"{value!r} holds a line break, which Milvus cannot look for; leave it out"
        )
    if len(value.encode()) > _TEXT:
        raise ValueError(f"{value[:20]!r}... is longer than {_TEXT} bytes; use a shorter one")


def _check_for_lite(ids: Sequence[Any], metadata: Columns) -> None:
    """Raise ``ValueError`` for what Milvus Lite 2.5 would never delete or keep; a cluster does."""
    for value in ids:
        if value == "" or (isinstance(value, str) and "'" in value):
            raise ValueError(
                f"ids: {value!r} is empty or holds a ', which Milvus Lite cannot delete"
            )
    for name, values in metadata.items():
        if None in values:
            raise ValueError(f"metadata: {name} is missing, which Milvus Lite cannot keep; give it")
