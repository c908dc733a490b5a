"""The choice of settings: its rule, what it runs on, and its page."""

import json

import pytest
from toy import toy_data

from benchmarks.accuracy.data import SOURCES, DataSource
from benchmarks.accuracy.methods import METHODS
from benchmarks.contrast import OWN, RECALL, Scores, chosen, main, page
from benchmarks.tune import RESULTS
from pyg_hash.models import taught


def test_the_rule_takes_the_worthiest_that_costs_little():
    now = {OWN: Scores(0.6, 0.2)}
    assert chosen(now) == OWN
    assert chosen(now | {"a": Scores(0.596, 0.25), "b": Scores(0.596, 0.24)}) == "a"
    assert chosen(now | {"a": Scores(0.594, 0.9)}) == OWN  # costs too much of mAP
    assert chosen(now | {"a": Scores(0.7, 0.2)}) == OWN  # finds no more pairs
    assert chosen(now | {"a": Scores(0.5951, 0.2001)}) == OWN  # is worth less


def line(setting, seed, value, recall):
    where = {"method": "MCGCN", "data": "emoji", "labels": 0.3, "seed": seed, "setting": setting}
    return where | {"mAP": value, RECALL: recall, "held_out": 89, "commit": "a" * 40}


def test_the_page_compares_settings_under_the_same_seeds():
    lines = [line(OWN, 0, 0.5, 0.2), line(OWN, 1, 0.7, 0.4), line("dropout=0.2", 0, 0.5, 0.3)]
    text = page(lines)
    assert "| emoji | 30% | as it is | .500 | .200 | .600 | 89 | 1 |" in text
    assert "| emoji | 30% | dropout=0.2 | .500 | .300 | .650 | 89 | 1 |" in text
    assert (
        "Worth in the mean: as it is: .600, dropout=0.2: .650. By the rule: **dropout=0.2**."
        in text
    )


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    data = toy_data(100, noise=3.0, num_queries=20, features=(40, 36))
    monkeypatch.setitem(SOURCES, "emoji", DataSource("emoji", "emoji", lambda _: data, "a toy"))


def test_runs_are_kept_and_not_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "SGEH", METHODS["SGEH"].with_values({"epochs": 1, "k": 5}))
    words = ["SGEH", "--emoji", "x", "--out", str(tmp_path), "--seeds", "3", "--settings"]
    main([*words, "dropout=0.2"])
    main([*words, "dropout=0.2", "weights.contrast=0.5"])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    made = [json.loads(one) for one in (tmp_path / "contrast.jsonl").read_text().splitlines()]
    assert [(one["seed"], one["setting"], one["labels"]) for one in made] == [
        (3, OWN, None),
        (3, "dropout=0.2", None),
        (3, "weights.contrast=0.5", None),
    ]
    assert all(0 < one["mAP"] <= 1 and 0 <= one[RECALL] <= 1 for one in made)
    assert "## SGEH" in (tmp_path / "contrast.md").read_text()


def test_the_committed_page_is_of_the_committed_runs():
    lines = [json.loads(one) for one in (RESULTS / "contrast.jsonl").read_text().splitlines()]
    assert (RESULTS / "contrast.md").read_text() == page(lines)


def test_what_is_wrong_is_said(capsys):
    with pytest.raises(SystemExit):
        main(["ITQ"])
    with pytest.raises(SystemExit):
        main(["SGEH"])
    assert "--emoji PLACE" in capsys.readouterr().err


def test_constants_of_a_row_without_labels(tmp_path, monkeypatch):
    name, seen = "TaughtHash, no labels", []
    monkeypatch.setitem(METHODS, name, METHODS[name].with_values({"epochs": 1}))
    posterior = taught.TaughtHash.posterior

    def watched(self, data):
        assert not data["image"].labeled_mask.any()
        seen.append(taught.ALPHA)
        return posterior(self, data)

    monkeypatch.setattr(taught.TaughtHash, "posterior", watched)
    where = ["--emoji", "x", "--out", str(tmp_path), "--seeds", "3"]
    main([name, *where, "--settings", "ALPHA=2", "SHARE=0.4"])
    own = taught.ALPHA
    assert list(dict.fromkeys(seen)) == [own, 2]
    made = [json.loads(one) for one in (tmp_path / "contrast.jsonl").read_text().splitlines()]
    assert [one["setting"] for one in made] == [OWN, "ALPHA=2", "SHARE=0.4"]
    assert {one["held_out"] for one in made} == {16}
