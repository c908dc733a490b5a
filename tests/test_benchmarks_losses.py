"""benchmarks/losses.py compares ways that give the same numbers, and writes its page."""

from __future__ import annotations

import json
import sys

import pytest
import torch


@pytest.mark.parametrize("multi_label", [False, True])
def test_all_ways_give_the_same_value_and_gradients(multi_label):
    """With fewer texts than samples even the estimate is exact."""
    from benchmarks.losses import LOSSES, difference, step

    names = [n for n in LOSSES if not (multi_label and n == "autograd, class sums")]
    want = step("autograd", 300, multi_label)()
    for name in names:
        value, gradients = difference(step(name, 300, multi_label)(), want)
        assert value < 1e-6 and gradients < 1e-5, name


def test_difference():
    from benchmarks.losses import difference

    want = (torch.tensor(2.0), torch.tensor([[3.0]]), torch.tensor([[4.0]]))
    got = (torch.tensor(2.2), torch.tensor([[3.0]]), torch.tensor([[4.5]]))
    assert difference(got, want) == (pytest.approx(0.1), pytest.approx(0.1))


def test_steps_can_be_repeated():
    from benchmarks.losses import step

    case = step("fused", 50)
    assert all(torch.equal(a, b) for a, b in zip(case(), case(), strict=True))


def test_gemm_floor_runs_over_uneven_tiles(monkeypatch):
    from benchmarks import losses

    monkeypatch.setattr(losses, "TILE", 16)
    losses.gemm_floor(40)()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_short_form(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from benchmarks.losses import main

    main(["--short", "--out", str(tmp_path)])
    stored = json.loads((tmp_path / "losses.json").read_text())
    assert stored["short"] and len(stored["tables"]) == 4 and len(stored["goals"]) == 3
    assert {goal["met"] for goal in stored["goals"]} == {"short form"}
    assert (tmp_path / "losses.png").exists() and (tmp_path / "losses.md").exists()
    assert "Pairwise likelihood" in capsys.readouterr().out
