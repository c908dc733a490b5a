"""A process killed at any point of ``save`` leaves the old store or the new one.

One child process prepares the stores and forks for every kill, so that the libraries are loaded
only once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pyg_hash.codes import binarize
from pyg_hash.stores import FaissStore

pytest.importorskip("faiss")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

STEPS = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pyg_hash.codes import binarize
from pyg_hash.stores import FaissStore, MultiIndex

path = Path(sys.argv[1])
codes = binarize(torch.randn(400, 64, generator=torch.Generator().manual_seed(0)))
store = FaissStore.create(path, 64, index=MultiIndex())
store.add(codes[:200], range(200))
store.save()
old = path.read_bytes()
new = None

def check():
    "The file is whole, and its items are the old ones or the new ones."
    found = FaissStore.open(path)
    assert len(found) in (200, 400), len(found)
    distances, ids = found.search(codes[:len(found)], 1)
    assert not distances.any() and ids[:, 0].tolist() == list(range(len(found)))
    limits = found.range_search(codes[:len(found)], 0)[0]
    assert limits.tolist() == list(range(len(found) + 1))
    return len(found)

def kill_at(step):
    "In a child: save, and be killed at the given call of a Python or C function."
    child = os.fork()
    if child == 0:
        count = 0
        def profile(frame, event, argument):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
        writer = FaissStore.open(path)
        writer.add(codes[200:], range(200, 400))
        sys.setprofile(profile)
        writer.save()
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)

step, seen = 1, []
while kill_at(step):
    seen.append(check())
    path.write_bytes(old)
    step += 1
assert check() == 400  # the one that was not killed
assert seen == sorted(seen), seen  # one moment at which the old becomes the new
left = [p.name for p in path.parent.iterdir() if p != path]
assert all(name.startswith(".store.") and name.endswith(".tmp") for name in left), left
print(len(seen), seen.count(200), seen.count(400))
"""


def test_killed_at_every_call_of_save(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(tmp_path / "store")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    steps, old, new = map(int, done.stdout.split())
    assert steps == old + new > 100 and old > 50 and new > 1


WRITER = """
import os, sys
import torch
torch.set_num_threads(1)
from pyg_hash.stores import FaissStore
path = sys.argv[1]
store = FaissStore.open(path)
print("ready", flush=True)
for version in range(1, 10_000):
    store.remove(range((version - 1) * 50_000, version * 50_000))
    codes = torch.full((50_000, 8), version % 251, dtype=torch.uint8)
    store.add(codes, range(version * 50_000, (version + 1) * 50_000))
    store.save()
"""


def test_killed_at_any_time_while_others_read(tmp_path: Path) -> None:
    """Between the calls too: a writer that saves all the time is killed after a random while."""
    path = tmp_path / "store"
    store = FaissStore.create(path, 64)
    store.add(torch.zeros(50_000, 8, dtype=torch.uint8), range(50_000))
    store.save()
    generator = torch.Generator().manual_seed(0)
    waits = torch.rand(2, generator=generator).tolist()
    versions = []
    for wait in waits:
        # the writer goes on from version 0 of a fresh file
        path.unlink()
        store.save()
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        end = time.monotonic() + 0.2 + wait / 2
        while time.monotonic() < end:
            versions.append(whole_version(path))  # a reader at any moment
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        versions.append(whole_version(path))
    assert max(versions) > 0


def whole_version(path: Path) -> int:
    """The version in the file: its codes and its ids must be of the same one."""
    reader = FaissStore.open(path)
    assert len(reader) == 50_000
    (codes, ids), *_ = reader.items(50_000)
    version = int(ids[0]) // 50_000
    assert (ids == torch.arange(version * 50_000, (version + 1) * 50_000).numpy()).all()
    assert (codes == version % 251).all()
    return version


READER = """
import sys
import torch
torch.set_num_threads(1)
from pyg_hash.codes import binarize
from pyg_hash.stores import FaissStore
codes = binarize(torch.randn(400, 64, generator=torch.Generator().manual_seed(0)))
for _ in range(60):
    with FaissStore.open(sys.argv[1]) as store:
        n = len(store)
        distances, ids = store.search(codes[:n], 1)
        assert n in (300, 400) and not distances.any(), n
        assert ids[:, 0].tolist() == list(range(n))
print("fine")
"""


def test_processes_read_while_one_writes(tmp_path: Path) -> None:
    codes = binarize(torch.randn(400, 64, generator=torch.Generator().manual_seed(0)))
    store = FaissStore.create(tmp_path / "store", 64)
    store.add(codes[:300], range(300))
    store.save()
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    while any(reader.poll() is None for reader in readers):
        store.add(codes[300:], range(300, 400))
        store.save()
        store.remove(range(300, 400))
        store.save()
    for reader in readers:
        out, err = reader.communicate()
        assert out == "fine\n", err
