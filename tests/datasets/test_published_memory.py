"""Peak memory of reading large raw files, measured in one process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

ROWS, WIDTH = 120_000, 256  # 123 MB as float32
SIZE = ROWS * WIDTH * 4
SCRIPT = """
import gc, json, sys
from pathlib import Path
import numpy as np
from pyg_hash.datasets.raw import RawMatrix, read_digits

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def peak(work):
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
    before = status("RssAnon")  # mapped files are not held
    work()
    return status("VmHWM") - before - status("RssFile")

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
RawMatrix(folder / "small.h5", "x").read(np.arange(2))  # whatever is allocated only once
print(json.dumps({
    "digits": peak(lambda: read_digits(folder / "x.txt", 1000)),
    "whole": peak(lambda: RawMatrix(folder / "x.h5", "x").read(np.arange(rows))),
    "transposed": peak(lambda: RawMatrix(folder / "x.mat", "x").read(np.arange(rows))),
    "tenth": peak(lambda: RawMatrix(folder / "x.h5", "x").read(np.arange(0, rows, 10))),
}))
"""


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is read from /proc")
    folder = tmp_path_factory.mktemp("large")
    x = np.ones((ROWS, WIDTH), np.float16)
    for name, value in (("x.h5", x), ("x.mat", x.T), ("small.h5", x[:9])):
        with h5py.File(folder / name, "w") as file:
            file["x"] = value
            if name == "x.mat":
                file["x"].attrs["MATLAB_class"] = np.bytes_("half")
    line = np.full(2000, ord("\t"), np.uint8)
    line[:-1:2], line[10], line[-1] = ord("0"), ord("1"), ord("\n")
    np.tile(line, (40_000, 1)).tofile(folder / "x.txt")  # 80 MB, one 1 a line
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(ROWS)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return json.loads(out.stdout)


@pytest.mark.parametrize("what", ["whole", "transposed"])
def test_reading_holds_one_copy(peaks, what):
    assert peaks[what] < 1.6 * SIZE  # the tensor, and blocks of 16 MB


def test_reading_some_rows_holds_those(peaks):
    assert peaks["tenth"] < 0.7 * SIZE  # 12 MB, and blocks of 16 MB


def test_digits_hold_their_ones(peaks):
    assert peaks["digits"] < 30e6  # of 80 MB
