"""Exports are plain files that other programs read, and come back whole."""

from __future__ import annotations

import csv
import json
import pickle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from store_cases import check_search, random_codes

from pyg_hash.codes import pack_bits
from pyg_hash.index import HammingIndex
from pyg_hash.index import export as export_module
from pyg_hash.stores import FaissStore, export_codes, read_codes
from pyg_hash.utils.files import CorruptFileError

STRINGS = ["a", 'it\'s, "so"', "ä ☺ 漢字", "", " two\nlines "]
ENDINGS = [".npz", ".h5", ".parquet"]


def need(ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")


def batches(codes: torch.Tensor, ids: Any, size: int) -> Any:
    packed = pack_bits(codes).numpy()
    return ((packed[i : i + size], ids[i : i + size]) for i in range(0, len(ids), size))


def make_ids(kind: type, n: int) -> np.ndarray:
    if kind is int:
        return np.array([2**63 - 1, -(2**63), *range(n - 2)])
    return np.array([STRINGS[i % 5] + "x" * (i // 5) for i in range(n)], object)


@pytest.mark.parametrize("kind", [int, str])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("num_bits", [13, 64])
def test_round_trip(tmp_path: Path, ending: str, kind: Any, num_bits: int) -> None:
    need(ending)
    codes, ids = random_codes(23, num_bits), make_ids(kind, 23)
    path = tmp_path / "new" / f"codes{ending}"
    export_codes(path, batches(codes, ids, 10), num_bits, kind)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    result = read_codes(str(path))
    assert torch.equal(result.codes, pack_bits(codes)) and result.num_bits == num_bits
    assert result.ids.tolist() == ids.tolist()
    assert isinstance(result.ids, torch.Tensor) == (kind is int)


@pytest.mark.parametrize("kind", [int, str])
@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_to_export(tmp_path: Path, ending: str, kind: Any) -> None:
    need(ending)
    export_codes(tmp_path / f"x{ending}", [], 13, kind)
    codes, ids, num_bits = read_codes(tmp_path / f"x{ending}")
    assert codes.shape == (0, 2) and len(ids) == 0 and num_bits == 13


def test_from_one_store_to_another(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    codes, ids = random_codes(60, 20), [f"item {i}" for i in range(60)]
    store = FaissStore.create(tmp_path / "store", 20, ids=str)
    store.add(codes, ids)
    store.export(tmp_path / "codes.h5")
    result = read_codes(tmp_path / "codes.h5")
    other = FaissStore.create(tmp_path / "other", result.num_bits, ids=str)
    other.add(result.codes, result.ids)
    check_search(other, random_codes(5, 20, 1), codes, ids, 60)


def test_plain_readers(tmp_path: Path) -> None:
    codes, ids = random_codes(9, 13), make_ids(str, 9)
    bits = (codes > 0).numpy()
    for ending in (".npz", ".h5", ".csv"):
        export_codes(tmp_path / f"x{ending}", batches(codes, ids, 4), 13, str)
    with np.load(tmp_path / "x.npz") as file:
        assert np.array_equal(np.unpackbits(file["codes"], axis=1)[:, :13], bits)
        assert file["ids"].tolist() == ids.tolist()
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["codes"].dtype == np.uint8 and file.attrs["num_bits"] == 13
        assert [name.decode() for name in file["ids"]] == ids.tolist()
    with open(tmp_path / "x.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "code"] and [row[0] for row in rows] == ids.tolist()
    assert [row[1] for row in rows] == ["".join("01"[int(b)] for b in row) for row in bits]


def test_parquet_is_two_plain_columns(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    codes = random_codes(9, 13)
    export_codes(tmp_path / "x.parquet", batches(codes, np.arange(9), 4), 13, int)
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    assert table.schema.names == ["id", "code"]
    assert table.schema.types == [arrow.int64(), arrow.binary(2)]
    assert table["code"][3].as_py() == bytes(pack_bits(codes)[3].numpy())


def test_an_export_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    def broken() -> Any:
        yield np.zeros((2, 1), np.uint8), np.arange(2)
        raise RuntimeError("the database went away")

    for ending in (".npz", ".h5", ".csv"):
        path = tmp_path / f"x{ending}"
        path.write_text("old")
        with pytest.raises(RuntimeError, match="went away"):
            export_codes(path, broken(), 8, int)
        assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"ends with '.bin'; use one of .npz, .h5"):
        export_codes(tmp_path / "x.bin", [], 8, int)
    with pytest.raises(ValueError, match=r"ends with '.csv'; use one of"):
        read_codes(tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_codes(tmp_path / "x.npz")
    np.savez(tmp_path / "other.npz", a=1)
    np.savez(tmp_path / "wide.npz", codes=np.zeros((2, 3), np.uint8), ids=[1, 2], num_bits=8)
    np.savez(tmp_path / "float.npz", codes=np.zeros((2, 1)), ids=[1, 2], num_bits=8)
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.zeros(3))
    (tmp_path / "text.npz").write_text("no zip")
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["codes"] = [1]
    names = ["other.npz", "wide.npz", "float.npz", "array.npz", "text.npz", "text.h5", "other.h5"]
    for name in names:
        with pytest.raises(CorruptFileError, match=name):
            read_codes(tmp_path / name)

    def missing() -> Any:
        raise ImportError("pyarrow is not installed: pip install 'pyg_hash[parquet]'")

    (tmp_path / "x.parquet").write_text("no Parquet")
    monkeypatch.setattr(export_module, "load_pyarrow", missing)
    with pytest.raises(ImportError, match="parquet"):
        read_codes(tmp_path / "x.parquet")
    with pytest.raises(ImportError, match="parquet"):
        export_codes(tmp_path / "y.parquet", [], 8, int)
    assert not (tmp_path / "y.parquet").exists()
    two = [(np.zeros((2, 1), np.uint8), np.arange(2))]
    for values in ([1], [1, 2, 3]):
        with pytest.raises(ValueError, match=f"metadata: {len(values)} values of a field for 2"):
            more: Any = {"fields": {"n": int}, "metadata": lambda ids, n=values: {"n": n}}
            export_codes(tmp_path / "x.csv", two, 8, int, **more)
    assert not (tmp_path / "x.csv").exists()


def test_whose_codes_they_are_goes_to_other_processes_along(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    export_codes(path, batches(random_codes(3, 8), np.arange(3), 2), 8, int, model="of")
    with get_context("fork").Pool(1) as pool:  # torch sends a tensor without its attributes
        assert pool.apply(read_codes, (path,)).model == "of"
    again = pickle.loads(pickle.dumps(read_codes(path)))
    again.model = "another"
    assert (again.model, again.num_bits) == ("another", 8)


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "x.parquet").write_text("no Parquet")
    with pytest.raises(CorruptFileError, match=r"x\.parquet"):
        read_codes(tmp_path / "x.parquet")


def test_parquet_without_checksum_loads(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    codes, path = random_codes(3, 13), tmp_path / "x.parquet"
    export_codes(path, batches(codes, np.arange(3), 4), 13, int, model="m")
    table = pyarrow.parquet.read_table(path)
    for about, message in (
        ({"num_bits": "13"}, ""),
        ({"num_bits": "13", "xxh3": "0"}, "checksum"),
    ):
        pyarrow.parquet.write_table(table.replace_schema_metadata(about), path)
        if not message:
            assert read_codes(path).ids.tolist() == [0, 1, 2]
            continue
        with pytest.raises(CorruptFileError, match=message):
            read_codes(path)


def test_somebody_elses_file_in_the_place_of_the_ids_of_faiss_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    path, ids = tmp_path / "n.faiss", tmp_path / "n.faiss.ids.json"

    def export(name: str, kind: Any = str) -> None:
        row = np.array([name], object) if kind is str else np.array([7])
        export_codes(path, [(np.zeros((1, 1), np.uint8), row)], 8, kind)

    for content in ('["mine"]', "mine", ""):
        ids.write_text(content)
        with pytest.raises(FileExistsError, match=r"n\.faiss\.ids\.json: .*; move it elsewhere"):
            export("a")
        assert ids.read_text() == content and not path.exists()
    export("a", int)  # has none
    assert ids.read_text() == "" and path.exists()
    ids.unlink()
    for name in ("a", "b"):
        export(name)
        assert json.loads(ids.read_text()) == [name]


@pytest.mark.parametrize(("bits", "expected"), [(12, 16), (10, 12), (16, 12), (8, 16)])
@pytest.mark.parametrize("ending", ENDINGS)
def test_codes_of_other_bits_do_not_fit(
    tmp_path: Path, ending: str, bits: int, expected: int
) -> None:
    need(ending)
    packed = np.zeros((3, (bits + 7) // 8), np.uint8)
    export_codes(tmp_path / f"x{ending}", [(packed, np.arange(3))], bits, int)
    result = read_codes(tmp_path / f"x{ending}")
    other, own = HammingIndex(expected), HammingIndex(bits)
    for call in (other.add, lambda *_: other.search(result.codes, 1)):
        with pytest.raises(ValueError, match=f"codes: has {bits} bits, expected {expected}; take"):
            call(result.codes, result.ids)
    assert len(other) == 0
    own.add(result.codes, result.ids)
    assert own.search(result.codes, 1)[0].tolist() == [[0]] * 3
