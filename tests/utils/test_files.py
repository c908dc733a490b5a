"""Files are written whole or not at all, and damaged ones are named."""

import json
import ntpath
import os
import re
import stat
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import pyg_hash
from pyg_hash.utils import files
from pyg_hash.utils.files import (
    CorruptFileError,
    atomic_path,
    below_one,
    check_writable,
    digest_of_folder,
    load_json,
    load_tensors,
    relative_path,
    save_json,
    save_tensors,
    sha256,
)

TENSORS = {
    "float": torch.randn(3, 4),
    "double": torch.randn(2, dtype=torch.float64),
    "half": torch.randn(2).half(),
    "int8": torch.tensor([[-1, 1]], dtype=torch.int8),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(5),
    "empty": torch.zeros(0, 3),
}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# atomic_path


def test_a_new_file_in_a_new_folder(tmp_path):
    target = tmp_path / "a" / "b" / "file.txt"
    with atomic_path(str(target)) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == target.parent
    assert target.read_text() == "new"
    assert names(target.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_two_writers_do_not_mix(tmp_path):
    target = tmp_path / "file.txt"
    with atomic_path(target) as first, atomic_path(target) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"  # the outer block ended last
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        save_json(tmp_path / "file.json", 1)
        assert os.umask(mask) == mask  # it is put back
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.json").stat().st_mode) == 0o666 & ~mask


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("kept")
    target = tmp_path / "file" / "below.txt"
    with pytest.raises(OSError), atomic_path(target):
        pytest.fail("must not be entered")
    with pytest.raises(OSError):
        check_writable(target)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    try:
        for write in (check_writable, lambda path: save_json(path, 1)):
            with pytest.raises(PermissionError):
                write(tmp_path / "file.json")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        save_json(tmp_path / "taken", 1)
    with pytest.raises(IsADirectoryError, match="taken"):
        check_writable(tmp_path / "taken")
    assert names(tmp_path) == ["taken"]


def test_check_writable_leaves_nothing_and_touches_nothing(tmp_path):
    target = tmp_path / "new" / "file"
    check_writable(target)
    assert names(tmp_path / "new") == []
    target.write_text("old")
    check_writable(target)
    assert target.read_text() == "old" and names(target.parent) == ["file"]


# JSON


@pytest.mark.parametrize("value", [None, 0.1 + 0.2, "ä ☺", [1, [2]], {"a": {"b": [True, None]}}])
def test_json_round_trip(tmp_path, value):
    save_json(tmp_path / "file.json", value)
    assert load_json(tmp_path / "file.json") == value


def test_json_that_cannot_be_written_keeps_the_old(tmp_path):
    file = tmp_path / "file.json"
    save_json(file, "old")
    with pytest.raises(TypeError):
        save_json(file, {"bad": object()})
    assert load_json(file) == "old" and names(tmp_path) == ["file.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe\x00", b"[1] 2"])
def test_broken_json(tmp_path, content):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(CorruptFileError, match="file.json"):
        load_json(tmp_path / "file.json")


def test_missing_files(tmp_path):
    for load in (load_json, load_tensors):
        with pytest.raises(FileNotFoundError, match="absent"):
            load(tmp_path / "absent")
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path)


# tensors


def test_tensors_round_trip(tmp_path):
    metadata = {"ä": [1, None, {"x": 0.1 + 0.2}]}
    save_tensors(tmp_path / "file", TENSORS, metadata)
    tensors, again = load_tensors(tmp_path / "file")
    assert again == metadata
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)


def test_views_shared_memory_and_gradients(tmp_path):
    base = torch.arange(12.0).reshape(3, 4).requires_grad_()
    save_tensors(tmp_path / "file", {"a": base.T, "b": base[:, 1], "c": base, "d": base})
    tensors, metadata = load_tensors(tmp_path / "file")
    assert metadata is None
    assert torch.equal(tensors["a"], base.T) and torch.equal(tensors["b"], base[:, 1])
    assert not any(tensor.requires_grad for tensor in tensors.values())


def test_loaded_tensors_outlive_the_file(tmp_path):
    save_tensors(tmp_path / "file", {"x": torch.full((1000,), 7.0)})
    tensors, _ = load_tensors(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"\0" * 5000)
    assert bool((tensors["x"] == 7).all())
    tensors["x"].zero_()


def test_no_tensors(tmp_path):
    save_tensors(tmp_path / "file", {}, {"only": "metadata"})
    assert load_tensors(tmp_path / "file") == ({}, {"only": "metadata"})


def test_metadata_that_is_no_json_keeps_the_old(tmp_path):
    save_tensors(tmp_path / "file", TENSORS)
    before = (tmp_path / "file").read_bytes()
    with pytest.raises(TypeError):
        save_tensors(tmp_path / "file", TENSORS, {"x": object()})
    assert (tmp_path / "file").read_bytes() == before and names(tmp_path) == ["file"]


def test_every_truncation_is_noticed(tmp_path):
    save_tensors(tmp_path / "file", TENSORS, {"a": 1})
    content = (tmp_path / "file").read_bytes()
    for length in [*range(0, len(content), 17), len(content) - 1]:
        (tmp_path / "file").write_bytes(content[:length])
        with pytest.raises(CorruptFileError, match="truncated"):
            load_tensors(tmp_path / "file")


@pytest.mark.parametrize("content", [b"PK\x03\x04" + b"\0" * 200, b"\x80\x02}q\x00." * 40, b"{}"])
def test_other_formats(tmp_path, content):
    """A zip (as torch writes), a pickle and JSON are refused, not interpreted."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CorruptFileError):
        load_tensors(tmp_path / "file")


def test_metadata_of_others(tmp_path):
    save_file({"x": torch.ones(1)}, tmp_path / "file", metadata={"json": "{broken"})
    with pytest.raises(CorruptFileError):
        load_tensors(tmp_path / "file")
    save_file({"x": torch.ones(1)}, tmp_path / "file", metadata={"format": "pt"})
    assert load_tensors(tmp_path / "file")[1] is None


def test_files_are_the_same_for_the_same_content(tmp_path):
    for name in ("one", "two"):
        save_tensors(tmp_path / name, TENSORS, {"a": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# the whole package


def test_nothing_is_pickled_anywhere():
    sources = sorted(Path(pyg_hash.__file__).parent.rglob("*.py"))
    assert len(sources) > 30
    for source in sources:
        text = source.read_text(encoding="utf-8")
        code = re.sub(r'""".*?"""|#[^\n]*', "", text, flags=re.S)
        # such files may be named, where they are refused
        kinds = "(?:pickle|dill|joblib)"
        used = rf"(?:import|from)\s+{kinds}\b|(?<!\.)\b{kinds}\.\w|import_\w+\(.{kinds}"
        forbidden = rf"{used}|__import__|torch\.save\(|allow_pickle\s*=\s*True"
        assert not re.findall(forbidden, code), source.name
        assert not re.search(r"(?<![.\w])(eval|exec)\(", code), source.name
        for call in re.findall(r"torch\.load\((.*?)\)\n", code, flags=re.S):
            assert "weights_only=True" in call, source.name
        assert not re.search(r"yaml\.(unsafe_|full_)?load\(", code), source.name


def test_saved_json_is_readable_by_people(tmp_path):
    save_json(tmp_path / "file.json", {"a": "ä"})
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert "ä" in text and text.endswith("\n") and json.loads(text) == {"a": "ä"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match="no regular file"):
        load_json(tmp_path / "a.json")


def test_a_long_name_of_any_script(tmp_path):
    save_json(tmp_path / f"{chr(0x732B) * 80}.json", 1)
    assert names(tmp_path) == [f"{chr(0x732B) * 80}.json"]


def test_paths_on_other_drives_stay(monkeypatch):
    """As on Windows, whose functions refuse to lead from one to the other."""
    monkeypatch.setattr(files, "os", SimpleNamespace(path=ntpath))
    monkeypatch.setattr(files, "Path", PureWindowsPath)
    assert relative_path("D:\\a\\b.png", "C:\\runs") == "D:/a/b.png"
    assert below_one(["D:\\a\\b.png", "C:\\b.png"]) == (None, ["D:\\a\\b.png", "C:\\b.png"])
    assert below_one(["D:\\a\\b.png", None, "D:\\c\\d.png"]) == (
        "D:\\",
        ["a/b.png", None, "c/d.png"],
    )


def test_digests_of_folders_are_those_of_any_system(tmp_path):
    for name in ("a.txt", "a/b", "B"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = digest_of_folder(tmp_path)
    assert found == sha256("B", "B", "a/b", "a/b", "a.txt", "a.txt")
