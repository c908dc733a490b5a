"""The conformance test on a real Milvus, in an environment of its own.

Milvus Lite 2.5.1 is the last one with binary vectors; it and its old setuptools do not go together
with the rest. So this is done only when asked for::

    PYG_HASH_MILVUS=1 python -m pytest tests/stores/test_milvus_environment.py

The environment is made in ``build/milvus``, or in the folder that the variable names, and kept;
PyTorch and the like come from the environment that runs this.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WANTED = os.environ.get("PYG_HASH_MILVUS", "")
PACKAGES = ["milvus-lite==2.5.1", "pymilvus==2.6.17", "setuptools<81"]

pytestmark = pytest.mark.skipif(
    WANTED in ("", "0"), reason="installs Milvus Lite; set PYG_HASH_MILVUS=1 for it"
)


@pytest.fixture(scope="module")
def interpreter() -> Path:
    """The Python of the environment, which is made if need be."""
    folder = ROOT / "build" / "milvus" if WANTED == "1" else Path(WANTED)
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True)
        site = next(folder.glob("lib/python*/site-packages"))
        shared = [path for path in sys.path if path.endswith("-packages")]
        (site / "shared.pth").write_text("\n".join(shared))
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        done.touch()
    return python


def run(interpreter: Path, *arguments: str, folder: Path) -> str:
    result = subprocess.run(
        [interpreter, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-3000:]
    return result.stdout


def test_conformance(interpreter: Path) -> None:
    only = ("-p", "no:cacheprovider", "-k", "contract and milvus")
    plain = ("-o", "addopts=--import-mode=importlib", "tests/stores")
    output = run(interpreter, "-m", "pytest", *only, *plain, folder=ROOT)
    counts = re.search(r"=+ (\d+) passed, \d+ deselected", output)
    assert counts is not None and int(counts[1]) >= 18, output[-500:]


# what it cannot do is said
REFUSED = """
import pytest
import torch
from pymilvus import MilvusClient, MilvusException
from pyg_hash.utils.files import CorruptFileError
from pyg_hash.stores import MilvusStore
uri = "m.db"
with pytest.raises(MilvusException, match="only support BIN_FLAT"):
    MilvusStore.create(uri, 64, index="BIN_IVF_FLAT", nlist=8)
code = torch.ones(1, 64, dtype=torch.int8)
with MilvusStore.create(uri, 64) as store:  # nothing was left of it
    store.add(code, [0])
    with pytest.raises(ValueError, match="at most 16384 items"):
        store.search(code, 16385)
with MilvusStore.create(uri, 64, name="lists", fields={"tags": list}) as store:
    with pytest.raises(ValueError, match="Milvus Lite knows no"):
        store.list("not tags has 'a'")
client = MilvusClient(uri)
client.create_collection("other", dimension=8)
with pytest.raises(CorruptFileError, match="was not made by MilvusStore"):
    MilvusStore.open(uri, name="other")
with pytest.raises(FileNotFoundError, match="no collection 'none'"):
    MilvusStore.open(uri, name="none")
with pytest.raises(FileNotFoundError, match="no such file"):
    MilvusStore.open("none.db")
"""


# large requests are sent in parts
IN_PARTS = """
from store_cases import check_range, check_search, random_codes
from pyg_hash.stores import MilvusStore, databases
databases._ROWS, databases._NAMES, databases._MOST = 7, 5, 40
MilvusStore._most = 40
codes, query = random_codes(60, 24), random_codes(12, 24, 1)
ids = [f"n{i}" for i in range(60)]
with MilvusStore.create("m.db", 24, ids=str, fields={"even": bool}) as store:
    store.add(codes, ids, {"even": [i % 2 == 0 for i in range(60)]})
    check_search(store, query, codes, ids, 40)
    check_range(store, query, codes, ids, 8)
    assert [len(names) for _, names in store.items(7)] == [7] * 8 + [4]
    assert store.list(limit=100).tolist() == sorted(ids)
    assert store.list(start=45, limit=9).tolist() == sorted(ids)[45:54]
    assert len(store.list("even = true and not id = 'n0'", limit=100)) == 29
    try:
        store.range_search(query, 24)
        raise SystemExit("more than Milvus gives were expected")
    except ValueError as error:
        assert "use a smaller radius" in str(error)
    store.remove(ids[3:40])
    left = [*range(3), *range(40, 60)]
    check_search(store, query, codes[left], [ids[i] for i in left], 23)
    assert len(store) == 23
"""


@pytest.mark.parametrize("script", [IN_PARTS, REFUSED], ids=["in parts", "refused"])
def test_scripts(interpreter: Path, tmp_path: Path, script: str) -> None:
    run(interpreter, "-c", script, folder=tmp_path)
