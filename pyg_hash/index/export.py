"""Packed codes with their ids as one plain file, for other programs."""

from __future__ import annotations

import csv
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from xxhash import xxh3_64_hexdigest

from pyg_hash.codes import num_bytes
from pyg_hash.index.lookup import Bytes
from pyg_hash.typing import PathLike
from pyg_hash.utils.checksums import verify
from pyg_hash.utils.faiss import load as load_faiss
from pyg_hash.utils.files import CorruptFileError, atomic_path, check_file, save_json
from pyg_hash.utils.hdf5 import new_hdf5, open_hdf5
from pyg_hash.utils.optional import require

_OF_DAMAGE = LookupError, OSError, ValueError, EOFError, TypeError, RuntimeError, AttributeError
Batches = Iterable[tuple[Bytes, NDArray[Any]]]
Metadata = Callable[[NDArray[Any]], Mapping[str, Sequence[Any]]]


class _Codes(NamedTuple):
    codes: Tensor
    ids: Tensor | NDArray[Any]
    num_bits: int


class ExportedCodes(_Codes):
    """What a file of :func:`export_codes` holds: ``codes, ids, num_bits``, and of which model.

    The codes are packed, uint8 ``[n, ceil(num_bits / 8)]``, the ids int64 or ``str``, ``[n]``.
    """

    model: str | None = None  #: its digest, for ``create(..., model=)`` of a store; None: not known


class _Export(NamedTuple):
    """What a writer writes: codes, ids and values of the fields, a batch at a time."""

    target: Path
    batches: Iterator[tuple[Bytes, NDArray[Any], Mapping[str, Sequence[Any]]]]
    num_bits: int
    id_type: type[Any]
    fields: Mapping[str, type]
    model: str

    def whole(self) -> tuple[Bytes, NDArray[Any]]:
        """All codes and ids."""
        ids: Any = np.empty(0, np.int64 if self.id_type is int else np.object_)
        parts = [(np.empty((0, num_bytes(self.num_bits)), np.uint8), ids)]
        codes, ids = zip(*parts, *(batch[:2] for batch in self.batches), strict=True)
        return np.concatenate(codes), np.concatenate(ids)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Id, code as digits 0 and 1, and values of the fields of each item."""
        for packed, ids, more in self.batches:
            bits = np.unpackbits(packed, axis=1)[:, : self.num_bits] + ord("0")
            digits = np.ascontiguousarray(bits).view(f"S{self.num_bits}").ravel().astype(str)
            columns = [more[name] for name in self.fields]
            if other := [f"{len(x)} values" for x in columns if len(x) != len(ids)]:
                raise ValueError(f"metadata: {other[0]} of a field for {len(ids)} items")
            yield from zip(ids.tolist(), digits.tolist(), *columns, strict=True)


def _numpy(path: Path, all_of: _Export) -> None:
    codes, ids = all_of.whole()
    ids = ids if all_of.id_type is int else ids.astype(np.str_)
    with open(path, "wb") as file:
        np.savez(file, codes=codes, ids=ids, num_bits=all_of.num_bits, model=all_of.model)


def _hdf5(path: Path, all_of: _Export) -> None:
    codes, ids = all_of.whole()
    with new_hdf5(path) as file:
        file.attrs["num_bits"], file.attrs["model"] = all_of.num_bits, all_of.model
        file["codes"] = codes
        dtype = ids.dtype if all_of.id_type is int else h5py.string_dtype()
        file.create_dataset("ids", data=ids, dtype=dtype)


def load_pyarrow() -> Any:
    """Import pyarrow with Parquet."""
    require("pyarrow.parquet", "pyarrow", extra="parquet")
    return require("pyarrow", "pyarrow", extra="parquet")


def _about(num_bits: Any, model: str) -> dict[str, str]:
    """Metadata of Parquet, whose pages alone have checksums of their own."""
    xxh3 = xxh3_64_hexdigest(f"{num_bits} {model}".encode())
    return {"num_bits": str(num_bits), "model": model, "xxh3": xxh3}


def _parquet(path: Path, all_of: _Export, *, milvus: bool = False) -> None:
    arrow = load_pyarrow()
    kinds = {int: arrow.int64(), str: arrow.string(), float: arrow.float64(), bool: arrow.bool_()}
    kinds[list] = arrow.list_(arrow.string())
    code = arrow.list_(arrow.uint8()) if milvus else arrow.binary(num_bytes(all_of.num_bits))
    columns = {"id": kinds[all_of.id_type], "code": code}
    columns |= {name: kinds[kind] for name, kind in all_of.fields.items()}
    schema = arrow.schema([*columns.items()], metadata=_about(all_of.num_bits, all_of.model))
    with arrow.parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for packed, ids, more in all_of.batches:
            codes = packed.tolist() if milvus else [row.tobytes() for row in packed]
            values = {"id": ids.tolist(), "code": codes, **more}
            writer.write_table(arrow.Table.from_pydict(values, schema=schema))


def _csv(path: Path, all_of: _Export) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "code", *all_of.fields])
        for row in all_of.rows():
            cells = (json.dumps(v, ensure_ascii=False) if type(v) is list else v for v in row)
            writer.writerow(cells)


def _faiss(path: Path, all_of: _Export) -> None:
    faiss = load_faiss()
    beside = all_of.target.with_name(f"{all_of.target.name}.ids.json")
    if all_of.id_type is not int and os.path.lexists(beside) and not _is_ours(beside):
        raise FileExistsError(
            f"{beside}: is there already, and no earlier list of ids; move it elsewhere, or give "
            "another name"
        )
    index = faiss.IndexBinaryFlat(8 * num_bytes(all_of.num_bits))
    if all_of.id_type is int:
        index = faiss.IndexBinaryIDMap2(index)
    names: list[str] = []
    for packed, ids, _ in all_of.batches:
        packed = np.ascontiguousarray(packed)
        if all_of.id_type is int:
            index.add_with_ids(packed, ids)
        else:
            index.add(packed)
            names += ids.tolist()
    with open(path, "wb") as file:  # FAISS's own error is one of C++, without the errno
        faiss.write_index_binary(index, faiss.PyCallbackIOWriter(file.write))
    if all_of.id_type is not int:  # beside it, in the order of FAISS's row numbers
        save_json(beside, names)


def _is_ours(path: Path) -> bool:
    try:
        return path.is_file() and verify(path)
    except CorruptFileError:
        return False


_SQL_TYPES = {str: "text", int: "bigint", float: "double precision", bool: "boolean"}
_SQL_TYPES[list] = "text[]"
_COPY = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _copied(value: Any) -> str:
    """A value as the text format of COPY has it."""
    if value is None:
        return r"\N"
    if isinstance(value, list):
        quoted = (each.replace("\\", r"\\").replace('"', r"\"") for each in value)
        value = "{" + ",".join(f'"{each}"' for each in quoted) + "}"
    return str(value).translate(_COPY)


def _pgvector(path: Path, all_of: _Export) -> None:
    def name_of(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def in_line(text: str) -> str:
        return re.sub(r"[\r\n]+", " ", text)  # a next line would be no comment but a command

    table = name_of(all_of.target.stem)
    fields = {name_of(name): _SQL_TYPES[kind] for name, kind in all_of.fields.items()}
    more = "".join(f",\n    {name} {kind}" for name, kind in fields.items())
    bits = all_of.num_bits
    example = f"B'{('01' * bits)[:bits]}'"
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(
            f"-- codes of {bits} bits, of the model {in_line(all_of.model or 'not known')}\n"
            "-- read it with: psql DATABASE < FILE (needs pgvector 0.7 or later)\n"
            "CREATE EXTENSION IF NOT EXISTS vector;\n"
            f"CREATE TABLE {table} (\n    id {_SQL_TYPES[all_of.id_type]} PRIMARY KEY,\n"
            f"    code bit({bits}) NOT NULL{more}\n);\n"
            f"COPY {table} ({', '.join(['id', 'code', *fields])}) FROM stdin;\n"
        )
        for row in all_of.rows():
            file.write("\t".join(map(_copied, row)) + "\n")
        file.write(
            "\\.\n"
            "-- approximate; for exact answers leave the next line out\n"
            f"CREATE INDEX ON {table} USING hnsw (code bit_hamming_ops);\n"
            "-- the nearest ten to a code of the model, as digits in the order of its bits:\n"
            f"-- SELECT id, code <~> {example} AS distance FROM {in_line(table)}\n"
            f"--   ORDER BY code <~> {example} LIMIT 10;\n"
        )


FORMATS: dict[str, tuple[str, Callable[[Path, _Export], None]]] = {
    "npz": (".npz", _numpy),
    "h5": (".h5", _hdf5),
    "parquet": (".parquet", _parquet),
    "csv": (".csv", _csv),
    "faiss": (".faiss", _faiss),
    "pgvector": (".sql", _pgvector),
    "milvus": (".parquet", partial(_parquet, milvus=True)),
}
"""Name of a format -> ending of its files, and what writes it."""


def export_codes(
    path: PathLike,
    batches: Batches,
    num_bits: int,
    id_type: type[Any],
    *,
    model: str | None = None,
    fields: Mapping[str, type] | None = None,
    metadata: Metadata | None = None,
    to: str | None = None,
) -> None:
    """Write packed codes with ids, atomically; ``store.export(path)`` calls this.

    What each format holds: :doc:`/stores`, "Plain files". Codes are packed as by
    :func:`pyg_hash.codes.pack_bits`.

    Args:
        path: the file; its ending decides the format.
        batches: ``(packed codes, ids)``, for example ``store.items()``.
        num_bits: bits of a code.
        id_type: ``int`` or ``str``.
        model: digest of the model whose codes they are.
        fields: name and type of what goes along where the format has a place for it.
        metadata: gives the values of these fields for some ids, as ``store.metadata``.
        to: a format by name, where the ending does not say it: ``'milvus'``.

    ``ValueError``: an unknown ending or format; ``ImportError``: pyarrow or faiss is needed and
    missing; ``OSError``: the file, or FAISS's list of ids beside it, cannot be written there.
    """
    if to is None:
        endings = {end: name for name, (end, _) in FORMATS.items() if name != "milvus"}
        to = _format(path, endings)
    elif to not in FORMATS:
        raise ValueError(f"to: {to!r} is not known; use one of {', '.join(FORMATS)}")
    rows = ((codes, ids, metadata(ids) if metadata and fields else {}) for codes, ids in batches)
    with atomic_path(path) as temporary:
        written = _Export(Path(path), rows, num_bits, id_type, fields or {}, model or "")
        FORMATS[to][1](temporary, written)


def read_codes(path: PathLike) -> ExportedCodes:
    """Read what :func:`export_codes` wrote as ``.npz``, ``.h5`` or ``.parquet``.

    The result fits ``store.add(result.codes, result.ids)``, if the store has its ``num_bits`` and
    ``model`` (``ValueError``). ``FileNotFoundError``; ``CorruptFileError``: the file is damaged or
    holds something else; ``ImportError``: Parquet without pyarrow; ``ValueError``: another ending.
    """
    reader = _format(path, _READERS)
    check_file(path)
    sealed = reader is not _read_parquet and verify(path)  # its pages have checksums of their own
    try:
        codes, ids, num_bits, model = reader(Path(path), sealed)
        if codes.dtype != np.uint8 or codes.shape != (len(ids), num_bytes(num_bits)):
            raise ValueError("codes and ids do not fit")
    except (*_OF_DAMAGE, zipfile.BadZipFile) as error:
        raise CorruptFileError(f"{path}: not a file of codes ({error}); export again") from error
    names = torch.from_numpy(ids) if ids.dtype == np.int64 else ids.astype(object)
    result = ExportedCodes(torch.from_numpy(codes), names, num_bits)
    result.model = str(model) or None
    # for stores: 12 bits take as many bytes as 16, and codes of two models cannot be compared
    vars(result.codes).update(num_bits=num_bits, model=result.model)
    return result


def _read_numpy(path: Path, sealed: bool) -> tuple[Bytes, NDArray[Any], int, Any]:
    with np.load(path, allow_pickle=False) as file:
        return file["codes"], file["ids"], int(file["num_bits"]), file.get("model", "")


def _read_hdf5(path: Path, sealed: bool) -> tuple[Bytes, NDArray[Any], int, Any]:
    with open_hdf5(path, sealed=sealed) as file:
        ids = file["ids"]
        text = h5py.check_string_dtype(ids.dtype) is not None
        names = ids.asstr()[:] if text else ids[:]
        model = file.attrs.get("model", "")
        return file["codes"][:], names, int(file.attrs["num_bits"]), model


def _read_parquet(path: Path, sealed: bool) -> tuple[Bytes, NDArray[Any], int, Any]:
    arrow = load_pyarrow()
    table = arrow.parquet.read_table(path, page_checksum_verification=True)
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    num_bits, model = int(about["num_bits"]), about.get("model", "")
    xxh3 = _about(num_bits, model)["xxh3"]
    if about.get("xxh3", xxh3) != xxh3:
        raise ValueError("its metadata have another checksum")
    text = table.schema.field("id").type == arrow.string()
    ids = np.array(table["id"].to_pylist(), object if text else np.int64)
    data = b"".join(table["code"].to_pylist())
    codes = np.frombuffer(bytearray(data), np.uint8).reshape(len(ids), num_bytes(num_bits))
    return codes, ids, num_bits, model


_READERS = {".npz": _read_numpy, ".h5": _read_hdf5, ".parquet": _read_parquet}


def _format(path: PathLike, known: dict[str, Any]) -> Any:
    ending = Path(path).suffix.lower()
    if ending not in known:
        raise ValueError(f"path: {path} ends with {ending!r}; use one of {', '.join(known)}")
    return known[ending]
