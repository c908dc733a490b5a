"""The page: complete, self-contained, well-formed, readable aloud; texts stay texts."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import pytest
import torch
from small import MODELS, graph_for, model_for

from pyg_hash import report
from pyg_hash.models import DJSRH, MCGCN
from pyg_hash.report.figures import INK, bit_balance, to_svg
from pyg_hash.report.page import About, report_page, write_report
from pyg_hash.runs import RunItems
from pyg_hash.typing import HashOutput

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
threadpool_limits = pytest.importorskip("threadpoolctl").threadpool_limits

VOID = {"meta", "link", "img"}
EVIL = '</p><script>alert("1")</script><img src=http://evil.example/x>'
FAST = {"points": 20, "num_queries": 2}


class Page(HTMLParser):
    """Checks nesting and collects what the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def every(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def items(n=60, paths=None, text="words"):
    labels = [["<b>first</b>"] for _ in range(n)]
    paths = [None] * n if paths is None else paths
    return RunItems([f"id {i}" for i in range(n)], [text] * n, paths, labels)


@pytest.fixture(scope="module")
def pair():
    data = graph_for(MCGCN)
    return model_for(MCGCN, data).eval(), data


def write(pair):
    about = About(
        title=f"Title {EVIL}",
        settings={"model": "mcgcn", "note": EVIL, "options": {"k": 3}},
        history=[{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}],
        items=items(text=EVIL),
        class_names=[EVIL, "b", "c", "d"],
    )
    with threadpool_limits(1):  # three threads or more of scikit-learn add up in any order
        return report_page(*pair, about, **FAST)


@pytest.fixture(scope="module")
def written(pair):
    return write(pair)


def test_same_page_twice(written, pair):
    assert write(pair) == written


def test_page_is_well_formed_and_complete(written):
    page = Page(written)
    assert {"accuracy", "gallery", "curves", "codes", "map", "training"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"<th[^>]*>\s*</th>", written)
    for link in page.every("a"):
        assert link["href"][1:] in page.ids
    for use in page.every("use"):
        assert use["href"][1:] in page.ids
    for name in re.findall(r"url\(#(.*?)\)", written):
        assert name in page.ids


def test_page_needs_no_network_and_runs_nothing(written):
    page = Page(written)
    assert not page.every("script")
    assert not page.every("iframe")
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "action"):
                assert value.startswith(("#", "data:")), (tag, name, value)
    policy = next(m for m in page.every("meta") if "http-equiv" in m)
    assert "default-src 'none'" in policy["content"]


def test_texts_of_the_data_stay_texts(written):
    page = Page(written)
    assert EVIL in page.text  # shown as it is
    assert not page.every("b")
    assert "Title </p>" in page.text
    assert '{"k": 3}' in page.text


def test_figures_can_be_read_aloud(written):
    page = Page(written)
    drawn = page.every("svg")
    assert len(drawn) == 12
    for svg in drawn:
        assert svg["role"] == "img"
        assert len(svg["aria-label"]) > 20
    assert page.every("html")[0]["lang"] == "en"
    assert [m["content"] for m in page.every("meta") if m.get("name") == "viewport"]
    assert all("alt" in img for img in page.every("img"))
    assert len(page.every("h1")) == 1


def test_kinds_of_answers_have_words_symbols_and_classes(written, pair):
    page = Page(written)
    cards = [attrs["class"] for attrs in page.every("li") if "card" in attrs.get("class", "")]
    assert len(cards) == 2 * 2 * 8 + 2 * 2 * 2 * 4  # at random; by precision and by pair
    kinds = 0
    for kind, mark in (("same", "✓ same category"), ("other", "✗ another category")):
        found = sum(card.split()[-1] == kind for card in cards)
        kinds += found
        assert page.text.count(mark) - 1 == found  # once more in the explanation
    assert kinds == len(cards)
    assert "average precision 0." in page.text and "Farthest from its own text" in page.text
    assert "no label" not in page.text
    data = graph_for(MCGCN, multi_label=True)
    for modality in ("image", "text"):
        data[modality].y[data["image"].database_mask.nonzero()[::2, 0]] = 0
    page = Page(report_page(model_for(MCGCN, data).eval(), data, **FAST))
    assert page.text.count("no label: one of the two") == 1 < page.text.count("– no label distance")
    assert "own text: distance" in page.text and "score" in page.text


def test_numbers_are_those_of_evaluate(written, pair):
    evaluation = report.Results.of(*pair).evaluation
    page = Page(written)
    for value in (evaluation.i2t, evaluation.t2i, evaluation.i2i, evaluation.t2t):
        assert f"{value:.3f}" in page.text
    assert evaluation.definition in page.text
    numbers = [*evaluation.ndcg.values(), *evaluation.pair_recall["t2i"].values()]
    assert all(f"{value:.3f}" in page.text for value in numbers)
    assert "R@10 by chance: 0.833" in page.text  # of 12 queries
    assert f"{evaluation.codes['text']['edge_ties']:.1f}" in page.text
    assert "Protocol inductive: " in page.text
    read = f"{evaluation.num_labels} labels read, label rate {evaluation.label_rate:.3g}"
    assert evaluation.num_labels
    assert f"{evaluation.num_bits} bits, inductive, {read}, 12 queries" in page.text


def test_a_method_that_reads_no_labels_says_so(undrawn):
    data = graph_for(DJSRH)
    page = Page(report_page(model_for(DJSRH, data).eval(), data, **FAST))
    assert "0 labels read" in page.text and "label rate" not in page.text


def test_a_history_of_nothing_but_epochs(pair, undrawn):
    assert "epochs</h3>" not in report_page(*pair, About(history=[{"epoch": 1}]), **FAST)


def test_page_of_a_bare_model(pair, undrawn):
    page = Page(report_page(*pair, **FAST))
    assert "MCGCN" in page.text
    assert "without picture files" in page.text
    assert "without raw texts" in page.text
    assert "no history" in page.text
    assert "row 59" in page.text or "row 5" in page.text
    assert "training" not in page.ids


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_results_of_every_model_with_several_labels(kind):
    data = graph_for(kind, multi_label=True)
    results = report.Results.of(model_for(kind, data).eval(), data)
    assert results.evaluation.protocol == "inductive"
    assert len(results) == 60


def test_constant_codes_and_several_labels():
    data = graph_for(MCGCN, multi_label=True)
    model = model_for(MCGCN, data)

    class Constant(type(model)):
        def forward(self, data):
            return HashOutput(*torch.ones(2, 60, self.num_bits))

    constant = Constant(**model.config)
    page = Page(report_page(constant, data, About(class_names=list("abcd")), **FAST))
    assert "nan" in page.text  # no bits vary, so none correlate
    assert "Protocol inductive" in page.text


def test_pictures(pair, tmp_path, undrawn):
    image = pytest.importorskip("PIL.Image")
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    image.new("RGB", (30, 20), (0, 90, 0)).save(good)
    bad.write_text("not a picture")
    paths = [str(bad if i % 2 else good) for i in range(60)]
    page = Page(report_page(*pair, About(items=items(paths=paths)), **FAST))
    pictures = page.every("img")
    assert pictures
    assert all(p["src"].startswith("data:image/jpeg;base64,") for p in pictures)
    assert all(p["alt"].startswith("picture id") for p in pictures)
    assert "Pictures that cannot be read: 1 (first: " in page.text
    assert "not readable" in page.text


def test_items_must_fit(pair):
    with pytest.raises(ValueError, match="items: 3 of them, but the data have 60 rows"):
        report_page(*pair, About(items=items(3)))


@pytest.mark.parametrize("option", ["points", "num_queries"])
def test_numbers_are_positive(pair, option):
    with pytest.raises(ValueError, match=option):
        report_page(*pair, **{option: 0})


@pytest.mark.parametrize("module", ["matplotlib", "sklearn", "PIL", "jinja2"])
def test_missing_packages_are_found_at_once(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pyg_hash\[report\]"):
        report_page(None, None)


def test_write_is_atomic(pair, tmp_path, monkeypatch, undrawn):
    path = tmp_path / "deep" / "page.html"
    monkeypatch.setattr("pyg_hash.report.page.report_page", lambda *args, points: "ä" * points)
    write_report(path, *pair, points=3)
    with pytest.raises(TypeError):
        write_report(path, *pair, points="x")
    assert path.read_text(encoding="utf-8") == "äää"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_svg_takes_the_colours_of_the_page():
    values = torch.ones(3, 4, dtype=torch.int8)
    svg = to_svg(bit_balance({"image": values}), name="one", label='say "<this>"')
    assert svg.startswith("<svg viewBox=")
    assert 'aria-label="say &quot;&lt;this&gt;&quot;"' in svg
    assert INK not in svg
    assert "currentColor" in svg
    assert ">share of +1</text>" in svg  # letters, not shapes
    other = to_svg(bit_balance({"image": values}), name="two", label="other")
    ids = [set(re.findall(r' id="(.*?)"', drawn)) for drawn in (svg, other)]
    assert ids[0] and not ids[0] & ids[1]
