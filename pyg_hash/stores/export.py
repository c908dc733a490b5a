"""Packed codes with their ids as one plain file, for other programs."""

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_hash.codes import num_bytes
from pyg_hash.utils.files import CorruptFileError, atomic_path
from pyg_hash.utils.hdf5 import open_hdf5
from pyg_hash.utils.optional import require
from pyg_hash.utils.provenance import verify

Bytes = NDArray[np.uint8]
Batches = Iterable[tuple[Bytes, NDArray[Any]]]


class _Codes(NamedTuple):
    codes: Tensor
    ids: Tensor | NDArray[Any]
    num_bits: int


class ExportedCodes(_Codes):
    """What a file of :func:`export_codes` holds: ``codes, ids, num_bits``, and of which model.

    Attributes:
        codes: packed, uint8 ``[n, ceil(num_bits / 8)]``.
        ids: int64 ``[n]``, or an array of ``str``.
        num_bits: bits of a code.
        model: digest of the model, for ``create(..., model=)`` of a store; None: not known.
    """

    model: str | None = None


def _numpy(path: Path, batches: Batches, num_bits: int, id_type: type, model: str) -> None:
    dtype = np.dtype(np.int64 if id_type is int else np.str_)
    none = np.empty((0, num_bytes(num_bits)), np.uint8), np.empty(0, dtype)
    codes, ids = map(np.concatenate, zip(none, *batches, strict=True))
    with open(path, "wb") as file:
        np.savez(
            file,
            codes=codes,
            ids=ids.astype(dtype),
            num_bits=np.array(num_bits),
            model=np.array(model),
        )


def _hdf5(path: Path, batches: Batches, num_bits: int, id_type: type, model: str) -> None:
    width = num_bytes(num_bits)
    dtype = np.dtype(np.int64) if id_type is int else h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file.attrs["num_bits"], file.attrs["model"] = num_bits, model
        codes = file.create_dataset("codes", (0, width), np.uint8, maxshape=(None, width))
        ids = file.create_dataset("ids", (0,), dtype, maxshape=(None,))
        for packed, names in batches:
            start = len(ids)
            for data, new in ((codes, packed), (ids, names)):
                data.resize(start + len(new), axis=0)
                data[start:] = new


def load_pyarrow() -> Any:
    """Import pyarrow with Parquet."""
    require("pyarrow.parquet", "pyarrow", extra="parquet")
    return require("pyarrow", "pyarrow", extra="parquet")


def _parquet(path: Path, batches: Batches, num_bits: int, id_type: type, model: str) -> None:
    arrow = load_pyarrow()
    width = num_bytes(num_bits)
    names = arrow.int64() if id_type is int else arrow.string()
    schema = arrow.schema(
        [arrow.field("id", names), arrow.field("code", arrow.binary(width))],
        metadata={
            "num_bits": str(num_bits),
            "model": model,
            "crc32": f"{zlib.crc32(f'{num_bits} {model}'.encode()):08x}",
        },
    )
    with arrow.parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for packed, ids in batches:
            data = arrow.py_buffer(np.ascontiguousarray(packed))
            codes = arrow.FixedSizeBinaryArray.from_buffers(
                arrow.binary(width), len(packed), [None, data]
            )
            columns = [arrow.array(ids.tolist(), names), codes]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _csv(path: Path, batches: Batches, num_bits: int, id_type: type, model: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "code"])
        for packed, ids in batches:
            digits = (np.unpackbits(packed, axis=1)[:, :num_bits] + ord("0")).tobytes().decode()
            for row, name in enumerate(ids.tolist()):
                writer.writerow([name, digits[row * num_bits : (row + 1) * num_bits]])


_WRITERS = {".npz": _numpy, ".h5": _hdf5, ".parquet": _parquet, ".csv": _csv}


def export_codes(
    path: str | os.PathLike[str],
    batches: Batches,
    num_bits: int,
    id_type: type[Any],
    *,
    model: str | None = None,
) -> None:
    """Write packed codes with ids, atomically; ``store.export(path)`` calls this.

    ============  ==========================================================================
    ``.npz``      arrays ``codes`` (uint8 ``[n, bytes]``), ``ids``, ``num_bits`` and ``model``
    ``.h5``       data sets ``codes`` and ``ids``, attributes ``num_bits`` and ``model``
    ``.parquet``  columns ``id`` and ``code`` (fixed-size binary), metadata as attributes of HDF5
    ``.csv``      columns ``id`` and ``code`` as ``num_bits`` digits 0 and 1, for databases
    ============  ==========================================================================

    In a byte the first bit is the most significant one, as in ``numpy.packbits``.

    Args:
        path: the file; its ending decides the format.
        batches: ``(packed codes, ids)``, for example ``store.items()``.
        num_bits: bits of a code.
        id_type: ``int`` or ``str``.
        model: digest of the model whose codes they are.

    Raises:
        ValueError: an unknown ending.
        ImportError: Parquet without pyarrow.
        OSError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        _format(path, _WRITERS)(temporary, batches, num_bits, id_type, model or "")


def read_codes(path: str | os.PathLike[str]) -> ExportedCodes:
    """Read what :func:`export_codes` wrote as ``.npz``, ``.h5`` or ``.parquet``.

    The result fits ``store.add(result.codes, result.ids)``.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: it is damaged or holds something else.
        ImportError: Parquet without pyarrow.
        ValueError: an unknown ending.
    """
    reader = _format(path, _READERS)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if reader is _read_parquet:
        load_pyarrow()
    sealed = reader is not _read_parquet and verify(path)  # its pages have checksums of their own
    try:
        codes, ids, num_bits, model = reader(Path(path), sealed)
        if codes.dtype != np.uint8 or codes.shape != (len(ids), num_bytes(num_bits)):
            raise ValueError("codes and ids do not fit")
    except (KeyError, OSError, ValueError, EOFError, TypeError, RuntimeError) as error:
        raise CorruptFileError(f"{path}: not a file of codes ({error}); export again") from error
    names = torch.from_numpy(ids) if ids.dtype == np.int64 else ids.astype(object)
    result = ExportedCodes(torch.from_numpy(codes), names, num_bits)
    result.model = str(model) or None
    return result


def _read_numpy(path: Path, sealed: bool) -> tuple[Bytes, NDArray[Any], int, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            model = file.get("model", "")
            return file["codes"], file["ids"], int(file["num_bits"]), model
    except (zipfile.BadZipFile, AttributeError) as error:  # a lone .npy has no keys
        raise ValueError(str(error)) from error


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
    crc = f"{zlib.crc32(f'{num_bits} {model}'.encode()):08x}"
    if about.get("crc32", crc) != crc:
        raise ValueError("its metadata have another checksum")
    text = table.schema.field("id").type == arrow.string()
    ids = np.array(table["id"].to_pylist(), object if text else np.int64)
    data = b"".join(table["code"].to_pylist())
    codes = np.frombuffer(bytearray(data), np.uint8).reshape(len(ids), num_bytes(num_bits))
    return codes, ids, num_bits, model


_READERS = {".npz": _read_numpy, ".h5": _read_hdf5, ".parquet": _read_parquet}


def _format(path: str | os.PathLike[str], known: dict[str, Any]) -> Any:
    ending = Path(path).suffix.lower()
    if ending not in known:
        raise ValueError(f"path: {path} ends with {ending!r}; use one of {', '.join(known)}")
    return known[ending]
