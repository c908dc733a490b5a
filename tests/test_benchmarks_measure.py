"""How the benchmarks measure: who takes turns, what counts as memory, what is said of failures."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from alone_cases import MEGABYTE, fail, fail_as_second, fill
from torch.multiprocessing import ProcessRaisedException

from benchmarks import measure
from benchmarks.measure import alone, in_ranks

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
DOC = """Headline.

    python -m benchmarks.toy

Two lines
of protocol.
"""


@linux
def test_extra_memory_is_that_of_the_call_alone():
    little, result = (alone(fill, size, before=48) for size in (16, 64))
    # less the code that the call touches first, 4 to 15 MB by the build of torch
    extra = result.extra_bytes - little.extra_bytes
    assert extra == pytest.approx(48 * MEGABYTE, abs=4 * MEGABYTE)
    assert little.extra_bytes < 48 * MEGABYTE
    assert result.value == {"sum": 2, "threads": 1}
    assert result.wall_seconds > 0 and result.cpu_seconds > 0


@linux
def test_failures_of_a_case_are_told_apart():
    with pytest.raises(RuntimeError, match="ValueError: no such thing"):
        alone(fail, "no such thing")
    with pytest.raises(MemoryError, match="fill"):
        alone(fill, 3000, before=0, limit_gb=1.5)


def test_the_largest_difference():
    want = [torch.tensor(2.0), torch.tensor([[4.0, 1.0]])]
    found = [torch.tensor(2.2), torch.tensor([[4.5, 1.0]])]
    assert measure.difference(found, want) == pytest.approx(0.125)
    assert measure.difference(found[::-1], want[::-1]) == pytest.approx(0.125)
    for wrong in ([want[0], want[1] * math.nan], [want[0] * math.nan, want[1]]):
        assert math.isnan(measure.difference(wrong, want))


@linux
def test_a_rank_that_fails_ends_the_others():
    with pytest.raises(ProcessRaisedException, match="ValueError: no such thing"):
        in_ranks(2, fail_as_second)


@pytest.fixture
def in_full(monkeypatch):
    monkeypatch.setattr(measure, "quick", False)


def test_cases_take_turns_and_the_smallest_time_counts(monkeypatch, in_full):
    clock, order = [0.0], []
    monkeypatch.setitem(measure.CLOCKS, "cpu", lambda: clock[0])
    durations = {"a": iter([5.0, 1.0, 3.0]), "b": iter([2.0, 4.0, 6.0])}

    def case(name):
        def run():
            order.append(name)
            clock[0] += next(durations[name])

        return run

    best = measure.side_by_side({"a": case("a"), "b": case("b")}, repeats=3)
    assert order == ["a", "b"] * 3
    assert best == {"a": 1.0, "b": 2.0}


def test_short_cases_take_more_turns(monkeypatch, in_full):
    clock, calls = [0.0], []
    monkeypatch.setitem(measure.CLOCKS, "wall", lambda: clock[0])

    def run():
        calls.append(1)
        clock[0] += 0.0625

    measure.side_by_side({"a": run}, repeats=2, at_least=0.5, clock="wall")
    assert len(calls) == 8
    calls.clear()
    measure.side_by_side({"a": run}, repeats=2, at_least=1000.0, clock="wall")
    assert len(calls) == 50
    monkeypatch.setattr(measure, "quick", True)
    calls.clear()
    measure.side_by_side({"a": run}, repeats=2, at_least=0.5, clock="wall")
    assert len(calls) == 1


def test_gemm_rate_counts_two_operations_a_product(monkeypatch):
    monkeypatch.setattr(measure, "side_by_side", lambda cases, clock: {"mm": 0.5})
    assert measure.gemm_rate(size=10) == 4000


def test_options(tmp_path, monkeypatch, capsys, in_full):
    monkeypatch.setattr(measure.importlib.util, "find_spec", lambda name: name != "faiss" or None)
    short = measure.options(DOC, ["--short"])
    assert short.short and short.out.parts[-2:] == ("build", "bench")
    full = measure.options(DOC, [])
    assert not full.short and full.out.parts[-2:] == ("benchmarks", "results")
    args = measure.options(DOC, ["--out", str(tmp_path), "--device", "cpu"], device="cuda")
    expected = {"short": False, "out": tmp_path, "device": "cpu"}
    assert vars(args) == expected | {
        "flags": ["--device", "cpu"],
        "protocol": "Two lines of protocol.",
    }
    more = measure.options(DOC, ["--short", "--limit_gb", "7", f"--out={tmp_path}"], limit_gb=1.5)
    assert more.limit_gb == 7.0 and more.flags == ["--short", "--limit_gb", "7"]
    with pytest.raises(SystemExit):
        measure.options(DOC, ["--device", "cpu"])
    monkeypatch.setattr(measure.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        measure.options(DOC, [])
    assert "pyg_hash[bench]" in capsys.readouterr().err
