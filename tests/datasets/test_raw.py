import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.io import savemat

from pyg_hash.datasets import build, raw
from pyg_hash.datasets.raw import open_matrix, read_digits
from pyg_hash.utils.files import CorruptFileError

RNG = np.random.default_rng(0)
X = RNG.random((23, 5)).astype(np.float32)
X[RNG.random((23, 5)) < 0.5] = 0


def npy(path):
    np.save(path, X.astype(np.float64))


def mat5(path):
    savemat(path, {"x": X, "other": X[:3]})


def mat5_sparse(path):
    savemat(path, {"x": sp.csc_matrix(X.astype(np.float64))})


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["x"] = X


def mat73(path):
    """As MATLAB writes it: columns first, so the transpose for everybody else."""
    with h5py.File(path, "w") as file:
        file["x"] = X.T
        file["x"].attrs["MATLAB_class"] = np.bytes_("single")


def mat73_sparse(path):
    columns = sp.csc_matrix(X)
    with h5py.File(path, "w") as file:
        group = file.create_group("x")
        group["data"], group["ir"], group["jc"] = columns.data, columns.indices, columns.indptr
        group.attrs["MATLAB_class"] = np.bytes_("single")
        group.attrs["MATLAB_sparse"] = len(X)


def text(path):
    np.savetxt(path, X, fmt="%.9g ")


KINDS = {
    "a.npy": npy,
    "b.mat": mat5,
    "c.mat": mat5_sparse,
    "d.h5": hdf5,
    "e.mat": mat73,
    "f.mat": mat73_sparse,
    "g.dat": text,
    "h.h5py": hdf5,
    "i.txt": text,
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(build, "_CHUNK_ELEMENTS", 20)  # four rows
    monkeypatch.setattr(raw, "_LINES", 2)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_reads_the_same(tmp_path, name):
    KINDS[name](tmp_path / name)
    matrix = open_matrix(tmp_path / name, None if name[0] == "a" else "x")
    assert matrix.shape == (23, 5)
    rows = np.array([0, 3, 4, 11, 22])
    found = matrix.read(rows)
    assert found.dtype == torch.float32 and np.array_equal(found.numpy(), X[rows])
    assert np.array_equal(matrix.read(np.arange(23)).numpy(), X)
    assert matrix.read(np.array([], dtype=int)).shape == (0, 5)


@pytest.mark.parametrize("name", ["b.mat", "d.h5"])
def test_missing_variable(tmp_path, name):
    KINDS[name](tmp_path / name)
    with pytest.raises(CorruptFileError, match="has no matrix 'y'"):
        open_matrix(tmp_path / name, "y")


def test_a_column(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(9)
    matrix = open_matrix(tmp_path / "a.h5", "x")
    assert matrix.shape == (9, 1) and matrix.read(np.array([2, 8])).tolist() == [[2], [8]]


@pytest.mark.parametrize("name", ["a.npy", "b.mat", "d.h5", "e.mat"])
def test_cut_files(tmp_path, name):
    path = tmp_path / name
    KINDS[name](path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptFileError, match=f"{name}: "):
        open_matrix(path, "x").read(np.arange(23))


def test_pickles_stay_closed(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}, None]), allow_pickle=True)
    with pytest.raises(CorruptFileError, match="holds Python objects"):
        open_matrix(tmp_path / "a.npy")


@pytest.mark.parametrize("line", ["1", "1 2 3 4", "1 2 3 4 x", "1 2 3 4 5 6"])
def test_bad_line_of_text(tmp_path, line):
    lines = ["1 2 3 4 5"] * 9
    lines[5] = line
    (tmp_path / "a.dat").write_text("\n".join(lines))
    with pytest.raises(CorruptFileError, match=r"a\.dat: cannot be read"):
        open_matrix(tmp_path / "a.dat").read(np.arange(9))
    assert open_matrix(tmp_path / "a.dat").read(np.array([4, 6])).tolist() == [[1, 2, 3, 4, 5]] * 2


def test_no_file_and_no_matrix(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_matrix(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 2)))
    with pytest.raises(CorruptFileError, match="expected a matrix"):
        open_matrix(tmp_path / "a.npy")
    (tmp_path / "a.h5").write_text("text")
    with pytest.raises(CorruptFileError, match="not HDF5"):
        open_matrix(tmp_path / "a.h5", "x")


# digits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\t\r\n"])
@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("width", [1, 5])
def test_digits(tmp_path, monkeypatch, end, size, width):
    monkeypatch.setattr(raw, "_LINES", size)
    rows = (np.random.default_rng(1).random((17, width)) < 0.4).astype(np.uint8)
    lines = ["\t".join(map(str, row)) for row in rows]
    (tmp_path / "a.txt").write_text(end.join(lines) + "\n\n", newline="")
    found = read_digits(tmp_path / "a.txt", width)
    assert found.dtype == np.uint8 and np.array_equal(found.toarray(), rows)
    (tmp_path / "a.txt").write_text(end.join(lines), newline="")  # the last line is open
    assert np.array_equal(read_digits(tmp_path / "a.txt", width).toarray(), rows)


@pytest.mark.parametrize("line", ["0 1", "0 1 0 1", "0 2 1", "0 10", "0 -1 1", "0 1 x", "011"])
@pytest.mark.parametrize(("size", "where"), [(1, "5 to 5"), (2, "5 to 6"), (1000, "1 to 8")])
def test_other_than_digits(tmp_path, monkeypatch, line, size, where):
    monkeypatch.setattr(raw, "_LINES", size)
    (tmp_path / "a.txt").write_text("0 1 1\n" * 4 + line + "\n" + "0 1 1\n" * 3)
    with pytest.raises(CorruptFileError, match=rf"a\.txt: lines {where} are not 3 times 0 or 1"):
        read_digits(tmp_path / "a.txt", 3)


def test_empty_digits(tmp_path):
    (tmp_path / "a.txt").write_text("\n")
    assert read_digits(tmp_path / "a.txt", 3).shape == (0, 3)


def test_a_file_that_is_too_large_is_not_told_to_be_got_again(tmp_path):
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("x", (1 << 46, 64), "f4", chunks=(1, 64))
    (variable,) = raw.read_variables(tmp_path / "large.h5")
    with pytest.raises(CorruptFileError, match="more memory than there is .*; it is too large for"):
        variable.load()
