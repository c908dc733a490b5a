"""The tables of the benchmark, by hand."""

import pytest
from scripts import benchmark_scripts


@pytest.fixture(autouse=True)
def scripts():
    with benchmark_scripts():
        yield


def fake(method, scores, *, data="toy", labels=None):
    """Cells of a method, one a seed; ``scores`` are i2t, and t2i is half of them."""
    import suite

    return [
        {
            "data": data,
            "labels": labels,
            "method": method,
            "seed": seed,
            "i2t": score,
            "t2i": score / 2,
            "i2i": 0.1,
            "t2t": 0.2,
            "protocol": "inductive",
            "definition": "mAP@all",
            "seconds": {"train": 2.0, "encode": 1.0},
            "described": suite.METHODS[method].described(),
        }
        for seed, score in enumerate(scores)
    ]


def test_sign_is_zero_within_one_pooled_deviation():
    from report import Row, sign

    full = Row(fake("SGEH", [0.5, 0.6, 0.7]))  # mean .6, deviation .1
    close = Row(fake("SGEH-1", [0.46, 0.56, 0.66]))  # mean .56, deviation .1
    assert full.spread("i2t") == pytest.approx(0.1)
    assert sign(close, full, "i2t") == "0"
    lower = Row(fake("SGEH-1", [0.44, 0.44, 0.44]))  # pooled: .1 / sqrt(2) = .071
    assert sign(lower, full, "i2t") == "-"
    assert sign(full, lower, "i2t") == "+"
    assert sign(Row(fake("SGEH-1", [0.1])), full, "i2t") == "?"


def test_verdicts():
    from report import verdict

    assert verdict(("-", "-"), ("-", "-")) == "agrees"
    assert verdict(("-", "0"), ("-", "-")) == "agrees in part"
    assert verdict(("0", "0"), ("-", "-")) == "no effect seen"
    assert verdict(("+", "-"), ("-", "-")) == "contradicts"
    assert verdict(("+", "0"), ("?", "?")) == "no claim"
    assert verdict(("?", "?"), ("-", "-")) == "open"


def test_tables_by_hand():
    import report

    cells = fake("class codes", [0.4, 0.4], labels=1.0)
    cells += fake("class codes, centred", [0.3, 0.3], labels=1.0)
    for cell in cells[2:]:
        cell["t2i"] = 0.5  # the other one is better here: each direction has its own bar
    cells += fake("GCH", [0.6, 0.6], labels=1.0) + fake("GCH-A", [0.7, 0.7], labels=1.0)
    text = report.markdown({"about": {"threads": 1}, "cells": dict(enumerate(cells))})
    assert "### toy, 100% of the labels" in text
    assert "### toy, 30% of the labels" not in text
    line = next(line for line in text.splitlines() if line.startswith("| GCH |"))
    assert line.split("|")[4:6] == [" 0.600 ± 0.000 ", " 0.300 ± 0.000 "]
    assert line.split("|")[-4:-1] == [" +0.200 ", " -0.200 ", " 3 "]
    ablation = next(line for line in text.splitlines() if line.startswith("| toy | GCH-A |"))
    assert "| +0.100 / +0.050 | + / + | - / - | contradicts |" in ablation


def test_sgeh_2_is_a_bar_for_sgeh():
    import report

    cells = fake("ITQ on CCA", [0.5]) + fake("SGEH-2 (DJSRH-style)", [0.6]) + fake("SGEH", [0.55])
    scores = report.rows(cells)
    table = report.comparison(scores, "toy", None, ["ITQ on CCA", "SGEH-2 (DJSRH-style)", "SGEH"])
    assert table.splitlines()[-1].split("|")[-4].strip() == "-0.050"


def test_cells_of_other_settings_are_left_out():
    import report

    cells = fake("SGEH", [0.5, 0.6])
    cells[0]["described"] = cells[0]["described"] | {"num_bits": 16}
    assert len(report.rows(cells)["toy", None, "SGEH"].cells) == 1
    cells[1]["method"] = "a row of old"
    assert report.rows(cells) == {}
