"""Draws ``docs/images/answers.png``, what words find in the demo's run, after ``make demo``:

.venv/bin/python docs/answers.py runs/demo/taught
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pyg_hash.cli.build import load_model
from pyg_hash.runs import Run
from pyg_hash.serve import SearchEngine

WORDS = ("dog", "birthday cake", "soccer ball", "smiling cat", "rain", "guitar", "Hund")
OUT = Path(__file__).parent / "images" / "answers.png"
LEFT, CELL, PICTURE, ROW, TOP = 150, 118, 60, 104, 10  # pixels
INK, SOFT, LINE = "#1f2328", "#59636e", "#d1d9e0"


def draw(folder: str, words: tuple[str, ...] = WORDS, count: int = 5) -> Image.Image:
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
        for place, row in enumerate(engine.by_text(word, "image", count).rows):
            middle = LEFT + place * CELL + CELL // 2
            picture = Image.open(engine.picture_path(row)).convert("RGBA").resize((PICTURE,) * 2)
            sheet.paste(picture, (middle - PICTURE // 2, y), picture)
            name = engine.items.texts[row].split(",")[0]
            lines = _lines(name, small, CELL - 8)
            for i, line in enumerate(lines[:2]):
                pen.text((middle, y + PICTURE + 6 + 15 * i), line, SOFT, small, anchor="ma")
    return sheet


def _lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The words of ``text`` on lines that are not wider than ``width``, where words allow it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


if __name__ == "__main__":
    draw(sys.argv[1]).quantize(128).save(OUT, optimize=True)
