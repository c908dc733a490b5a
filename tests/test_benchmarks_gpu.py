"""benchmarks/gpu.py runs in full without a GPU, and keeps what it has whatever happens."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu

WORDS = ["--device", "cpu", "--short", "--out"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing is collected between the parts: there is much in a process of tests."""
    monkeypatch.setattr(gpu, "gc", SimpleNamespace(collect=lambda: None))


def tables(folder):
    content = json.loads((folder / "gpu.json").read_text())
    assert (folder / "gpu.md").exists() and content["short"]
    return {table["title"]: table["rows"] for table in content["tables"]}


def test_short_form(tmp_path, monkeypatch):
    asked = []

    def run(command, **_):
        asked.extend(command)
        return subprocess.CompletedProcess(command, 0, "...\n3 skipped in 1.00s\n", "")

    monkeypatch.setattr(gpu.subprocess, "run", run)
    gpu.main([*WORDS, str(tmp_path)])
    found = tables(tmp_path)
    parts = found.pop("Parts")
    assert {row["part"]: row["state"] for row in parts} == dict.fromkeys(gpu.PARTS, "done")
    assert list(found) == [part.__doc__ for _, part in gpu.PARTS.values()]
    (peaks,) = found[gpu.peaks.__doc__]
    assert peaks["fp32, TFLOP/s"] > 0 and peaks["tf32, TFLOP/s"] is None
    assert "tests/knn/test_knn.py" in asked and found[gpu.tests.__doc__][0]["result"][0] == "3"
    for name in (gpu.neighbours, gpu.likelihood, gpu.hamming_map):
        for row in found[name.__doc__]:
            assert row["CPU s"] > 0 and "GPU s" not in row
            assert row["of the fp32 product"] > 0
    (trained,) = found[gpu.wikipedia.__doc__]
    assert trained["s an epoch"] > 0 and 0 < trained["i2t"] <= 1


def test_a_part_that_fails_or_comes_too_late_is_named(tmp_path, monkeypatch):
    def good(run):
        """Good"""
        yield run.row("two", lambda device: lambda: torch.ones(2), flop=4e6, moved=8e6)

    def bad(run):
        """Bad"""
        assert tables(tmp_path)["Parts"][0]["state"] == "done"  # written already
        yield {"case": "one"}
        raise MemoryError("no room\nat all")

    monkeypatch.setattr(gpu, "PARTS", {"good": (0, good), "bad": (0, bad), "more": (0, good)})
    gpu.main([*WORDS, str(tmp_path)])
    found = tables(tmp_path)
    states = [row["state"] for row in found["Parts"]]
    assert states == ["done", "failed: MemoryError: no room", "done"]
    assert found["Bad"] == [{"case": "one"}]
    assert found["Good"][0]["GB/s"] == pytest.approx(2000 * found["Good"][0]["TFLOP/s"])
    gpu.main([*WORDS, str(tmp_path), "--minutes", "-1"])
    assert all(row["state"].startswith("skipped") for row in tables(tmp_path)["Parts"])


def test_both_devices_are_compared(monkeypatch):
    """With the CPU in the GPU's place: what is said of each is of its own time."""
    monkeypatch.setattr(gpu.torch.cuda, "empty_cache", lambda: None)
    run = gpu.Run("meta", False, float("inf"))
    run.peaks = {"meta": {"fp32": 8e12, "copy": 1e9}}
    monkeypatch.setattr(run, "seconds", lambda case, device, repeats: {"cpu": 2.0}.get(device, 0.5))
    results = {"cpu": [torch.tensor([1.0, 4.0])], "meta": [torch.tensor([1.0, 3.0])]}
    row = run.row("x", lambda device: lambda: results[device], flop=2e12, moved=1e8)
    assert (row["CPU s"], row["GPU s"], row["times as fast"]) == (2.0, 0.5, 4.0)
    assert row["difference"] == 0.25
    assert (row["of the fp32 product"], row["of the copy"]) == (0.5, 0.2)
    assert "of the bf16 product" not in row
    assert run.row("x", lambda device: lambda: results[device], cpu=False)["CPU s"] is None
    run.until = 0.0
    with pytest.raises(TimeoutError):
        run.row("x", lambda device: lambda: results[device])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path):
    with pytest.raises(SystemExit, match="no CUDA GPU"):
        gpu.main(["--out", str(tmp_path)])
