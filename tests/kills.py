"""Kill programs at random moments, go on, and see whether anything was lost or mixed.

``python tests/kills.py 500`` kills so many, as many of each kind, and ends with status 1 if one of
them left something wrong. Each runs in a fork, so that the libraries are loaded once; stores of
LanceDB and Milvus Lite, which have threads and processes of their own, only where ``all`` follows
the number.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pyg_hash.cli import main
from pyg_hash.codes import binarize
from pyg_hash.datasets import FeatureFile, encode_feature_file
from pyg_hash.features import BagOfWords, OwnEncoder
from pyg_hash.stores import FaissStore
from pyg_hash.transforms import ScaleFeatures
from pyg_hash.utils.checksums import verify
from pyg_hash.utils.provenance import stored_files

N = 60


def killed(work: Callable[[], Any], wait_s: float) -> bool:
    """Do it in a child that is killed so much later; whether it was killed before its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            work()
            status = 0
        finally:
            os._exit(status)
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def run(*words: object) -> None:
    """A command that must succeed, without its output."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        status = main(list(map(str, words)))
    assert status == 0, (words, said.getvalue())


def encoded(path: Path, word: str) -> None:
    """A feature file and its encoders."""
    texts = [f"{word}{i % 7} {word}{i % 5}" for i in range(N)]
    rows = torch.randn(N, 6, generator=torch.Generator().manual_seed(len(word)))
    images = [path.parent / f"{i}.png" for i in range(N)]
    for image in images:
        image.touch()
    encode_feature_file(
        path,
        images=images,
        texts=texts,
        image_encoder=OwnEncoder(lambda paths: rows[: len(paths)], 6, "own"),
        text_encoder=BagOfWords().fit(texts),
        batch_size=N,
        train=range(12, N),
        query=range(12),
        labels=np.arange(N) % 3,
    )


def kinds(folder: Path) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """What is killed, by kind, and what must hold afterwards."""
    file, whole = folder / "x.h5", folder / "whole"
    encoded(file, "word")
    words = ["train", f"--dataset={file}", "--model=mcgcn", "--num_bits=8", "--epochs=6"]
    words += ["--label_rate=1", "--checkpoint_every=2"]
    run(*words, f"--out={whole}")
    indexes = ("index_image.safetensors", "index_text.safetensors")
    out, store, made = folder / "run", folder / "a.store", folder / "made.h5"
    codes_file = folder / "c.h5"

    def trained() -> None:
        started = (out / "config.yaml").is_file()
        run(*(["train", "--resume", f"--out={out}"] if started else [*words, f"--out={out}"]))
        for name in indexes:
            assert (out / name).read_bytes() == (whole / name).read_bytes(), name
        check_files(out)
        shutil.rmtree(out)

    def train() -> None:
        main([*words, f"--out={out}"])

    def resumed() -> None:
        main(["train", "--resume", f"--out={out}"])

    codes = binarize(torch.randn(2 * N, 16, generator=torch.Generator().manual_seed(0)))
    first = FaissStore.create(store, 16, ids=str)
    first.add(codes[:N], [str(i) for i in range(N)])
    first.save()
    first.close()
    del first

    def put() -> None:
        for turn in range(100):
            opened = FaissStore.open(store)
            part = codes[N:] if turn % 2 else codes[:N]
            opened.replace(part, [str(i) for i in range(N)])
            opened.save()

    def stored() -> None:
        opened = FaissStore.open(store)
        assert len(opened) == N
        found = opened.codes([str(i) for i in range(N)])
        mixed = not any(torch.equal(found, rows) for rows in (codes[:N], codes[N:]))
        assert not mixed, "codes of two moments are mixed"
        check_files(store)

    grown, told = folder / "grown.store", folder / "told"

    def grow() -> None:
        """Ten more, one changed and one gone at a time; what was saved is told."""
        for _ in range(100):
            opened = FaissStore.open(grown)
            first = opened.list("turn >= 0", 0, 10**6).max().item() + 1
            opened.add(codes[:10], range(first, first + 10), {"turn": [first] * 10})
            opened.update([0], {"turn": [first]})
            opened.remove([first - 10])
            opened.save()
            told.write_text(str(first))

    def whole_turns() -> None:
        opened = FaissStore.open(grown)
        turns = opened.metadata(opened.ids)["turn"]
        last = int(told.read_text() or 0) if told.is_file() else 0
        assert turns[0] in (last, last + 10) or not last  # told a little late
        wanted = [i for i in range(turns[0] + 10) if i < N or i % 10 or i == turns[0]]
        wanted = [i for i in wanted if i != N - 10 or turns[0] < N]
        assert opened.ids.tolist() == wanted and not {*turns} - {*range(-1, turns[0] + 1)}
        check_files(grown)
        with suppress(FileNotFoundError):  # nothing is in its journal yet, or any more
            check_files(grown.with_name("grown.store.log"))

    begun = FaissStore.create(grown, 16, fields={"turn": int})
    begun.add(codes[:N], range(N), {"turn": [0] * N})
    begun.save()
    begun.close()

    encoded(made, "first")

    def make() -> None:
        for turn in range(100):
            encoded(made, ("first", "second")[turn % 2])

    def readable() -> None:
        data = FeatureFile(made)
        word = data.texts[0]
        assert word is not None and data.text_encoder().vocabulary[0][0] == word[0]
        check_files(made)

    def build() -> None:
        FeatureFile(file, pre_transform=ScaleFeatures())

    def built() -> None:
        FeatureFile(file, pre_transform=ScaleFeatures())
        check_files(Path(f"{file}.cache"))
        shutil.rmtree(f"{file}.cache")

    def encode() -> None:
        main(
            [
                "encode",
                str(whole),
                f"--features={file}",
                "--source=text",
                f"--out={folder / 'c.h5'}",
            ]
        )

    def codes_there() -> None:
        if codes_file.is_file():
            check_files(codes_file)

    found: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "train": (train, trained),
        "put into a store": (put, stored),
        "let a store grow": (grow, whole_turns),
        "encode a feature file": (make, readable),
        "build a data set": (build, built),
        "encode": (encode, codes_there),
    }

    def start_and_resume() -> None:
        if (out / "checkpoint.safetensors").is_file():
            resumed()
        else:
            train()

    def go_on() -> None:
        if random.random() < 0.3 or (out / indexes[1]).is_file():  # else killed again where it is
            trained()

    found["resume"] = (start_and_resume, go_on)
    if find_spec("matplotlib"):
        page = folder / "page.html"

        def report() -> None:
            main(["report", str(whole), f"--out={page}", "--points=20"])

        def whole_page() -> None:
            assert not page.is_file() or page.read_text().rstrip().endswith("</html>")

        found["report"] = (report, whole_page)
    return found


def check_files(path: Path) -> None:
    """Every file that is there has the checksum that it was written with."""
    for file in stored_files(path):
        if not file.name.endswith(".tmp"):
            verify(file)


def kills(folder: Path, count: int, seed: int = 0, most_s: float = 1.5) -> Counter[str]:
    """Kill so many, as many of each kind; ``AssertionError``: something is wrong.

    What takes longer than ``most_s`` is killed before.
    """
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is shared with forks, and stays with a killed one
    tqdm.monitor_interval = 0
    random.seed(seed)
    counts: Counter[str] = Counter()
    things = kinds(folder)
    for name, (work, check) in things.items():
        wanted, started = -(-count // len(things)), time.monotonic()
        killed(work, most_s)
        longest = time.monotonic() - started
        check()
        tries = 0
        while counts[name] < wanted:
            counts[name] += killed(work, random.uniform(0, longest))
            check()
            tries += 1
        print(f"{name}: {wanted} of {tries}, {time.monotonic() - started:.0f} s", flush=True)
    return counts


DATABASE = """
import sys, torch
torch.set_num_threads(1)
from pyg_hash.codes import binarize
from pyg_hash.stores import store_class
codes = binarize(torch.randn(400, 16, generator=torch.Generator().manual_seed(0)))
names, kind = [str(i) for i in range(200)], store_class(sys.argv[1])
try:
    store = kind.open(sys.argv[1])
    found = [str(n) for _, ids in store.items() for n in ids]
    assert sorted(found) == sorted(names), len(found)
except FileNotFoundError:
    store = kind.create(sys.argv[1], 16, ids=str)
    store.add(codes[:200], names)
print("ready", flush=True)
for turn in range(1000):
    store.replace(codes[200:] if turn % 2 else codes[:200], names)
"""


def database_kills(address: Path, count: int) -> int:
    """As :func:`kills`, of replacements in a database, which one process at a time may open."""
    for _ in range(count + 1):
        command = [sys.executable, "-c", DATABASE, str(address)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0, 0.5))
            process.kill()
    return count


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        total = kills(Path(place), int(sys.argv[1])).total()
        if sys.argv[2:] == ["all"]:
            for name, package in (("db.lance", "lancedb"), ("db.db", "milvus_lite")):
                if find_spec(package):
                    total += database_kills(Path(place) / name, int(sys.argv[1]) // 10)
        print(f"{total} killed, nothing lost")
