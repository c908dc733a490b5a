"""What the command line does not import: seconds of a cold start that nobody asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pyg_hash.cli import main
from pyg_hash.cli.command import COMMANDS
from pyg_hash.features import BagOfWords

HEAVY = ["torch_geometric", "scipy", "sklearn", "h5py", "matplotlib", "pyarrow", "fastapi"]
PROGRAM = """
import gc
import json
import sys
from pyg_hash.cli import main
for words in json.loads(sys.argv[2]):
    try:
        assert main(words) == 0
    except SystemExit as stop:
        assert not stop.code
    assert gc.isenabled()
    print(end="\\f")
print([name for name in sys.argv[1].split(",") if name in sys.modules], file=sys.stderr)
"""


def imported(names, *commands):
    """Those of the modules that a process has after the commands."""
    words = json.dumps([[*map(str, command)] for command in commands])
    program = [sys.executable, "-c", PROGRAM, ",".join(names), words]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert all(done.stdout.split("\f")[:-1])  # each said something
    return done.stderr.splitlines()[-1]


def test_help_imports_no_torch():
    asked = [[], *([name] for name in COMMANDS)]
    groups = {name: kind[1] for name, kind in COMMANDS.items() if isinstance(kind, tuple)}
    asked += [[name, action] for name, actions in groups.items() for action in actions]
    helps = [[*words, "--help"] for words in asked]
    assert imported(["torch", "numpy", *HEAVY], ["--version"], *helps) == "[]"


def test_who_decodes_pictures_of_strangers_imports_no_torch():
    """Its memory is limited, and there are several."""
    program = "import sys, pyg_hash.utils.pictures; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_search_imports_what_it_needs(taught_run, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((1, 12), np.float32))
    asked = ["search", taught_run, "--features", tmp_path / "x.npy", "--source", "text"]
    run = shutil.copytree(taught_run, tmp_path / "run")
    pytest.importorskip("sklearn")
    BagOfWords(subwords=(3, 3)).fit(["a b c d e f"] * 2).save(run / "encoders" / "text")
    assert imported(HEAVY, asked, ["search", run, "--text", "c d"]) == "[]"


def test_each_command_has_its_options(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert "usage" in capsys.readouterr().out
