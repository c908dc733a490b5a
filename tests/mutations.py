"""Change a file at random, read it, and see whether what comes is a value or an error of ours.

``python tests/mutations.py 2000`` tries so many changes, as many of each kind of file, and ends
with status 1 if one of them brought another error, no end, or much memory; those files are kept.
A second number is the seed. What has a checksum is tried with it and, as somebody else could write
one, without. Needs ``fork``.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import random
import re
import resource
import select
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import torch
import yaml
from bit_flips import make as make_stored

from pyg_hash.datasets import FeatureFile, check_feature_file, write_feature_file
from pyg_hash.datasets.imports import import_files
from pyg_hash.datasets.raw import read_digits
from pyg_hash.datasets.sources import open_source
from pyg_hash.features.base import load_image
from pyg_hash.index import HammingIndex
from pyg_hash.models import HashModel
from pyg_hash.runs import Run
from pyg_hash.typing import MODALITIES
from pyg_hash.utils import hdf5, matlab

N = 12
LIMIT_S, LIMIT_BYTES = 20, 1 << 30
ODD = (None, "", "x", -1, 0, 2.5, 1 << 70, 10**9, float("nan"), 1e300, True, [], {}, [[]], "\ud800")
WRONG = (np.zeros(0), np.zeros((N, 0)), np.full(3, np.nan), np.array(-1), np.zeros((2, 3, 4)),
         np.array([b"\xff"]), np.arange(N))  # fmt: skip
SEALS = rb"(?<=\n)[ \t]{64}\n|\n# xxh3 [0-9a-f]{16} xxh3\n"
PART = re.compile("(labels|image|text|texts|ids)\\b")  # of several files together
NOISE = "\u202e\0\ufeff\u0301\U0001f600'\",;\t\n\r{}[]:&*#%-"
Use = Callable[[], Any]


def make(folder: Path) -> dict[str, tuple[Path, Use]]:
    """Small files of every kind that is read, and for each what reads all of it."""
    stored, given = folder / "stored", folder / "given"
    stored.mkdir()
    given.mkdir()
    cases = make_stored(stored)
    run = Run(stored / "run")
    model = run.path / "model"
    for name in ("config.json", "model.safetensors", "intake.safetensors"):
        cases[f"model {name}"] = model / name, lambda: HashModel.load(model)
    index = run.index_file("image")
    cases["index"] = index, lambda: HammingIndex.load(index)
    return cases | sources(given)


def sources(folder: Path) -> dict[str, tuple[Path, Use]]:
    """What people bring."""
    from PIL import Image

    draw = np.random.default_rng(0)
    image, text = draw.normal(size=(N, 5)), draw.normal(size=(N, 4))
    labels = np.eye(3)[np.arange(N) % 3]
    cases: dict[str, tuple[Path, Use]] = {}
    picture = Image.fromarray(draw.integers(0, 255, (9, 7, 3), np.uint8))
    (folder / "pictures").mkdir()
    for ending in ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm"):
        path = folder / "pictures" / f"{ending}.{ending}"
        picture.save(path)
        cases[f"picture {ending}"] = path, lambda path=path: load_image(path, 8)
    rows = [
        {"image": f"pictures/{('png', 'jpg')[i % 2]}.{('png', 'jpg')[i % 2]}", "text": f"größe {i}",
         "label": "a;b", "year": 2000 + i, "at": f"2020-01-{i + 1:02}"}
        for i in range(N)
    ]  # fmt: skip
    with open(folder / "rows.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text_of = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "rows.jsonl").write_text(text_of, encoding="utf-8")
    (folder / "rows.json").write_text(json.dumps(rows))
    pictures = [{"id": i, "file_name": f"{i}.jpg"} for i in range(N)]
    told = [{"image_id": i, "caption": f"words {i}"} for i in range(N)]
    (folder / "coco.json").write_text(json.dumps({"images": pictures, "annotations": told}))
    tables = ["rows.csv", "rows.jsonl", "rows.json", "coco.json"]
    if find_spec("pyarrow"):
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({
            **{name: [row[name] for row in rows] for name in rows[0]},
            "when": pyarrow.array(range(N), pyarrow.timestamp("ns")), "vector": image.tolist(),
        })  # fmt: skip
        pyarrow.parquet.write_table(table, folder / "rows.parquet")
        tables.append("rows.parquet")
    for name in tables:
        cases[f"source {name}"] = folder / name, lambda path=folder / name: told_of(path)
    values = {"I_tr": image[3:], "I_te": image[:3], "T_tr": text[3:], "T_te": text[:3],
              "L_tr": labels[3:], "L_te": labels[:3]}  # fmt: skip
    np.savez(folder / "arrays.npz", **values)
    cells = np.array([f"word {i}" for i in range(9)], object)
    scipy.io.savemat(folder / "arrays.mat", {**values, "words": cells}, do_compression=False)
    scipy.io.savemat(folder / "packed.mat", values, do_compression=True)
    with h5py.File(folder / "arrays.h5", "w") as file:
        for name, value in values.items():
            file[name] = value
    for name in ("arrays.npz", "arrays.mat", "packed.mat", "arrays.h5"):
        path = folder / name
        cases[f"import {name}"] = path, lambda path=path: import_files([path], folder / "to.h5")
    np.save(folder / "image.npy", image)
    np.save(folder / "text.npy", text)
    np.save(folder / "labels.npy", labels)
    parts = [folder / f"{name}.npy" for name in ("image", "text", "labels")]
    cases["import npy"] = parts[0], lambda: import_files(parts, folder / "to.h5")
    cases["source npy"] = parts[1], lambda: told_of(*parts)
    cases["source npz"] = folder / "arrays.npz", lambda: told_of(folder / "arrays.npz")
    words = [f"word {i}" for i in range(N)]
    write_feature_file(folder / "own.h5", image=image, text=text, labels=labels, texts=words,
                       train=range(3, N), query=range(3))  # fmt: skip
    cases["source own.h5"] = folder / "own.h5", lambda: told_of(folder / "own.h5")
    cases["feature file"] = folder / "own.h5", lambda: feature_file(folder)
    cases["feature check"] = folder / "own.h5", lambda: check_feature_file(folder / "own.h5")
    np.savetxt(folder / "digits.txt", np.eye(3), "%d")
    cases["digits"] = folder / "digits.txt", lambda: read_digits(folder / "digits.txt", 3)
    return cases


def feature_file(folder: Path) -> Any:
    """All that a feature file holds."""
    found = FeatureFile(folder / "own.h5", root=folder / "processed")
    return found[0], found.about, found.row_prints()


def told_of(*paths: Path) -> Any:
    """All that a source holds."""
    source = open_source(paths)
    held = [[len(b) for _, b in source.blocks(m)] for m in MODALITIES if m in source.features]
    return held, [source.items(m) for m in MODALITIES], source.fields, source.problems


# changes -------------------------------------------------------------------------------------


def bare(path: Path) -> None:
    """Take the checksum out of a file."""
    data = path.read_bytes()
    if path.suffix in (".safetensors", ".store"):
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        header.get("__metadata__", {}).pop("xxh3", None)
        data = with_header(header, data[8 + size :])
    else:
        data = re.sub(SEALS, b"", data)
    path.write_bytes(data)


def with_header(header: Any, rest: bytes) -> bytes:
    """A safetensors file."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + rest


def change(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """The bytes of a file, changed in one to three places."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        size = len(data)
        at = draw.randrange(size + 1)
        wide = draw.choice((1, 4, 8, 16, 64, 512))
        end = min(size, at + wide)
        how = draw.randrange(8)
        if how == 0:
            data = data[:at]
        elif how == 1:  # splice
            data = data[:at] + other[draw.randrange(len(other)) :][: size - at]
        elif how == 2:
            data = data[:end] + data[at:end] * draw.randint(1, 9) + data[end:]
        elif how == 3:
            data = data[:at] + draw.randbytes(wide) + data[at:]
        elif how == 4:
            data = data[:at] + bytes(end - at) + data[end:]
        elif how == 5:  # a length
            big = draw.choice((0xFFFFFFFF, 0x7FFFFFFF, 1 << 40, (1 << 64) - 1, 1 << 20))
            kind = draw.choice((4, 8))
            said = (big % (1 << 8 * kind)).to_bytes(kind, draw.choice(("little", "big")))
            data = data[:at] + said + data[at + kind :]
        elif how == 6:  # another head
            head = draw.choice((8, 64, 128))
            data = other[:head] + data[head:]
        else:
            noise = "".join(draw.choices(NOISE, k=3)).encode()
            if draw.random() < 0.1:
                noise = draw.choice((b"[", b'{"a":')) * 20_000
            data = data[:at] + noise + data[at:]
    return data


def with_odd(value: Any, draw: random.Random) -> Any:
    """JSON with another value somewhere, or a key less."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        if draw.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: with_odd(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.randrange(len(value))
        if draw.random() < 0.15:
            return value[:at] + value[at + 1 :]
        return [*value[:at], with_odd(value[at], draw), *value[at + 1 :]]
    if isinstance(value, str) and value[:1] == "{" and draw.random() < 0.9:  # JSON in JSON
        return json.dumps(with_odd(json.loads(value), draw))
    return draw.choice(ODD)


def restructure(path: Path, draw: random.Random) -> bool:
    """Change a value in the structure of a file; False: of this kind that is not done."""
    data = path.read_bytes()
    if path.suffix == ".json":
        path.write_text(json.dumps(with_odd(json.loads(data), draw)))
    elif path.suffix == ".jsonl":
        lines = data.decode().split("\n")
        at = draw.randrange(len(lines))
        lines[at] = json.dumps(with_odd(json.loads(lines[at]), draw))
        path.write_text("\n".join(lines), encoding="utf-8")
    elif path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(with_odd(yaml.safe_load(data), draw)))
    elif path.suffix in (".safetensors", ".store"):
        size = int.from_bytes(data[:8], "little")
        header = with_odd(json.loads(data[8 : 8 + size]), draw)
        path.write_bytes(with_header(header, data[8 + size :]))
    elif path.suffix == ".h5":
        values = [*WRONG, "x", np.array([b"\xff"] * N), np.full((N, 5), np.inf), [1e300] * N]
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            every = [(file, name) for name in names] + [(file.attrs, name) for name in file.attrs]
            holder, name = draw.choice(every)
            if draw.random() < 0.8:
                del holder[name]
            if name not in holder and draw.random() < 0.8:
                holder[name] = draw.choice(values)
    elif path.suffix == ".npz":
        odd = [*WRONG, np.array("x"), np.array([1 << 62]), np.ones(3, complex), np.array(["x"] * N)]
        with np.load(path) as file:
            values = dict(file)
        name = draw.choice(list(values))
        del values[name]
        if draw.random() < 0.8:
            values[name] = draw.choice(odd)
        np.savez(path, **values)
    else:
        return False
    return True


def damage(path: Path, other: bytes, draw: random.Random) -> None:
    """Change a file, mostly as one without a checksum."""
    if draw.random() < 0.85:
        bare(path)
    if draw.random() < 0.5 or not restructure(path, draw):
        path.write_bytes(change(path.read_bytes(), other, draw))


# trying ---------------------------------------------------------------------------------------


class HangError(BaseException):
    """It takes too long."""


def stop(*_: object) -> None:
    raise HangError


def place(error: BaseException) -> str:
    """Its kind, and the last line of the library that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "pyg_hash/" in f.filename]
    return f"{type(error).__name__} in {' '.join(own[-3:])}"


def problem(path: Path, use: Use) -> str:
    """What is wrong with what a reader does; empty if it reads, or says why it does not."""
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            use()
    except (ValueError, TypeError, OSError) as error:
        holder = path.parent.name.removesuffix(".log")  # a folder, or what a journal belongs to
        named = path.name in str(error) or holder in str(error) or PART.match(str(error))
        native = type(error) in (UnicodeDecodeError, UnicodeEncodeError, json.JSONDecodeError)
        if named and not native:
            return ""
        return f"names no file, {place(error)}: {error}"
    except (Exception, HangError) as error:
        return f"{place(error)}: {error}"
    finally:
        signal.alarm(0)
    return ""


def limit_memory() -> None:
    """So much more than now."""
    words = Path("/proc/self/statm").read_text().split()
    most = int(words[5]) * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def each(cases: dict[str, tuple[Path, Use]], tries: int, seed: int, start: int, out: int) -> None:
    """Try changes from number ``start`` on, and tell of each before and after."""
    hdf5.LIMIT_S = matlab.LIMIT_S = LIMIT_S / 4
    with contextlib.suppress(OSError):
        limit_memory()
    names = list(cases)
    for number in range(start, tries):
        draw = random.Random(f"{seed} {number}")
        name = names[number % len(names)]
        path, use = cases[name]
        content = path.read_bytes()
        other = cases[draw.choice(names)][0].read_bytes()
        os.write(out, (json.dumps([number, name, None]) + "\n").encode())
        damage(path, other, draw)
        said = problem(path, use)
        if said:
            keep(path, seed, number)
        path.write_bytes(content)
        os.write(out, (json.dumps([number, name, said]) + "\n").encode())


def keep(path: Path, seed: int, number: int) -> Path:
    """A copy of a file that brought a failure."""
    kept = Path(tempfile.gettempdir()) / f"mutation-{seed}-{number}-{path.name}"
    kept.write_bytes(path.read_bytes())
    return kept


def lines_of(source: int) -> Iterator[bytes]:
    """Lines of a pipe until its end, or until none comes for too long."""
    rest = b""
    while select.select([source], [], [], LIMIT_S + 10)[0] and (more := os.read(source, 1 << 16)):
        *lines, rest = (rest + more).split(b"\n")
        yield from lines


def mutations(folder: Path, tries: int, seed: int = 0) -> tuple[int, list[str]]:
    """How many changes were tried, and what failed; each in a process that may end by it."""
    cases = make(folder)
    for name, (path, use) in cases.items():
        said = problem(path, use)
        assert not said, f"{name} does not work: {said}"
    contents = {path: path.read_bytes() for path, _ in cases.values()}
    failures, done = [], 0
    while done < tries:
        source, out = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(source)
            try:
                each(cases, tries, seed, done, out)
            finally:
                os._exit(0)
        os.close(out)
        now = None
        for line in lines_of(source):
            number, name, said = json.loads(line)
            now = (number, name) if said is None else None
            if said:
                failures.append(f"{name}, seed {seed}, number {number}: {said}")
            done = number + (said is not None)
        os.close(source)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if now is not None:  # it ended, or was ended, in the middle of this one
            kept = keep(cases[now[1]][0], seed, now[0])
            failures.append(f"{now[1]}, seed {seed}, number {now[0]}: the process ended: {kept}")
            done = now[0] + 1
        elif done < tries:
            raise RuntimeError("the process ended between two changes")
        for path, content in contents.items():
            path.write_bytes(content)
    return done, failures


if __name__ == "__main__":
    torch.set_num_threads(1)
    numbers = [*map(int, sys.argv[1:]), *(1000, 0)[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory() as folder:
        done, failures = mutations(Path(folder), *numbers[:2])
    print(*failures, f"{done} changes, {len(failures)} failures", sep="\n")
    sys.exit(bool(failures))
