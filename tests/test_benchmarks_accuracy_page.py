"""Means, verdicts and pages, by hand."""

import pytest
from accuracy_lines import lines, row, text_of

from benchmarks.accuracy.methods import WEIGHTS
from benchmarks.accuracy.page import _ranges
from benchmarks.accuracy.store import Store, current, short_commit
from benchmarks.accuracy.summary import Group, Groups, Place, compare, digits, signed
from benchmarks.accuracy.tables import TABLES
from benchmarks.record import grid


def place(method, protocol="inductive", labels=0.3, bits=32, data="wikipedia"):
    return Place(data, method, bits, labels, protocol)


def test_means_and_deviations():
    group = Group(lines("GCH", [0.5, 0.6, 0.7]))
    assert group.mean("all", "i2t") == pytest.approx(0.6)
    assert group.deviation("all", "i2t") == pytest.approx(0.1)
    assert group.error("all", "i2t") == pytest.approx(0.1 / 3**0.5)
    assert group.shown("all", "i2t") == ".600 ± .100"
    assert group.seconds == 4.0
    one = Group(lines("GCH", [0.5]))
    assert one.shown("all", "i2t") == ".500"
    assert one.error("all", "i2t") is None


def test_fewer_seeds_than_others_are_told():
    text = text_of("overview", lines("GCH", [0.5, 0.7, 0.6]) + lines("SGCH", [0.5, 0.7]))
    assert ".600 ± .100 |" in text
    assert ".600 ± .141 (2) |" in text


def test_methods_without_labels_have_one_result_for_all_rates():
    groups = Groups(lines("ITQ", [0.4], labels=None) + lines("GCH", [0.5], labels=1.0))
    assert groups.get(place("ITQ", labels=1.0)).mean("all", "i2t") == 0.4
    assert groups.get(place("GCH", labels=0.3)) is None


def test_the_next_stricter_protocol_stands_in():
    found = lines("SGCH", [0.1]) + lines("SGCH", [0.2], protocol="strict")
    groups = Groups(found + lines("GCH", [0.3]))
    for protocol in ("transductive", "strict"):
        assert groups.nearest(place("SGCH", protocol)).mean("all", "i2t") == 0.2
    assert groups.nearest(place("GCH", "transductive")).mean("all", "i2t") == 0.3
    assert groups.nearest(place("MCGCN", "transductive")) is None


def test_verdicts_need_two_standard_errors():
    mine = lines("MCGCN", [0.60, 0.62, 0.64])  # mean .62, deviation .02, error .01155
    rival = lines("GCH", [0.55, 0.57, 0.59])
    weak = lines("SCM", [0.1, 0.1, 0.1])
    groups = Groups(mine + rival + weak)
    others = ["GCH", "SCM", "MCGCN", "nobody"]
    verdict = compare(groups, place("MCGCN"), others, "all", "i2t")
    assert verdict.best == "GCH"
    assert verdict.difference == pytest.approx(0.05)
    assert verdict.error == pytest.approx((2 * 0.02**2 / 3) ** 0.5)  # .0163
    assert verdict.words == "ahead"
    assert compare(groups, place("GCH"), ["MCGCN"], "all", "i2t").words == "behind"
    close = Groups(mine + lines("GCH", [0.57, 0.59, 0.61]))  # .03 is less than .0327
    assert compare(close, place("MCGCN"), others, "all", "i2t").words == "no difference"
    single = Groups(mine + lines("GCH", [0.1]))
    assert compare(single, place("MCGCN"), others, "all", "i2t").words == "one seed"
    assert compare(groups, place("MCGCN", "strict"), others, "all", "i2t") is None
    assert compare(Groups(mine), place("MCGCN"), others, "all", "i2t") is None


def test_page_of_a_table():
    found = lines("MCGCN", [0.5, 0.6]) + lines("MCGCN", [0.7, 0.7], protocol="transductive")
    found += lines("MCGCN", [0.8, 0.8], labels=1.0) + lines("DGCPN", [0.4, 0.4], labels=None)
    found += lines("GCH", [0.46, 0.46])
    text = text_of("mcgcn-table1", found)
    assert text.startswith("# MCGCN, Table 1: Wikipedia\n")
    assert "- seeds (labelled items, parameters, training): 0, 1" in text
    assert "10 train (data d, split s)" in text
    assert "- commit: cccccccccccc\n" in text
    assert "| method | protocol | 32 bits, 30% | 32 bits, 100% | seconds |" in text
    assert row(text, "MCGCN", "inductive")[2:] == [".550 ± .071", ".800 ± .000", "4"]
    assert row(text, "MCGCN", "transductive")[2:] == [".700 ± .000", "", "4"]
    assert row(text, "DGCPN", "inductive")[2:4] == [".400 ± .000", ".400 ± .000"]
    assert "*paper*" not in text  # these are not the paper's features
    # GCH is the best of the others at 30 %, DGCPN at 100 %
    assert row(text, "inductive", "32 bits, 30%")[2] == "+.090 ± .050 on GCH: no difference"
    assert row(text, "transductive", "32 bits, 30%")[2] == "+.240 ± .000 on GCH: ahead"
    assert row(text, "inductive", "32 bits, 100%")[2] == "+.400 ± .000 on DGCPN: ahead"
    assert text.count("| @50 hits | @50 min_k_R | @50 R | @50 dcmh | @500 hits") == 2
    assert "\n![MCGCN, Table 1: Wikipedia](mcgcn-table1.png)\n" in text
    training = "optimizer Adam, lr 0.002, epochs 80"
    assert f"- training of MCGCN: {training}\n" in text


def test_pair_recall_where_it_was_measured():
    old = lines("GCH", [0.4, 0.6]) + lines("GCH", [0.5], labels=1.0)
    text = text_of("mcgcn-table1", old)
    assert "\n- no R@10: the cells are older than the measure\n" in text and text.count("R@10") == 1
    new = lines("MCGCN", [0.5, 0.6]) + lines("SCM", [0.3, 0.3]) + lines("MCGCN", [0.7], bits=64)
    for line, value in zip(new[:3], (0.1, 0.2, 0.3), strict=True):
        line["scores"]["R@10"] = {"i2t": 0.0, "t2i": value}
    text = text_of("mcgcn-table1", old + new)
    i2t, t2i = text.split("\nt2i:\n")
    assert "R@10, " not in i2t and "- *R@10*: pair recall, how often a text's own" in i2t
    heads = row(t2i, "method")
    assert heads[-2:] == ["R@10, 32 bits, 30%", "seconds"] and sum("R@10" in h for h in heads) == 1
    assert row(t2i, "MCGCN")[-2] == ".150 ± .071"
    assert row(t2i, "SCM")[-2] == ".300 (1)"
    assert row(t2i, "GCH")[-2] == "–"


def test_rescored_scores_have_a_table_of_their_own():
    found = lines("TaughtHash", [0.4])
    for name, value in (("R@10", 0.1), ("all, scored", 0.5), ("R@10, scored", 0.2)):
        found[0]["scores"][name] = {"i2t": value, "t2i": value / 2}
    for name in ("all, int8", "R@10, int8"):
        found[0]["scores"][name] = {"i2t": 0.6, "t2i": 0.3}
    text = text_of("overview", [*found, *lines("MCGCN", [0.3])])
    table = text[text.index("Rescored, 32 bits, 30%") :]
    hamming, scored = [".400 / .200", ".100 / .050"], [".500 / .250", ".200 / .100"]
    assert row(table, "TaughtHash")[2:] == [*hamming, *scored, *[".600 / .300"] * 2]
    assert "MCGCN" not in table.split("\n\n")[1]


def test_what_is_trained_alike_stands_together():
    found = lines("SGCH", [0.5]) + lines("SGCH, code's graph", [0.5])
    found += lines("SGCH, chosen", [0.5], choice={"chosen": "defaults", "worths": {"defaults": 1}})
    text = text_of("overview", found)
    assert "- training of SGCH; SGCH, code's graph: optimizer Adam" in text
    assert "- training of SGCH, chosen: as held-out labels chose, see below\n" in text


def test_a_commit_whose_code_was_changed():
    assert short_commit("c" * 40) == "c" * 12
    text = text_of("mcgcn-table1", lines("GCH", [0.5], commit="c" * 40 + "-dirty"))
    assert "- commit: cccccccccccc-dirty\n" in text
    assert short_commit("unknown: no git checkout") == "unknown: no git checkout"


def test_rows_of_fewer_seeds_are_named():
    found = lines("MCGCN", [0.5, 0.6]) + lines("GCH", [0.46, 0.46, 0.46])
    text = text_of("mcgcn-table1", found)
    assert "on GCH (3 seeds): no difference" in text


def test_rows_that_cannot_be_run_are_named():
    text = text_of("overview", lines("LSH", [0.5], labels=None, data="wikipedia-sift"))
    assert "Cannot be run: CCA; ITQ; ITQ, unweighted (texts of 10 dimensions" in text


def test_papers_numbers_stand_beside_results_on_its_own_features_only():
    found = lines("MCGCN", [0.5], data="wikipedia-vgg", bits=16, protocol="transductive")
    found += lines("MCGCN", [0.5], data="wikipedia-vgg", bits=32, labels=0.7)
    text = text_of("mcgcn-table1", found + lines("MCGCN", [0.5]))
    ours, papers = text.split("## Wikipedia, VGG")
    assert "*paper*" not in ours
    expected = [".544 ± .007", ".678 ± .005", ".638 ± .006", ".747 ± .007", ""]
    assert row(papers, "*MCGCN*", "*paper*")[2:] == expected
    assert row(papers, "*GCH*", "*paper*")[2:4] == [".326", ".432"]
    assert "*Paper*: Table 1, MAP, mean of 10 draws of the labelled pairs" in papers
    assert "features as their owner declares them; sizes checked" in papers
    assert "trained with our defaults, but for those called *paper's settings* or" in papers
    assert "owner declares" not in ours
    assert row(papers, "*DGCPN*", "*paper*")[2:6] == [".404", ".404", ".411", ".411"]


def test_papers_numbers_without_label_rates():
    found = lines("SGEH", [0.5], data="wikipedia-use", labels=None)
    assert row(text_of("sgeh-table1", found), "*SGEH*", "*paper*")[2] == ".422"
    text = text_of("gch-reproduction-2", lines("GCH Try1", [0.5], data="emoji", labels=1.0))
    assert "t2t:" in text and "i2i:" in text


def test_papers_numbers_of_networks_trained_on_pixels_stand_beside_no_features():
    found = lines("SCM", [0.5], data="mirflickr25k-cnnf", labels=1.0)
    text = text_of("gch-table1", found)
    assert row(text, "*SCM*", "*paper*")[2] == ".559"
    assert "*GCH*" not in text and "*DCMH*" not in text


def test_papers_rows_are_called_as_ours():
    text = text_of("mcgcn-table3", lines("MCGCN-S", [0.5], data="wikipedia-vgg"))
    for name, value in (("MCGCN-S", ".569"), ("MCGCN-C", ".588"), ("MCGCN", ".638")):
        assert row(text, f"*{name}*", "*paper*")[2] == value
    assert "*full*" not in text and "*S*" not in text
    found = lines("SGCH v1", [0.5], data="wikipedia-vgg", bits=10, labels=0.6)
    assert "*paper*" not in text_of("sgch-table", found)  # its features are not stated


def test_ablations_are_compared_with_each_other():
    found = lines("MCGCN", [0.5, 0.5]) + lines("MCGCN-S", [0.6, 0.6])
    text = text_of("mcgcn-table3", found)
    assert row(text, "inductive", "32 bits, 30%")[2] == "-.100 ± .000 on MCGCN-S: behind"


def test_page_says_what_was_chosen_and_why():
    name = "SGCH, chosen"
    worths = {"graph.neighbor_weight=0.1": 0.5, "graph.neighbor_weight=0.2": 0.4321}
    choice = {"chosen": "graph.neighbor_weight=0.1", "worths": worths}
    other = {"chosen": "graph.neighbor_weight=0.2", "worths": {**worths, choice["chosen"]: 0.4}}
    found = lines(name, [0.5, 0.6], choice=choice) + lines("SGCH", [0.5])
    found += lines(name, [0.7], bits=64, choice=choice)  # the same one for all code lengths
    found += lines(name, [0.6], labels=1.0, protocol="strict", choice=other)
    text = text_of("overview", found)
    both = ".500 for graph.neighbor_weight=0.1, .432 for graph.neighbor_weight=0.2"
    assert row(text, name, "inductive", "30%")[3:] == [choice["chosen"], both]
    assert row(text, name, "strict", "100%")[3] == other["chosen"]
    assert text.count(f"| {choice['chosen']} |") == text.count(f"| {other['chosen']} |") == 1
    assert "Chosen by held-out labels" in text
    assert "20% of the labelled items are the queries" in text and "3 draws" in text
    assert "Chosen by" not in text_of("overview", lines("SGCH", [0.5]))
    # a choice that was made again, say on other versions, is not hidden
    text = text_of("overview", [*found, *lines(name, [0.8], seed=9, choice=other)])
    assert "| 30% | graph.neighbor_weight=0.2 |" in text
    assert "| 30% | graph.neighbor_weight=0.1 |" in text


def test_page_says_what_is_missing_or_stale():
    text = text_of("mcgcn-table2", [], stale=3)
    assert "not run yet" in text
    assert "`python -m benchmarks.accuracy mcgcn-table2 --nuswide10k PLACE" in text
    text = text_of("mcgcn-table1", lines("GCH", [0.5]), stale=3, short=True)
    assert "3 stored cells under other settings are left out" in text
    assert "Short form" in text


def test_page_of_the_choices():
    found = [*lines("MCGCN", [0.5, 0.6]), *lines("MCGCN", [0.7, 0.9], protocol="transductive")]
    for cell, value in zip(found[:2], (0.1, 0.2), strict=True):
        cell["scores"]["all, pessimistic"] = {"i2t": value, "t2i": value}
        cell["scores"]["50 R"] = {"i2t": value, "t2i": value}
    text = text_of("choices", found)
    wide = [".800 ± .141", ".400 ± .071", "+.250", "+.125"]
    assert row(text, "MCGCN", "transductive")[2:] == wide
    moved = row(text, "Wikipedia, image128 + lsa200", "30%")
    beyond = ["+.250 / +.125", "+.400 / +.125", "+.400 / +.125", "+.000 / +.000"]
    assert moved[2:] == [".071 / .035", *beyond]
    assert "| `hits` | `min_k_R` | `R` | `dcmh` |" in text


def test_numbers_as_text():
    assert [digits(v) for v in (0.6384, 1.0, 0.0)] == [".638", "1.000", ".000"]
    assert [signed(v) for v in (0.012, -0.012)] == ["+.012", "-.012"]
    assert grid(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert [_ranges(s) for s in ([0, 1, 2, 3], [0, 2], [4])] == ["0-3", "0, 2", "4"]


# --- pictures -----------------------------------------------------------------------------------


def drawn(monkeypatch, name, found, tmp_path):
    """The panels of a table's picture."""
    pytest.importorskip("matplotlib")
    import benchmarks.accuracy.figures as figures

    panels = []
    monkeypatch.setattr(figures, "draw", lambda plots, path: panels.extend(plots))
    figures.draw_table(TABLES[name], found, tmp_path / "x.png")
    return panels


def test_bars_are_the_means_at_32_bits_and_few_labels(monkeypatch, tmp_path):
    found = lines("MCGCN", [0.5, 0.7]) + lines("MCGCN", [0.9], bits=64)
    found += lines("MCGCN", [0.9], labels=1.0) + lines("ITQ", [0.4], labels=None)
    panels = drawn(monkeypatch, "overview", found, tmp_path)
    start = "Wikipedia, image128 + lsa200"
    expected = [f"{start}, i2t, 32 bits, 30%", f"{start}, t2i, 32 bits, 30%"]
    assert [panel["title"] for panel in panels] == expected
    assert panels[0]["bars"] == pytest.approx({"MCGCN (inductive)": 0.6, "ITQ": 0.4})


def test_lines_of_fig_5(monkeypatch, tmp_path):
    found = lines("MCGCN", [0.5]) + lines("MCGCN, alpha x 10", [0.7])
    panels = drawn(monkeypatch, "mcgcn-fig5", found, tmp_path)
    assert len(panels) == 4
    alpha = WEIGHTS["alpha"]
    points = panels[0]["series"]["i2t, inductive"]
    assert points == [(alpha, 0.5), (pytest.approx(10 * alpha), 0.7)]


def test_curves_and_embeddings_are_drawn(monkeypatch, tmp_path):
    curve = {"precision": [None, 0.5], "recall": [0.0, 1.0], "ranks": [1, 2], "at": [0.4, 0.3]}
    found = lines("GCH", [0.5, 0.6], curves={"i2t": curve, "t2i": curve})
    other = {**curve, "at": [0.8, 0.1], "precision": [0.3, 0.5]}  # one seed finds nothing at first
    found[1]["curves"] = {"i2t": other, "t2i": other}
    panels = drawn(monkeypatch, "gch-curves", found, tmp_path)
    assert len(panels) == 4
    assert panels[0]["series"] == {"GCH": [(1.0, 0.5)]}
    assert panels[1]["series"] == {"GCH": [(1, pytest.approx(0.6)), (2, pytest.approx(0.2))]}
    assert panels[1]["title"].endswith("i2t, mean of 2 seeds")
    points = {"classes": [0, 1], "image features": [[0, 1], [1, 2]], "text features": [[0, 1]] * 2}
    tsne = {**points, "codes": [[0.0, 1.0]] * 4}
    found = lines("MCGCN", [0.5], tsne=tsne)
    found += lines("MCGCN", [0.5], tsne=tsne, protocol="transductive")
    drawn(monkeypatch, "mcgcn-fig4", found, tmp_path)
    assert (tmp_path / "x.png").stat().st_size > 5000
    assert drawn(monkeypatch, "overview", [], tmp_path) == []


def committed():
    from pathlib import Path

    folder = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "accuracy"
    return sorted(folder.glob("*.jsonl"))


@pytest.mark.parametrize("path", committed(), ids=lambda path: path.stem)
def test_committed_pages_are_what_render_makes_of_the_lines(path):
    """Defaults that have changed since make lines stale, and the page has to say so."""
    found = list(Store(path.parent, path.stem).read().values())
    todays = current(found)
    stale = len(found) - len(todays)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == text_of(
        path.stem, todays, stale=stale
    ), f"make it again: python -m benchmarks.accuracy {path.stem} --render"
    assert TABLES[path.stem].name == path.stem
    assert path.with_suffix(".png").exists() == bool(todays)
