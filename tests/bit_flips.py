"""Flip one bit of a stored file, use the file, and see whether that is noticed.

``python tests/bit_flips.py 2000`` tries so many bits, as many of each kind of file, and ends with
status 1 if one of them is not noticed. Noticed is an error or a warning; of Parquet, whose pages
have checksums but not its directory, also a result that is what it was.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyg_hash.cli import main
from pyg_hash.cli.build import load_model
from pyg_hash.datasets import FeatureFile, write_feature_file
from pyg_hash.features import BagOfWords, load_encoder
from pyg_hash.index import HammingIndex
from pyg_hash.models import HashModel
from pyg_hash.runs import Run
from pyg_hash.stores import HNSW, IVF, FaissStore, Flat, MultiIndex, read_codes
from pyg_hash.transforms import ScaleFeatures
from pyg_hash.utils import checksums
from pyg_hash.utils.checksums import UncheckedWarning, verify
from pyg_hash.utils.files import load_json, load_tensors

N = 60
Use = Callable[[], Any]


def make(folder: Path) -> dict[str, tuple[Path, Use]]:
    """Small files of every kind, and for each what reads all of it."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, N)
    image, text = (draw.normal(size=(3, d))[y] + draw.normal(size=(N, d)) for d in (6, 7))
    file = folder / "x.h5"
    write_feature_file(
        file,
        image=image,
        text=text,
        labels=y,
        train=np.arange(45),
        query=np.arange(45, N),
        texts=[f"größe {i}" for i in range(N)],
        ids=[f"item {i}" for i in range(N)],
    )
    out = folder / "run"
    words = [f"--dataset={file}", f"--out={out}", "--num_bits=16", "--epochs=2", "--model=dcmh"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(["train", *words]) == 0
        codes = ["encode", str(out), f"--features={file}", f"--out={folder}/codes.h5"]
        assert main(codes) == 0
        words = [f"--out={folder}/built", "--num_bits=16", "--epochs=2"]
        assert main(["build", str(file), *words]) == 0
    run, built = Run(out), Run(folder / "built")
    model: HashModel = load_model(run)
    cases: dict[str, tuple[Path, Use]] = {
        "feature file": (file, lambda: FeatureFile(file, root=folder / "other")),
        "codes of encode": (folder / "codes.h5", lambda: verify(folder / "codes.h5")),
        "config": (out / "config.yaml", run.config),
        "record": (out / "record.json", run.record),
        "rows": (out / "rows.safetensors", run.rows),
        "items": (out / "items.json", run.items),
        "metrics": (out / "metrics.json", lambda: load_json(out / "metrics.json")),
        "history": (out / "history.json", lambda: load_json(out / "history.json")),
        "checkpoint": (
            out / "checkpoint.safetensors",
            lambda: load_tensors(out / "checkpoint.safetensors"),
        ),
        "index": (out / "index_image.safetensors", lambda: run.index("image")),
        "build": (built.path / "build.json", built.build_command),
        "catalogue": (built.path / "catalog" / "about.json", built.pictures_root),
    }
    for name in ("config.json", "model.safetensors", "intake.safetensors"):
        cases[f"model {name}"] = (out / "model" / name, lambda: load_model(run))
    BagOfWords("tfidf").fit([f"red box {i % 7}" for i in range(9)]).save(folder / "words")
    for path in (folder / "words").iterdir():
        cases[f"encoder {path.name}"] = (path, lambda: load_encoder(folder / "words"))

    def cached() -> FeatureFile:
        return FeatureFile(file, root=folder / "cache", pre_transform=ScaleFeatures())

    cached().row_prints()
    for path in (folder / "cache").rglob("*.safetensors"):
        cases[f"stored {path.name}"] = (path, lambda: (cached(), cached().row_prints()))
    if find_spec("faiss"):
        cases |= stores(folder, model.num_bits)
    return cases | journal(folder)


def journal(folder: Path) -> dict[str, tuple[Path, Use]]:
    """An index with changes beside it."""
    path = folder / "changed.store"
    codes = torch.ones(N, 16, dtype=torch.int8)
    with HammingIndex.create(path, 16, ids=str, fields={"a": str, "b": list, "c": float}) as index:
        ids = [f"item {i}" for i in range(N)]
        index.add(codes, ids, {"a": ids, "b": [["x"]] * N, "c": [0.5] * N})
        index.save()
        index.update(ids[:2], {"a": ["y", None]})
        index.remove(ids[3:4])
        index.save()

    def read() -> Any:
        index = HammingIndex.open(path)
        found = index.list("b has 'x' and not a = 'y'")
        return found, index.metadata(found), index.search(codes[:2], 3, where="c < 1")

    (change,) = (folder / "changed.store.log").glob("*.store")
    return {"fields": (path, read), "changes": (change, read)}


def stores(folder: Path, num_bits: int) -> dict[str, tuple[Path, Use]]:
    """Stores of every index, and what they export."""
    cases: dict[str, tuple[Path, Use]] = {}
    z = torch.rand(N, num_bits, generator=torch.Generator().manual_seed(0)) * 2 - 1
    packed = torch.where(z < 0, -1, 1).to(torch.int8)
    for index in (Flat(), MultiIndex(), IVF(nlist=1, nprobe=1), HNSW()):
        for kind in (int, str):
            path = folder / f"{type(index).__name__}-{kind.__name__}.store"
            store = FaissStore.create(path, num_bits, ids=kind, index=index)
            store.add(packed, [kind(i) for i in range(N)], relaxed=z)
            store.save()

            def search(path: Path = path) -> Any:
                store = FaissStore.open(path)
                best = store.search(packed[:9], 3, rescore=z[:9])
                return best, store.range_search(packed[:9], 3), list(store.items())

            cases[path.name] = (path, search)
    for ending in (".npz", ".h5", *([".parquet"] if find_spec("pyarrow") else [])):
        path = folder / f"export{ending}"
        store.export(path)

        def read(path: Path = path) -> Any:
            found = read_codes(path)
            return found.codes.tolist(), found.ids.tolist(), found.num_bits, found.model

        cases[path.name] = (path, read)
    return cases


def noticed(use: Use, expected: Any = None) -> bool:
    """Whether a use raises or warns, or gives what is expected."""
    checksums._said.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", UncheckedWarning)
        try:
            found = use()
        except (ValueError, TypeError, OSError, RuntimeError, KeyError, UncheckedWarning):
            return True
    return expected is not None and found == expected


def flips(folder: Path, tries: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """How many bits of each file were tried, and the places of those that nobody noticed."""
    cases, draw = make(folder), random.Random(seed)
    counts: Counter[str] = Counter()
    silent = []
    for name, (path, use) in cases.items():
        assert not noticed(use), f"{name} does not work"
        expected = use() if path.suffix == ".parquet" else None
        content, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        for _ in range(-(-tries // len(cases))):
            data, bit = bytearray(content), draw.randrange(8 * len(content))
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            os.utime(path, ns=times)  # as a disk forgets, and what is stored is found by it
            counts[name] += 1
            if not noticed(use, expected):
                silent.append(f"{name}: bit {bit} of {8 * len(content)}")
        path.write_bytes(content)
        os.utime(path, ns=times)
    return counts, silent


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        counts, silent = flips(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
    for name, count in counts.items():
        print(f"{count:6} {name}")
    print(f"{counts.total():6} bits in all, {len(silent)} silent", *silent, sep="\n")
    sys.exit(bool(silent))
