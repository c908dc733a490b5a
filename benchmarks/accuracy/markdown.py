"""Numbers and tables as text."""

from __future__ import annotations

from collections.abc import Sequence


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def digits(value: float) -> str:
    """Three digits behind the point, as the papers print a mAP: ``.638``."""
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0") else text


def signed(value: float) -> str:
    """A difference: ``+.012``."""
    return ("-" if value < 0 else "+") + digits(abs(value))


def error(value: float | None) -> str:
    """What stands behind a mean; nothing if it is unknown."""
    return "" if value is None else f" ± {digits(value)}"
