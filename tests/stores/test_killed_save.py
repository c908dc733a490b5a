"""A process killed at any point of ``save`` leaves the old store or the new one.

Each dies in a fork of this process, so that the libraries are loaded only once.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pyg_hash.codes import binarize
from pyg_hash.stores import FaissStore

pytest.importorskip("faiss")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CODES = binarize(torch.randn(40, 64, generator=torch.Generator().manual_seed(0)))


def in_a_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def new_store(path: Path) -> FaissStore:
    store = FaissStore.create(path, 64)
    store.add(CODES[:20], range(20))
    store.save()
    return store


@pytest.mark.parametrize("more", [4, 20])
def test_killed_at_any_call_of_save(tmp_path: Path, more: int) -> None:
    """Of one that writes the journal, and of one that writes the file anew."""
    warm = new_store(tmp_path / "warm")  # what is imported late is imported now
    warm.add(CODES[20:21], [20])
    warm.save()
    path = tmp_path / "here" / "store"
    new_store(path).close()
    old, log = path.read_bytes(), path.with_name("store.log")

    def killed_at(step: int) -> bool:
        """In a child: save, and be killed at the given call of a Python or C function."""

        def work() -> None:
            count = 0

            def profile(frame: object, event: str, argument: object) -> None:
                nonlocal count
                count += "call" in event  # of Python or of C; returns are next to them
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)

            grown = FaissStore.open(path)
            grown.add(CODES[20 : 20 + more], range(20, 20 + more))
            sys.setprofile(profile)
            grown.save()

        _, status = os.waitpid(in_a_child(work), 0)
        return os.WIFSIGNALED(status)

    def items() -> int:
        """How many the file has; it must be whole, with the old items or the new ones."""
        found = FaissStore.open(path)
        n = len(found)
        assert n in (20, 20 + more)
        distances, ids = found.search(CODES[:n], 1)
        assert not distances.any() and ids[:, 0].tolist() == list(range(n))
        return n

    step, seen = 1, []
    while killed_at(step):
        seen.append(items())
        path.write_bytes(old)
        shutil.rmtree(log, ignore_errors=True)
        step += 37  # the moments after the change are at least so many
    assert items() == 20 + more  # the one that was not killed
    assert seen == sorted(seen)  # there is one moment at which the old becomes the new
    assert seen.count(20) > 8 and seen.count(20 + more) > 0
    assert log.exists() == (more == 4)  # a few go to the journal
    left = [p.name for p in path.parent.iterdir() if p not in (path, log)]
    assert all(n.startswith(".store.") and n.endswith((".tmp", ".lock")) for n in left), left


def test_killed_at_any_time_while_another_process_reads(tmp_path: Path) -> None:
    """Between the calls too: a writer that saves all the time dies after a random while."""
    path, size = tmp_path / "store", 5_000

    def ids_of(version: int) -> range:
        return range(version * size, (version + 1) * size)

    def write(first: int) -> None:
        writer = FaissStore.open(path)
        for version in range(first, 10_000):
            writer.remove(next(writer.items(size))[1])
            packed = torch.full((size, 8), version % 251, dtype=torch.uint8)
            writer.add(packed, ids_of(version))
            writer.save()

    def whole_version() -> int:
        """The version in the file: all its codes and ids must be of the same one."""
        codes, ids = next(FaissStore.open(path).items(size))
        version = int(ids[0]) // size
        assert ids.tolist() == list(ids_of(version))
        assert (codes == version % 251).all()
        return version

    draw = random.Random(0)
    store = FaissStore.create(path, 64)
    store.add(torch.zeros(size, 8, dtype=torch.uint8), range(size))
    store.save()
    store.close()
    seen = [0]
    for turn in range(100):
        if turn >= 4 and seen[-1] > 0:
            break
        child = in_a_child(lambda: write(seen[-1] + 1))
        end = time.monotonic() + 0.02 + 0.1 * draw.random()
        while time.monotonic() < end:
            seen.append(whole_version())  # a reader at any moment
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.append(whole_version())
    assert seen == sorted(seen) and len(seen) > 4 and seen[-1] > 0
