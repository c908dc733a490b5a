"""The choice of the contrast's weight: its rule, what it runs on, and its page."""

import json

import pytest
from toy import toy_data

from benchmarks.accuracy.data import SOURCES, DataSource
from benchmarks.accuracy.methods import METHODS
from benchmarks.contrast import RECALL, Scores, chosen, main, page
from benchmarks.tune import RESULTS


def test_the_rule_takes_the_worthiest_that_costs_little():
    now = {0.0: Scores(0.6, 0.2)}
    assert chosen(now) == 0
    assert chosen(now | {0.1: Scores(0.596, 0.25), 0.3: Scores(0.596, 0.24)}) == 0.1
    assert chosen(now | {0.1: Scores(0.594, 0.9)}) == 0  # costs too much of mAP
    assert chosen(now | {0.1: Scores(0.7, 0.2)}) == 0  # finds no more pairs
    assert chosen(now | {0.1: Scores(0.5951, 0.2001)}) == 0  # is worth less


def line(weight, seed, value, recall):
    where = {"method": "MCGCN", "data": "emoji", "labels": 0.3, "seed": seed, "weight": weight}
    return where | {"mAP": value, RECALL: recall, "held_out": 89, "commit": "a" * 40}


def test_the_page_compares_weights_under_the_same_seeds():
    lines = [line(0.0, 0, 0.5, 0.2), line(0.0, 1, 0.7, 0.4), line(0.1, 0, 0.5, 0.3)]
    text = page(lines)
    assert "| emoji | 30% | 0 | .500 | .200 | .600 | 89 | 1 |" in text
    assert "| emoji | 30% | 0.1 | .500 | .300 | .650 | 89 | 1 |" in text
    assert "Worth in the mean: 0: .600, 0.1: .650. By the rule: **0.1**." in text


def test_runs_are_kept_and_not_run_again(tmp_path, monkeypatch, capsys):
    def toy(root):
        return toy_data(100, noise=3.0, num_queries=20, features=(40, 36))

    monkeypatch.setitem(SOURCES, "emoji", DataSource("emoji", "emoji", toy, "a toy"))
    monkeypatch.setitem(METHODS, "SGEH", METHODS["SGEH"].with_values({"epochs": 1, "k": 5}))
    words = ["SGEH", "--emoji", "x", "--out", str(tmp_path), "--seeds", "3", "--weights", "0"]
    main(words)
    main([*words, "0.5"])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    made = [json.loads(one) for one in (tmp_path / "contrast.jsonl").read_text().splitlines()]
    assert [(one["seed"], one["weight"], one["labels"]) for one in made] == [
        (3, 0.0, None),
        (3, 0.5, None),
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
