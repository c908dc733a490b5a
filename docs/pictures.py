"""Makes the pictures of README and docs from the demo's run, after ``make demo``.

``.venv/bin/python docs/pictures.py runs/demo/taught``; needs a Chromium for those of the pages.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pyg_hash.cli.build import load_model
from pyg_hash.runs import Run
from pyg_hash.serve import SearchEngine

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
WORDS = ("dog", "birthday cake", "soccer ball", "smiling cat", "rain", "guitar", "Hund")
LEFT, CELL, PICTURE, ROW, TOP = 150, 118, 60, 104, 10  # pixels
INK, SOFT, LINE = "#1f2328", "#59636e", "#d1d9e0"


def answers(folder: str, words: tuple[str, ...] = WORDS, count: int = 5) -> Image.Image:
    """A row for each word: the word, and the pictures that it finds above their names."""
    run = Run.open(folder)
    engine = SearchEngine.of(run, load_model(run))
    large, small = (ImageFont.load_default(size) for size in (18, 12))
    sheet = Image.new("RGB", (LEFT + count * CELL, 2 * TOP + len(words) * ROW), "white")
    pen = ImageDraw.Draw(sheet)
    for number, word in enumerate(words):
        y = TOP + number * ROW
        if number:
            pen.line([(TOP, y - 4), (sheet.width - TOP, y - 4)], LINE)
        pen.text((2 * TOP, y + PICTURE // 2), word, INK, large, anchor="lm")
        for place, item in enumerate(engine.by_text(word, "image", count).items):
            middle = LEFT + place * CELL + CELL // 2
            picture = Image.open(item["image"]).convert("RGBA").resize((PICTURE,) * 2)
            sheet.paste(picture, (middle - PICTURE // 2, y), picture)
            name = item["text"].split(",")[0]
            for i, line in enumerate(wrapped(name, small, CELL - 8)[:2]):
                pen.text((middle, y + PICTURE + 4 + 15 * i), line, SOFT, small, anchor="ma")
    return sheet


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The words of ``text`` on lines that are not wider than ``width``, where words allow it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@contextmanager
def served(folder: str) -> Iterator[str]:
    """The address of a run's search page while it is served."""
    command = [sys.executable, "-m", "pyg_hash", "serve", folder, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield next(filter(None, (re.search(r"search page: (\S+)", x) for x in process.stdout)))[1]
    finally:
        process.terminate()
        process.wait()


def pages(folder: str) -> None:
    """Screenshots of the search page and of the report."""
    sys.path.insert(0, str(ROOT / "tests"))
    from browser import Browser, find_browser

    program = find_browser()
    if program is None:
        sys.exit("no Chromium or Chrome on this machine: serve.png and report.png stay as they are")
    report = Path(folder, "report.html").resolve().as_uri()
    with (
        served(folder) as address,
        tempfile.TemporaryDirectory() as profile,
        Browser(program, Path(profile)) as browser,
    ):
        for name, size, page in (
            ("serve.png", (1280, 860), f"{address}?text=dog"),
            ("report.png", (1050, 1250), report),
        ):
            browser.size(*size)
            browser.open(page)
            browser.wait_for("document.images.length >= 12")
            browser.wait_for("[...document.images].slice(0, 12).every((i) => i.complete)")
            browser.screenshot(IMAGES / name)
            save(Image.open(IMAGES / name).convert("RGB"), name)


def save(picture: Image.Image, name: str) -> None:
    """In 256 colours, which makes it small."""
    picture.quantize(256, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    save(answers(sys.argv[1]), "answers.png")
    pages(sys.argv[1])
