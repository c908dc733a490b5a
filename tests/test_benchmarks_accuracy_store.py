"""Finished cells in a file, and processes that make them."""

import json
import multiprocessing
import os
import signal

import pytest

from benchmarks.accuracy import cell as pool
from benchmarks.accuracy.data import Content
from benchmarks.accuracy.methods import METHODS
from benchmarks.accuracy.store import Standard, Store
from benchmarks.accuracy.tables import Cell


def cell(seed=0, method="ClassCodes", data="synthetic"):
    return Cell(data, method, 8, 0.5, seed, "inductive")


def line(seed=0, **values):
    return {**cell(seed)._asdict(), "i2t": 0.5, **values}


def store(folder, table="t"):
    return Store(folder, table)


def test_lines_are_read_back_and_the_last_of_a_cell_counts(tmp_path):
    results = store(tmp_path / "deep" / "er")
    assert results.read() == {}
    for seed in (1, 0):
        results.append(line(seed))
    results.append(line(1, i2t=0.7))
    assert results.read() == {cell(1): line(1, i2t=0.7), cell(0): line(0)}
    results.tidy()
    assert [json.loads(t)["seed"] for t in results.path.read_text().splitlines()] == [0, 1]
    assert results.read()[cell(1)]["i2t"] == 0.7


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path):
    results = store(tmp_path)
    results.append(line(0))
    whole = results.path.read_bytes()
    results.path.write_bytes(whole + whole[: len(whole) // 2])
    results.append(line(1))
    assert set(results.read()) == {cell(0), cell(1)}
    results.path.write_bytes(results.path.read_bytes() + b'{"data": "x"}\nnull\n\xff\n')
    assert set(results.read()) == {cell(0), cell(1)}
    results.tidy()
    assert len(results.path.read_text().splitlines()) == 2


def _append(folder, start):
    results = store(folder)
    for seed in range(start, start + 25):
        results.append(line(seed, padding="x" * 5000))
        if seed % 10 == 0:
            results.tidy()


def test_processes_do_not_lose_each_others_lines(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(tmp_path, 100 * i)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    results = store(tmp_path)
    assert {where.seed for where in results.read()} == {
        100 * i + seed for i in range(3) for seed in range(25)
    }
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]  # nothing is left over


# --- what is still to do ------------------------------------------------------------------------


def current(seed=0, extras=(), **values):
    """A line as a run today would write it."""
    about = {"settings": METHODS["ClassCodes"].settings("inductive"), "extras": list(extras)}
    about["scores"] = {"R@10": {"t2i": 0.1}}
    return line(seed, **about, **{"data_sha256": "d", "split_sha256": "s", **values})


def standard(extras=()):
    return Standard(extras, {"synthetic": Content("", "d", "s")})


def test_only_cells_of_the_same_settings_data_and_split_count():
    assert standard().met_by(current())
    assert standard().met_by(current(extras=["curves"]))
    assert standard(("curves",)).met_by(current(extras=["curves", "ties"]))
    assert not standard(("curves",)).met_by(current())
    assert not standard().met_by(current(data_sha256="other"))
    assert not standard().met_by(current(split_sha256="other"))
    assert not standard().met_by(current(data="elsewhere"))
    stale = current()
    stale["settings"] = stale["settings"] | {"options": {}}
    assert not standard().met_by(stale)
    assert not standard().met_by(current(method="a row of old"))
    assert not standard().met_by(current() | {"scores": {"all": {}}})  # older than the measure


def test_cells_of_other_tables_are_taken_over(tmp_path):
    own, other = store(tmp_path), store(tmp_path, "other")
    own.append(current(0))
    other.append(current(0, i2t=0.1))
    other.append(current(1, i2t=0.2))
    other.append(current(2, data_sha256="stale"))
    cells = [cell(seed) for seed in range(4)]
    assert standard().left(cells, own) == [cell(2), cell(3)]
    assert own.read()[cell(0)]["i2t"] == 0.5
    assert own.read()[cell(1)]["i2t"] == 0.2
    assert set(own.read()) == {cell(0), cell(1)}


def chooser(seed=0, bits=8, **values):
    settings = METHODS["SGCH, chosen"].settings("inductive")
    values = {"method": "SGCH, chosen", "settings": settings, "bits": bits, **values}
    return {**current(seed), "choice": {"worths": {"a": 0.5}}, **values}


@pytest.mark.parametrize("where", ["t", "other"])
def test_a_choice_is_read_back_for_other_seeds_and_bits(tmp_path, where):
    results = store(tmp_path)
    asked = cell(5, "SGCH, chosen")
    assert standard().worths(asked, results.all_lines()) is None
    for stale in ({"data_sha256": "x"}, {"labels": 1.0}, {"protocol": "strict"}):
        store(tmp_path, where).append(chooser(**stale))
    old = chooser(seed=3)
    old["settings"] = old["settings"] | {"choices": {"of": [{"graph.neighbor_weight": 0.1}]}}
    store(tmp_path, where).append(old)
    assert standard().worths(asked, results.all_lines()) is None
    store(tmp_path, where).append(chooser(seed=4, bits=64))
    assert standard(("ties",)).worths(asked, results.all_lines()) == {"a": 0.5}
    assert standard().worths(cell(5), results.all_lines()) is None  # a row without a choice


def test_a_row_that_chose_the_settings_of_another_is_run_once(tmp_path):
    results = store(tmp_path)
    for seed, chosen in ((0, "defaults"), (1, "graph.neighbor_weight=0.2")):
        choice = {"chosen": chosen, "worths": {}}
        seconds = {"choose": 9.0, "train": 1.0}
        results.append(chooser(seed, seconds=seconds, choice=choice, i2t=0.7))
    cells = [cell(seed, name) for seed in (0, 1) for name in ("SGCH", "GCH")]
    assert standard().left(cells, results) == [cell(0, "GCH"), *cells[2:]]
    line = results.read()[cell(0, "SGCH")]
    assert standard().met_by(line)
    assert (line["i2t"], line["seconds"], "choice" in line) == (0.7, {"train": 1.0}, False)


def test_a_row_whose_choice_is_known_takes_over_another_row_with_these_settings(tmp_path):
    results = store(tmp_path)
    plain = {"method": "SGCH", "settings": METHODS["SGCH"].settings("inductive")}
    for seed in (1, 2):
        results.append(current(seed, i2t=0.1 * seed, seconds={"train": 1.0}) | plain)
    cells = [cell(seed, "SGCH, chosen") for seed in (1, 2, 3)]
    assert standard().left(cells, results) == cells  # nothing is chosen yet
    longer = "epochs=200, graph.neighbor_weight=0.05"
    worths = {"defaults": 0.5, longer: 0.4}
    results.append(chooser(choice={"chosen": "defaults", "worths": worths}))
    assert standard().left(cells, results) == cells[2:]
    line = results.read()[cells[1]]
    assert standard().met_by(line)
    assert (line["i2t"], line["choice"]) == (0.2, {"chosen": "defaults", "worths": worths})
    other = store(tmp_path / "other")
    other.append(chooser(choice={"chosen": longer, "worths": {**worths, longer: 0.6}}))
    other.append(current(1) | plain)
    assert standard().left(cells, other) == cells


# --- processes ----------------------------------------------------------------------------------


class Killer:
    """In place of ``Bench`` in a worker: a seed that kills it, one that fails."""

    def __init__(self, places, changes):
        pass

    def run(self, which, extras, worths):
        if which.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if which.seed == 2:
            raise FloatingPointError("loss is nan")
        return line(which.seed, extras=list(extras), worths=worths, pid=os.getpid())


@pytest.fixture
def forked(monkeypatch):
    """Workers that inherit what the test has replaced, and start at once."""
    monkeypatch.setattr(pool, "forks", lambda: multiprocessing.get_context("fork"))
    monkeypatch.setattr(pool, "Bench", Killer)
    return pool.run_all


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_worker_that_dies_or_fails_loses_one_cell(forked, jobs):
    cells = [cell(seed) for seed in range(8)]
    done = list(forked(cells, ("ties",), {}, jobs=jobs))
    assert {result.cell for result in done} == set(cells)
    by_seed = {result.cell.seed: result for result in done}
    assert by_seed[1].line is None and "its process ended" in by_seed[1].problem
    assert by_seed[2].line is None
    assert by_seed[2].problem.startswith("FloatingPointError: loss is nan")
    for seed in (0, *range(3, 8)):
        assert by_seed[seed].line["extras"] == ["ties"]
    pids = {result.line["pid"] for result in done if result.line}
    assert len(pids) >= (2 if jobs == 1 else 1)  # the dead one was replaced


def test_cells_that_are_there_meanwhile_do_not_start(forked):
    cells = [cell(seed) for seed in range(3, 9)]
    done = list(forked(cells, (), {}, jobs=2, wanted=lambda which: which.seed % 2 == 0))
    assert sorted(result.cell.seed for result in done) == [4, 6, 8]
    assert list(forked(cells, (), {}, jobs=2, wanted=lambda which: False)) == []


def test_what_is_known_of_a_choice_is_asked_when_a_cell_starts(forked):
    known = {}
    done = forked([cell(seed) for seed in (3, 4)], (), {}, worths=lambda which: dict(known))
    first = next(done)
    assert first.line["worths"] == {}
    known["a"] = 0.5
    assert next(done).line["worths"] == {}  # it had started already
    done = forked([cell(5)], (), {}, worths=lambda which: known)
    assert next(done).line["worths"] == {"a": 0.5}


def test_workers_end_with_the_one_who_asked(forked):
    done = forked([cell(seed) for seed in range(3, 9)], (), {}, jobs=2)
    next(done)
    done.close()
    assert not multiprocessing.active_children()
