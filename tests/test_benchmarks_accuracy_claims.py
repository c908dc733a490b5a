"""What is claimed of ablations beside what is measured."""

from accuracy_lines import lines, row, text_of

from benchmarks.accuracy.page import agreement, signs
from benchmarks.accuracy.summary import Verdict


def claim_line(text, *start):
    """The cells of a claim's line from the differences on."""
    return row(text, *start)[len(start) :]


def test_claims_stand_beside_what_is_measured():
    found = lines("GCH", [0.5, 0.6, 0.7], labels=1.0)  # mean .6, deviation .1, error .0577
    found += lines("GCH-A", [0.3, 0.4, 0.5], labels=1.0)  # .2 lower, errors together .0816
    found += lines("GCH Try1", [0.55, 0.65, 0.75], labels=1.0)
    found += lines("GCH Try2", [0.8, 0.8, 0.8], labels=1.0)
    found += lines("GCH squared_nll", [0.9], labels=1.0)
    found += lines("GCH-A", [0.1], labels=0.3)  # nothing to compare it with
    text = text_of("ablations-gch", found)
    assert "## What is claimed and what is measured" in text
    place = ("Wikipedia, image128 + lsa200", "32")

    def line(variant):
        return claim_line(text, *place, f"{variant} (inductive)", "GCH (inductive)")

    expected = ["-.200 ± .082", "-.100 ± .041", "- / -", "- / -", "agrees"]
    assert line("GCH-A") == [*expected, "Table 2, 16 bits, three data sets"]
    assert line("GCH Try1")[2:5] == ["0 / 0", "+ / +", "no effect seen"]
    assert line("GCH Try2")[2:5] == ["+ / +", "+ / -", "contradicts"]
    assert line("GCH squared_nll")[:5] == ["+.300", "+.150", "? / ?", "? / ?", "no claim"]
    assert text.count("| GCH-A (inductive) |") == 1
    assert "GCH without self-loops (" not in text  # has no cell


def test_claims_lead_across_protocols():
    name, code = "SGCH, paper's weight", "SGCH, code's graph, paper's weight"
    found = lines(name, [0.5, 0.5]) + lines(name, [0.6, 0.6], protocol="strict")
    found += lines(code, [0.4, 0.4]) + lines(code, [0.9, 0.9], protocol="transductive")
    text = text_of("ablations-sgch", found)
    place = ("Wikipedia, image128 + lsa200", "32")
    for variant, full, expected in (
        (f"{name} (strict)", f"{name} (inductive)", "+.100 ± .000"),
        (f"{code} (inductive)", f"{name} (inductive)", "-.100 ± .000"),
        (f"{code} (transductive)", f"{name} (strict)", "+.300 ± .000"),
    ):
        assert claim_line(text, *place, variant, full)[0] == expected
    assert text.count("| no claim |") == 3


def test_verdicts_on_claims():
    assert agreement("- / -", "- / -") == "agrees"
    assert agreement("- / 0", "- / -") == "agrees in part"
    assert agreement("0 / 0", "- / -") == "no effect seen"
    assert agreement("+ / -", "- / -") == "contradicts"
    assert agreement("+ / 0", "- / -") == "contradicts"
    assert agreement("+ / 0", "? / ?") == "no claim"
    assert agreement("? / ?", "- / -") == "open"
    found = [Verdict("", d, e) for d, e in ((0.1, 0.01), (-0.1, 0.01), (0.02, 0.01), (1.0, None))]
    assert signs(found) == "+ / - / 0 / ?"
