"""The file of an index or a store: plain safetensors, mapped, and every damage is named."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file

from pyg_hash.index.arrays import read_arrays, write_arrays
from pyg_hash.utils.files import CorruptFileError

ARRAYS = {
    "codes": np.arange(33, dtype=np.uint8).reshape(11, 3),
    "ids": np.array([-(2**63), 0, 2**63 - 1]),
    "order": np.arange(5, dtype=np.int32),
    "none": np.empty((0, 4), np.uint8),
    "turned": np.arange(6, dtype=np.int32).reshape(2, 3).T,
}


@pytest.mark.parametrize("mapped", [True, False])
def test_round_trip(tmp_path, mapped):
    write_arrays(tmp_path / "file", "Own", ARRAYS, {"ä": [1, None]})
    arrays, metadata = read_arrays(str(tmp_path / "file"), "Own", mapped=mapped)
    assert metadata == {"format": "pyg_hash.Own", "version": 3, "ä": [1, None]}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and np.array_equal(arrays[name], array)
        if array.size:
            assert isinstance(arrays[name].base, np.memmap) == mapped
            assert arrays[name].flags.writeable != mapped
        assert arrays[name].ctypes.data % 8 == 0 or name in ("codes", "turned", "none", "order")


def test_others_can_read_it(tmp_path):
    write_arrays(tmp_path / "file", "Own", ARRAYS, {})
    for name, array in load_file(tmp_path / "file").items():
        assert np.array_equal(array, ARRAYS[name])


def test_a_replaced_file_stays_as_it_was_for_who_has_it(tmp_path):
    write_arrays(tmp_path / "file", "Own", {"x": np.zeros(100_000, np.int64)}, {})
    old, _ = read_arrays(tmp_path / "file", "Own", mapped=True)
    write_arrays(tmp_path / "file", "Own", {"x": np.ones(100_000, np.int64)}, {})
    new, _ = read_arrays(tmp_path / "file", "Own", mapped=True)
    assert old["x"].sum() == 0 and new["x"].sum() == 100_000
    assert os.listdir(tmp_path) == ["file"]


def test_every_truncation_is_noticed(tmp_path):
    write_arrays(tmp_path / "file", "Own", ARRAYS, {"a": 1})
    content = (tmp_path / "file").read_bytes()
    for length in [*range(0, len(content), 13), len(content) - 1]:
        (tmp_path / "file").write_bytes(content[:length])
        with pytest.raises(CorruptFileError, match="truncated or not a safetensors"):
            read_arrays(tmp_path / "file", "Own", mapped=True)


def entry(dtype="U8", shape=(4,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


OWN = {"json": '{"format": "pyg_hash.Own", "version": 3}'}


@pytest.mark.parametrize(
    "header",
    [
        [],
        {},
        {"x": entry()},
        {"__metadata__": {"json": "[]"}},
        {"__metadata__": {"json": "{"}},
        {"__metadata__": OWN, "x": entry(dtype="F32")},
        {"__metadata__": OWN, "x": entry(shape=(5,))},
        {"__metadata__": OWN, "x": entry(shape=(-2, -2))},
        {"__metadata__": OWN, "x": entry(shape=(2**32, 2**32), offsets=(0, 0))},
        {"__metadata__": OWN, "x": entry(offsets=(-4, 0))},
        {"__metadata__": OWN, "x": entry(offsets=(1, 5))},
        {"__metadata__": OWN, "x": entry(offsets=(0,))},
        {"__metadata__": OWN, "x": 3},
        {"__metadata__": OWN, "x": entry(dtype=[])},
    ],
)
def test_damaged_headers(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "file").write_bytes(len(text).to_bytes(8, "little") + text + b"1234")
    with pytest.raises(CorruptFileError):
        read_arrays(tmp_path / "file", "Own", mapped=True)


@pytest.mark.parametrize("content", [b"", b"\x80\x04]", b"PK\x03\x04" * 50, b"\xff" * 100])
def test_other_files(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CorruptFileError):
        read_arrays(tmp_path / "file", "Own", mapped=True)


def test_no_file(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file"):
            read_arrays(path, "Own", mapped=True)


def test_a_file_without_checksums_could_say_anything(tmp_path):
    write_arrays(tmp_path / "file", "Own", ARRAYS, {})
    content = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(content.replace(b'"xxh3"', b'"xxh0"'))
    with pytest.raises(CorruptFileError, match="has lost its checksums"):
        read_arrays(tmp_path / "file", "Own", mapped=True)
