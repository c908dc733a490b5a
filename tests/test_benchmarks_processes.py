"""The benchmark of processes: the same training, whoever computes it."""

from __future__ import annotations

import json

import torch


def test_short_form(tmp_path):
    threads = torch.get_num_threads()
    from benchmarks import scaling_processes

    scaling_processes.main(["--short", "--out", str(tmp_path)])
    torch.set_num_threads(threads)
    content = json.loads((tmp_path / "scaling_processes.json").read_text())
    rows = content["tables"][0]["rows"]
    assert [row["processes"] for row in rows] == [1, 2]
    assert rows[0]["epoch: share of one"] == 1 and rows[0]["difference"] == 0
    assert rows[1]["difference"] < 1e-4
    assert len(content["goals"]) == 3 and (tmp_path / "scaling_processes.png").exists()
