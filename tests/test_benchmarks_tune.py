"""The search for settings: on held-out labelled items, resumable, and written down."""

import json

import pytest
from toy import toy_data

from benchmarks.accuracy.data import SOURCES, DataSource
from benchmarks.accuracy.methods import METHODS
from benchmarks.tune import (
    SPACES,
    ask,
    cases,
    defaults,
    main,
    open_study,
    space_of,
)


@pytest.fixture
def toys(monkeypatch):
    """Toys in place of the data sets."""

    def toy(root):
        return toy_data(100, noise=3.0, num_queries=20, features=(40, 36))

    for name in ("wikipedia", "emoji"):
        monkeypatch.setitem(SOURCES, name, DataSource(name, name, toy, "a toy"))


@pytest.mark.parametrize("name", SPACES)
def test_spaces_hold_todays_defaults_and_are_settings_of_the_method(name):
    optuna = pytest.importorskip("optuna")
    space = space_of(name)
    now = defaults(name, space)
    for setting, value in now.items():
        kind, *of = space[setting]
        assert value in of[0] if kind == "One" else of[0] <= value <= of[1], setting
    found = ask(optuna.trial.FixedTrial(now), space)
    assert found == now
    row = METHODS[name].with_values(found)
    row.train_config(8, 0.5 if row.labels else None, 0, "inductive")  # raises for unknown ones


def test_values_go_where_they_belong():
    """Rows share options in methods.yaml, so none may change."""
    row = METHODS["SGCH reversal, paper's weight"]
    found = row.with_values({"lr": 0.5, "k": 7, "model.dropout": 0.2, "graph.neighbor_weight": 0.3})
    assert (found.config["lr"], found.config["k"]) == (0.5, 7)
    assert found.config["model_options"] == {"adversary": "reversal", "dropout": 0.2}
    assert found.config["graph_options"] == {"neighbor_weight": 0.3}
    for name in (row.name, "SGCH, paper's weight"):
        assert METHODS[name].config["graph_options"] == {"neighbor_weight": 1.0}


def test_cases_go_seed_by_seed():
    found = cases("MCGCN", ["a", "b"], [0.3, 1.0], [0, 1])
    assert [case.seed for case in found] == [0] * 4 + [1] * 4
    assert {(case.data, case.labels) for case in found[:4]} == {
        (data, rate) for data in "ab" for rate in (0.3, 1.0)
    }
    assert [case.labels for case in cases("ITQ", ["a"], [0.3, 1.0], [5])] == [None]


def test_the_search_stops_goes_on_and_is_written_down(toys, tmp_path, capsys):
    pytest.importorskip("optuna")

    words = ["ITQ", "--wikipedia", "x", "--out", str(tmp_path), "--seeds", "0", "--fresh", "7"]
    words += ["--best", "1"]
    main([*words, "--trials", "3"])
    first = json.loads((tmp_path / "ITQ.json").read_text())
    assert len(first["trials"]) == 3
    assert [trial["is_default"] for trial in first["trials"]] == [True, False, False]
    assert first["trials"][0]["values"] == first["defaults"]
    again = [trial["number"] for trial in first["trials"] if trial["fresh"]]
    assert 0 in again and len(again) <= 2  # the best one, and the defaults
    assert first["chosen_trial"] in again
    assert first["chosen"] == first["trials"][first["chosen_trial"]]["values"]
    assert {"commit", "versions", "seeds", "fresh_seeds", "space"} <= set(first)
    capsys.readouterr()

    main([*words, "--trials", "5"])
    said = capsys.readouterr().out
    assert "trial 4:" in said and "trial 0:" not in said
    second = json.loads((tmp_path / "ITQ.json").read_text())
    assert second["trials"][:3] == [
        t | {"fresh": s["fresh"]} for t, s in zip(first["trials"], second["trials"], strict=False)
    ]
    text = (tmp_path / "ITQ.md").read_text()
    assert "| `model.ridge` | 0.01 to 1000, log | 10 |" in text
    assert "(default)" in text and "(chosen)" in text
    with pytest.raises(SystemExit, match="holds trials on other data"):
        main([*words[:-4], "--fresh", "7", "--seeds", "1", "--trials", "5"])


def test_settings_that_diverge_end_early(toys, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    import benchmarks.tune as command

    def worth(bench, values, case):
        if values["model.ridge"] != 10.0:
            raise FloatingPointError("loss is nan")
        return 0.5

    monkeypatch.setattr(command, "worth", worth)
    command.main(["ITQ", "--wikipedia", "x", "--out", str(tmp_path), "--trials", "3"])
    found = json.loads((tmp_path / "ITQ.json").read_text())
    assert [trial["score"] for trial in found["trials"]] == [0.5, None, None]
    assert found["chosen_trial"] == 0
    assert "| 0 (default) (chosen) | .500 | .500 |" in (tmp_path / "ITQ.md").read_text()


def test_what_is_wrong_is_said(tmp_path, capsys, monkeypatch):
    import sys

    with pytest.raises(SystemExit):
        main(["ITQ", "--out", str(tmp_path)])
    assert "--wikipedia PLACE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["KNN"])
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit, match="pip install"):
        open_study(tmp_path / "x.journal", "ITQ", {})


def test_a_default_outside_the_bounds_widens_them(monkeypatch):
    import benchmarks.tune as objective

    space = {
        "a": ("Between", 1.0, 2.0, True),
        "b": ("Whole", 10, 20, 5),
        "c": ("One", (1, 2)),
        "d": ("One", (1, 2)),
    }
    monkeypatch.setitem(objective.SPACES, "X", space)
    now = {"a": 0.5, "b": 30, "c": 2, "d": 3}
    monkeypatch.setattr(objective, "defaults", lambda name, space: now)
    assert objective.space_of("X") == {
        "a": ("Between", 0.5, 2.0, True),
        "b": ("Whole", 10, 30, 5),
        "c": ("One", (1, 2)),
        "d": ("One", (1, 2, 3)),
    }
