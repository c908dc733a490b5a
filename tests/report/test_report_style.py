"""Colours can be read on light and on dark pages, the stylesheet's own as well; and phones."""

from __future__ import annotations

import re

import pytest
from browser import Browser, find_browser

from pyg_hash.report.figures import (
    CLASSES,
    DASHES,
    GREY,
    SERIES,
    on_color,
    page_css,
)

CSS = page_css()


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    """Contrast ratio of two colours ``#rrggbb``, 1 to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def palette(block):
    return dict(re.findall(r"--(\w+): (#\w{6})", block))


LIGHT_PAGE, DARK_PAGE = (palette(b) for b in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL))


def test_contrast():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the known example
    assert contrast("#123456", "#123456") == 1


@pytest.mark.parametrize("color", sorted({*SERIES, *CLASSES, GREY}))
def test_marks_stand_out(color):
    assert (
        min(contrast(color, page["page"]) for page in (LIGHT_PAGE, DARK_PAGE)) >= 3
    )  # WCAG 2.2, 1.4.11


@pytest.mark.parametrize("color", CLASSES)
def test_numbers_on_classes_can_be_read(color):
    assert contrast(on_color(color), color) >= 4.5


def test_colours_and_dashes_are_different():
    assert len(set(CLASSES)) == len(CLASSES)
    assert len(set(DASHES)) == len(set(SERIES)) == 4


@pytest.mark.parametrize("page", [LIGHT_PAGE, DARK_PAGE], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "soft", "link", "right", "wrong"])
def test_texts_of_the_page_can_be_read(page, name):
    for background in ("page", "card"):
        assert contrast(page[name], page[background]) >= 4.5  # WCAG 2.2, 1.4.3


def test_style_fetches_nothing():
    assert "url(" not in CSS
    assert "@import" not in CSS


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_a_phone_scrolls_a_wide_table_and_breaks_no_word(tmp_path):
    names = ["setting", *(f"runs/number_{n}" for n in range(4))]
    head = "".join(f"<th scope=col>{name}</th>" for name in names)
    cells = "<th scope=row>label_rate</th>" + "<td>taughthash</td>" * 3 + f"<td>/{'m' * 300}</td>"
    (tmp_path / "page.html").write_text(
        f"<!doctype html><style>{CSS}</style><div class=settings><div class=scroll><table>"
        f"<thead><tr>{head}</tr></thead><tr>{cells}</tr></table></div></div>"
    )
    with Browser(find_browser(), tmp_path / "profile") as browser:
        browser.size(390, 800)
        browser.open((tmp_path / "page.html").as_uri())
        browser.wait_for("document.readyState === 'complete'")
        lines = browser.js(
            "[...document.querySelectorAll('th, td')].map((cell) => { const range ="
            " document.createRange(); range.selectNodeContents(cell);"
            " return range.getClientRects().length; })"
        )
        assert lines[:-1] == [1] * 9 and lines[-1] > 9  # but what is no word
        assert browser.js("document.documentElement.scrollWidth") <= 390
