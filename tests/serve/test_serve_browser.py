"""The page in a real browser: words, pictures, errors, keyboard, phone."""

from __future__ import annotations

import re
from base64 import b64encode

import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("PIL.Image")

from browser import Browser, find_browser
from serve_cases import make_catalog, make_engine, png, running

from pyg_hash.index import HammingIndex
from pyg_hash.serve import SearchEngine

CARDS = "document.querySelectorAll('#answers .card').length"
STATUS = "document.querySelector('#status').textContent"

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium or Chrome on this machine"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with Browser(find_browser(), tmp_path_factory.mktemp("profile")) as browser:
        browser.size(1280, 900)
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    engine = make_engine(tmp_path_factory.mktemp("pictures"), notes=["A <b>note</b>."])
    with running(engine) as address:
        yield address


@pytest.fixture
def home(page, address):
    page.open(address)
    page.wait_for("run !== null && document.readyState === 'complete'")
    # Whether the end of the list is in sight depends on how soon pictures are there.
    page.js("end.observe = () => {}, end.disconnect()")
    page.events.clear()
    return page


def test_words(home):
    assert home.js("document.querySelector('h1').textContent") == "Search: toy <b>"
    assert home.js("document.querySelector('#notes').textContent") == "A <b>note</b>."
    home.js("document.querySelector('#text').focus()")
    home.type("red ball")
    home.key("Enter", "\r")
    home.wait_for(f"{CARDS} === 24")
    assert home.js(STATUS).startswith("24 answers for “red ball” from codes of pictures, ")
    assert "Not in the vocabulary: ball" in home.js("document.querySelector('#notes').textContent")
    home.wait_for("[...document.querySelectorAll('.card img')].some((i) => i.naturalWidth === 192)")
    first = home.js("document.querySelector('.card').textContent")
    assert re.search(r"score -?\d+\.\d\d\ndistance \d", first)
    assert re.search(
        r"(\d+ items are|No other item is) at distance \d+, that of the last", home.js(STATUS)
    )
    assert "text=red+ball" in home.js("location.search")
    home.js("document.querySelector('#k').value = '12'")
    home.js("document.querySelector('#k').dispatchEvent(new Event('change'))")
    home.wait_for(f"{CARDS} === 12")
    home.js("history.back()")
    home.wait_for(f"{CARDS} === 24")
    assert home.complaints() == []


def test_an_address_is_a_query(page, address):
    page.open(address + "?text=blue&modality=text&k=12")
    page.wait_for(f"{CARDS} >= 12")  # more follow where the end of twelve is in sight
    assert "codes of texts" in page.js(STATUS)
    assert page.js("document.querySelector('#text').value") == "blue"
    assert page.js("document.querySelector('#k').value") == "12"


def test_unknown_words_are_an_alert(home):
    home.js("searchText('nothing')")
    home.wait_for("!document.querySelector('#problem').hidden")
    assert "no known word" in home.js("document.querySelector('#problem').textContent")
    assert home.js("document.querySelector('#problem').getAttribute('role')") == "alert"
    assert home.js(CARDS) == 0
    home.js("searchText('red')")
    home.wait_for(f"{CARDS} === 24 && document.querySelector('#problem').hidden")


def test_a_picture_is_chosen(home, tmp_path):
    (tmp_path / "mine <i>.png").write_bytes(png("green"))
    home.choose_file("#file", tmp_path / "mine <i>.png")
    home.wait_for(f"{CARDS} === 24")
    assert "codes of texts" in home.js(STATUS)
    assert home.js("document.querySelector('#query').textContent") == "Your picture mine <i>.png"
    home.wait_for("document.querySelector('#query img').naturalWidth === 20")
    assert home.complaints() == []


DROP = """(() => {
  const bytes = Uint8Array.from(atob('%s'), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], 'dropped.png', { type: 'image/png' }));
  for (const type of ['dragover', 'drop'])
    document.body.dispatchEvent(new DragEvent(type,
      { dataTransfer: transfer, bubbles: true, cancelable: true }));
  return document.querySelector('#cover').hidden;
})()"""


def test_a_picture_is_dropped(home):
    assert home.js(DROP % b64encode(png("blue")).decode()) is True
    home.wait_for(f"{CARDS} === 24")
    assert "dropped.png" in home.js("document.querySelector('#query').textContent")
    home.js(DROP % b64encode(b"no picture").decode())
    home.wait_for("document.querySelector('#problem').textContent.includes('cannot be read')")


def test_a_large_picture_is_made_smaller(home):
    home.js("run.limits.upload_bytes = 10")  # the server still takes more
    home.js(
        "new Promise((done) => { const c = document.createElement('canvas'); c.width = 4000;"
        " c.height = 100; c.toBlob((b) => fitting(b).then((f) => createImageBitmap(f)).then("
        " (m) => { window.made = [m.width, m.height]; done(); })); })"
    )
    assert home.js("window.made") == [2000, 50]


def test_similar(home):
    home.js("searchText('red')")
    home.wait_for(f"{CARDS} === 24")
    home.js("document.querySelector('.card .last button').click()")
    home.wait_for("document.querySelector('#query p') && document.querySelector('#query img')")
    home.wait_for(f"{CARDS} === 24 && {STATUS}.includes(' 0 to ') || {STATUS}.includes('codes of')")
    assert "Items similar to the picture of “" in home.js(
        "document.querySelector('#query').textContent"
    )
    assert "item=" in home.js("location.search")


def test_keyboard_and_names(home):
    names = []
    for _ in range(4):
        home.key("Tab")
        names.append(home.js("document.activeElement.id || document.activeElement.textContent"))
    assert names[0] == "text"
    assert names[1] == "Search"
    unnamed = home.js(
        "[...document.querySelectorAll('input, select, button, img')].filter((e) =>"
        " e.tagName === 'IMG' ? !e.hasAttribute('alt') :"
        " !(e.textContent.trim() || (e.labels && e.labels.length))).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    assert home.js("document.documentElement.lang") == "en"


FOCUS = "(document.activeElement.id || document.activeElement.tagName)"


def test_back_to_the_start_shows_no_answers(home):
    home.js("document.querySelector('#modality').value = 'text'")
    home.js("searchText('red ball')")
    home.wait_for(f"{CARDS} === 24")
    home.js("history.back()")
    home.wait_for(f"{CARDS} === 0")
    assert home.js("location.search") == home.js(STATUS) == ""
    assert home.js("document.querySelector('#modality').value") == ""
    assert home.js("document.querySelector('#notes').textContent") == "A <b>note</b>."
    assert home.js("['query', 'more', 'problem'].every((id) => document.getElementById(id).hidden)")
    home.js("history.forward()")
    home.wait_for(f"{CARDS} === 24")
    assert home.js("document.querySelector('#text').value") == "red ball"
    assert home.complaints() == []


@pytest.mark.parametrize("which", [".last button", ".labels button"])
def test_the_focus_stays_in_the_answers(page, tmp_path, which):
    with running(make_catalog(tmp_path)) as address:
        page.open(address + "?text=red&k=12")
        page.wait_for(f"{CARDS} >= 12")
        page.js("end.observe = () => {}, end.disconnect()")
        page.js("window.old = document.querySelector('.card')")
        page.js(f"document.querySelector('.card {which}').focus()")
        page.key("Enter", "\r")
        page.wait_for(f"!old.isConnected && {CARDS} > 0")
        assert page.js(FOCUS) == "answers"


def test_more_answers_by_keyboard(home):
    home.js("searchText('red')")
    home.wait_for(f"{CARDS} === 24")
    home.js("document.querySelector('#more').focus()")
    home.key("Enter", "\r")
    home.wait_for(f"{CARDS} === 48 && {FOCUS} === 'BUTTON'")
    new = "document.querySelectorAll('.card')[24]"
    assert home.js(f"{new}.contains(document.activeElement)")


def test_a_filter_alone_is_no_search(home):
    problem = "document.querySelector('#problem').textContent"
    home.js("document.querySelector('#filter').open = true")
    home.js("document.querySelector('#where').focus()")
    home.type("item = 'id 3'")
    home.key("Enter", "\r")
    home.wait_for(f"{problem} === 'Search with a picture or words first.'")
    assert home.js(FOCUS) == "where" and home.js(CARDS) == 0
    home.js("document.querySelector('#words button').focus()")
    home.key("Enter", "\r")
    home.wait_for(f"{FOCUS} === 'text'")
    home.type("red")
    home.key("Enter", "\r")
    home.wait_for(f"{CARDS} === 1 && document.querySelector('#problem').hidden")


CONTRAST = """(() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map((v) => v / 255)
      .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (e) => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (!color.endsWith(', 0)')) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const low = [];
  for (const e of document.querySelectorAll('h1, p, label, button, .button, select, li, span, a')) {
    if (!e.getClientRects().length || !e.textContent.trim()) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(back(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(e.outerHTML.slice(0, 80));
  }
  return low;
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_everything_can_be_read_and_nothing_sticks_out(home, dark):
    columns = "getComputedStyle(document.querySelector('#answers')).gridTemplateColumns"
    try:
        for width, height in ((320, 800), (390, 800), (1280, 900)):
            home.size(width, height, dark=dark)
            home.js("searchText('red')")
            home.wait_for(f"{CARDS} === 24 && !document.body.classList.contains('busy')")
            if width < 400:  # a phone
                assert home.js("document.documentElement.scrollWidth") <= width
                assert len(home.js(columns).split()) == 2
            else:
                assert home.js(CONTRAST) == []
    finally:
        home.size(1280, 900)


def test_a_run_without_encoders_and_a_server_that_is_gone(page):
    engine = make_engine(encoders=[], texts=False, notes=["This run has no encoder."])
    with running(engine) as address:
        page.open(address)
        page.wait_for(f"{CARDS} >= 24")
        assert page.js("document.querySelector('#words').hidden") is True
        assert page.js("document.querySelector('#drop').hidden") is True
        assert page.js("document.querySelector('#notes').textContent") == "This run has no encoder."
        assert page.js("document.querySelector('.card .none').textContent").startswith("id ")
    page.js("searchText('red')")
    page.wait_for("document.querySelector('#problem').textContent.includes('does not answer')")


def test_filters_and_more_answers(page, tmp_path):
    with running(make_catalog(tmp_path)) as address:
        page.open(address + "?text=red&modality=text&k=12")
        page.wait_for(f"{CARDS} >= 12")
        page.js("window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for(f"{CARDS} >= 24")  # the end of the list asks by itself
        page.js("document.querySelector('#more').click()")
        page.wait_for(f"{CARDS} >= 36")
        page.js("window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for(f"{CARDS} === 38 && document.querySelector('#more').hidden")
        assert page.js(STATUS).startswith("38 answers for “red”")
        page.js("document.querySelector('.card .labels button').click()")
        page.wait_for(f"0 < {CARDS} && {CARDS} < 12")
        assert page.js("document.querySelector('#where').value").startswith("labels has '")
        assert "where=labels+has" in page.js("location.search")
        page.js("document.querySelector('#where').value = 'year >'")
        page.js("document.querySelector('#form').requestSubmit()")
        page.wait_for("document.querySelector('#problem').textContent.startsWith('where: ')")
        page.js("filter('year = 1')")
        page.wait_for(f"{STATUS}.includes('no item passes the filter')")
        page.js("document.querySelector('#clear').click()")
        page.wait_for(f"{CARDS} >= 12 && document.querySelector('.card .more') !== null")
        for dark in (False, True):
            page.size(1280, 900, dark=dark)
            assert page.js(CONTRAST) == []
        page.size(1280, 900)


def test_whole_numbers_keep_their_digits_and_long_names_their_lines(page, tmp_path):
    name, large = "name_of_a_column_" + "m" * 60, [1234567890123456836, -(2**63)]
    store = HammingIndex.create(tmp_path / "a.store", 12, ids=str, fields={name: int, "f": float})
    store.add(torch.ones(2, 12, dtype=torch.int8), ["a", "b"], {name: large, "f": [1e300, 0.1]})
    plain = make_engine()
    stores = {"image": store, "text": store}
    with running(SearchEngine(plain.model, stores, plain.encoders)) as address:
        try:
            page.size(390, 800)
            page.open(address + f"?text=red&where={name}+<+2000000000000000000")
            page.wait_for(f"{CARDS} === 2")
            assert page.js("document.querySelector('#filter').open")
            assert page.js("document.documentElement.scrollWidth") <= 390
            cards = page.js(
                "[...document.querySelectorAll('.card')].map((e) => e.innerText).join()"
            )
            assert all(f"{name} {number}" in cards for number in large)
            assert "f 1e+300" in cards and "f 0.1" in cards
        finally:
            page.size(1280, 900)
        texts = r'{"a 12345678901234567":"\\\" 12345678901234567"}'
        given = f"[{large[0]},{large[1]},0.25000000000000000,1e300,{texts},7]"
        read = f'["{large[0]}","{large[1]}",0.25,1e+300,{texts},7]'
        assert page.js(f"JSON.stringify(parse(String.raw`{given}`))") == read


def test_a_token_is_asked_for(page):
    with running(make_engine(), token="a-secret", private=True) as address:
        page.open(address)
        page.wait_for("!document.querySelector('#login').hidden")
        hidden = "['form', 'problem'].every((id) => document.getElementById(id).hidden)"
        assert page.js(hidden)  # nothing is wrong yet, and nothing can be searched
        page.js("document.querySelector('#token').focus()")
        page.type("another")
        page.key("Enter", "\r")
        page.wait_for("!document.querySelector('#problem').hidden")
        problem = page.js("document.querySelector('#problem').textContent")
        assert problem == "This is not the token of this server."
        page.js("document.querySelector('#token').select()")
        page.type("a-secret")
        page.key("Enter", "\r")
        page.wait_for("typeof run !== 'undefined' && run !== null")
        page.js("searchText('red')")
        page.wait_for(f"{CARDS} >= 24")
