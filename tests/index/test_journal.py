"""What a file and its journal promise: nothing rewritten, lost or mixed; old files load."""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from store_cases import random_codes

from pyg_hash.cli import main
from pyg_hash.codes import binarize, pack_bits
from pyg_hash.index import HNSW, IVF, Flat, HammingIndex, MultiIndex, arrays
from pyg_hash.utils.checksums import verify
from pyg_hash.utils.files import CorruptFileError
from pyg_hash.utils.locks import BusyError
from pyg_hash.utils.provenance import stored_files

pytest.importorskip("faiss")
FIELDS = {"n": int, "name": str, "tags": list}


def row_of(draw: random.Random) -> list[Any]:
    tags = draw.choice([None, [], ["a"], ["b", "a"]])
    return [draw.choice([None, 1, 2]), draw.choice([None, "x", "it's"]), tags]


def columns(rows: list[list[Any]]) -> dict[str, list[Any]]:
    return dict(zip(FIELDS, map(list, zip(*rows, strict=True)), strict=True))


@pytest.mark.parametrize("index", [Flat(), MultiIndex(), IVF(nlist=1, nprobe=1), HNSW()])
@pytest.mark.parametrize("kind", [int, str])
def test_a_random_life(tmp_path: Path, index: Any, kind: Any) -> None:
    """Against a dict, through changes, saves, other openings and lost changes."""
    draw, path = random.Random(3), tmp_path / "a.store"
    relaxed = torch.randn(600, 16, generator=torch.Generator().manual_seed(0)).tanh()
    relaxed = relaxed[torch.arange(600) % 200]  # every code three times
    codes, packed = binarize(relaxed), pack_bits(binarize(relaxed)).numpy()
    store = HammingIndex.create(path, 16, ids=kind, fields=FIELDS, index=index)
    known: dict[Any, tuple[int, list[Any]]] = {}
    saved, used = dict(known), 0
    for turn in range(60):
        action = draw.choice(["add", "add", "replace", "remove", "update", "save", "reopen"])
        some = draw.sample(list(known), min(len(known), draw.randrange(1, 12)))
        if action == "add" or (action == "replace" and some):
            new = [kind(i) for i in draw.sample(range(-9000, 9000), 9)] if action == "add" else some
            new = [name for name in new if name not in known or action == "replace"]
            rows = list(range(used % 500, used % 500 + len(new)))
            used += len(new)
            fields = [row_of(draw) for _ in new]
            call = store.add if action == "add" else store.replace
            if new:
                call(codes[rows], new, columns(fields), relaxed=relaxed[rows])
            for name in new if kind is str else ():
                known.pop(name, None)  # added anew
            known |= {n: (r, f) for n, r, f in zip(new, rows, fields, strict=True)}
        elif action == "remove" and len(some) < len(known):
            store.remove(some)
            for name in some:
                del known[name]
        elif action == "update" and some:
            values = [draw.choice([None, "new"]) for _ in some]
            store.update(some, {"name": values})
            for name, value in zip(some, values, strict=True):
                row, old = known[name]
                known[name] = row, [old[0], value, old[2]]
        elif action == "save":
            store.save()
            saved = dict(known)
        elif action == "reopen" and path.exists():
            store.close()
            store, known = HammingIndex.open(path, mapped=turn % 2 == 0), dict(saved)
        names = sorted(known) if kind is int else list(known)
        assert store.list(limit=1000).tolist() == names and len(store) == len(names)
        if names:
            assert store.metadata(names) == columns([known[name][1] for name in names])
            got = np.concatenate([part for part, _ in store.items(7)])
            assert np.array_equal(got, packed[[known[name][0] for name in names]])
            best = store.search(codes[:3], 5)[0]
            near = (codes[:3, None] != codes[[known[n][0] for n in names]][None]).sum(2)
            want = near.sort(dim=1).values[:, :5]
            assert torch.equal(best[:, : want.size(1)].long(), want)
            kept = relaxed[[known[n][0] for n in names]]
            assert (store.relaxed(names) - kept).abs().max() <= 1 / 127


def filled(path: Path, n: int = 400) -> HammingIndex:
    store = HammingIndex.create(path, 32, ids=str, fields={"n": int})
    store.add(random_codes(n, 32), [f"i{i}" for i in range(n)], {"n": list(range(n))})
    store.save()
    return store


def grow(store: HammingIndex, first: int, count: int = 10) -> None:
    ids = [f"i{i}" for i in range(first, first + count)]
    store.add(random_codes(count, 32, first), ids, {"n": list(range(first, first + count))})


def test_a_change_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.store"
    store, before = filled(path), path.read_bytes()
    for turn in range(3):
        grow(store, 400 + 10 * turn)
        store.remove([f"i{turn}"])
        store.update(["i9"], {"n": [-turn]})
        store.save()
        store.save()  # nothing to do
    assert path.read_bytes() == before
    logs = sorted((tmp_path / "a.store.log").iterdir())
    assert [p.name for p in logs] == ["000001.store", "000002.store", "000003.store"]
    assert sum(p.stat().st_size for p in logs) < len(before) / 2
    assert len(stored_files(tmp_path)) == 4 and all(map(verify, stored_files(tmp_path)))
    again = HammingIndex.open(path)
    assert len(again) == 427 and again.metadata(["i9", "i429"]) == {"n": [-2, 429]}
    grow(again, 430, 100)  # more than a quarter
    again.save()
    assert not (tmp_path / "a.store.log").exists()
    assert len(HammingIndex.open(path)) == 527


def test_many_small_changes_are_written_as_one(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("pyg_hash.index.hamming._CHANGES", 5)
    store = filled(tmp_path / "a.store")
    for turn in range(13):
        grow(store, 400 + turn, 1)
        store.save()
    assert len(list((tmp_path / "a.store.log").iterdir())) == 1
    assert len(HammingIndex.open(tmp_path / "a.store")) == 413


def test_readers_go_on_and_writers_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.store"
    filled(path)
    reader, second, writer = (HammingIndex.open(path) for _ in range(3))
    grow(writer, 400)
    with pytest.raises(BusyError, match=r"a\.store: is being changed by process"):
        grow(second, 410)
    writer.save()
    with pytest.raises(BusyError, match="was changed by another process since it was opened"):
        second.remove(["i1"])
    writer.compact()
    grow(writer, 410)
    writer.save()
    assert len(reader) == 400 and reader.search(random_codes(3, 32), 400)[0].ge(0).all()
    assert len(HammingIndex.open(path)) == 420


def test_changes_of_another_file_are_none_of_it(tmp_path: Path) -> None:
    """A process that is killed between the new file and the removal of its journal."""
    path, log = tmp_path / "a.store", tmp_path / "a.store.log"
    store = filled(path)
    for turn in range(3):
        grow(store, 400 + 10 * turn)
        store.save()
    shutil.copytree(log, tmp_path / "old")
    store.compact()
    shutil.copytree(tmp_path / "old", log)
    store = HammingIndex.open(path)
    assert len(store) == 430
    grow(store, 430)
    store.save()
    assert len(list(log.iterdir())) == 1 and len(HammingIndex.open(path)) == 440


def test_damage_is_noticed(tmp_path: Path) -> None:
    path, log = tmp_path / "a.store", tmp_path / "a.store.log"
    store = filled(path)
    for turn in range(3):
        grow(store, 400 + 10 * turn)
        store.save()
    middle = log / "000002.store"
    good = middle.read_bytes()
    for at in range(0, len(good), max(1, len(good) // 40)):
        middle.write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
        with pytest.raises(CorruptFileError, match=r"000002\.store"):
            HammingIndex.open(path)
    middle.unlink()
    with pytest.raises(CorruptFileError, match="change 2 before it is missing"):
        HammingIndex.open(path)


def test_without_the_right_to_write(tmp_path: Path, monkeypatch: Any) -> None:
    store = filled(tmp_path / "a.store")
    grow(store, 400)
    store.save()
    for folder in (tmp_path / "a.store.log", tmp_path):
        folder.chmod(0o555)
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda name, *more: opened.append(str(name)) or real(name, *more)
    )
    try:
        again = HammingIndex.open(tmp_path / "a.store")
        assert len(again) == 410 and again.search(random_codes(1, 32), 5, where="n >= 400")[0].max()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.store", "a.store.log"]
    finally:
        for folder in (tmp_path, tmp_path / "a.store.log"):
            folder.chmod(0o755)


def test_a_file_that_is_replaced_while_it_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    """Between the file and its changes: they are never those of two moments."""
    path = tmp_path / "a.store"
    writer = filled(path)
    grow(writer, 400)
    writer.save()
    real, turns = arrays.Journal.read, iter([410, 420])

    def read(self: Any) -> Any:
        for first in turns:
            grow(writer, first)
            writer.compact()
        yield from real(self)

    monkeypatch.setattr(arrays.Journal, "read", read)
    assert len(HammingIndex.open(path)) == 430


def test_changes_that_are_cleared_while_they_are_read(tmp_path: Path, monkeypatch: Any) -> None:
    """A writer put a whole file in place of them, and removes them one by one."""
    path = tmp_path / "a.store"
    writer = filled(path)
    grow(writer, 400)
    writer.save()
    old = [tmp_path / "a.store.log" / "000001.store"]
    writer.compact()
    monkeypatch.setattr(arrays, "_changes", lambda path: old)
    assert len(HammingIndex.open(path)) == 410


@pytest.mark.parametrize("index", [IVF(nlist=1, nprobe=1), HNSW(ef_search=600)])
def test_codes_whose_items_are_gone_do_not_cost_answers(index: Any) -> None:
    """They are passed over, for each query as often as it takes."""
    codes, query = random_codes(600, 32), random_codes(9, 32, 1)
    found, wanted = HammingIndex(32, index=index), HammingIndex(32)
    for store in (found, wanted):
        store.add(codes, range(600))
    near = torch.cat([wanted.search(query[:3], 80)[1].flatten(), torch.arange(0, 600, 5)])
    gone = torch.unique(near)
    for store in (found, wanted):
        store.remove(gone[: 290 if isinstance(index, IVF) else len(gone)].tolist())
    for own, exact in zip(found.search(query, 12), wanted.search(query, 12), strict=True):
        assert torch.equal(own, exact)


def test_what_is_saved_while_another_opens_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "a.store", arrays.Journal.read
    first = filled(path)

    def late(journal: Any) -> Any:
        """Another process saves just when the journal was read."""
        yield from read(journal)
        grow(first, 400)
        first.save()

    with monkeypatch.context() as patch:
        patch.setattr(arrays.Journal, "read", late)
        second = HammingIndex.open(path)
    with pytest.raises(BusyError, match="was changed by another process since it was opened"):
        grow(second, 500)
    grow(first, 410)
    first.save()
    second = HammingIndex.open(path)
    grow(second, 500)
    second.save()
    assert all(HammingIndex.open(path).contains(["i400", "i410", "i500"]))


def test_verify_reads_the_journal_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, copy = tmp_path / "a.store", tmp_path / "b.store"
    store = filled(path)
    for first in (400, 410, 420):
        grow(store, first)
        store.save()
    shutil.copy(path, copy)
    shutil.copytree(f"{path}.log", f"{copy}.log")
    assert main(["data", "verify", str(copy)]) == 0
    assert "4 files are what was written, 0 problems" in capsys.readouterr().out
    _, two, _ = sorted(Path(f"{copy}.log").iterdir())
    data = two.read_bytes()
    two.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert main(["data", "verify", str(copy)]) == 1
    printed = capsys.readouterr().out
    assert printed.count(f"DAMAGED   {two}") == 1 and "1 problems" in printed
    two.unlink()
    for place in (copy, tmp_path):
        assert main(["data", "verify", str(place)]) == 1
        assert "change 2 before it is missing" in capsys.readouterr().out


def test_a_backup_of_the_folder_and_then_the_file_has_all_of_before(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.store", tmp_path / "b.store"
    store = filled(path)
    grow(store, 400)
    store.save()
    shutil.copytree(f"{path}.log", f"{copy}.log")
    store.compact()
    grow(store, 410)
    store.save()
    shutil.copy(path, copy)
    assert len(HammingIndex.open(copy)) == 410


def test_changes_that_a_killed_process_left_hide_no_other(tmp_path: Path) -> None:
    """The first change of the new file takes the place of a stale one."""
    path = tmp_path / "a.store"
    store = filled(path)
    grow(store, 400)
    store.save()
    shutil.copytree(f"{path}.log", tmp_path / "left")
    store.compact()
    shutil.copytree(tmp_path / "left", f"{path}.log")
    one, two = (HammingIndex.open(path) for _ in range(2))
    grow(two, 500)
    two.save()
    with pytest.raises(BusyError, match="was changed by another process since it was opened"):
        grow(one, 600)
    assert HammingIndex.open(path).contains(["i500"]) == [True]


def test_verify_beside_a_writer_and_without_faiss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.store"
    store = filled(path)
    grow(store, 400)
    store.save()

    def compacted(*_: Any) -> Any:
        """As of a process that looked just before the file was written anew."""
        found = stored_files(path)
        store.compact()
        return found

    with monkeypatch.context() as patch:
        patch.setattr("pyg_hash.cli.evaluate.stored_files", compacted)
        assert main(["data", "verify", str(path)]) == 0
    assert "1 files are what was written, 0 problems" in capsys.readouterr().out
    other = HammingIndex.create(tmp_path / "b.store", 32, index=IVF(nlist=1))
    other.add(random_codes(400, 32))
    other.save()
    other.add(random_codes(1, 32))
    other.save()
    monkeypatch.setattr("pyg_hash.utils.faiss.is_installed", lambda: False)
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert main(["data", "verify", str(tmp_path / "b.store")]) == 0


def test_a_journal_that_goes_while_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "a.store")

    def gone(folder: Path, pattern: str) -> Any:
        raise FileNotFoundError(folder)

    monkeypatch.setattr(Path, "glob", gone)
    assert len(HammingIndex.open(tmp_path / "a.store")) == 400


def test_what_is_no_change_in_the_place_of_the_journal_is_kept(tmp_path: Path) -> None:
    path, log = tmp_path / "a.store", tmp_path / "a.store.log"
    store, memory = filled(path), HammingIndex(32)
    grow(store, 400)
    store.save()
    for name in ("deep/thesis.txt", "notes.store", "000009.store/x", "000001 (conflict).store"):
        other = log / name
        other.parent.mkdir(exist_ok=True)
        other.write_text("mine")
        calls = [lambda: grow(store, 410), store.save, store.compact, lambda: memory.save(path)]
        for call in calls:
            with pytest.raises(OSError, match=r"a\.store\.log: .* holds .*; move that"):
                call()
        assert other.read_text() == "mine" and len(HammingIndex.open(path)) == 410
        shutil.move(log / name.partition("/")[0], tmp_path / f"moved {name[:4]}")
    (log / ".hidden").write_text("mine")  # as file systems and desktops leave
    store.compact()
    assert [p.name for p in log.iterdir()] == [".hidden"]
    (tmp_path / "b.store.log").write_text("mine")
    for call in (lambda: filled(tmp_path / "b.store"), lambda: memory.save(tmp_path / "b.store")):
        with pytest.raises(OSError, match=r"b\.store\.log: .* is a file; move that") as told:
            call()
        assert told.type is OSError  # FileExistsError: there is a store already
    assert (tmp_path / "b.store.log").read_text() == "mine"
    assert not (tmp_path / "b.store").exists()
    (tmp_path / "c.store.log").symlink_to("nowhere")
    with pytest.raises(OSError, match=r"c\.store\.log: .* is a link to nothing; move that"):
        filled(tmp_path / "c.store")


@pytest.mark.skipif(os.name != "posix", reason="needs locks of the system")
def test_a_fork_has_not_the_right_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, own = filled(tmp_path / "a.store"), os.getpid()
    store.remove(store.ids[:1])  # takes the right
    with monkeypatch.context() as fork:
        fork.setattr(os, "getpid", lambda: own + 1)
        for change in (lambda: grow(store, 400), lambda: store.remove(store.ids[:1]), store.save):
            with pytest.raises(BusyError, match=f"belongs to process {own}, which forked; open"):
                change()
    count = len(store)
    store.save()
    assert len(HammingIndex.open(tmp_path / "a.store")) == count


@pytest.mark.skipif(os.name != "posix", reason="needs locks of the system")
def test_a_file_that_another_changes_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.store"
    filled(path).close()
    first, second = HammingIndex.open(path), HammingIndex(32)
    grow(first, 400)
    second.add(random_codes(3, 32))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            HammingIndex(32).save(path)
        except BusyError as error:
            os.write(write, f"{error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as said:
        assert re.match(f"store: .*by process {os.getpid()} on", said.read())
    os.waitpid(child, 0)
    with pytest.raises(BusyError, match=r"a\.store: is being changed by process"):
        second.save(path)
    first.save()
    second.save(path)
    assert len(HammingIndex.open(path)) == 3 and os.listdir(tmp_path) == ["a.store"]
    with pytest.raises(BusyError, match="was changed by another process since it was opened"):
        grow(first, 410)
