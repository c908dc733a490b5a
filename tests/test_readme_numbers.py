"""The README's tables of accuracy say what the committed results say."""

import json
import re
from functools import reduce
from operator import getitem
from pathlib import Path
from statistics import fmean

import pytest

from benchmarks.accuracy.measures import RECALL
from benchmarks.accuracy.methods import METHODS
from benchmarks.accuracy.readme import PAGES, filled, tables
from benchmarks.accuracy.store import Store, current
from benchmarks.accuracy.summary import Groups, Place, digits, versus

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/accuracy"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_are_up_to_date(path):
    text = path.read_text()
    assert filled(text, PAGES[path]) == text, "run: python -m benchmarks.accuracy.readme"


def test_a_number_by_hand():
    lines = (RESULTS / "overview.jsonl").read_text().splitlines()
    cells = [
        cell
        for cell in map(json.loads, lines)
        if (cell["data"], cell["method"], cell["labels"]) == ("emoji", "ClassCodes", 0.3)
    ]
    i2t, t2i = (fmean(cell["scores"]["all"][task] for cell in cells) for task in ("i2t", "t2i"))
    rows = [row.split(" | ") for row in tables()["overview"].splitlines()]
    (row,) = [row for row in rows if row[:2] == ["| 30%", "ClassCodes"]]
    found = [cell["scores"]["R@10"]["t2i"] for cell in cells if "R@10" in cell["scores"]]
    of = "" if len(found) == len(cells) else f" ({len(found)})"  # fewer seeds have it
    assert row[3] == f"{i2t:.3f} / {t2i:.3f}, R@10 {fmean(found):.3f}{of}"


def test_what_is_said_of_sgeh_and_taughthash_without_labels():
    found = {}
    for cell in map(json.loads, (RESULTS / "overview.jsonl").read_text().splitlines()):
        if (cell["bits"], cell["protocol"], cell["labels"]) == (32, "inductive", None):
            for task in ("i2t", "t2i"):
                place = found.setdefault((cell["data"], task), {})
                place.setdefault(cell["method"], []).append(cell["scores"]["all"][task])
    ahead = {
        place
        for place, of in found.items()
        if fmean(of.get("TaughtHash, no labels", [0])) > fmean(of["SGEH"])
    }
    assert ahead == {("emoji", "i2t"), ("emoji", "t2i"), ("wikipedia", "t2i")}


OVERVIEW = Groups(current(Store(RESULTS, "overview").read().values()))


def stands(name, other, data, rates, metric, task):
    """Whether a row of the overview is ahead of another, behind it, or neither."""
    groups = OVERVIEW.having(metric)
    one, two = (
        groups.get(Place(data, row, 32, rate, "inductive"))
        for row, rate in zip((name, other), rates, strict=True)
    )
    return one and two and versus(other, one, two, metric, task).words


def test_what_is_said_of_pair_recall():
    level = {
        "wikipedia": {"JDSH", "CMFH"},
        "emoji": {"ITQ, unweighted"},
        "coco": {"JDSH", "CMFH"},
    }
    some = {
        "wikipedia": {"ITQ, unweighted", "ITQ", "DGCPN"},
        "emoji": {"JDSH"},
        "coco": {"ITQ, unweighted", "ITQ", "CCA", "IMH"},
    }
    variants = {"TaughtHash, no labels", "JDSH, code's factor", "DJSRH, paper's factor"}
    by_int8 = f"{RECALL}, int8"
    for data in level:
        asked = data, (0.3, 0.3), RECALL, "t2i"
        of = {name: stands("TaughtHash", name, *asked) for name, m in METHODS.items() if m.labels}
        assert set(filter(None, of.values())) <= {"ahead", "no difference", "one seed"}
        assert {name for name, words in of.items() if words == "no difference"} == {"TaughtHash"}
        asked = data, (None, 0.3), RECALL, "t2i"
        of = {n: stands(n, "TaughtHash", *asked) for n, m in METHODS.items() if not m.labels}
        ahead = {name for name, words in of.items() if words == "ahead"} - variants
        assert ahead == {"SGEH", "DJSRH"} | some[data]
        assert {n for n, words in of.items() if words == "no difference"} - variants == level[data]
        asked = "TaughtHash, no labels", "SGEH", data, (None, None)
        words = stands(*asked, RECALL, "t2i")
        assert words == ("behind" if data == "emoji" else "no difference")
        assert stands(*asked, by_int8, "t2i") == "ahead"


def test_what_is_said_of_mcgcn_to_the_letter():
    said = (RESULTS.parents[2] / "docs" / "methods.rst").read_text()
    cells = list(map(json.loads, (RESULTS / "recipes.jsonl").read_text().splitlines()))
    for ending in ("", ", Adam 1e-4, 500 epochs"):
        found = [
            [cell["scores"]["all"][task] for task in ("i2t", "t2i")]
            for cell in cells
            if (cell["method"], cell["data"])
            == (f"MCGCN, paper's settings{ending}", "wikipedia-sift")
        ]
        i2t, t2i = (f"{fmean(task):.3f}".removeprefix("0") for task in zip(*found, strict=True))
        assert f"{i2t} / {t2i}" in said


def test_what_is_said_of_all_labels():
    def ahead(data, task):
        """Who is not behind the best, and who is ahead of MCGCN."""
        names = "TaughtHash", "DCMH", "GCH", "SGCH", "ClassCodes", "MCGCN, chosen"
        asked = data, (1.0, 1.0), "all", task
        ours = {name for name in names if stands(name, names[-1], *asked) == "ahead"}
        behind = {n for n in names for other in names if stands(n, other, *asked) == "behind"}
        return {*names} - behind, ours

    four = {"TaughtHash", "DCMH", "GCH", "SGCH"}
    assert ahead("wikipedia", "i2t") == ({"MCGCN, chosen"}, set())
    assert ahead("wikipedia", "t2i") == ({"TaughtHash"}, four)
    assert ahead("coco", "i2t") == ({"DCMH"}, {"TaughtHash", "DCMH"})
    assert ahead("coco", "t2i") == ({"TaughtHash", "DCMH"}, four - {"SGCH"})
    assert ahead("emoji", "i2t") == ({"TaughtHash"}, four | {"ClassCodes"})
    assert ahead("emoji", "t2i") == ({"GCH"}, {"TaughtHash", "GCH"})


def at(table, row, *columns):
    return [("tables", table, "rows", row, column) for column in columns]


SPEED = {  # how a row begins: its page, and the places of its numbers there
    "exact kNN": ("knn", at(4, 3, "speed, faiss.knn = 1", "recall")),
    "sparse text kNN": ("knn", at(10, 3, s := "speed, three lines = 1") + at(10, 2, s)),
    "two propagations": (
        "propagation",
        at(0, 3, t := "times as fast", m := "of the memory") + at(0, 4, t, m),
    ),
    "label cliques": ("propagation", at(1, 3, t, "times as small")),
    "training step": ("graph_scale", at(2, 3, "edge_index / hubs", "dense / hubs")),
    "pairwise": ("losses", at(1, 2, f"{t} as autograd") + at(3, 3, e := "extra MB")),
    "mAP@all": ("map", at(1, 1, f"{t} as sorted rows") + at(3, 0, e)),
    "Hamming search": ("search", at(0, 1, "time, IndexBinaryFlat = 1")),
    "MCGCN step": ("training_step", at(0, 1, p := "of its products") + at(1, 1, p)),
    "bf16 step": ("training_step", at(0, 3, f := "of the fp32 step") + at(0, 7, f)),
    "an epoch": ("scaling", [("goals", 0, "reached"), *at(0, 5, "training GB")]),
    "two processes": ("scaling_processes", at(0, 1, "epoch: share of one", "encode: share of one")),
    "radius 2": ("store", at(2, 2, f"{t} as the scan") + at(2, 3, f"{t} as the scan")),
}


def test_the_table_of_speed():
    text = (RESULTS.parent / "README.md").read_text().split("## Speed")[1]
    rows = [row for row in text.splitlines() if row.startswith("| ")][1:]
    assert len(rows) == len(SPEED)
    for row, (start, (page, places)) in zip(rows, SPEED.items(), strict=True):
        content = json.loads((RESULTS.parent / f"{page}.json").read_text())
        for place in places:
            number = f"{reduce(getitem, place, content):.3g}"
            assert row.startswith(f"| {start}") and number in re.findall(r"[\d.]*\d", row)


def test_what_is_said_of_the_searches():
    said = " ".join((ROOT / "docs/protocols.rst").read_text().split())
    for path in (RESULTS.parent / "tuning").glob("[A-Z]*.json"):
        found = json.loads(path.read_text())
        scores = {trial["number"]: trial["fresh"] for trial in found["trials"]}
        new, old = (digits(fmean(scores[number])) for number in (found["chosen_trial"], 0))
        if new != old:
            assert f"{path.stem} {new} ({old})" in said or f"({new}, {old})" in said, path.stem


def test_what_is_said_of_sgch_with_the_papers_weights():
    said = " ".join((ROOT / "docs/methods.rst").read_text().split())
    rows = r"paper's weight \(ind.*\| SGCH \(ind.*\| (.*) ± .*\| (.*) ± .*\| (.*) \| \?"
    emoji, wikipedia = re.findall(rows, (RESULTS / "ablations-sgch.md").read_text())
    assert (emoji[2], wikipedia[2]) == ("+ / +", "0 / -")
    assert f"ahead by {emoji[0][1:]} and {emoji[1][1:]} (i2t" in said
    assert f"behind by {wikipedia[1][1:]} where" in said


def test_a_part_that_is_not_marked():
    with pytest.raises(ValueError, match="0 parts are marked 'overview'"):
        filled("nothing", ("overview",))
