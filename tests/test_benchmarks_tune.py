"""The search for settings: on held-out labelled items, resumable, and written down."""

import json

import pytest
import torch
from toy import toy_data

from benchmarks.accuracy.cell import Bench
from benchmarks.accuracy.data import SOURCES, DataSource
from benchmarks.accuracy.methods import METHODS
from benchmarks.accuracy.tables import Cell
from benchmarks.tune import (
    SPACES,
    ask,
    cases,
    defaults,
    main,
    open_study,
    space_of,
    worth,
)


@pytest.fixture
def toys(monkeypatch):
    """Toys in place of the data sets."""

    def toy(root):
        return toy_data(100, noise=3.0, num_queries=20, features=(40, 36))

    for name in ("wikipedia", "emoji"):
        monkeypatch.setitem(SOURCES, name, DataSource(name, name, toy, "a toy"))


class Trial:
    """Takes the lowest value, or the first."""

    def suggest_float(self, name, low, high, *, log):
        assert low < high and (low > 0 or not log), name
        return low

    def suggest_int(self, name, low, high, *, step):
        assert (high - low) % step == 0, name
        return low

    def suggest_categorical(self, name, of):
        return of[0]


@pytest.mark.parametrize("name", SPACES)
def test_spaces_hold_todays_defaults_and_are_settings_of_the_method(name):
    space = space_of(name)
    for setting, value in defaults(name, space).items():
        kind, *of = space[setting]
        assert value in of[0] if kind == "One" else of[0] <= value <= of[1], setting
    row = METHODS[name].with_values(ask(Trial(), space))
    row.train_config(8, 0.5 if row.labels else None, 0, "inductive")  # raises for unknown ones


def test_values_go_where_they_belong():
    row = METHODS["SGEH"].with_values(
        {"lr": 0.5, "k": 7, "model.alpha": 1.2, "graph.num_clusters": 4}
    )
    config = row.train_config(8, None, 0, "inductive")
    assert (config.lr, config.k) == (0.5, 7)
    assert config.model_options == {"alpha": 1.2}
    assert config.graph_options == {"progress": False, "num_clusters": 4}
    assert METHODS["SGEH"].config == {"graph_options": {"progress": False}}  # as it was


def test_cases_go_seed_by_seed():
    found = cases("MCGCN", ["a", "b"], [0.3, 1.0], [0, 1])
    assert [case.seed for case in found] == [0] * 4 + [1] * 4
    assert {(case.data, case.labels) for case in found[:4]} == {
        (data, rate) for data in "ab" for rate in (0.3, 1.0)
    }
    assert [case.labels for case in cases("ITQ", ["a"], [0.3, 1.0], [5])] == [None]


@pytest.mark.parametrize("name", ["MCGCN", "ITQ"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_worth_is_the_map_of_held_out_items(toys, name):
    """Other labels and features of the queries leave it what it is."""
    values = {"MCGCN": {"epochs": 2, "lr": 1e-2}, "ITQ": {"model.ridge": 1.0}}[name]
    if name == "ITQ":
        values["model.weighted"] = True
    labels = 0.5 if name == "MCGCN" else None
    case = Cell("wikipedia", name, 32, labels, 0, "inductive")
    bench = Bench({"wikipedia": ""})
    before = worth(bench, values, case)
    assert 0.2 < before <= 1
    poisoned = toy_data(100, noise=3.0, num_queries=20, features=(40, 36))
    queries = poisoned["image"].query_mask
    for modality in ("image", "text"):
        poisoned[modality].y[queries] = 0
        poisoned[modality].x[queries] = torch.randn_like(poisoned[modality].x[queries])
    bench = Bench({"wikipedia": ""})
    bench._raw = {"wikipedia": poisoned}
    assert worth(bench, values, case) == pytest.approx(before)


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
