"""``python -m benchmarks.accuracy``: from the command line to the page."""

import json
import multiprocessing
import re
from dataclasses import replace
from pathlib import Path

import pytest
from toy import toy_data

from benchmarks.accuracy import __main__ as module
from benchmarks.accuracy import cell as cells
from benchmarks.accuracy import store
from benchmarks.accuracy.__main__ import _parser, chosen
from benchmarks.accuracy.cell import Bench, Done
from benchmarks.accuracy.data import SOURCES, DataSource
from benchmarks.accuracy.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def command(monkeypatch, tmp_path):
    """The command on toys, its cells run in this process."""
    ran = []

    def run_all(cells, extras, places, *, jobs, changes, wanted=None, worths=None):
        bench = Bench(places, {"epochs": 2})
        for cell in cells:
            if wanted and not wanted(cell):
                continue
            ran.append(cell)
            try:
                bench._worths.clear()  # as another process
                yield Done(cell, bench.run(cell, extras, worths and worths(cell)))
            except FloatingPointError as error:
                yield Done(cell, None, f"FloatingPointError: {error}\ntraceback")

    def toy(root):
        assert root == "here"
        return toy_data(noise=3.0, features=(24, 21))

    monkeypatch.setattr(module, "run_all", run_all)
    # drawing is most of the time here, and tested with the page and by the short form
    monkeypatch.setattr(module, "draw_table", lambda table, lines, path: path.touch())
    monkeypatch.setattr(cells, "CHOICE_SEEDS", (0,))
    row = METHODS["SGCH, chosen"]
    monkeypatch.setitem(METHODS, row.name, replace(row, choices=row.choices[:2]))
    # whatever the command compares with is the methods of two epochs
    fits = store.current
    for where in (module, store):
        monkeypatch.setattr(where, "current", lambda lines, _=None: fits(lines, {"epochs": 2}))
    monkeypatch.setitem(SOURCES, "wikipedia", DataSource("Toy", "wikipedia", toy, "a toy"))
    monkeypatch.setitem(SOURCES, "emoji", DataSource("Other toy", "emoji", toy, "a toy"))

    def call(*words):
        ran.clear()
        module.main([*words, "--out", str(tmp_path)])
        return list(ran)

    return call


TABLE = ("mcgcn-table3", "--wikipedia", "here", "--seeds", "0", "--bits", "8")
ROWS = ("--methods", "MCGCN", "MCGCN-S", "--protocols", "inductive", "strict")


def test_a_table_is_run_once_and_goes_on_where_it_stopped(command, tmp_path, capsys):
    done = command(*TABLE, *ROWS)
    assert len(done) == 2 * 2
    said = capsys.readouterr()
    assert said.out.count("i2t") == 4
    assert "wikipedia: 48 train, 12 query, 48 database" in said.out
    assert "--emoji PLACE   for emoji" in said.err
    path = tmp_path / "mcgcn-table3.jsonl"
    stored = [json.loads(text) for text in path.read_text().splitlines()]
    assert len(stored) == 4
    wanted = {"commit", "versions", "finished", "threads", "table", "definition", "settings"}
    wanted |= {"data_sha256", "split_sha256", "labelled_sha256", "scores", "seconds", "protocol"}
    assert all(wanted <= set(line) for line in stored)
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown.*", stored[0]["commit"])
    page = (tmp_path / "mcgcn-table3.md").read_text()
    assert "| MCGCN | strict |" in page and "## Toy" in page
    assert (tmp_path / "mcgcn-table3.png").exists()

    assert command(*TABLE, *ROWS) == []
    (tmp_path / "mcgcn-table3.md").unlink()
    assert command("mcgcn-table3", "--render") == []
    assert (tmp_path / "mcgcn-table3.md").read_text() == page
    path.write_text("".join(path.read_text().splitlines(keepends=True)[3:]))
    assert len(command(*TABLE, *ROWS)) == 3
    one = (*TABLE, "--methods", "MCGCN", "--protocols", "inductive")
    assert {cell.seed for cell in command(*one, "--seeds", "0", "2")} == {2}
    assert len(command(*one, "--force")) == 1
    assert len(command(*one, "--emoji", "here", "--data", "emoji")) == 1
    page = (tmp_path / "mcgcn-table3.md").read_text()
    assert "## Toy" in page and "## Other toy" in page
    command("gch-table1", "--render")
    assert "not run yet" in (tmp_path / "gch-table1.md").read_text()

    # a cell of another table is not run again
    words = ("overview", "--wikipedia", "here", "--data", "wikipedia", "--bits", "8")
    words += ("--seeds", "0", "--rates", "0.3", "--methods", "MCGCN", "ClassCodes")
    assert {(cell.method, cell.protocol) for cell in command(*words)} == {
        ("ClassCodes", "inductive"),
        ("MCGCN", "transductive"),
    }


def test_a_place_without_the_files_is_said_before_anything_is_run(
    command, monkeypatch, capsys, tmp_path
):
    real = SOURCES["wikipedia-bow"]._replace(option="emoji")
    monkeypatch.setitem(SOURCES, "emoji", real)
    with pytest.raises(SystemExit):
        command(*TABLE, *ROWS, "--emoji", str(tmp_path / "gone"))
    said = capsys.readouterr().err
    assert "mcgcn-table3: " in said and "image128.h5" in said and "Traceback" not in said


def test_cells_of_other_settings_are_run_again(command, monkeypatch, tmp_path):
    from pyg_hash.recipes import METHODS as RECIPES

    words = (*TABLE, "--methods", "MCGCN", "ClassCodes", "--protocols", "inductive")
    assert len(command(*words)) == 2
    monkeypatch.setitem(RECIPES["MCGCN"], "lr", 0.5)
    command("mcgcn-table3", "--render")
    page = (tmp_path / "mcgcn-table3.md").read_text()
    assert "1 stored cells under other settings are left out" in page
    assert {cell.method for cell in command(*words)} == {"MCGCN"}
    page = (tmp_path / "mcgcn-table3.md").read_text()
    assert "MCGCN: optimizer Adam, lr 0.5" in page and "left out" not in page


def test_a_choice_is_made_once_and_the_page_says_it(command, tmp_path, monkeypatch):
    made = []
    find = Bench.worths

    def counted(bench, cell):
        made.append(cell)
        return find(bench, cell)

    monkeypatch.setattr(Bench, "worths", counted)
    words = ("overview", "--wikipedia", "here", "--data", "wikipedia", "--seeds", "0", "1")
    words += ("--rates", "0.3", "--protocols", "inductive", "--methods", "SGCH, chosen")
    assert len(command(*words)) == 2
    assert len(made) == 1
    stored = [json.loads(t) for t in (tmp_path / "overview.jsonl").read_text().splitlines()]
    (chosen_one,) = {line["choice"]["chosen"] for line in stored}
    page = (tmp_path / "overview.md").read_text()
    line = next(t for t in page.splitlines() if f"| 30% | {chosen_one} |" in t)
    assert line.startswith("| SGCH, chosen | inductive |")
    assert "for graph.neighbor_weight=0.2 |" in line
    assert len(command(*words, "--bits", "8")) == 2
    assert len(made) == 1  # read back
    command(*words, "--force")
    assert len(made) > 1


def test_cells_that_diverge_are_named_and_the_others_run(command, monkeypatch, capsys, tmp_path):
    from pyg_hash.recipes import METHODS as RECIPES

    monkeypatch.setitem(RECIPES["MCGCN"], "lr", 1e30)
    with pytest.raises(SystemExit) as stop:
        command(*TABLE[:-1], "8", "--methods", "MCGCN", "GCH", "--protocols", "inductive")
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert "wikipedia, MCGCN, 8 bits, 30%, seed 0, inductive: FloatingPointError" in said.err
    assert said.out.count("i2t") == 1
    assert "| GCH |" in (tmp_path / "mcgcn-table3.md").read_text()


def test_what_is_wrong_is_said_before_anything_runs(command, capsys):
    for words, expected in (
        (("mcgcn-table9",), "invalid choice"),
        (("mcgcn-table1",), "there are no data"),
        (("mcgcn-table2",), "NUSWIDE10K"),
        (("mcgcn-table1", "--wikipedia", "here", "--methods", "GCN"), "invalid choice: 'GCN'"),
        (("mcgcn-table1", "--protocols", "honest"), "invalid choice"),
    ):
        with pytest.raises(SystemExit) as stop:
            command(*words)
        assert stop.value.code == 2
        assert expected in capsys.readouterr().err


def test_the_short_form_for_real(tmp_path, capsys, monkeypatch):
    """The command as it is typed, with a worker: planted clusters."""
    monkeypatch.setattr(cells, "forks", lambda: multiprocessing.get_context("fork"))  # at once
    words = ["--short", "--methods", "GCH", "ClassCodes", "--out", str(tmp_path)]
    module.main(["gch-curves", *words])
    assert "gch-curves: 2 cells, 2 to run" in capsys.readouterr().out
    lines = [json.loads(t) for t in (tmp_path / "gch-curves.jsonl").read_text().splitlines()]
    assert {line["method"] for line in lines} == {"GCH", "ClassCodes"}
    assert all(line["curves"]["t2i"]["recall"][-1] == 1.0 for line in lines)
    assert "Short form" in (tmp_path / "gch-curves.md").read_text()
    assert (tmp_path / "gch-curves.png").stat().st_size > 1000
    with pytest.raises(SystemExit):
        module.main(["--help"])
    assert "sgeh-fig3" in capsys.readouterr().out


def test_make_accuracy_is_a_command_that_exists():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    typed = re.search(r"python -m benchmarks\.accuracy (.*)", makefile)[1]
    args = _parser().parse_args(typed.split())
    table = chosen(args)
    assert (table.name, args.emoji) == ("overview", "data/emoji")
    assert {cell.data for cell in table.cells()} == {"emoji"}
    assert {cell.protocol for cell in table.cells()} == {"inductive"}
    assert str(args.out).startswith("build/")  # not among what is committed
