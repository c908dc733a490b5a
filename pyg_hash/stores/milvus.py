"""Milvus: the store for when one machine is outgrown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pyg_hash.codes import num_bytes
from pyg_hash.index.base import Columns, New, arguments
from pyg_hash.index.lookup import Bytes
from pyg_hash.stores.base import DatabaseStore
from pyg_hash.utils.checks import check_choice, check_positive_int
from pyg_hash.utils.files import CorruptFileError
from pyg_hash.utils.optional import require

_MOST = 16_384  # answers that Milvus gives to one query
_ROWS = 10_000  # in one request, which must stay under 64 MB
_NAMES = 1_000  # ids in one condition
_TEXT = 65_535  # bytes of a string
_LIST = 4_096  # strings of a list


class MilvusStore(DatabaseStore):
    """Codes and their metadata in a collection of Milvus.

    The same class talks to a cluster (``"http://host:19530"``) and to a file of Milvus Lite
    (``"codes.db"``, which needs ``milvus-lite`` 2.5; version 3 has no binary vectors). Changes
    are seen by everybody at once (consistency level Strong) but large ones are sent in parts, so
    one that fails may be half done. :attr:`client` is Milvus's own object.
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
        uri: str | os.PathLike[str],
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
        exact, ``'BIN_IVF_FLAT'`` (clusters only) looks into :attr:`nprobe` of ``nlist`` groups, in
        radius searches too; ``connection`` is more for ``pymilvus.MilvusClient``, for example
        ``token``. The others are those of every :class:`CodeStore <pyg_hash.index.CodeStore>`.

        Raises:
            FileExistsError: there is such a collection already.
            ImportError: pymilvus is not installed.
            ConnectionError: the server cannot be reached.
            pymilvus.MilvusException: it refuses.
        """
        check_choice(index, ("BIN_FLAT", "BIN_IVF_FLAT"), "index")
        check_positive_int(nlist, "nlist")
        milvus = require("pymilvus", "pymilvus", extra="milvus")
        uri = os.fspath(uri)
        store = cls(num_bits, ids, fields, model)
        lite = "://" not in uri
        kind = milvus.DataType
        kinds: dict[type, dict[str, Any]] = {
            int: {"datatype": kind.INT64},
            str: {"datatype": kind.VARCHAR, "max_length": _TEXT},
            float: {"datatype": kind.DOUBLE},
            bool: {"datatype": kind.BOOL},
            list: {"datatype": kind.ARRAY, "element_type": kind.VARCHAR, "max_capacity": _LIST}
            | {"max_length": _TEXT},
        }
        schema = milvus.MilvusClient.create_schema(
            auto_id=False,
            enable_dynamic_field=False,
            description=json.dumps({"pyg_hash": store._described()}),
        )
        schema.add_field("id", is_primary=True, **kinds[ids])
        schema.add_field("code", kind.BINARY_VECTOR, dim=8 * num_bytes(num_bits))
        for key, value in store.fields.items():
            schema.add_field(key, nullable=not lite, **kinds[value])
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
        return store._of(client, name, lite)

    @classmethod
    def open(cls, uri: str | os.PathLike[str], *, name: str = "codes", **connection: Any) -> Self:
        """Open a collection that :meth:`create` made.

        Raises:
            FileNotFoundError: there is no such collection.
            CorruptFileError: the collection was not made by this class.
            ImportError: pymilvus is not installed.
            ConnectionError: the server cannot be reached.
            pymilvus.MilvusException: it refuses.
        """
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
            store = cls(**arguments(about))._of(client, name, "://" not in uri)
        except (KeyError, TypeError, ValueError) as error:
            client.close()
            raise CorruptFileError(
                f"{uri}: collection {name!r} was not made by MilvusStore.create()"
            ) from error
        client.load_collection(name)
        return store

    def _of(self, client: Any, name: str, lite: bool) -> Self:
        self.client, self.name, self._lite = client, name, lite
        return self

    def __len__(self) -> int:
        """Number of items."""
        return int(self.client.query(self.name, output_fields=["count(*)"])[0]["count(*)"])

    def save(self) -> None:
        """Have the server write out what it still holds in its log; nothing is lost without."""
        self.client.flush(self.name)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def items(self, batch_size: int = _ROWS) -> Iterator[tuple[Bytes, NDArray[Any]]]:
        """All items."""
        rows = self.client.query_iterator(
            self.name, batch_size=min(batch_size, _MOST), output_fields=["id", "code"]
        )
        try:
            while batch := rows.next():
                codes = b"".join(row["code"][0] for row in batch)
                packed = np.frombuffer(bytearray(codes), np.uint8).reshape(len(batch), -1)
                yield packed, np.array([row["id"] for row in batch], self._id_dtype)
        finally:
            rows.close()

    def _put(self, new: New, there: NDArray[np.bool_]) -> None:
        names, metadata = new.ids.tolist(), new.metadata
        send = self.client.upsert if there.any() else self.client.insert
        for value in chain(names, *metadata.values()):
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    _check_text(text)
        if self._lite:
            _check_for_lite(names, metadata)
        for start in range(0, len(names), _ROWS):
            rows = [
                {"id": names[i], "code": new.packed[i].tobytes()}
                | {key: values[i] for key, values in metadata.items()}
                for i in range(start, min(start + _ROWS, len(names)))
            ]
            send(self.name, rows)

    @staticmethod
    def _quoted(value: str) -> str:
        _check_text(value)
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def _constants(self) -> tuple[str, str] | None:
        if not self._lite:
            return None
        if self.id_type is str:  # it has neither missing values nor empty ids
            return '(id == "")', '(id != "")'
        return "(id < 0 and id > 0)", "(id >= 0 or id < 0)"

    def _listed(self, scope: str, start: int, limit: int) -> NDArray[Any]:
        some: Any = {"output_fields": ["id"], "limit": limit, "offset": start}
        found = self.client.query(self.name, filter=scope, **some)
        return np.array([row["id"] for row in found], self._id_dtype)

    def _fetch(self, ids: NDArray[Any], columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        for part in self._parts(ids):
            names = ["id", *columns]
            for row in self.client.query(self.name, filter=part, output_fields=names):
                yield {**row, "code": row["code"][0]} if "code" in columns else row

    def _remove(self, ids: NDArray[Any]) -> None:
        for part in self._parts(ids):
            self.client.delete(self.name, filter=part)

    def _parts(self, ids: NDArray[Any]) -> Iterator[str]:
        for i in range(0, len(ids), _NAMES):
            yield self._named(ids[i : i + _NAMES])

    def _answers(
        self, scope: str, packed: Bytes, k: int | None, radius: int | None
    ) -> Iterator[list[tuple[int, Any]]]:
        if k is not None and k > _MOST:
            raise ValueError(f"k: {k}, but Milvus answers with at most {_MOST} items")
        params = {"nprobe": self.nprobe}
        if radius is not None:  # Milvus means distance < radius
            params |= {"radius": radius + 1, "range_filter": 0}
        for start in range(0, len(packed), _NAMES):
            for found in self.client.search(
                self.name,
                [code.tobytes() for code in packed[start : start + _NAMES]],
                filter=scope,
                limit=_MOST if k is None else k,
                anns_field="code",
                search_params={"metric_type": "HAMMING", "params": params},
            ):
                yield [(int(hit["distance"]), hit["id"]) for hit in found]


def _connected(uri: str, **connection: Any) -> Any:
    milvus = require("pymilvus", "pymilvus", extra="milvus")
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
