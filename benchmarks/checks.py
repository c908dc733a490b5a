"""What checks cost of what they guard: training, evaluation, encoding, loading.

    python -m benchmarks.checks [--short]

"Checks" are what compares stored bytes with their checksums, models and data with what is kept of
them, and looks for odd rows and columns. Their share of training, evaluation and encoding is the
time inside of them; of loading 1,000,000 codes of 64 bits the difference to the same call without
them, in turns. Opened mapped, as stores are by default, bytes are compared as they are used; to
load "all at once" is one copy of memory, and reading it once more for checksums costs what it does.
"""

import io
import tempfile
import time
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name
from unittest.mock import patch

from benchmarks.record import benchmark
from benchmarks.store import BITS, K, packed_codes, share_of_checksums
from pyg_hash.cli import main as command
from pyg_hash.datasets import FeatureFile, SyntheticCrossModal, write_feature_file
from pyg_hash.index import HammingIndex
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import recipe

CHECKS = {  # by where they are called
    "training.fit": ("say_odd_data", "data_rows", "as_pairs", "_check_loss"),
    "metrics.evaluation": ("data_rows", "_repeated", "trained_queries"),
    "utils.oddities": ("odd_queries",),
    "models.two_encoders": ("check_widths",),
    "models.taught": ("check_features",),
    "models.base": ("check_features", "digest_of"),
    "index.base": ("check_model",),
    "cli.encode": ("check_unique",),
    "utils.checksums": ("_line", "Sums.check"),
}


def share(work):
    """Seconds of some work, and the share of checks in them, those within others counted once."""
    inside, depth = 0.0, 0

    def timed(function):
        @wraps(function)
        def call(*args, **keywords):
            nonlocal inside, depth
            depth += 1
            start = time.perf_counter()
            try:
                return function(*args, **keywords)
            finally:
                depth -= 1
                inside += (time.perf_counter() - start) * (depth == 0)

        return call

    with ExitStack() as stack:
        for check in (f"pyg_hash.{module}.{name}" for module, of in CHECKS.items() for name in of):
            stack.enter_context(patch(check, timed(resolve_name(check))))
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
    return seconds, inside / seconds


def guarded(folder, n, epochs):
    """What is timed, by name; each is done once before."""
    source = SyntheticCrossModal(n, num_features=(512, 512), num_queries=n // 10)[0]
    parts = {name: source["image"][f"{name}_mask"] for name in ("train", "query", "database")}
    file, run, out = (str(folder / name) for name in ("features.h5", "run", "codes.store"))
    sides = {m: source[m].x.numpy() for m in ("image", "text")}
    ids = [f"item {i}" for i in range(len(sides["image"]))]
    write_feature_file(file, **sides, labels=source["image"].y.numpy(), ids=ids, **parts)
    taught = recipe("taughthash", epochs=epochs)
    data = FeatureFile(file, pre_transform=taught.transforms)[0]
    model = taught.model(data)

    def quiet(*words):
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            assert command(words) == 0

    quiet("train", f"--dataset={file}", "--recipe=taughthash", "--epochs=1", f"--out={run}")

    def encode():
        Path(out).unlink(missing_ok=True)
        quiet("encode", run, f"--features={file}", "--source=image", f"--out={out}")

    return {
        f"train TaughtHash, {epochs} epochs": lambda: taught.fit(model, data, progress=False),
        "evaluate": lambda: evaluate(model, data),
        "encode to a store": encode,
    }


def loads(folder, n):
    index, path = HammingIndex(BITS), folder / "million.store"
    index.add(packed_codes(n, "random", 0))
    index.save(path)
    query = packed_codes(100, "random", 1)
    return {
        "open (mapped)": lambda: HammingIndex.open(path),
        "open and search 100": lambda: HammingIndex.open(path).search(query, K),
        "load all at once": lambda: HammingIndex.load(path),
    }


@benchmark("What checks cost")
def main(record, args):
    n, codes, epochs = (600, 20_000, 1) if args.short else (20_000, 1_000_000, 20)
    rows = []

    def row(name, seconds, part):
        rows.append({"work": name, "ms": 1000 * seconds, "share of checks": part})
        record.goal(f"{name}: share of checks", part, at_most=0.02)

    with tempfile.TemporaryDirectory() as place:
        for name, work in guarded(Path(place), n, epochs).items():
            row(f"{name}, {n:,} pairs", *share(work))
        for name, work in loads(Path(place), codes).items():
            row(f"{name}, {codes:,} codes", *share_of_checksums(work))
    record.table("Checks", rows)
