"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

torch.set_num_threads(1)  # the tests are small: threads would only get in each other's way
gc.disable()  # a fifth of the time of collecting: nothing that is imported goes
os.fsync = os.fstat  # thousands of waits for a disk, and no test cuts the power


def pytest_collection_finish() -> None:
    """Look through what tests make, seldom, and never again through what was imported."""
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    gc.enable()


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets beside the checkout; skips the test where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data sets are not on this machine")
    return SHARED_DATA


@contextmanager
def discoverable() -> Iterator[type]:
    """The data set of coloured squares as if it were in pyg_hash/datasets."""
    from shapes import Shapes

    import pyg_hash.datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyg_hash.datasets, "Shapes", Shapes, raising=False)
        patch.setattr(pyg_hash.datasets, "__all__", [*pyg_hash.datasets.__all__, "Shapes"])
        yield Shapes


@pytest.fixture(scope="module")
def shapes():
    with discoverable() as kind:
        yield kind


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory):
    """Where the coloured squares lie."""
    return tmp_path_factory.mktemp("shapes")


@pytest.fixture(scope="session")
def shapes_run(shapes_root, tmp_path_factory):
    """The run folder of a small MCGCN on the coloured squares; no test changes it."""
    from pyg_hash.cli import main

    out = tmp_path_factory.mktemp("runs") / "shapes"
    words = ["--dataset=shapes", "--k=3", "--num_bits=16", "--epochs=5", "--label_rate=0.5"]
    with discoverable():
        assert main(["train", f"--root={shapes_root}", f"--out={out}", *words]) == 0
    return out


@pytest.fixture
def undrawn(monkeypatch):
    """A report without its figures' lines, which take most of its time."""

    def empty(figure, *, name, label):
        return "<svg></svg>"

    monkeypatch.setattr("pyg_hash.report.page.to_svg", empty)


@pytest.fixture
def two_epochs(monkeypatch):
    """Recipes of two epochs, where nothing is asked of what is learnt."""
    from pyg_hash.recipes import METHODS

    for settings in METHODS.values():
        if "epochs" in settings:
            monkeypatch.setitem(settings, "epochs", 2)


@pytest.fixture(scope="session")
def taught_run(tmp_path_factory):
    """The run folder of a small TaughtHash: 90 database items, features of 16 and 12 numbers."""
    from pyg_hash.cli import main

    out = tmp_path_factory.mktemp("runs") / "taught"
    data = "{n: 100, num_features: [16, 12], num_queries: 10}"
    words = ["--model=taughthash", "--num_bits=20", "--epochs=2", f"--dataset_options={data}"]
    assert main(["train", "--dataset=synthetic", *words, f"--out={out}"]) == 0
    return out
