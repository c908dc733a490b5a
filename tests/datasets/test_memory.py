"""Peak memory of reading a large file, measured in one process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from pyg_hash.datasets.feature_layout import FORMAT, VERSION

ROWS, WIDTH = 150_000, 256  # 154 MB as float32
SIZE = ROWS * WIDTH * 4
SCRIPT = """
import gc, json, sys
from pyg_hash.datasets import FeatureFile, SyntheticCrossModal, check_feature_file

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def peak(work):
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
    before = status("VmRSS")
    work()
    return status("VmHWM") - before

dense, csr, rows, width = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
FeatureFile(sys.argv[5]), SyntheticCrossModal(100)  # whatever is allocated only once
print(json.dumps({
    "dense": peak(lambda: FeatureFile(dense)),
    "csr": peak(lambda: FeatureFile(csr)),
    "check dense": peak(lambda: check_feature_file(dense)),
    "check csr": peak(lambda: check_feature_file(csr)),
    "synthetic": peak(lambda: SyntheticCrossModal(rows, num_features=(width, 2))),
}))
"""


def write(path, rows, *, sparse):
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file["image"] = np.ones((rows, 2), dtype=np.float32)
        if sparse:
            text = sp.random(rows, WIDTH, 0.01, "csr", np.float32, np.random.default_rng(0))
            for name in ("data", "indices", "indptr"):
                file[f"text/{name}"] = getattr(text, name)
            file["text"].attrs["shape"] = text.shape
        else:
            file["text"] = np.ones((rows, WIDTH), dtype=np.float16)
        query = np.arange(rows) < 10
        file["splits/query"], file["splits/train"] = query, ~query
    return str(path)


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is read from /proc")
    folder = tmp_path_factory.mktemp("large")
    files = [write(folder / f"{kind}.h5", ROWS, sparse=kind == "csr") for kind in ("dense", "csr")]
    small = write(folder / "small.h5", 100, sparse=True)
    arguments = [sys.executable, "-c", SCRIPT, *files, str(ROWS), str(WIDTH), small]
    out = subprocess.run(
        arguments, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    return json.loads(out.stdout)


@pytest.mark.parametrize("what", ["dense", "csr", "synthetic"])
def test_reading_and_drawing_hold_one_copy(peaks, what):
    # the tensor, of which a little may fit into memory freed before, and blocks of 16 MB
    assert 0.95 * SIZE < peaks[what] < 1.8 * SIZE


@pytest.mark.parametrize("what", ["check dense", "check csr"])
def test_checking_holds_blocks_only(peaks, what):
    assert peaks[what] < 0.7 * SIZE
