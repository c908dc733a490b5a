"""Interrupted, shared, read only: files are whole, one process changes a thing, nothing is left."""

from __future__ import annotations

import errno
import io
import itertools
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
import torch
from small import adam, small_graph, small_model
from torch_geometric.nn import MessagePassing

from pyg_hash import models
from pyg_hash.cli import main
from pyg_hash.datasets import FeatureFile, encode_feature_file
from pyg_hash.features import BagOfWords, OwnEncoder
from pyg_hash.index import HammingIndex
from pyg_hash.runs import Run
from pyg_hash.stores import FaissStore
from pyg_hash.training import fit
from pyg_hash.utils import files, locks
from pyg_hash.utils.files import atomic_path, check_writable, load_json, save_json
from pyg_hash.utils.locks import BusyError, Lock, set_aside
from pyg_hash.utils.signals import Stopped, stop_after, stoppable

posix = pytest.mark.skipif(os.name != "posix", reason="needs modes, links and signals")
N = 36


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# files


@posix
def test_mode_and_link_are_kept(tmp_path):
    file, link = tmp_path / "a.json", tmp_path / "b.json"
    file.write_text("1")
    file.chmod(0o600)
    link.symlink_to("a.json")
    save_json(link, 2)
    assert link.is_symlink() and load_json(file) == 2 and mode(file) == 0o600
    (tmp_path / "c.json").symlink_to(tmp_path / "not_yet.json")
    save_json(tmp_path / "c.json", 3)
    assert load_json(tmp_path / "not_yet.json") == 3


@posix
def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "null", "/dev/null"):
        for write in (lambda p: save_json(p, 1), check_writable):
            with pytest.raises(OSError, match="is a device, pipe or socket"):
                write(path)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@posix
def test_what_a_killed_process_left_is_removed(tmp_path):
    child = os.fork()
    if child == 0:
        with atomic_path(tmp_path / "a.bin"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    own = tmp_path / left.name.replace(left.name.split(".")[-4], str(os.getppid()))
    own.touch()  # of a process that is there
    (tmp_path / ".other.tmp").touch()
    files._sweep.cache_clear()
    with atomic_path(tmp_path / "b.bin"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {own.name, ".other.tmp", "b.bin"}


def test_the_folder_is_written_out_too(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_mode))
    save_json(tmp_path / "a.json", 1)
    assert [stat.S_ISDIR(found) for found in synced] == [False, True]


@posix
@pytest.mark.parametrize(
    ("ending", "limit"),
    [
        *itertools.product(["h5", "npz", "json", "store"], [0, 3_000, 67_000, 74_000]),
        *itertools.product(["faiss"], [0, 3_000]),  # all of it is less
    ],
)
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, limit, ending):
    """libhdf5 crashes where it cannot close a file, or reads again what it could not write."""
    import ctypes
    import resource

    path = tmp_path / f"a.{ending}"
    path.write_text("before")
    if ending == "faiss":
        pytest.importorskip("faiss")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            if hasattr(ctypes.CDLL(None), "mallopt"):  # new memory is not zeros
                ctypes.CDLL(None).mallopt(-6, 90)
            if ending == "json":
                save_json(path, ["x"] * 100_000)
            else:
                index = HammingIndex(64, ids=str)
                ones = torch.ones(3_000, 64, dtype=torch.int8)
                index.add(ones, [f"item {i}" for i in range(len(ones))])
                index.save(path) if ending == "store" else index.export(path)
        except OSError as error:
            status = 7 if f"write elsewhere: '{path}'" in str(error) else 8
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert path.read_text() == "before" and [*tmp_path.iterdir()] == [path]


# one at a time


@posix
def test_a_lock_names_its_owner_and_ends_with_it(tmp_path):
    path = tmp_path / "x.lock"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        lock = Lock(path, "run")
        os.write(write, b"locked" if lock else b"")
        signal.pause()
    assert os.read(read, 6) == b"locked"
    with pytest.raises(BusyError, match=rf"run: is being changed by process {child} on"):
        Lock(path, "run")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with Lock(path, "run"), pytest.raises(BusyError, match=str(os.getpid())):
        Lock(path, "run")
    assert not path.exists()


@posix
def test_a_lock_is_no_link_whose_target_it_would_empty(tmp_path):
    (tmp_path / "key").write_text("mine")
    (tmp_path / "run.lock").symlink_to("key")
    with pytest.raises(OSError, match="run.lock: is a link, which no lock is"):
        Lock(tmp_path / "run.lock", "run")
    assert (tmp_path / "key").read_text() == "mine"
    os.rename(tmp_path / "key", tmp_path / "run.lock")  # a file that was never a lock
    with pytest.raises(OSError, match="run.lock: holds something else than a lock"):
        Lock(tmp_path / "run.lock", "run")
    assert (tmp_path / "run.lock").read_text() == "mine"
    for left in (
        "",
        "proc",
        "process 1",
        "process 12 on a\n",
        "\0" * 24,
    ):  # by a crash or full disk
        (tmp_path / "run.lock").write_text(left)
        Lock(tmp_path / "run.lock", "run").release()
        assert not (tmp_path / "run.lock").exists()


def test_who_waits_gets_its_turn_from_one_that_is_seldom_done(tmp_path):
    """The owner leaves a hundredth of the time free, and asks again at once."""
    path, stop, busy = tmp_path / "x.lock", threading.Event(), 0.03

    def own():
        while not stop.is_set():
            with Lock(path, "x", 10.0):
                time.sleep(busy)
            time.sleep(busy / 100)

    owner = threading.Thread(target=own)
    owner.start()
    try:
        started = time.monotonic()
        for _ in range(12):
            Lock(path, "x", 10.0).release()
            time.sleep(busy / 2)  # the owner has it again
        assert time.monotonic() - started < 4  # half a second; a fixed pause of 20 ms took longer
    finally:
        stop.set()
        owner.join()


class Full(io.StringIO):
    """A file on a full disk: nothing of it gets there."""

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        self.flush()


def test_a_lock_needs_no_room(tmp_path):
    lock = Lock(tmp_path / "x.lock", "run")
    lock._file = Full()
    lock.release()
    assert not (tmp_path / "x.lock").exists()


def test_two_trainings_into_one_folder(file, tmp_path, capsys):
    out = tmp_path / "run"
    with Run(out).lock():
        assert main(train(file, out)) == 1
        assert f"process {os.getpid()}" in capsys.readouterr().err
    assert not Run(out).has("config")
    assert main(train(file, out)) == 0
    assert not (out / ".lock").exists()


def test_two_who_change_a_store(tmp_path):
    pytest.importorskip("faiss")
    codes = torch.ones(3, 8, dtype=torch.int8)
    first = FaissStore.create(tmp_path / "a.store", 8)
    first.add(codes[:1], [0])
    first.save()
    second = FaissStore.open(tmp_path / "a.store")
    first.add(codes[:1], [1])
    with pytest.raises(BusyError, match="process"):
        second.add(codes[:1], [2])
    assert len(second) == 1
    first.save()
    with pytest.raises(BusyError, match="changed by another process since"):
        second.remove([0])
    third = FaissStore.open(tmp_path / "a.store")
    third.add(codes[:1], [2])
    third.close()  # lets go without saving
    first.remove([0])
    first.save()
    assert FaissStore.open(tmp_path / "a.store").contains([0, 1, 2]) == [False, True, False]


def test_two_who_change_a_store_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)  # as on Windows
    codes = torch.ones(2, 8, dtype=torch.int8)
    first = FaissStore.create(tmp_path / "a.store", 8)
    first.save()
    second = FaissStore.open(tmp_path / "a.store")
    first.add(codes[:1], [0])
    second.add(codes[:1], [1])
    first.save()
    for _ in range(2):
        with pytest.raises(BusyError, match="changed by another process since"):
            second.save()
    first.add(codes[1:], [2])
    first.save()
    assert FaissStore.open(tmp_path / "a.store").ids.tolist() == [0, 2]


@pytest.mark.parametrize("relaxed", [False, True])
def test_a_replacement_that_is_refused_changes_nothing(tmp_path, relaxed):
    pytest.importorskip("faiss")
    store = FaissStore.create(tmp_path / "a.store", 8)
    codes = torch.ones(2, 8, dtype=torch.int8)
    store.add(codes, [0, 1], relaxed=codes.float() if relaxed else None)
    with pytest.raises(ValueError, match="relaxed"):
        store.replace(codes, [1, 2], relaxed=None if relaxed else codes.float())
    assert store.contains([0, 1, 2]) == [True, True, False]


# signals


def encoded(folder, word="word"):
    """A feature file with the encoders that made it."""
    for number in range(N):
        (folder / f"{number}.png").touch()
    texts = [f"{word}{i % 4} {word}{i % 5} {word}" for i in range(N)]
    rows = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
    return encode_feature_file(
        folder / "x.h5",
        images=[folder / f"{i}.png" for i in range(N)],
        texts=texts,
        image_encoder=OwnEncoder(lambda paths: rows[: len(paths)], 6, "own"),
        text_encoder=BagOfWords().fit(texts),
        batch_size=N,
        train=range(6, N),
        query=range(6),
        labels=np.arange(N) % 3,
    )


@pytest.fixture(autouse=True)
def signals_are_not_ignored():
    """As they are under nohup or in the background of a shell, and then stay in the library."""
    numbers = [signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in numbers[1:]:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def file(tmp_path):
    return encoded(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A feature file, and a run on it that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(train(encoded(folder), folder / "run")) == 0
    return folder / "x.h5", folder / "run"


def train(file, out, *more):
    options = ["--num_bits=8", "--epochs=6", "--label_rate=1"]
    return ["train", f"--dataset={file}", "--model=mcgcn", f"--out={out}", *options, *more]


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_epoch_and_the_rest_is_bit_equal(
    whole, tmp_path, monkeypatch, capsys, number
):
    before = signal.getsignal(number)
    objectives, calls = models.MCGCN.objectives, []

    def hit(self, *args):
        calls.append(1)
        if len(calls) == 4:  # within the fourth epoch
            os.kill(os.getpid(), number)
        return objectives(self, *args)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(models.MCGCN, "objectives", hit)
        assert main(train(whole[0], out)) == 128 + number
    said = capsys.readouterr().err
    assert "stopping after this epoch" in said and "--resume" in said
    assert len(calls) == 4
    assert signal.getsignal(number) is before
    assert main(["train", f"--out={out}", "--resume"]) == 0
    for modality in ("image", "text"):
        files_of = [Run(path).index_file(modality) for path in (whole[1], out)]
        assert files_of[0].read_bytes() == files_of[1].read_bytes()


@posix
def test_a_training_that_is_killed_after_any_of_its_files_can_be_finished(file, tmp_path):
    """Between two files that belong together, such as rows and their digest, is a moment too."""
    words = ["train", f"--dataset={file}", "--model=cmfh", "--num_bits=8"]
    whole = tmp_path / "whole"
    assert main([*words, f"--out={whole}"]) == 0
    for number in range(1, 40):
        out = tmp_path / f"run{number}"
        child = os.fork()
        if child == 0:
            real, done = os.replace, []

            def replace(*names, real=real, done=done, number=number):
                real(*names)
                done.append(names)
                if len(done) == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            os.replace = replace
            try:
                main([*words, f"--out={out}"])
            finally:
                os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            break
        assert main(["train", f"--out={out}", "--resume"]) == 0, number
        for name in ("index_image.safetensors", "metrics.json", "rows.safetensors"):
            assert (out / name).read_bytes() == (whole / name).read_bytes(), (number, name)
        assert main(["data", "verify", str(out)]) == 0, number
    assert number > 10


@posix
def test_a_second_signal_does_not_wait():
    with pytest.raises(Stopped), stop_after("epoch"):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("went on")
    with pytest.raises(Stopped, match="SIGINT"), stop_after("epoch") as check:
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
        check()
    assert reached
    with pytest.raises(Stopped, match="SIGHUP"), stoppable():
        os.kill(os.getpid(), signal.SIGHUP)
    for number in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(Stopped, match=number.name), stoppable(), suppress(BaseException):
            os.kill(os.getpid(), number)  # as in a callback, where Python drops it
        with pytest.raises(Stopped, match=number.name), stoppable():
            try:
                os.kill(os.getpid(), number)
            except BaseException as error:
                raise RuntimeError("what other code makes of it") from error


def test_checkpoint_every_is_an_option_and_no_setting(file, tmp_path, monkeypatch):
    out = tmp_path / "run"
    objectives, calls = models.MCGCN.objectives, []

    def die(self, *args):
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return objectives(self, *args)

    monkeypatch.setattr(models.MCGCN, "objectives", die)
    assert main(train(file, out, "--checkpoint_every=2")) == 128 + signal.SIGTERM
    assert files.load_tensors(out / "checkpoint.safetensors")[1]["epoch"] == 2
    assert main(["train", f"--out={out}", "--resume", "--checkpoint_every=1"]) == 0
    assert main(train(file, tmp_path / "b", "--checkpoint_every=0")) == 2


class Warm:
    """A callback with a state: the rate of an optimiser that it changes itself."""

    def __init__(self, optimizer):
        self.optimizer, self.seen = optimizer, 0

    def __call__(self, model, row):
        self.seen += 1
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-2 * min(1, self.seen / 4)

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_the_state_of_callbacks_is_in_the_checkpoint(tmp_path):
    data, path = small_graph(), tmp_path / "c.safetensors"

    def run(epochs, **options):
        model = small_model(data, seed=0)
        optimizer = adam(model)
        calls = [Warm(optimizer)]
        fit(model, data, optimizer, epochs=epochs, callbacks=calls, progress=False, **options)
        return model.state_dict(), calls[0].seen

    whole, seen = run(6)
    run(3, checkpoint=path)
    resumed, again = run(6, checkpoint=path, resume=True)
    assert seen == again == 6
    assert all(whole[name].equal(resumed[name]) for name in whole)
    model = small_model(data, seed=0)
    with pytest.raises(ValueError, match="callbacks with a state"):
        fit(model, data, adam(model), epochs=6, checkpoint=path, resume=True, progress=False)


# data sets


def test_encoders_of_a_feature_file_are_there_at_each_moment(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"

    def write(word):
        return encoded(tmp_path, word)

    def words():
        return FeatureFile(path).text_encoder().vocabulary

    write("old")
    real = os.replace
    for moment, expected in (("before", "old"), ("after", "new"), ("between", "new")):
        with monkeypatch.context() as patch:
            module = sys.modules["pyg_hash.datasets.feature_write"]

            def killed(*args, moment=moment):
                if moment == "before" and not str(args[1]).endswith(".json"):
                    raise SystemExit("killed")
                real(*args)

            def halved(new, target, moment=moment):
                if moment == "between":
                    target.rename(set_aside(target))
                raise SystemExit("killed")

            patch.setattr(os, "replace", killed)
            patch.setattr(module, "replace_folder", halved)
            with pytest.raises(SystemExit):
                write("new" if moment == "before" else expected)
        assert expected in words(), moment
    write("newest")
    assert "newest" in words()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["x.h5.encoders"]


# read only, and nothing left


def test_no_model_has_a_layer_that_writes_into_the_temporary_folder():
    """MessagePassing does, in each process that makes one."""
    assert not any(isinstance(m, MessagePassing) for m in small_model(small_graph()).modules())


def test_search_and_evaluate_where_nothing_can_be_written(file, tmp_path):
    if shutil.which("unshare") is None:
        pytest.skip("needs a namespace of mounts")
    out = tmp_path / "run"
    assert main(train(file, out)) == 0
    before = (out / "metrics.json").read_bytes()
    shutil.rmtree(f"{file}.cache")  # of the graph, which is built in memory then
    script = (
        "import sys; from pyg_hash.cli import main; run = sys.argv[1]\n"
        "print([main(['evaluate', run]), main(['search', run, '--text', 'word1'])])"
    )
    inside = 'mount -o remount,ro,bind / && ! touch "$0" 2>/dev/null && exec "$@"'
    flags = "-m" if os.geteuid() == 0 else "-rm"
    command = ["unshare", flags, "bash", "-c", inside, str(tmp_path / "probe"), sys.executable]
    command += ["-c", script, str(out)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    if not done.stdout and "Traceback" not in done.stderr:
        pytest.skip("needs a namespace of mounts")
    assert "not kept in" in done.stderr
    assert done.stderr.count("warning: ") == 1 and "so the data are built in memory" in done.stderr
    assert (out / "metrics.json").read_bytes() == before
    assert done.stdout.rstrip().endswith("[0, 0]"), done.stdout + done.stderr
