"""A process killed at any point of ``save`` leaves the old store or the new one.

One child process prepares a store and forks for every kill, so that the libraries are loaded
only once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("faiss")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

START = """
import os, random, shutil, signal, sys, tempfile, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from pyg_hash.codes import binarize
from pyg_hash.stores import FaissStore

path = Path(sys.argv[1])
codes = binarize(torch.randn(40, 64, generator=torch.Generator().manual_seed(0)))
with tempfile.TemporaryDirectory() as other:  # what is imported late is imported now
    for name in (Path(other) / "warm", path):
        store = FaissStore.create(name, 64)
        store.add(codes[:20], range(20))
        store.save()
        if name != path:
            store.add(codes[20:21], [20])
            store.save()

def in_a_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child
"""

STEPS = """
old, more = path.read_bytes(), int(sys.argv[2])
log = path.with_name("store.log")
grown = FaissStore.open(path)
grown.add(codes[20 : 20 + more], range(20, 20 + more))

def kill_at(step):
    "In a child: save, and be killed at the given call of a Python or C function."
    def work():
        count = 0
        def profile(frame, event, argument):
            nonlocal count
            count += "call" in event  # of Python or of C; returns are next to them
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.setprofile(profile)
        grown.save()
    _, status = os.waitpid(in_a_child(work), 0)
    return os.WIFSIGNALED(status)

def items():
    "How many the file has; it must be whole, with the old items or the new ones."
    found = FaissStore.open(path)
    n = len(found)
    assert n in (20, 20 + more), n
    distances, ids = found.search(codes[:n], 1)
    assert not distances.any() and ids[:, 0].tolist() == list(range(n))
    return n

step, seen = 1, []
while kill_at(step):
    seen.append(items())
    path.write_bytes(old)
    shutil.rmtree(log, ignore_errors=True)
    step += 37  # the moments after the change are at least so many
assert items() == 20 + more  # the one that was not killed
assert seen == sorted(seen), seen  # there is one moment at which the old becomes the new
assert log.exists() == (more == 4)  # a few go to the journal
left = [p.name for p in path.parent.iterdir() if p not in (path, log)]
assert all(name.startswith(".store.") and name.endswith((".tmp", ".lock")) for name in left), left
print(len(seen), seen.count(20), seen.count(20 + more))
"""

TIMES = """
def write():
    writer = FaissStore.open(path)
    for version in range(first, 10_000):
        writer.remove(next(writer.items(5_000))[1])
        packed = torch.full((5_000, 8), version % 251, dtype=torch.uint8)
        writer.add(packed, range(version * 5_000, (version + 1) * 5_000))
        writer.save()

def whole_version():
    "The version in the file: all its codes and ids must be of the same one."
    codes, ids = next(FaissStore.open(path).items(5_000))
    version = int(ids[0]) // 5_000
    assert ids.tolist() == list(range(version * 5_000, (version + 1) * 5_000))
    assert (codes == version % 251).all()
    return version

random.seed(0)
store.remove(range(20))
store.add(torch.zeros(5_000, 8, dtype=torch.uint8), range(5_000))
store.save()
first, seen = 1, []
for kills in range(100):
    if kills >= 4 and seen[-1] > 0:
        break
    child = in_a_child(write)
    end = time.monotonic() + 0.02 + 0.1 * random.random()
    while time.monotonic() < end:
        seen.append(whole_version())  # a reader at any moment
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seen.append(whole_version())
    first = seen[-1] + 1
assert seen == sorted(seen), seen
print(len(seen), seen[-1])
"""


def run(script: str, *arguments: object) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", START + script, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.parametrize("more", [4, 20])
def test_killed_at_any_call_of_save(tmp_path: Path, more: int) -> None:
    """Of one that writes the journal, and of one that writes the file anew."""
    steps, old, new = run(STEPS, tmp_path / "store", more)
    assert steps == old + new and old > 8 and new > 0


def test_killed_at_any_time_while_another_process_reads(tmp_path: Path) -> None:
    """Between the calls too: a writer that saves all the time dies after a random while."""
    reads, version = run(TIMES, tmp_path / "store")
    assert reads > 4 and version > 0
