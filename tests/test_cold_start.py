"""What the command line does not import: seconds of a cold start that nobody asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

from pyg_hash.cli import main
from pyg_hash.features import BagOfWords

HEAVY = ["torch_geometric", "scipy", "sklearn", "h5py", "matplotlib", "pyarrow", "fastapi"]
PROGRAM = """
import gc
import sys
from pyg_hash.cli import main
try:
    assert main(sys.argv[2:]) == 0
except SystemExit as stop:
    assert not stop.code
assert gc.isenabled()
print([name for name in sys.argv[1].split(",") if name in sys.modules], file=sys.stderr)
"""


def imported(names, *words):
    program = [sys.executable, "-c", PROGRAM, ",".join(names), *map(str, words)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stdout
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_imports_no_torch(words):
    assert imported(["torch", "numpy", *HEAVY], *words) == "[]"


def test_search_imports_what_it_needs(taught_run, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((1, 12), np.float32))
    asked = ["--features", tmp_path / "x.npy", "--source", "text"]
    assert imported(HEAVY, "search", taught_run, *asked) == "[]"


def test_search_by_words_needs_no_scikit_learn(taught_run, tmp_path):
    run = shutil.copytree(taught_run, tmp_path / "run")
    pytest.importorskip("sklearn")
    BagOfWords(subwords=(3, 3)).fit(["a b c d e f"] * 2).save(run / "encoders" / "text")
    assert imported(HEAVY, "search", run, "--text", "c d") == "[]"


def test_each_command_has_its_options(capsys):
    from pyg_hash.cli.command import COMMANDS

    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert "usage" in capsys.readouterr().out
