"""Peak memory of reading large files."""

import ctypes
import gc
from pathlib import Path

import h5py
import numpy as np
import pytest

from pyg_hash.datasets import FeatureFile, SyntheticCrossModal, build, check_feature_file
from pyg_hash.datasets.feature_file import FORMAT, VERSION
from pyg_hash.datasets.raw import open_matrix, read_digits

ROWS, WIDTH = 50_000, 256
SIZE = ROWS * WIDTH * 4  # 51 MB as float32: more than an allocator keeps for later


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is read from /proc")
    monkeypatch.setattr(build, "_CHUNK_ELEMENTS", 1 << 20)  # 4 MB


def peak(work):
    """Bytes that the work held at its height; mapped files are not held."""

    def status(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("RssAnon")
    kept = work()
    found = status("VmHWM") - before - status("RssFile")
    del kept
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    x = np.ones((ROWS, WIDTH), np.float16)
    query = np.arange(ROWS) < 10
    for name in ("dense.h5", "csr.h5"):
        with h5py.File(folder / name, "w") as file:
            file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
            file["image"] = np.ones((ROWS, 2), dtype=np.float32)
            file["splits/query"], file["splits/train"] = query, ~query
            if name == "dense.h5":
                file["text"] = x
                continue
            file["text/data"] = np.ones(3 * ROWS, np.float32)
            file["text/indices"] = np.tile([3, 70, 200], ROWS)
            file["text/indptr"] = np.arange(0, 3 * ROWS + 1, 3)
            file["text"].attrs["shape"] = (ROWS, WIDTH)
    for name, value in (("x.h5", x), ("x.mat", x.T)):
        with h5py.File(folder / name, "w") as file:
            file["x"] = value
            if name == "x.mat":
                file["x"].attrs["MATLAB_class"] = np.bytes_("half")
    line = np.full(2000, ord("\t"), np.uint8)
    line[:-1:2], line[10], line[-1] = ord("0"), ord("1"), ord("\n")
    np.tile(line, (15_000, 1)).tofile(folder / "x.txt")  # 30 MB, one 1 a line
    return folder


WORK = {  # what is read, and how much may be held of the whole
    "a dense file": (lambda f: FeatureFile(f / "dense.h5"), 1.6),
    "a sparse file": (lambda f: FeatureFile(f / "csr.h5"), 1.6),
    "a check of a dense file": (lambda f: check_feature_file(f / "dense.h5"), 0.5),
    "a check of a sparse file": (lambda f: check_feature_file(f / "csr.h5"), 0.5),
    "synthetic": (lambda f: SyntheticCrossModal(ROWS, num_features=(WIDTH, 2)), 1.6),
    "a matrix": (lambda f: open_matrix(f / "x.h5", "x").read(), 1.4),
    "a transposed matrix": (lambda f: open_matrix(f / "x.mat", "x").read(), 1.4),
    "every tenth row": (lambda f: open_matrix(f / "x.h5", "x").read(np.arange(0, ROWS, 10)), 0.5),
    "digits": (lambda f: read_digits(f / "x.txt", 1000), 0.25),
}


@pytest.mark.parametrize("what", WORK)
def test_nothing_is_held_twice(folder, what):
    work, limit = WORK[what]
    assert peak(lambda: work(folder)) < limit * SIZE


def test_the_peak_is_seen(folder):
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # else it may take memory that earlier tests left resident
    assert peak(lambda: open_matrix(folder / "x.h5", "x").read()) > 0.9 * SIZE
