"""Checksums of files, and digests of what they are made of."""

from __future__ import annotations

import errno
import json
import os
import warnings

import h5py
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from xxhash import xxh3_64_hexdigest

from pyg_hash.utils import checksums, files
from pyg_hash.utils.checksums import BLOCK, UncheckedWarning, verify, verify_tensors
from pyg_hash.utils.digests import digest_of, row_prints, same_rows
from pyg_hash.utils.files import (
    CorruptFileError,
    atomic_path,
    load_json,
    load_tensors,
    read_text,
    save_json,
    save_tensors,
)
from pyg_hash.utils.provenance import differences, stored_files, trained_queries

VALUES = [{}, [], {"a": [1, "ß"]}, [{"epoch": 0}], "text", 3, None]


def write(path, kind):
    """A small file of each kind that is sealed."""
    if kind == "json":
        save_json(path, {"a": [1.5, None, "größe"], "b": {"c": True}})
    elif kind == "safetensors":
        save_tensors(path, {"x": torch.arange(9.0), "m": torch.tensor([True])}, {"a": 1})
    else:
        with atomic_path(path) as temporary:
            if kind == "yaml":
                temporary.write_text("a: 1\nb: [x, y]\n")
            elif kind == "npz":
                with open(temporary, "wb") as file:
                    np.savez(file, a=np.arange(5))
            else:
                with h5py.File(temporary, "w") as file:
                    file["a"] = np.arange(5)
                    file.create_dataset("s", data=["x", "y"], dtype=h5py.string_dtype())
    return path


KINDS = ["json", "safetensors", "yaml", "npz", "h5"]


@pytest.mark.parametrize(
    "name", [*(f"x.{kind}" for kind in KINDS), "X.H5", "X.NPZ", "X.JSON", "X.YAML", "h5"]
)
def test_every_flipped_bit_is_noticed(tmp_path, name, monkeypatch):
    kind = name.lower().split(".")[-1]
    path = write(tmp_path / name, kind)
    content = path.read_bytes()
    assert verify(path)
    tail = range(len(content) - 40, len(content))
    for place in [*range(0, len(content), 1 + len(content) // 100), *tail]:
        for bit in range(8) if place in tail else [place % 8]:
            data = bytearray(content)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            monkeypatch.setattr(checksums, "_said", set())
            with warnings.catch_warnings(), pytest.raises((CorruptFileError, UncheckedWarning)):
                warnings.simplefilter("error", UncheckedWarning)
                verify(path)
            if kind == "json":
                with pytest.raises(CorruptFileError):
                    load_json(path)


@pytest.mark.parametrize("kind", KINDS)
def test_other_programs_read_sealed_files(tmp_path, kind):
    path = write(tmp_path / f"x.{kind}", kind)
    if kind == "json":
        assert json.loads(path.read_text())["b"] == {"c": True}
    elif kind == "yaml":
        assert yaml.safe_load(path.read_text()) == {"a": 1, "b": ["x", "y"]}
    elif kind == "safetensors":
        assert load_file(path)["x"].tolist() == list(range(9))
    elif kind == "npz":
        assert np.load(path)["a"].tolist() == list(range(5))
    else:
        with h5py.File(path) as file:
            assert file["a"][:].tolist() == list(range(5))
            assert file["s"].asstr()[:].tolist() == ["x", "y"]


@pytest.mark.parametrize("value", VALUES)
def test_json_of_any_value(tmp_path, value):
    save_json(tmp_path / "x.json", value)
    assert load_json(tmp_path / "x.json") == value
    assert read_text(tmp_path / "x.json") == json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("more", ["x\n", "{}", "}"])
def test_a_sealed_file_with_more_behind_it_is_damaged(tmp_path, more):
    path = write(tmp_path / "x.json", "json")
    path.write_text(path.read_text() + more)
    with pytest.raises(CorruptFileError):
        verify(path)


def test_files_of_others_are_not_taken_for_ours(tmp_path):
    (tmp_path / "refs.bib").write_text("@article{x, title={y}}")
    (tmp_path / "intro.tex").write_text("\\section{A}")
    nested = value = {}
    for _ in range(9):
        value["a"] = value = {}
    for indent in (1, 2, 4):
        (tmp_path / "x.json").write_text(json.dumps(nested, indent=indent) + "\n")
        assert stored_files(tmp_path) == [tmp_path / "x.json"]
        assert not verify(tmp_path / "x.json") and load_json(tmp_path / "x.json") == nested
    for ending in ("[" + ", ".join(f"{i:6}" for i in range(30)) + "]", f"[1\n{'':60}]"):
        (tmp_path / "x.json").write_text(ending)
        assert load_json(tmp_path / "x.json", list)[0] in (0, 1)


def test_an_edited_file_says_how_it_is_accepted(tmp_path):
    path = write(tmp_path / "x.json", "json")
    path.write_text(path.read_text().replace("1.5", "2.5") + "\n")
    with pytest.raises(CorruptFileError, match="edited on purpose, remove its line of blanks"):
        load_json(path)
    path.write_text(path.read_text().rstrip() + "\n")
    assert load_json(path)["a"][0] == 2.5


def test_hdf5_that_another_program_changed_has_no_checksum(tmp_path, monkeypatch):
    path = write(tmp_path / "x.h5", "h5")
    with h5py.File(path, "r+") as file:
        file["a"][0] = 7
    monkeypatch.setattr(checksums, "_said", set())
    with pytest.warns(UncheckedWarning, match="has no checksum"):
        assert not verify(path)


def test_old_files_load_with_one_warning(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(checksums, "_said", set())
    for name in "ab":
        save_file({"x": torch.ones(3)}, tmp_path / name, metadata={"json": "[1]"})
        tensors, about = load_tensors(tmp_path / name)
        assert tensors["x"].tolist() == [1, 1, 1] and about == [1]
    (tmp_path / "x.json").write_text('{"a": 1}\n')
    assert load_json(tmp_path / "x.json") == {"a": 1}
    assert [w.category for w in recwarn] == [UncheckedWarning]


def test_checksums_of_blocks_are_those_of_xxhash(tmp_path):
    x = torch.arange(BLOCK // 4 + 3, dtype=torch.int32)
    y = torch.arange(9, dtype=torch.uint8)
    save_tensors(tmp_path / "x", {"y": y, "x": x})
    content = (tmp_path / "x").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    sums, data = header["__metadata__"]["xxh3"], content[8 + size :]
    assert data == x.numpy().tobytes() + y.numpy().tobytes()
    blank = content[: 8 + size].replace(sums.encode(), b"0" * len(sums))
    parts = [blank, data[:BLOCK], data[BLOCK:]]
    assert sums == "".join(map(xxh3_64_hexdigest, parts))
    assert verify_tensors(tmp_path / "x")


def test_all_dtypes_come_back(tmp_path):
    names = [
        "float64",
        "int64",
        "float32",
        "int32",
        "float16",
        "bfloat16",
        "int16",
        "uint8",
        "int8",
        "bool",
    ]
    tensors = {name: torch.tensor([[1, 0, 1]]).to(getattr(torch, name)) for name in names}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 3), "t": torch.ones(2, 3).T}
    save_tensors(tmp_path / "x", tensors)
    for again in (load_tensors(tmp_path / "x")[0], load_file(tmp_path / "x")):
        assert set(again) == set(tensors)
        for name, x in tensors.items():
            assert again[name].dtype == x.dtype and torch.equal(again[name], x)
    with pytest.raises(TypeError, match="x: torch.complex64 cannot be stored"):
        save_tensors(tmp_path / "y", {"x": torch.zeros(1, dtype=torch.complex64)})


# rows ------------------------------------------------------------------------------------------


def rows(image, text, train):
    masks = {"train": train, "query": ~train}
    found = {"image": row_prints(image), "text": row_prints(text)}
    return found | {f"{m}.{name}": x for m in ("image", "text") for name, x in masks.items()}


def test_prints_tell_rows_apart():
    x = torch.randn(500, 7, generator=torch.Generator().manual_seed(0))
    prints = row_prints(x)
    assert prints.dtype == torch.float64 and len(prints.unique()) == 500
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    assert torch.equal(same_rows(prints[order], prints), order)
    assert (same_rows(prints + 1e-3, prints[:5]) < 0).sum() > 490
    assert same_rows(prints[:2], prints[:0]).tolist() == [-1, -1]
    pictures = torch.randint(0, 255, (3, 2, 4, 5), dtype=torch.uint8)
    assert row_prints(pictures).shape == (3,)


def test_differences_and_trained_queries():
    draw = torch.Generator().manual_seed(0)
    image, text = torch.randn(60, 5, generator=draw), torch.randn(60, 4, generator=draw)
    train = torch.arange(60) < 40
    stored = rows(image, text, train)
    assert differences(stored, rows(image, text, train)) == []
    order = torch.randperm(60, generator=draw)
    now = rows(image[order], text[order], train)
    assert trained_queries(stored, now).sum() == int((order[40:] < 40).sum())
    assert len(differences(stored, now)) == 2
    text = text.clone()
    text[3] += 1
    assert differences(stored, rows(image, text, train)) == [
        "text features: those of 1 of 60 rows are others"
    ]
    other = torch.arange(60) >= 20
    assert differences(rows(image, text, train), rows(image, text, other)) == [
        "query: 20 rows are no longer in it and 20 are new",
        "train: 20 rows are no longer in it and 20 are new",
    ]


@pytest.mark.parametrize("odd", ["column", "row"])
def test_what_lies_far_off_hides_no_difference(odd):
    draw = torch.Generator().manual_seed(0)
    image, text = torch.randn(60, 5, generator=draw), torch.randn(60, 4, generator=draw)
    image[(slice(None), 2) if odd == "column" else (7, slice(None))] += 1e6
    train = torch.arange(60) < 40
    stored = rows(image, text, train)
    assert differences(stored, rows(image * (1 + 1e-8), text, train)) == []
    order = torch.arange(60).roll(1)
    assert differences(stored, rows(image[order], text, train)) == [
        "image features: those of 60 of 60 rows are others"
    ]
    order = torch.randperm(60, generator=draw)
    now = rows(image[order], text[order], train)
    assert trained_queries(stored, now).sum() == int((order[40:] < 40).sum())


def test_rounding_of_rows_that_are_all_equal_is_no_difference():
    x, train = torch.ones(100, 8), torch.arange(100) < 60
    draw = torch.Generator().manual_seed(0)
    rounded = x * (1 + 6e-8 * torch.randint(-1, 2, x.shape, generator=draw))
    assert not torch.equal(x, rounded)
    assert differences(rows(x, x, train), rows(rounded, rounded, train)) == []
    assert len(differences(rows(x, x, train), rows(1.01 * x, x, train))) == 1


def test_pairs_of_one_picture_with_several_texts():
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(20, 5, generator=draw).repeat_interleave(5, 0)
    text, train = torch.randn(100, 4, generator=draw), torch.arange(100) < 60
    order = torch.arange(99, -1, -1)
    now = rows(image[order], text[order], train)  # queries are rows 39 .. 0 of then
    assert trained_queries(rows(image, text, train), now).sum() == 40
    shifted = text[order].roll(5, 0)  # the pictures alone are known
    assert trained_queries(rows(image, text, train), rows(image[order], shifted, train)).sum() == 0


def test_digests_of_tensors():
    x = {"a": torch.arange(3), "b": torch.ones(2)}
    assert digest_of(x) == digest_of(dict(reversed(x.items())))
    others = [{"a": x["a"]}, {**x, "b": torch.zeros(2)}, {**x, "b": torch.ones(2).double()}]
    assert len({digest_of(x), digest_of(x, 1), *map(digest_of, others)}) == 5


# while others write ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.json", "x.yaml", "x.h5", "x.safetensors", "x", "x.JSON"])
def test_a_file_that_is_replaced_meanwhile_is_not_called_damaged(tmp_path, monkeypatch, name):
    kind = name.partition(".")[2] or "h5"
    read, kind = (load_json, "json") if kind == "JSON" else (verify, kind)
    path, other = tmp_path / name, tmp_path / f"other.{kind}"
    write(path, kind)
    expected = read(path)
    if kind == "json":
        save_json(other, {"b": list(range(99))})
    elif kind == "safetensors":
        save_tensors(other, {"y": torch.ones(99)})
    else:
        with atomic_path(other) as temporary, h5py.File(temporary, "w") as file:
            file["y"] = np.ones(99)
    content, num_opened = other.read_bytes(), []

    def then_replaced(given, *more, **named):
        file = open(given, *more, **named)  # noqa: SIM115
        num_opened.append(given)
        other.write_bytes(content)
        other.replace(path)
        return file

    monkeypatch.setattr(checksums, "open", then_replaced, raising=False)
    monkeypatch.setattr(files, "open", then_replaced, raising=False)
    assert read(path) == expected
    assert len(num_opened) == 1 and path.read_bytes() == content


def test_what_others_are_writing_is_no_stored_file(tmp_path, monkeypatch):
    save_json(tmp_path / "a.json", 1)
    (tmp_path / "gone").mkdir()
    with atomic_path(tmp_path / "x.safetensors") as mine, atomic_path(tmp_path / "x.h5") as open_h5:
        with h5py.File(open_h5, "w") as file:
            file["y"] = np.ones(9)
        write(tmp_path / "whole.safetensors", "safetensors")
        half = (tmp_path / "whole.safetensors").read_bytes()[:-1]
        mine.write_bytes(half)
        theirs = tmp_path / ".x.safetensors.0123abcd.77.89ab.tmp"
        theirs.write_bytes(half)
        (tmp_path / "whole.safetensors").unlink()
        scandir = os.scandir

        def then_gone(folder):
            """As of a folder that another process removes after it was listed."""
            if os.path.basename(folder) == "gone":
                (tmp_path / "gone").rmdir()
            return scandir(folder)

        monkeypatch.setattr(os, "scandir", then_gone)
        assert stored_files(tmp_path) == [tmp_path / "a.json"]
        assert not (tmp_path / "gone").exists()
        assert stored_files(theirs) == [theirs]  # it was named
        (tmp_path / "a.json.log").touch()  # no journal
        assert stored_files(tmp_path / "a.json") == [tmp_path / "a.json"]
        monkeypatch.setattr(os, "scandir", fails)
        with pytest.raises(OSError, match="broken disk"):
            stored_files(tmp_path)


def fails(folder):
    raise OSError(errno.EIO, "broken disk")
